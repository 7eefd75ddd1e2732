"""permessage-deflate (RFC 7692): settings, negotiation of both roles, (de)compressors.

A compressor and a decompressor are made when the first message needs them, and
only the connections that were last in use keep theirs: see `_hold`. Inflating is
bounded: the limit counts bytes after inflating, and at most one byte more than
the limit is ever produced.

wsproto carries the answer in its handshake; the parameters are judged here,
because its own class answers a parameter twice, takes ``client_max_window_bits``
that nobody offered, and reads names by their first letters.
"""

from __future__ import annotations

import re
import weakref
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..errors import ProtocolError
from ..types import CloseCode

__all__ = [
    "INFLATE_LIMIT",
    "Agreement",
    "Deflate",
    "Deflater",
    "Inflater",
    "answer_offers",
    "make_offer",
    "parse_extensions",
    "read_answer",
    "use_compressor",
]

NAME = "permessage-deflate"

#: Bytes that a compressed message may inflate to when ``max_message_size`` is None.
INFLATE_LIMIT = 64 * 1024 * 1024

# RFC 7692 §7.2.1: a sender takes these four bytes off the end of each message.
_TAIL = b"\x00\x00\xff\xff"

# Characters of a request's offers, all together, that are looked at. People's are below
# 100; 16 KiB of commas and semicolons took 90 ms, three thousand times a whole handshake.
_MOST_OFFERED = 2048

Params = list[tuple[str, str | None]]


@dataclass(frozen=True, slots=True)
class Deflate:
    """
    How to compress (RFC 7692).

    Args:
        threshold: Messages of fewer bytes are sent as they are.
        level: zlib's 0 to 9. Level 1 takes half the time of level 6.
        mem_level: zlib's 1 to 9: how much memory a compressor takes.
        window_bits: 9 to 15: how far back a compressor looks, 2**bits bytes.
            The defaults of 12 and 5 hold half the memory of zlib's 15 and 8.
        context_takeover: Whether a message may refer to those before it, which
            makes it smaller. False keeps nothing from one message to the next;
            True keeps compressors for the connections that were last in use.
    """

    threshold: int = 256
    level: int = 1
    mem_level: int = 5
    window_bits: int = 12
    context_takeover: bool = True

    def __post_init__(self) -> None:
        if not 9 <= self.window_bits <= 15:
            raise ValueError(f"window_bits must be 9 to 15, not {self.window_bits}")
        if not 1 <= self.mem_level <= 9:
            raise ValueError(f"mem_level must be 1 to 9, not {self.mem_level}")
        if not 0 <= self.level <= 9:
            raise ValueError(f"level must be 0 to 9, not {self.level}")
        if self.threshold < 0:
            raise ValueError(f"threshold must not be negative, not {self.threshold}")


@dataclass(frozen=True, slots=True)
class Agreement:
    """
    What both sides agreed on, seen from ours.

    Attributes:
        local_bits: Window for what we send; 8 when we must not compress at
            all, because zlib cannot make a raw stream with a window of 256.
        remote_bits: Window for what the peer sends.
        local_takeover: Whether our messages may refer to earlier ones.
        remote_takeover: Whether the peer's may.
        settings: Our own settings.
    """

    local_bits: int
    remote_bits: int
    local_takeover: bool
    remote_takeover: bool
    settings: Deflate


# ---------------------------------------------------------------- negotiation


def parse_extensions(value: str) -> list[tuple[str, Params]]:
    """
    Parse ``Sec-WebSocket-Extensions`` (RFC 6455 §9.1), quoted values included.

    Raises:
        ValueError: It does not follow the grammar.
    """
    # RFC 9110 §5.6.1: empty elements of a list are ignored.
    return [_parse_extension(item) for item in _split(value, ",") if item]


def _parse_extension(item: str) -> tuple[str, Params]:
    name, *params = _split(item, ";")
    _check_token(name)
    return name, [_parse_param(param) for param in params]


def _split(value: str, separator: str) -> list[str]:
    """Split at *separator* outside quoted strings."""
    parts, start, quoted, skip = [], 0, False, False
    for index, char in enumerate(value):
        if skip:
            skip = False
        elif char == '"':
            quoted = not quoted
        elif quoted and char == "\\":
            skip = True
        elif char == separator and not quoted:
            parts.append(value[start:index].strip(" \t"))
            start = index + 1
    if quoted:
        raise ValueError("quoted string without an end")
    parts.append(value[start:].strip(" \t"))
    return parts


