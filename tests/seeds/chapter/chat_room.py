import asyncio
import json
from typing import Dict, Set


# Connected clients: room_name → set of send callables
rooms: Dict[str, Set] = {}


async def handle_websocket(scope, receive, send):
    """Multi-room chat server."""
    # Get room from query string
    query = scope.get("query_string", b"").decode()
    room = "general"
    for param in query.split("&"):
        if param.startswith("room="):
            room = param[5:]
            break

    # Join the room
    if room not in rooms:
        rooms[room] = set()
    rooms[room].add(send)

    try:
        # Accept the WebSocket connection
        event = await receive()
        if event["type"] != "websocket.connect":
            return
        await send({"type": "websocket.accept"})

        # Announce arrival
        await broadcast(room, {
            "type": "system",
            "message": f"A user joined #{room}",
        }, exclude=send)

        # Message loop
        while True:
            event = await receive()

            if event["type"] == "websocket.receive":
                text = event.get("text", "")
                if not text:
                    continue

                try:
                    data = json.loads(text)
                except json.JSONDecodeError:
                    data = {"text": text}

                # Broadcast to everyone in the room
                await broadcast(room, {
                    "type": "message",
                    "text": data.get("text", text),
                    "room": room,
                })

            elif event["type"] == "websocket.disconnect":
                break

    finally:
        # Remove from room on disconnect
        rooms.get(room, set()).discard(send)
        await broadcast(room, {
            "type": "system",
            "message": f"A user left #{room}",
        })


async def broadcast(room: str, data: dict, exclude=None) -> None:
    """Send a message to all clients in a room."""
    message = json.dumps(data)
    dead_clients = set()

    for client_send in list(rooms.get(room, set())):
        if client_send is exclude:
            continue
        try:
            await client_send({
                "type": "websocket.send",
                "text": message,
            })
        except Exception:
            dead_clients.add(client_send)

    # Clean up dead clients
    rooms.get(room, set()).difference_update(dead_clients)
