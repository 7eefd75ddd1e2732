"""Connecting again: when, after which pause, and when no more.

`Reconnect` is the policy, `Reconnecting` the loop that follows it. Each turn opens a
connection and hands it to the body of ``async for``; how that ends says how long to
wait before the next turn::

    opening failed ── fatal? ──▶ raise
          │ no
          ▼
    count one more ── too many? ──▶ raise      a connection that lived for
          │ no                                 healthy_after seconds sets the
          ▼                                    count back to 0
    pause, at random between 0 and a limit that grows with the count
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar

from .connection import AioBase
from .errors import ConnectionClosed, ConnectionError, InvalidURL
from .link.dial import NOT_TLS
from .link.sources import NotHTTP

__all__ = ["Reconnect", "Reconnecting", "Retry", "is_fatal"]

C = TypeVar("C", bound=AioBase)

# RFC 9110 §15: a 4xx is the client's fault and stays so, but for these: Request
# Timeout, Too Early (RFC 8470) and Too Many Requests (RFC 6585).
_TEMPORARY = {408, 425, 429}
# A 5xx is the server's, and may pass, but for what it cannot do: Not Implemented,
# HTTP Version Not Supported.
_LASTING = {501, 505}


def is_fatal(error: ConnectionError) -> bool:
    """
    Whether connecting again would be of no use: somebody has to change something first.

    So it is for a URL that is none, a certificate that is not accepted, a server that
    does not speak TLS or HTTP, and every answer but 408, 425, 429 and 5xx; 501 and
    505 are fatal, too. Everything else may pass: a host that is not found, a port
    where nobody listens, a timeout.

    Args:
        error: Why a connection could not be opened.
    """
    if isinstance(error, InvalidURL):
        return True
    status = error.status_code
    if status is not None:
        return status not in _TEMPORARY and (status < 500 or status in _LASTING)
    cause = error.__cause__
    if isinstance(cause, ssl.SSLError):
        return isinstance(cause, ssl.SSLCertVerificationError) or cause.reason in NOT_TLS
    return isinstance(cause, NotHTTP)


@dataclass(frozen=True, slots=True)
class Retry:
    """
    What is about to happen, for ``Reconnect(on_retry=)``.

    Attributes:
        number: Failures in a row, this one included; from 1.
        delay: Seconds until the next attempt.
        error: A `ConnectionError` when the connection could not be opened, a
            `ConnectionClosed` when it was and ended, None when it ended normally.
    """

    number: int
    delay: float
    error: ConnectionError | ConnectionClosed | None


@dataclass(frozen=True, kw_only=True)
class Reconnect:
    """
    When to connect again: the policy of ``AioClient.connect(url, reconnect=)``.

    The pause before an attempt is drawn between 0 and a limit, which is *first* and
    grows by *factor* with every failure in a row up to *most*. So the clients of a
    server that has gone come back spread out, and not at once. A ``Retry-After`` of
    the server is waited for in addition.

    Attributes:
        first: Seconds, the limit of the first pause.
        factor: By what the limit grows.
        most: Seconds that the limit may reach.
        healthy_after: Seconds after which a connection counts as a success; one that
            ends earlier counts as a failure.
        attempts: Failures in a row after which the last one is raised; None for no end.
        most_retry_after: Seconds of a ``Retry-After`` that are honoured; 0 ignores it.
        fatal: Which failures are raised at once; `is_fatal` unless set.
        on_retry: Called before every pause, plain or async. What it raises ends the loop.
        renew: Called before every attempt, plain or async. What it returns replaces
            arguments of ``connect``, ``{"headers": {"Authorization": ...}}``, say, or
            ``{"url": ...}``. What it raises ends the loop, unless it is a
            `ConnectionError`, which counts as a failure to open.
    """

    first: float = 1
    factor: float = 2
    most: float = 60
    healthy_after: float = 10
    attempts: int | None = None
    most_retry_after: float = 300
    fatal: Callable[[ConnectionError], bool] = is_fatal
    on_retry: Callable[[Retry], object] | None = None
    renew: Callable[[], Mapping[str, Any] | Awaitable[Mapping[str, Any]]] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.most:
            raise ValueError(
                f"first must be from 0 to most ({self.most!r} seconds), not {self.first!r}"
            )
        if not self.factor >= 1:
            raise ValueError(f"factor must be at least 1, not {self.factor!r}")
        for name in ("healthy_after", "most_retry_after"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)!r}")
        if self.attempts is not None and self.attempts < 1:
            raise ValueError(f"attempts must be at least 1, or None, not {self.attempts!r}")


class Reconnecting(Generic[C]):
    """
    Connections to one server, one after the other; ``AioClient.connect(reconnect=)`` makes it.

    ``async for ws in ...`` gives an open connection, and the next one when the body is
    done with it; the last is closed before. As ``async with ... as connections`` the
    connection is closed at the end of the block at the latest.
    """

    def __init__(
        self,
        open: Callable[[Mapping[str, Any]], Awaitable[C]],
        policy: Reconnect,
        place: str,
        logger: logging.Logger,
    ) -> None:
        self._open = open
        self._policy = policy
        self._place = place
        self._logger = logger
        self._entered: AsyncGenerator[C, None] | None = None

    def __aiter__(self) -> AsyncGenerator[C, None]:
        return self._connections()

    async def __aenter__(self) -> AsyncGenerator[C, None]:
        self._entered = self._connections()
        return self._entered

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._entered is not None
        if error is None:
            await self._entered.aclose()
            return
        try:
            # So that the connection closes as `async with ws` would close it.
            await self._entered.athrow(error)
        except BaseException as exc:
            if exc is not error:
                raise

    def __await__(self) -> Generator[Any, Any, NoReturn]:
        raise TypeError(
            "connect(reconnect=...) gives one connection after the other: write "
            "'async for ws in AioClient.connect(url, reconnect=True)'; "
            "without reconnect= it can be awaited"
        )

    async def _connections(self) -> AsyncGenerator[C, None]:
        """The loop that is drawn at the top of the module."""
        policy, clock = self._policy, asyncio.get_running_loop().time
        failures, limit = 0, policy.first
        while True:
            error: ConnectionError | ConnectionClosed | None = None
            try:
                ws = await self._attempt()
            except ConnectionError as exc:
                if policy.fatal(exc):
                    raise
                error = exc
            else:
                opened = clock()
                try:
                    yield ws
                except GeneratorExit:  # the loop was left: break, or an error in its body
                    await ws.close()
                    raise
                except BaseException as exc:
                    await ws.__aexit__(type(exc), exc, exc.__traceback__)
                    raise
                await ws.close()
                error = ws.exception()
                if clock() - opened >= policy.healthy_after:
                    failures, limit = 0, policy.first
            failures += 1
            if failures == policy.attempts:
                raise self._given_up(error, failures)
            await self._pause(failures, limit, error)
            limit = min(limit * policy.factor, policy.most)

    async def _attempt(self) -> C:
        renewed = self._policy.renew() if self._policy.renew is not None else {}
        return await self._open(await renewed if inspect.isawaitable(renewed) else renewed)

    async def _pause(
        self, failures: int, limit: float, error: ConnectionError | ConnectionClosed | None
    ) -> None:
        # Full jitter, as Marc Brooker's "Exponential Backoff And Jitter" calls it: of
        # the ways to draw the pause it leads to the fewest attempts of many clients.
        delay = random.uniform(0, limit)
        if isinstance(error, ConnectionError):
            asked = retry_after(error.headers.get("retry-after"))
            # In addition: every client was asked to wait for the same time.
            delay += min(asked, self._policy.most_retry_after)
            level, what = logging.WARNING, f"attempt {failures} failed: {error}"
        else:
            level, what = logging.INFO, f"{error or 'the connection ended normally'}"
        self._logger.log(level, "%s: %s; connecting again in %.1f s", self._place, what, delay)
        if self._policy.on_retry is not None:
            result = self._policy.on_retry(Retry(failures, delay, error))
            if inspect.isawaitable(result):
                await result
        await asyncio.sleep(delay)

    def _given_up(
        self, error: ConnectionError | ConnectionClosed | None, failures: int
    ) -> ConnectionError:
        self._logger.warning("%s: gave up after %d failures in a row", self._place, failures)
        if isinstance(error, ConnectionError):
            error.add_note(f"gave up after {failures} failures in a row")
            return error
        given_up = ConnectionError(
            f"gave up on {self._place} after {failures} failures in a row; the last connection "
            f"ended within {self._policy.healthy_after:g} s: {error or 'normally'}"
        )
        given_up.__cause__ = error
        return given_up


def retry_after(value: str | None) -> float:
    """
    Seconds that a ``Retry-After`` field asks for; 0 for none, and for one that makes no sense.

    Spec: RFC 9110 §10.2.3.
    """
    value = (value or "").strip()
    if value.isascii() and value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
