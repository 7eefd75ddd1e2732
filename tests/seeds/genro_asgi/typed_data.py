from decimal import Decimal
from datetime import date

async def handler(scope, receive, send):
    ws = WebSocket(scope, receive, send)
    await ws.accept()
    # Receive typed data
    data = await ws.receive_typed()
    # data["amount"] might be Decimal, data["date"] might be date
    # Send typed data
    await ws.send_typed({
        "total": Decimal("123.45"),
        "processed_at": date.today(),
    })
