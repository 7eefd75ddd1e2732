"""`Opening`: what ``accept()`` and ``connect()`` return, to be awaited or entered."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from .connection import AioBase

__all__ = ["Opening"]

C = TypeVar("C", bound=AioBase)


class Opening(Coroutine[Any, Any, C], Generic[C]):
    """
    A connection that is being opened.

    ``ws = await opening`` opens it; ``async with opening as ws`` opens it and
    closes it at the end of the block. It also is a coroutine, so that
    ``asyncio.wait_for``, ``create_task`` and ``gather`` take it.
    """

    __slots__ = ("_connection", "_coroutine", "_name")

    def __init__(self, coroutine: Coroutine[Any, Any, C], name: str) -> None:
        # So that Python's warning about a missing 'await' says what to await.
        cast(Any, coroutine).__qualname__ = name
        self._coroutine = coroutine
        self._name = name
        self._connection: C | None = None

    def __await__(self) -> Generator[Any, Any, C]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        """Part of the coroutine protocol."""
        if value is not None:
            raise TypeError(self._advice("send()"))
        return self._coroutine.send(value)

    def throw(self, *args: Any) -> Any:
        """Part of the coroutine protocol."""
        return self._coroutine.throw(*args)

    def close(self) -> None:
        """Part of the coroutine protocol."""
        self._coroutine.close()

    async def __aenter__(self) -> C:
        self._connection = await self._coroutine
        return self._connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._connection is not None
        await self._connection.__aexit__(kind, error, traceback)

    def __aiter__(self) -> Any:
        advice = self._advice("'async for'")
        if self._name.endswith(".connect"):
            advice += "; with reconnect=True, 'async for' gives one connection after the other"
        raise TypeError(advice)

    def __enter__(self) -> Any:
        raise TypeError(self._advice("'with'"))

    def __exit__(self, *_: object) -> None:
        """Never called; 'with' looks for it before it calls `__enter__`."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(self._advice(repr(name)))

    def _advice(self, what: str) -> str:
        return (
            f"{self._name}(...) is not open yet, {what} comes later: "
            f"write 'ws = await {self._name}(...)' or 'async with {self._name}(...) as ws'"
        )
