import asyncio
import simple_websocket

async def client_example():
    try:
        # Connect to WebSocket server
        ws = await simple_websocket.AioClient.connect("ws://localhost:8000/ws")

        # Send message
        await ws.send("Hello, Async Server!")

        # Receive response with timeout
        response = await ws.receive(timeout=10)
        print(f"Server response: {response}")

        # Send binary data
        await ws.send(b"Binary data")
        binary_response = await ws.receive()
        print(f"Binary response: {binary_response}")

    except simple_websocket.ConnectionError as e:
        print(f"Failed to connect: {e}")
    except simple_websocket.ConnectionClosed:
        print("Server closed connection")
    except asyncio.TimeoutError:
        print("Timeout waiting for response")
    finally:
        await ws.close()

# Run the client
asyncio.run(client_example())
