"""
One server of a room, by each library as its documentation shows it: see ``rooms.py``.

``python rooms_peers.py PEER PORT REDIS_URL LOOP`` serves until SIGTERM. Whoever
connects is a member of the one room, and every text goes to all members, through
Redis. Nothing is compressed, and nothing is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import Any


async def simplews(port: int, url: str, history: bool) -> None:
    from simplews import AioServer, BackendUnavailable, ConnectionClosed, Rooms, serve
    from simplews.rooms import History, Redis

    async with Rooms(Redis(url, history=History() if history else None)) as rooms:

        async def handler(ws: AioServer) -> None:
            async with rooms.join("room", ws):
                async for message in ws:
                    try:
                        await rooms.broadcast("room", message)
                    except BackendUnavailable:
                        # The sender's to know: the room does not have it.
                        with contextlib.suppress(ConnectionClosed):
                            await ws.send(f"refused {message[:8]!s}")

        async with serve(handler, "127.0.0.1", port, compression=None) as server:
            await server.serve_forever()


def socketio(url: str) -> Any:
    import socketio

    manager = socketio.AsyncRedisManager(url)
    sio = socketio.AsyncServer(async_mode="asgi", client_manager=manager)

    @sio.event
    async def connect(sid: str, environ: dict[str, Any]) -> None:
        await sio.enter_room(sid, "room")

    @sio.event
    async def say(sid: str, text: str) -> None:
        await sio.emit("say", text, room="room")

    return socketio.ASGIApp(sio)


def channels(url: str, layer: str) -> Any:
    from django.conf import settings

    backend = f"channels_redis.{layer}"
    settings.configure(CHANNEL_LAYERS={"default": {"BACKEND": backend, "CONFIG": {"hosts": [url]}}})
    from channels.generic.websocket import AsyncWebsocketConsumer

    class Consumer(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            await self.channel_layer.group_add("room", self.channel_name)
            await self.accept()

        async def disconnect(self, code: int) -> None:
            await self.channel_layer.group_discard("room", self.channel_name)

        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await self.channel_layer.group_send("room", {"type": "say", "text": text_data})

        async def say(self, event: dict[str, Any]) -> None:
            await self.send(text_data=event["text"])

    return Consumer.as_asgi()


async def main(peer: str, port: int, url: str) -> None:
    if peer in ("simplews", "simplews-history"):
        await simplews(port, url, peer.endswith("history"))
        return
    import uvicorn

    if peer == "socketio":
        app = socketio(url)
    else:
        layer = "core.RedisChannelLayer" if peer == "channels" else "pubsub.RedisPubSubChannelLayer"
        app = channels(url, layer)
    config = uvicorn.Config(
        app,
        "127.0.0.1",
        port,
        lifespan="off",
        log_level="critical",
        ws_per_message_deflate=False,
    )
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    _, peer, port, url, loop = sys.argv
    if loop == "uvloop":
        import uvloop

        uvloop.run(main(peer, int(port), url))
    else:
        asyncio.run(main(peer, int(port), url))
