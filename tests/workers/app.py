"""A server of several processes, told by lines of standard input what to do.

Its first argument is JSON: the arguments of `serve`. It prints JSON, a line for
each order and for what it starts with.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import ssl
import sys
import time

from simplews import AioServer, Rooms, WebSocketRuntimeError, Workers, serve, speed
from simplews.resume import Session
from simplews.rooms import History, Redis


async def handler(ws: AioServer) -> None:
    """Say who serves, then echo."""
    await ws.send(str(os.getpid()))
    async for message in ws:
        if message == "block":
            time.sleep(1000)  # noqa: ASYNC251, as a handler would that knows no better
        await ws.send(message)


_rooms: dict[str, Rooms] = {}


async def resuming(url: str, ws: AioServer) -> None:
    """Rooms with a history in Redis, for clients that resume."""
    rooms = _rooms.get(url)
    if rooms is None:
        rooms = _rooms[url] = Rooms(Redis(url, history=History(length=5000)))
    async with Session(ws, rooms, allow=lambda room: True) as session:
        async for room, message in session:
            await rooms.broadcast(room, message)


def setup(broken: str) -> None:
    """A worker does not start while there is a file of that name."""
    logging.basicConfig(level=logging.WARNING)
    if os.path.exists(broken):
        os._exit(3)


def context(certificate: str) -> ssl.SSLContext:
    """Of a PEM file with key and certificates."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate)
    return made


async def obey(server: Workers, line: str) -> object:
    """Do what *line* says: its answer."""
    match line.split():
        case ["pids"]:
            return server.pids
        case ["restart", spread]:
            try:
                await server.restart(float(spread))
            except WebSocketRuntimeError as exc:
                return str(exc)
            return server.pids
        case ["drain", spread]:
            await server.drain(float(spread))
            return "drained"
    raise ValueError(line)


async def main(args: dict[str, object]) -> None:
    """Serve until SIGTERM."""
    made = args.pop("certificate", None)
    if made is not None:
        args["ssl"] = functools.partial(context, made)
    broken = args.pop("broken", None)
    if broken is not None:
        args["setup"] = functools.partial(setup, broken)
    redis = args.pop("redis", None)
    serves = handler if redis is None else functools.partial(resuming, redis)
    server: Workers = serve(serves, **args)  # type: ignore[call-overload]
    async with server:
        where = args.get("path") or server.port
        print(json.dumps([where, server.pids]), flush=True)
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        orders = asyncio.create_task(follow(server, reader))
        try:
            await server.serve_forever(spread=0.2)
        finally:
            orders.cancel()
            transport.close()
    print(json.dumps("ended"), flush=True)


async def follow(server: Workers, reader: asyncio.StreamReader) -> None:
    """Answer one order after the other."""
    async with asyncio.TaskGroup() as group:
        while line := (await reader.readline()).decode():
            group.create_task(follow_one(server, line))


async def follow_one(server: Workers, line: str) -> None:
    """Answer an order."""
    print(json.dumps(await obey(server, line)), flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    speed.run(main(json.loads(sys.argv[1])))
