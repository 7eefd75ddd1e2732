async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await handle_lifespan(receive, send)
    elif scope["type"] == "http":
        await handle_http(scope, receive, send)
    elif scope["type"] == "websocket":
        await handle_websocket(scope, receive, send)


async def handle_websocket(scope, receive, send):
    """Echo server: sends back whatever the client sends."""

    # Wait for the connection event
    event = await receive()
    assert event["type"] == "websocket.connect"

    # Accept the connection
    await send({"type": "websocket.accept"})

    # Echo loop
    while True:
        event = await receive()

        if event["type"] == "websocket.receive":
            # Echo the message back
            if event.get("text"):
                await send({
                    "type": "websocket.send",
                    "text": f"Echo: {event['text']}",
                })
            elif event.get("bytes"):
                await send({
                    "type": "websocket.send",
                    "bytes": event["bytes"],
                })

        elif event["type"] == "websocket.disconnect":
            # Client disconnected — exit the handler
            break
