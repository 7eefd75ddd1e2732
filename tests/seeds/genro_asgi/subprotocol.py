async def handler(scope, receive, send):
    ws = WebSocket(scope, receive, send)
    # Check client's requested subprotocols
    if "graphql-ws" in ws.subprotocols:
        await ws.accept(subprotocol="graphql-ws")
    else:
        await ws.close(code=1002, reason="Unsupported protocol")
        return
    # Handle GraphQL WebSocket protocol
    ...
