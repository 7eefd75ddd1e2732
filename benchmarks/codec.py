"""
Codecs in one process: no socket, no event loop.

    python benchmarks/codec.py [--json out.json] [--only simplews,wsproto]

M1  parse 1000 masked 32 B text frames that arrive in one buffer; ns each
M2  parse one masked 1 MiB binary frame that arrives whole; µs per MB
M3  serialise 1000 masked 32 B text messages, as a client; ns each
M4  serialise one masked 1 MiB binary message, as a client; µs per MB
M5  serialise 1000 unmasked 32 B text messages, as a server; ns each

M1 and M2 last until the application holds a str or bytes. A figure is the best
of the repeats: noise only ever adds. A codec that is not installed is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parent))  # also with PYTHONSAFEPATH

from harness import tables
from harness.frames import masked

N = 1000
SMALL = "abcdefghijklmnopqrstuvwxyz012345"
BIG = os.urandom(1 << 20)
MB = len(BIG) / 1e6
SMALL_WIRE = masked(1, SMALL.encode()) * N
BIG_WIRE = masked(2, BIG)


class Codec(Protocol):
    """What a codec has to be able to do; `parse` and `serialise` are what is measured."""

    def receiver(self) -> Any:
        """A server's connection that has received nothing yet."""

    def parse(self, receiver: Any, wire: bytes) -> list[Any]:
        """The payloads of the messages in *wire*."""

    def sender(self, client: bool) -> Any:
        """A connection that has sent nothing yet."""

    def serialise(self, sender: Any, data: str | bytes, n: int) -> None:
        """Make the bytes of *n* messages, one after the other."""


class Simplews:
    """simplews' own, as its connections use it."""

    def __init__(self) -> None:
        from simplews.protocol.codec import Decoder, Encoder

        self.decoder, self.encoder = Decoder, Encoder

    def receiver(self) -> Any:
        return self.decoder(server=True)

    def parse(self, receiver: Any, wire: bytes) -> list[Any]:
        messages: deque[Any] = deque()
        receiver.feed(wire, messages, [])
        return list(messages)

    def sender(self, client: bool) -> Any:
        return self.encoder(server=not client)

    def serialise(self, sender: Any, data: str | bytes, n: int) -> None:
        if isinstance(data, str):
            for _ in range(n):
                sender.message(1, data.encode())
        else:
            for _ in range(n):
                sender.message(2, data)


class Wsproto:
    """wsproto's connection after the handshake."""

    def __init__(self) -> None:
        from wsproto.connection import Connection, ConnectionType
        from wsproto.events import BytesMessage, Message, TextMessage

        self.connection, self.side = Connection, ConnectionType
        self.message: Any = Message
        self.kinds = (TextMessage, BytesMessage)

    def receiver(self) -> Any:
        return self.connection(self.side.SERVER)

    def parse(self, receiver: Any, wire: bytes) -> list[Any]:
        receiver.receive_data(wire)
        return [event.data for event in receiver.events() if isinstance(event, self.kinds)]

    def sender(self, client: bool) -> Any:
        return self.connection(self.side.CLIENT if client else self.side.SERVER)

    def serialise(self, sender: Any, data: str | bytes, n: int) -> None:
        for _ in range(n):
            sender.send(self.message(data=data))


class Websockets:
    """websockets' sans-I/O protocol."""

    def __init__(self) -> None:
        from websockets.frames import Opcode
        from websockets.protocol import Protocol, Side

        self.protocol, self.side, self.text = Protocol, Side, Opcode.TEXT

    def receiver(self) -> Any:
        return self.protocol(self.side.SERVER, max_size=None)

    def parse(self, receiver: Any, wire: bytes) -> list[Any]:
        receiver.receive_data(wire)
        text = self.text
        return [
            frame.data.decode() if frame.opcode is text else frame.data
            for frame in receiver.events_received()
        ]

    def sender(self, client: bool) -> Any:
        return self.protocol(self.side.CLIENT if client else self.side.SERVER)

    def serialise(self, sender: Any, data: str | bytes, n: int) -> None:
        if isinstance(data, str):
            for _ in range(n):
                sender.send_text(data.encode())
                b"".join(sender.data_to_send())
        else:
            for _ in range(n):
                sender.send_binary(data)
                b"".join(sender.data_to_send())


