import asyncio
import socket
import simple_websocket

async def custom_socket_server():
    # Create and bind socket
    server_sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server_sock.bind(('localhost', 8000))
    server_sock.listen(1)

    while True:
        client_sock, addr = server_sock.accept()

        # Prepare headers dict (simplified example)
        headers = {
            'Host': 'localhost:8000',
            'Connection': 'Upgrade',
            'Upgrade': 'websocket',
            'Sec-WebSocket-Key': 'example-key',
            'Sec-WebSocket-Version': '13'
        }

        # Accept WebSocket with custom socket
        ws = await simple_websocket.AioServer.accept(
            sock=client_sock,
            headers=headers
        )

        try:
            # Handle connection
            while True:
                message = await ws.receive(timeout=30)
                if message is None:
                    break
                await ws.send(f"Received: {message}")
        except simple_websocket.ConnectionClosed:
            print(f"Client {addr} disconnected")
        finally:
            await ws.close()

# Run the server
asyncio.run(custom_socket_server())
