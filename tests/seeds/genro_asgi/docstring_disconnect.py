try:
    data = await ws.receive_text()
except WebSocketDisconnect as e:
    print(f"Client disconnected: code={e.code}, reason={e.reason}")
