async def handler(scope, receive, send):
    ws = WebSocket(scope, receive, send)
    await ws.accept()
    try:
        while True:
            data = await ws.receive_json()
            response = {"received": data, "status": "ok"}
            await ws.send_json(response)
    except WebSocketDisconnect:
        pass
