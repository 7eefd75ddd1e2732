"""
Lilya: a question with a deadline, and a room that hears how each player did.

Start:  python -m pip install lilya uvicorn
        python examples/lilya_app.py [HOST [PORT]]
See:    Uvicorn running on http://127.0.0.1:8000
Then:   simplews connect ws://127.0.0.1:8000/quiz/ada
and answer, or do not.

Ctrl-C stops it.
"""

import contextlib
import sys

import uvicorn
from lilya.apps import Lilya
from lilya.routing import WebSocketPath
from lilya.websockets import WebSocket

from simplews import AioServer, ConnectionClosed, Rooms

rooms = Rooms()


async def quiz(websocket: WebSocket) -> None:
    player = websocket.path_params["player"]
    with contextlib.suppress(ConnectionClosed):  # the client has left
        async with AioServer.accept(asgi=websocket) as ws, rooms.join("quiz", ws):
            await ws.send("How many bits has a masking key? You have 30 seconds.")
            match await ws.receive(timeout=30):
                case "32":
                    verdict = "is right"
                case None:
                    verdict = "has no answer"
                case _:
                    verdict = "is wrong"
            await rooms.broadcast("quiz", f"{player} {verdict}")
            await ws.send("It has 32.")


app = Lilya(routes=[WebSocketPath("/quiz/{player}", quiz)])


def main(host: str = "127.0.0.1", port: str = "8000") -> None:
    uvicorn.run(app, host=host, port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