def _parse_param(param: str) -> tuple[str, str | None]:
    name, equals, value = param.partition("=")
    name, value = name.rstrip(" \t"), value.lstrip(" \t")
    _check_token(name)
    if not equals:
        return name, None
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = _ESCAPED.sub(r"\1", value[1:-1])
    # RFC 6455 §9.1: after unquoting, the value must be a token.
    _check_token(value)
    return name, value


_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_TOKEN_CHARS = frozenset(
    "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)


def _check_token(text: str) -> None:
    if not text or not _TOKEN_CHARS.issuperset(text):
        raise ValueError(f"{text!r} is not a token")


class _Declined(Exception):
    """This offer, or this answer, does not follow RFC 7692 §7.1."""


def _read_params(params: Params, *, offer: bool) -> dict[str, int]:
    """
    Check the parameters of an offer or an answer; flags become 1.

    ``client_max_window_bits`` without a value, legal in an offer, becomes 15.
    """
    seen: dict[str, int] = {}
    for name, value in params:
        if name in seen:
            raise _Declined(f"parameter {name} twice")
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if value is not None:
                raise _Declined(f"parameter {name} with a value")
            seen[name] = 1
        elif name in ("server_max_window_bits", "client_max_window_bits"):
            if value is None and offer and name == "client_max_window_bits":
                seen[name] = 15
            # RFC 7692 §7.1.2: 8 to 15, decimal, no leading zeroes.
            elif value in ("8", "9", "10", "11", "12", "13", "14", "15"):
                seen[name] = int(value)
            else:
                raise _Declined(f"parameter {name} with the value {value!r}")
        else:
            raise _Declined(f"unknown parameter {name}")
    return seen


def answer_offers(value: str, settings: Deflate) -> tuple[str, Agreement] | None:
    """
    Server: answer the first offer that we can meet.

    A malformed offer declines itself, never the connection (RFC 7692 §7).

    Args:
        value: The request's ``Sec-WebSocket-Extensions``.
        settings: Our own settings.

    Returns:
        The value of the response's header field and what it means, or None; also
        None where the offers are longer than anybody's.
    """
    if len(value) > _MOST_OFFERED:
        return None
    try:
        offers = _split(value, ",")
    except ValueError:
        return None
    for offer in offers:
        if not offer.startswith(NAME):
            continue
        try:
            name, params = _parse_extension(offer)
            if name != NAME:
                continue
            asked = _read_params(params, offer=True)
        except (ValueError, _Declined):
            continue
        answer = _answer(asked, settings)
        if answer is not None:
            return answer
    return None


def _answer(asked: dict[str, int], settings: Deflate) -> tuple[str, Agreement] | None:
    local_bits = min(settings.window_bits, asked.get("server_max_window_bits", 15))
    if local_bits < 9:
        return None  # zlib cannot compress with a raw window of 256 bytes.
    local_takeover = settings.context_takeover and "server_no_context_takeover" not in asked
    remote_takeover = settings.context_takeover and "client_no_context_takeover" not in asked
    answer = [NAME]
    if not local_takeover:
        answer.append("server_no_context_takeover")
    if not remote_takeover:
        answer.append("client_no_context_takeover")
    if local_bits < 15:
        answer.append(f"server_max_window_bits={local_bits}")
    remote_bits = 15
    if "client_max_window_bits" in asked:
        # Below 9 a client that uses zlib could not comply; it may offer 8 and
        # be answered 9 only if it offered at least that (§7.1.2.2).
        remote_bits = min(settings.window_bits, asked["client_max_window_bits"])
        if remote_bits < 15:
            answer.append(f"client_max_window_bits={remote_bits}")
    agreement = Agreement(local_bits, remote_bits, local_takeover, remote_takeover, settings)
    return "; ".join(answer), agreement


def make_offer(settings: Deflate) -> str:
    """Client: the parameters of our offer, without the extension's name."""
    params = ["client_max_window_bits"]
    if not settings.context_takeover:
        params += ["client_no_context_takeover", "server_no_context_takeover"]
    return "; ".join(params)


def read_answer(params: Params, settings: Deflate) -> Agreement:
    """
    Client: what the server's answer to `make_offer` means.

    Raises:
        ValueError: The answer is not one to our offer; the connection must fail
            (RFC 7692 §7.1.3).
    """
    try:
        told = _read_params(params, offer=False)
    except _Declined as exc:
        raise ValueError(str(exc)) from None
    if not settings.context_takeover and "server_no_context_takeover" not in told:
        raise ValueError("server_no_context_takeover was asked for and not granted")
    return Agreement(
        local_bits=min(settings.window_bits, told.get("client_max_window_bits", 15)),
        remote_bits=told.get("server_max_window_bits", 15),
        local_takeover=settings.context_takeover and "client_no_context_takeover" not in told,
        remote_takeover="server_no_context_takeover" not in told,
        settings=settings,
    )


# ----------------------------------------------------------------- the streams


class Compressor(Protocol):
    """What we need of ``zlib.compressobj``."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self, mode: int, /) -> bytes: ...


#: ``compressobj(level, method, wbits, memLevel)``.
CompressObj = Callable[[int, int, int, int], Compressor]

# The other compressor, and the levels that it is used for.
_other: tuple[CompressObj, range] | None = None


def use_compressor(compressobj: CompressObj | None, levels: range = range(0)) -> None:
    """Make the compressors of some levels with *compressobj* from now on; None for none."""
    global _other
    _other = None if compressobj is None else (compressobj, levels)


def _compressor(settings: Deflate, bits: int) -> Compressor:
    level = settings.level
    if _other is not None and level in _other[1]:
        return _other[0](level, zlib.DEFLATED, -bits, settings.mem_level)
    return zlib.compressobj(level, zlib.DEFLATED, -bits, settings.mem_level)


def _compress(stream: Compressor, data: bytes) -> bytes:
    return stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)


# With its defaults a connection holds 32 KiB to compress and 13 KiB to inflate,
# three times as much as all the rest of it. Both can be made again at the border
# between two messages: what is compressed need not refer to what came before,
# whatever was agreed, and inflating goes on from the bytes it last produced.
# So only so many streams are kept, in the process, of those last in use.
_MOST_HELD = 256

_held: deque[weakref.ref[Deflater | Inflater]] = deque()


def _hold(context: Deflater | Inflater) -> None:
    """
    Keep the stream of *context*, and let another rest when there are too many.

    Whoever comes first in the queue rests, unless it was in use again since it
    came or was asked before: then it goes to the end. So a message costs a flag,
    and the queue moves only when a stream is made.
    """
    _held.append(weakref.ref(context))
    for _ in range(2 * len(_held)):
        if len(_held) <= _MOST_HELD:
            break
        # Another thread may be here too; nothing depends on who rests.
        oldest = _held.popleft()
        other = oldest()
        if other is not None and not other.rest():
            _held.append(oldest)


class Deflater:
    """Compresses what we send."""

    __slots__ = ("__weakref__", "_agreement", "_stream", "_used", "threshold")

    def __init__(self, agreement: Agreement) -> None:
        self._agreement = agreement
        self._stream: Compressor | None = None
        self._used = False
        self.threshold = agreement.settings.threshold

    def piece(self, data: bytes, final: bool) -> bytes:
        """Compress a fragment; *final* ends the message (RFC 7692 §7.2.1)."""
        agreement = self._agreement
        stream = self._stream
        if stream is not None:
            self._used = True
        else:
            stream = self._stream = _compressor(agreement.settings, agreement.local_bits)
            if agreement.local_takeover:
                _hold(self)
        out = _compress(stream, data)
        if not final:
            return out
        if not agreement.local_takeover:
            self._stream = None
        # zlib has nothing to add after a fragment that was flushed already; a
        # message must still end in a block (RFC 7692 §7.2.3.6).
        return out[:-4] if out else b"\0"

    def rest(self) -> bool:
        """Drop the stream, unless it was in use again."""
        if self._used:
            self._used = False
            return False
        self._stream = None
        return True

    # ----------------------------------------------- one message, many peers

    def part(self) -> tuple[int, int, int]:
        """
        Prepare for a message of `alone`: what it depends on.

        It moves the peer's window and not ours, so that the next message cannot
        refer to those before it.
        """
        self._stream = None
        settings = self._agreement.settings
        return settings.level, settings.mem_level, self._agreement.local_bits

    def alone(self, data: bytes) -> bytes:
        """Compress a message that refers to no other."""
        stream = _compressor(self._agreement.settings, self._agreement.local_bits)
        return _compress(stream, data)[:-4] or b"\0"


# Up to here one call that copies is faster than two: 3.0 µs, not 3.2, for 1 KiB of JSON.
_SHORT = 4096

# What a decompressor produced is kept beside it, to go on from, up to this window.
_MOST_HISTORY = 1 << 12

# A sender that sets BFINAL does so once in a message, or in a fragment. A message
# made of such blocks alone, two bytes each, would cost a decompressor for each.
_MOST_FINAL = 64


class Inflater:
    """Inflates what the peer sends, within a limit."""

    __slots__ = (
        "__weakref__",
        "_begun",
        "_bits",
        "_final",
        "_history",
        "_message",
        "_stream",
        "_takeover",
        "_used",
        "_window",
    )

    def __init__(self, agreement: Agreement) -> None:
        bits = max(agreement.remote_bits, 9)  # zlib reads a window of 8 with 9, too
        self._bits = -bits
        self._window = 1 << bits
        self._takeover = agreement.remote_takeover
        self._stream: zlib._Decompress | None = None
        # What it produced last, at least a window of it; None if we keep the
        # stream instead, which is less than a larger window.
        self._history: bytearray | None = None
        if self._takeover and self._window <= _MOST_HISTORY:
            self._history = bytearray()
        self._begun = False  # a block that the tail is to complete
        self._message = False  # inside a message
        self._final = 0  # blocks with BFINAL in this message
        self._used = False

    def piece(self, data: bytes, final: bool, limit: int, before: int = 0) -> bytes:
        """
        Inflate a part of a message.

        Args:
            data: Compressed bytes.
            final: Whether the message ends here.
            limit: Bytes that the whole message may have.
            before: Bytes that its earlier parts had.

        Raises:
            ProtocolError: 1009 when there would be more, 1007 when the data is
                not a deflate stream, 1008 when it is one that only wastes time.
        """
        self._message = True
        if self._stream is not None:
            self._used = True
        try:
            if final and len(data) <= _SHORT and (data or self._begun):
                out = self._inflate(data + _TAIL, True, limit, before)
            else:
                out = self._inflate(data, False, limit, before)
                # A message without any bytes, or one that ends with BFINAL, has
                # no empty block whose end was taken off; the tail would be taken
                # for the start of one, and spoil the next message.
                if final and self._begun:
                    out += self._inflate(_TAIL, False, limit, before + len(out))
        except zlib.error as exc:
            raise ProtocolError(
                CloseCode.INVALID_FRAME_PAYLOAD_DATA, "compressed data is corrupt"
            ) from exc
        if final:
            self._begun = self._message = False
            self._final = 0
            if not self._takeover:
                self._stream = None
        return out

    def _inflate(self, data: bytes, tailed: bool, limit: int, before: int) -> bytes:
        out = b""
        room = limit - before
        while data:
            stream = self._stream or self._resume()
            self._begun = True
            # 0 would mean "no limit" to zlib; one byte more shows the excess.
            made = stream.decompress(data, room + 1 - len(out))
            out = out + made if out else made
            if len(out) > room:
                raise ProtocolError(
                    CloseCode.MESSAGE_TOO_BIG,
                    f"message inflates to more than the limit of {limit} bytes",
                )
            if not stream.eof:
                # Another thread may have let it rest, too late.
                self._stream = stream
                if self._history is not None:
                    self._remember(made)
                break
            # RFC 7692 §7.2.3.4: a block with BFINAL=1 is legal, and ends this
            # zlib stream but not the message.
            # Choice: the next block starts without history. A sender that sets
            # BFINAL has finished its own compressor as well.
            data = stream.unused_data
            self._stream = None
            self._begun = False
            if self._history is not None:
                self._history.clear()
            self._final += 1
            if self._final > _MOST_FINAL:
                raise ProtocolError(
                    CloseCode.POLICY_VIOLATION,
                    f"compressed message ends more than {_MOST_FINAL} times",
                )
            if tailed and data == _TAIL:
                break  # nothing lacks it, see `piece`
        return out

    def _resume(self) -> zlib._Decompress:
        history = self._history
        if history:
            self._stream = zlib.decompressobj(self._bits, zdict=bytes(history[-self._window :]))
        else:
            self._stream = zlib.decompressobj(self._bits)
        if history is not None:
            _hold(self)
        return self._stream

    def _remember(self, made: bytes) -> None:
        history, window = self._history, self._window
        assert history is not None
        if len(made) >= window:
            history[:] = made[-window:]
        else:
            history += made
            if len(history) > 2 * window:
                del history[:-window]

    def rest(self) -> bool:
        """Keep only what is needed to go on, unless it was in use again."""
        # Inside a message the stream may be inside a block.
        if self._used or self._message:
            self._used = False
            return False
        self._stream = None
        if self._history is not None:
            del self._history[: -self._window]
        return True
