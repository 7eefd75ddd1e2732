# test_ws.py
import asyncio
import websockets


async def test():
    async with websockets.connect("ws://localhost:8000/ws") as ws:
        await ws.send("Hello, WebSocket!")
        response = await ws.recv()
        print(response)  # Echo: Hello, WebSocket!


asyncio.run(test())
