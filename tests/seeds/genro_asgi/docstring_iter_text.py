async for message in ws.iter_text():
    print(f"Received: {message}")
