"""The options that `accept`, `connect` and `serve` share, with one meaning everywhere."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict

from ..protocol.deflate import Deflate

__all__ = [
    "UNSET",
    "OptionArgs",
    "Options",
    "QueueMarks",
    "Unset",
    "make_options",
    "subprotocol_list",
]


class Unset:
    """The type of `UNSET`."""

    def __repr__(self) -> str:
        return "<receive_timeout>"


#: "The argument was left out", where None has a meaning of its own.
UNSET = Unset()


@dataclass(frozen=True, slots=True)
class QueueMarks:
    """
    When to stop reading from the peer, and when to go on.

    Attributes:
        high: Messages in the inbox at which reading is paused.
        low: Messages at which it goes on.
        high_bytes: The same in bytes of memory: of a text's characters, not of its UTF-8.
        low_bytes: The same in bytes of memory.
    """

    high: int = 256
    low: int = 64
    high_bytes: int = 1024 * 1024
    low_bytes: int = 256 * 1024

    @classmethod
    def of(cls, max_queue: int | tuple[int, int]) -> QueueMarks:
        """Marks from ``max_queue``: the high mark, or (high, low)."""
        match max_queue:
            case int(high):
                low = high // 4
            case (int(high), int(low)):
                pass
            case _:
                high = low = 0
        if high < 1 or not 0 <= low < high:
            raise ValueError(
                f"max_queue must be a number of messages from 1 up, or (high, low) with "
                f"0 <= low < high, not {max_queue!r}"
            )
        return cls(high, low)


_NUMBERS = (
    "receive_bytes",
    "ping_interval",
    "ping_timeout",
    "max_message_size",
    "receive_timeout",
    "open_timeout",
    "close_timeout",
    "write_limit",
)


@dataclass(frozen=True, slots=True)
class Options:
    """
    How a connection behaves. Durations are seconds, sizes bytes; None disables.

    The reference of `AioServer.accept` tells what each one means.
    """

    receive_bytes: int = 4096
    ping_interval: float | None = None
    ping_timeout: float | None = None
    max_message_size: int | None = None
    receive_timeout: float | None = None
    open_timeout: float | None = 10
    close_timeout: float = 10
    max_queue: int | tuple[int, int] = 256
    write_limit: int = 65536
    compression: Deflate | str | None = "deflate"
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("simplews"))
    #: ``max_queue`` as marks.
    marks: QueueMarks = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.logger, (logging.Logger, logging.LoggerAdapter)):
            raise TypeError(f"logger must be a logging.Logger, not {type(self.logger).__name__}")
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is not None and not isinstance(value, (int, float)):
                raise TypeError(f"{name} must be a number, not {value!r}")
        for name in ("ping_interval", "ping_timeout", "receive_timeout", "open_timeout"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, or None to disable it, not {value!r}")
        if not self.close_timeout >= 0:
            raise ValueError(f"close_timeout must not be negative, not {self.close_timeout!r}")
        for name in ("receive_bytes", "write_limit"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)!r}")
        if self.max_message_size is not None and self.max_message_size < 0:
            raise ValueError(
                f"max_message_size must not be negative, not {self.max_message_size!r}"
            )
        object.__setattr__(self, "marks", QueueMarks.of(self.max_queue))
        _ = self.deflate

    @property
    def deflate(self) -> Deflate | None:
        """``compression`` as settings, or None."""
        if self.compression is None or isinstance(self.compression, Deflate):
            return self.compression
        if self.compression == "deflate":
            return _DEFAULT_DEFLATE
        raise ValueError(
            f"compression must be None, 'deflate' or Deflate(...), not {self.compression!r}"
        )


_DEFAULT_DEFLATE = Deflate()


class OptionArgs(TypedDict, total=False):
    """
    Keyword-only options of ``accept``, ``connect`` and ``serve``.

    Durations are seconds, sizes bytes; None disables.

    Attributes:
        ping_timeout: Seconds a Pong may take before the connection fails with
            1011; one ``ping_interval`` when None.
        receive_timeout: Seconds that ``receive()`` waits when called without a
            timeout; None for ever.
        open_timeout: Seconds for TCP, TLS and the opening handshake together; a
            client's proxy and redirects are part of it.
        close_timeout: Seconds for the whole closing handshake, then abort.
        max_queue: Messages held before reading from the peer is paused, or
            (high, low): paused at high, resumed at low. A quarter when only
            high is given. 1 MiB of payload pauses as well.
        write_limit: Bytes buffered before ``send()`` waits.
        compression: "deflate", `Deflate` with settings, or None.
        logger: Where the line per connection goes.
    """

    ping_timeout: float | None
    receive_timeout: float | None
    open_timeout: float | None
    close_timeout: float
    max_queue: int | tuple[int, int]
    write_limit: int
    compression: Deflate | str | None
    logger: logging.Logger


def make_options(caller: str, **options: Any) -> Options:
    """
    `Options` from keyword arguments of *caller*.

    Raises:
        TypeError: There is no such option, or a value of the wrong type.
        ValueError: A value that makes no sense.
    """
    try:
        # (8.0, 2.0), which is wrong, would be found as (8, 2).
        if not isinstance(options.get("max_queue"), tuple):
            return _checked(**options)
    except TypeError:  # it is wrong, or cannot be looked up
        pass
    if not _KNOWN.issuperset(options):
        name = next(name for name in options if name not in _KNOWN)
        raise TypeError(f"{caller} has no option {name!r}")
    return Options(**options)


_KNOWN = frozenset(option.name for option in fields(Options) if option.init)

# A server makes the same options for each of its connections: 1 µs instead of 6, and
# one object of 160 bytes for all of them.
_checked = functools.lru_cache(maxsize=32, typed=True)(Options)


def subprotocol_list(subprotocols: str | Sequence[str] | None) -> tuple[str, ...]:
    """One name or several, as a tuple; TypeError for what is no name."""
    if subprotocols is None:
        return ()
    names = (subprotocols,) if isinstance(subprotocols, str) else tuple(subprotocols)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"a subprotocol is a str, not {type(name).__name__}")
    return names
