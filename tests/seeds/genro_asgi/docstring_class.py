async def handler(scope, receive, send):
    ws = WebSocket(scope, receive, send)
    await ws.accept()
    message = await ws.receive_text()
    await ws.send_text(f"Echo: {message}")
    await ws.close()
