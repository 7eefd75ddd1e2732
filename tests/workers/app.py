"""A server of several processes, told by lines of standard input what to do.

Its first argument is JSON: the arguments of `serve`. It prints JSON, a line for
each order and for what it starts with.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import json
import logging
import os
import ssl
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from simplews import AioServer, Rooms, Server, WebSocketRuntimeError, Workers, serve, speed
from simplews.resume import Session
from simplews.rooms import Backend, History, Nats, Redis


async def handler(ws: AioServer) -> None:
    """Say who serves, then echo."""
    await ws.send(str(os.getpid()))
    async for message in ws:
        if message == "block":
            time.sleep(1000)  # noqa: ASYNC251, as a handler would that knows no better
        await ws.send(message)


_rooms: list[Rooms] = []


def backend(url: str, history: bool) -> Backend:
    """The engine at *url*."""
    kept = History(length=5000) if history else None
    return Redis(url, history=kept) if url.startswith("redis:") else Nats(url, history=kept)


@contextlib.asynccontextmanager
async def rooms_on(url: str, history: bool, server: Server) -> AsyncIterator[None]:
    """The rooms of this process, as long as it serves."""
    async with Rooms(backend(url, history)) as rooms:
        _rooms.append(rooms)
        yield


async def passing(ws: AioServer) -> None:
    """Say who serves, once it is a member; then pass on what it says."""
    [rooms] = _rooms
    async with rooms.join("load", ws):
        await ws.send(f"here {os.getpid()}")
        async for message in ws:
            await rooms.broadcast("load", message)


async def resuming(ws: AioServer) -> None:
    """For clients that resume."""
    [rooms] = _rooms
    async with Session(ws, rooms, allow=lambda room: True) as session:
        async for room, message in session:
            await rooms.broadcast(room, message)


@contextlib.asynccontextmanager
async def noted(notes: str, server: Server) -> AsyncIterator[None]:
    """Write down what happens, in a file for each process; fail where a file says so."""
    folder = Path(notes)
    if (folder / "do not enter").exists():
        raise OSError("the engine is away")
    if (folder / "wait").exists():
        logging.warning("entering takes for ever")
        await asyncio.Event().wait()
    note = folder / str(os.getpid())
    note.write_text(f"entered with {len(server.sockets)} sockets")
    yield
    note.write_text(f"left with {len(server.connections)} connections")
    if (folder / "do not leave").exists():
        raise OSError("the engine was lost")


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
        case ["stats"]:
            stats = await server.stats(timeout=20)
            return {**dataclasses.asdict(stats), "late": list(stats.late)}
        case ["stats", timeout]:
            return sorted((await server.stats(float(timeout))).late)
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
    notes = args.pop("notes", None)
    if notes is not None:
        args["lifespan"] = functools.partial(noted, notes)
    serves = handler
    engine, history = args.pop("engine", None), bool(args.pop("history", False))
    if engine is not None:
        serves = resuming if history else passing
        args["lifespan"] = functools.partial(rooms_on, engine, history)
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
