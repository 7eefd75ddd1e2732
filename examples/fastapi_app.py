"""
FastAPI: chat rooms, with a timeout for those who fall silent.

FastAPI routes the request and reads the path; AioServer has the connection.

Start:  python -m pip install fastapi uvicorn
        python examples/fastapi_app.py [HOST [PORT]]
See:    Uvicorn running on http://127.0.0.1:8000
Then, in two more terminals:  simplews connect ws://127.0.0.1:8000/chat/lobby
and type into either of them.

Ctrl-C stops it.
"""

import contextlib
import sys

import uvicorn
from fastapi import FastAPI, WebSocket

from simplews import AioServer, ConnectionClosed, Rooms

PATIENCE = 600  # seconds

app = FastAPI()
rooms = Rooms()


@app.websocket("/chat/{room}")
async def chat(websocket: WebSocket, room: str) -> None:
    with contextlib.suppress(ConnectionClosed):  # the client has left
        async with AioServer.accept(asgi=websocket) as ws, rooms.join(room, ws):
            while (message := await ws.receive(timeout=PATIENCE)) is not None:
                await rooms.broadcast(room, message, exclude=ws)
            await ws.close(1000, "nothing said for ten minutes")


@app.get("/chat/{room}")
async def presence(room: str) -> dict[str, int]:
    return {"members": len(rooms.presence(room))}


def main(host: str = "127.0.0.1", port: str = "8000") -> None:
    uvicorn.run(app, host=host, port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
