import asyncio
import simple_websocket

class AsyncWebSocketClient:
    def __init__(self, url, **kwargs):
        self.url = url
        self.kwargs = kwargs
        self.ws = None

    async def __aenter__(self):
        self.ws = await simple_websocket.AioClient.connect(self.url, **self.kwargs)
        return self.ws

    async def __aexit__(self, exc_type, exc_val, exc_tb):
        if self.ws:
            await self.ws.close()

# Usage with async context manager
async def context_manager_example():
    async with AsyncWebSocketClient("ws://localhost:8000/ws") as ws:
        await ws.send("Hello with context manager!")
        response = await ws.receive()
        print(f"Response: {response}")
    # WebSocket automatically closed when exiting context

asyncio.run(context_manager_example())
