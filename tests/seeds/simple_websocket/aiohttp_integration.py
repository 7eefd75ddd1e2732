import simple_websocket
from aiohttp import web, WSMsgType

async def websocket_handler(request):
    # Accept WebSocket connection from aiohttp
    ws = await simple_websocket.AioServer.accept(aiohttp=request)

    try:
        async for message in ws:
            # Process incoming message
            if message.type == WSMsgType.TEXT:
                data = message.data
                # Echo message back
                await ws.send(f"Echo: {data}")
            elif message.type == WSMsgType.ERROR:
                print(f"WebSocket error: {ws.exception()}")
                break
    except simple_websocket.ConnectionClosed:
        print("Client disconnected")
    finally:
        await ws.close()

app = web.Application()
app.router.add_get('/ws', websocket_handler)