class _Nowhere:
    """A protocol and a transport, as little as aiohttp's reader and writer need."""

    _reading_paused = False

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        pass


class Aiohttp:
    """aiohttp's compiled reader and its writer; neither is a public API."""

    def __init__(self) -> None:
        from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
        from aiohttp._websocket.writer import WebSocketWriter

        self.queue, self.reader, self.writer = WebSocketDataQueue, WebSocketReader, WebSocketWriter
        self.nowhere: Any = _Nowhere()
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)

    def receiver(self) -> Any:
        queue = self.queue(self.nowhere, 1 << 24, loop=self.loop)
        return queue, self.reader(queue, 0, False, True)

    def parse(self, receiver: Any, wire: bytes) -> list[Any]:
        queue, reader = receiver
        reader.feed_data(wire)
        out = []
        while queue._buffer:
            out.append(queue._buffer.popleft()[0].data)
        return out

    def sender(self, client: bool) -> Any:
        return self.writer(self.nowhere, self.nowhere, use_mask=client)

    def serialise(self, sender: Any, data: str | bytes, n: int) -> None:
        if isinstance(data, str):
            for _ in range(n):
                sender._write_websocket_frame(data.encode(), 1, 0)
        else:
            for _ in range(n):
                sender._write_websocket_frame(data, 2, 0)


CODECS: dict[str, Callable[[], Codec]] = {
    "simplews": Simplews,
    "wsproto": Wsproto,
    "websockets": Websockets,
    "aiohttp (internal)": Aiohttp,
}


def best(call: Callable[[Any], object], prepare: Callable[[], Any], repeats: int) -> float:
    """The shortest time of ``call(prepare())``, in seconds; preparing is not counted."""
    times = []
    for _ in range(repeats):
        argument = prepare()
        start = time.perf_counter()
        call(argument)
        times.append(time.perf_counter() - start)
    return min(times)


def check(codec: Codec) -> None:
    """
    Make sure that it parses.

    Raises:
        ValueError: It does not.
    """
    small = codec.parse(codec.receiver(), SMALL_WIRE)
    big = codec.parse(codec.receiver(), BIG_WIRE)
    if small != [SMALL] * N or b"".join(map(bytes, big)) != BIG:
        raise ValueError("it did not parse what was sent")


def measure(codec: Codec, repeats: int) -> dict[str, float]:
    """The figures of a codec."""
    check(codec)

    def parse(wire: bytes) -> float:
        return best(lambda it: codec.parse(it, wire), codec.receiver, repeats)

    def serialise(data: str | bytes, n: int, client: bool) -> float:
        return best(lambda it: codec.serialise(it, data, n), lambda: codec.sender(client), repeats)

    return {
        "M1": parse(SMALL_WIRE) / N * 1e9,
        "M2": parse(BIG_WIRE) / MB * 1e6,
        "M3": serialise(SMALL, N, True) / N * 1e9,
        "M4": serialise(BIG, 1, True) / MB * 1e6,
        "M5": serialise(SMALL, N, False) / N * 1e9,
    }


def main() -> int:
    """Measure, print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--only", help="names, comma-separated")
    parser.add_argument("--repeat", type=int, default=40)
    options = parser.parse_args()
    figures = {}
    for name, make in CODECS.items():
        if options.only and name not in options.only.split(","):
            continue
        try:
            figures[name] = measure(make(), options.repeat)
        except (ImportError, ValueError) as exc:
            print(f"left out: {name}: {exc}", file=sys.stderr)
    header = ["codec", "M1 ns/msg", "M2 µs/MB", "M3 ns/msg", "M4 µs/MB", "M5 ns/msg"]
    rows = [[name, *map(tables.number, row.values())] for name, row in figures.items()]
    print("\n".join(tables.table(header, rows)))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
