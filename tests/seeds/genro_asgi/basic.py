from genro_asgi.websocket import WebSocket, WebSocketDisconnect

async def websocket_handler(scope, receive, send):
    ws = WebSocket(scope, receive, send)
    await ws.accept()
    print(f"Client connected from {ws.client}")
    try:
        async for message in ws:
            # Echo back
            await ws.send_text(f"You said: {message}")
    except WebSocketDisconnect:
        print("Client disconnected")
