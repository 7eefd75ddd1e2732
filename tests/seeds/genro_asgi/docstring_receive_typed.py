# Client sends: {"price": "100.50::D", "date": "2025-01-15::d"}::TYTX
data = await ws.receive_typed()
# data["price"] is Decimal("100.50")
# data["date"] is date(2025, 1, 15)
