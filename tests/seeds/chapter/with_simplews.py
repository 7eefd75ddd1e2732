"""The chapter's application again: the same page, paths and messages, with simplews.

Run it with ``uvicorn with_simplews:application`` and open http://localhost:8000 in
several tabs: they share a chat room. /ws/echo echoes; other paths are refused.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from simplews import AioServer, ConnectionClosed, Rooms, WebSocket

rooms = Rooms()

PAGE = b"""
<!DOCTYPE html>
<html>
<head><title>WebSocket Chat</title></head>
<body>
    <input id="msg" placeholder="Message..." />
    <button onclick="send()">Send</button>
    <ul id="log"></ul>
    <script>
        const ws = new WebSocket("ws://" + location.host + "/ws/chat");
        ws.onmessage = e => {
            const li = document.createElement("li");
            li.textContent = e.data;
            document.getElementById("log").appendChild(li);
        };
        function send() {
            const input = document.getElementById("msg");
            ws.send(JSON.stringify({text: input.value}));
            input.value = "";
        }
    </script>
</body>
</html>
"""


async def application(scope: Any, receive: Any, send: Any) -> None:
    """One callable for three kinds of scope."""
    if scope["type"] == "lifespan":
        await handle_lifespan(receive, send)
    elif scope["type"] == "http":
        await handle_http(scope, send)
    elif scope["type"] == "websocket":
        ws = WebSocket(scope, receive, send)
        if ws.path == "/ws/chat":
            await chat(ws)
        elif ws.path == "/ws/echo":
            await echo(ws)
        else:
            await ws.close(4004)


async def chat(websocket: WebSocket) -> None:
    """Multi-room chat server."""
    room = websocket.query_params.get("room", "general")
    async with AioServer.accept(asgi=websocket) as ws:
        try:
            async with rooms.join(room, ws):
                joined = {"type": "system", "message": f"A user joined #{room}"}
                await rooms.broadcast(room, json.dumps(joined), exclude=ws)
                async for text in ws.iter_text():
                    if not text:
                        continue
                    try:
                        data = json.loads(text)
                    except json.JSONDecodeError:
                        data = {"text": text}
                    said = {"type": "message", "text": data.get("text", text), "room": room}
                    await rooms.broadcast(room, json.dumps(said))
        except ConnectionClosed:
            pass  # lost, or the server goes down; a Close of the client ends the loop
        finally:
            left = {"type": "system", "message": f"A user left #{room}"}
            await rooms.broadcast(room, json.dumps(left))


async def echo(ws: WebSocket) -> None:
    """Echo server: sends back whatever the client sends."""
    async with AioServer.accept(asgi=ws) as connection:
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                if isinstance(message, str):
                    await connection.send(f"Echo: {message}")
                else:
                    await connection.send(message)


async def handle_lifespan(receive: Any, send: Any) -> None:
    """Nothing has to be prepared."""
    while True:
        event = await receive()
        await send({"type": event["type"] + ".complete"})
        if event["type"] == "lifespan.shutdown":
            return


async def handle_http(scope: Any, send: Any) -> None:
    """The page, and 404."""
    found = scope["path"] == "/"
    body = PAGE if found else b"Not Found"
    kind = b"text/html; charset=utf-8" if found else b"text/plain"
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    status = 200 if found else 404
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
