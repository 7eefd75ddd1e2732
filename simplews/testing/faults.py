"""Faults: what the network does between two ends, and a place to put it in between."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from .deadline import UNSET, Deadline, Unset
from .relay import Relay, Way, set_to_reset, tcp_pair

__all__ = ["Faults", "Way"]


class Faults:
    """
    What the network does to the bytes between a client and a server.

    `pair` takes one, and `proxy` puts one in front of any port. The bytes go through
    real sockets, and time goes by the loop's clock. With no arguments the network is
    a good one, until a method makes it worse.

    Args:
        to_server: What happens to the client's bytes; as the other arguments say
            when left out.
        to_client: The same for the server's bytes.
        delay: See `Way`; and so are the following.
        split: See `Way`.
        rate: See `Way`.
        drop_after: See `Way`.
        end_after: See `Way`.
        reset_after: See `Way`.

    Attributes:
        to_server: The way of the client's bytes; it has the same methods.
        to_client: The way of the server's bytes; it has the same methods.
    """

    def __init__(
        self,
        to_server: Way | None = None,
        to_client: Way | None = None,
        *,
        delay: float = 0.0,
        split: int | Sequence[int] | None = None,
        rate: float | None = None,
        drop_after: int | None = None,
        end_after: int | None = None,
        reset_after: int | None = None,
    ) -> None:
        def way() -> Way:
            return Way(
                delay=delay,
                split=split,
                rate=rate,
                drop_after=drop_after,
                end_after=end_after,
                reset_after=reset_after,
            )

        self.to_server = way() if to_server is None else to_server
        self.to_client = way() if to_client is None else to_client
        if self.to_server is self.to_client:
            raise ValueError("each direction has a Way of its own: it counts bytes")
        self._relays: set[asyncio.Task[None]] = set()

    # ------------------------------------------------- changing it while it runs

    def stall(self) -> None:
        """`Way.stall`, both ways."""
        self.to_server.stall()
        self.to_client.stall()

    def drop(self) -> None:
        """`Way.drop`, both ways: each end has lost the other, and is not told."""
        self.to_server.drop()
        self.to_client.drop()

    def end(self) -> None:
        """`Way.end`, both ways."""
        self.to_server.end()
        self.to_client.end()

    def reset(self) -> None:
        """RST, now: reset every open connection, on both sides; new ones are not concerned."""
        self.to_server.reset()

    def heal(self) -> None:
        """`Way.heal`, both ways: a good network from now on."""
        self.to_server.heal()
        self.to_client.heal()

    @property
    def lossy(self) -> bool:
        """Whether a way is a black hole or stalled, so that no answer is to be expected."""
        return self.to_server.lossy or self.to_client.lossy

    # --------------------------------------------------------- where it is put

    @contextlib.asynccontextmanager
    async def between(self) -> AsyncIterator[tuple[socket.socket, socket.socket]]:
        """
        Two sockets, of a client and of a server, with this network in between.

        They are the caller's to close. When the block ends, the network is gone, and
        what still is open sees its end.
        """
        client, near = tcp_pair()
        try:
            far, server = tcp_pair()
        except BaseException:
            client.close()
            near.close()
            raise
        relay = Relay(near, far, self.to_server, self.to_client)
        self._start(relay.run(), [near, far])
        try:
            yield client, server
        finally:
            await self._end_relays()

    @contextlib.asynccontextmanager
    async def proxy(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        path: str | None = None,
        timeout: float | Unset | None = UNSET,
    ) -> AsyncIterator[int]:
        """
        Listen on a free port of this machine, and pass what comes there on.

        ::

            async with Faults(delay=0.2).proxy("127.0.0.1", server.port) as port:
                async with AioClient.connect(f"ws://127.0.0.1:{port}/") as ws: ...

        A client for which the server cannot be reached is reset. When the block ends,
        so does every connection.

        Args:
            host: Where the server is.
            port: Its port.
            path: Its Unix socket, instead of the two.
            timeout: Seconds to reach the server.

        Yields:
            The port.
        """
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        accepting = asyncio.ensure_future(self._accept(listener, host, port, path, timeout))
        try:
            yield listener.getsockname()[1]
        finally:
            accepting.cancel()
            await asyncio.wait([accepting])
            listener.close()
            await self._end_relays()
            if not accepting.cancelled():
                accepting.result()

    async def _accept(
        self,
        listener: socket.socket,
        host: str,
        port: int,
        path: str | None,
        timeout: float | Unset | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            near, _ = await loop.sock_accept(listener)
            sockets = [near]
            self._start(self._carry(sockets, host, port, path, timeout), sockets)

    async def _carry(
        self,
        sockets: list[socket.socket],
        host: str,
        port: int,
        path: str | None,
        timeout: float | Unset | None,
    ) -> None:
        (near,) = sockets
        try:
            where = path if path is not None else f"{host}:{port}"
            async with Deadline(timeout, f"connecting to {where}"):
                far = await _connected(host, port, path)
                sockets.append(far)  # closed behind us, also if the deadline passes just now
        except OSError:
            set_to_reset(near)
            return
        await Relay(near, far, self.to_server, self.to_client).run()

    def _start(self, carrying: Coroutine[Any, Any, None], sockets: list[socket.socket]) -> None:
        """Run *carrying*; when it has ended, however, *sockets* are closed."""
        task = asyncio.ensure_future(carrying)
        self._relays.add(task)

        def close(_: object) -> None:
            for sock in sockets:  # it may have been cancelled before it began
                sock.close()

        task.add_done_callback(close)

    async def _end_relays(self) -> None:
        relays, self._relays = self._relays, set()
        for task in relays:
            task.cancel()
        for result in await asyncio.gather(*relays, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


async def _connected(host: str, port: int, path: str | None) -> socket.socket:
    """A connection to a server."""
    loop = asyncio.get_running_loop()
    if path is not None:
        return await _dialled(socket.AF_UNIX, path)
    try:  # without a thread, which would not be on the loop's clock
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, _, _, _, address in found[:-1]:
        with contextlib.suppress(OSError):
            return await _dialled(family, address)
    return await _dialled(found[-1][0], found[-1][4])


async def _dialled(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
