"""
Random streams of frames, and what our decoder, wsproto and websockets make of them::

    python -m tests.generated.differential [STREAMS]

from the top of the repository prints how many of 10,000 streams, or as many as told,
differ: in their messages, their control frames, or the close code.

Each of the two is known to be wrong, or to choose otherwise, in the ways of `WSPROTO`
and `WEBSOCKETS`. A stream goes to it up to the first frame that leads there, so that
what is compared must be the same, without exceptions.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simplews.protocol.codec import Decoder
from simplews.protocol.frames import Fragment

from ..protocol.by_hand import (
    BIN,
    CLOSE,
    CONT,
    PING,
    TEXT,
    Compressor,
    F,
    Outcome,
    agreement,
    close_payload,
    feed,
)
from ..protocol.strangers import (
    WebsocketsDeflate,
    websockets_reads,
    wsproto_deflate,
    wsproto_reads,
)
from .streams import Stream, make_stream

sys.path.append(str(Path(__file__).resolve().parents[2] / "fuzz"))

from by_the_book import Reader, Step

__all__ = ["STRANGERS", "Known", "Reader", "Stranger", "compare", "ours"]


@dataclass(frozen=True)
class Known:
    """
    A way in which a stranger differs.

    Attributes:
        name: What it does.
        clause: Why it is not what we do.
        leads_there: Whether this frame, in this state, leads there.
        example: A stream whose last frame does.
    """

    name: str
    clause: str
    leads_there: Callable[[Stream, Step, F], bool]
    example: Stream


@dataclass(frozen=True)
class Stranger:
    """
    Another implementation.

    Attributes:
        name: Its name.
        reads: What it makes of a stream.
        known: How it differs.
        limits: Whether it has a limit.
    """

    name: str
    reads: Callable[[Stream], Outcome]
    known: Sequence[Known]
    limits: bool

    def asked(self, stream: Stream) -> tuple[Stream, str | None]:
        """The beginning of *stream* that it can be asked about, and what cuts it short."""
        if not self.limits:
            stream = replace(stream, limit=None)
        reader = Reader(stream.server, stream.limit, stream.bits, stream.takeover)
        steps = reader.read(stream.data).steps
        for index, (step, frame) in enumerate(zip(steps, stream.frames, strict=False)):
            for known in self.known:
                if known.leads_there(stream, step, frame):
                    return replace(stream, frames=stream.frames[:index]), known.name
        return stream, None


def ours(stream: Stream) -> Outcome:
    """What our decoder makes of *stream*."""
    agreed = None
    if stream.bits is not None:
        agreed = agreement(15, stream.bits, True, stream.takeover)
    return feed(Decoder(stream.server, stream.limit, agreed), stream.pieces)


def _wsproto(stream: Stream) -> Outcome:
    if stream.bits is None:
        extension = None
    elif stream.server:
        extension = wsproto_deflate(client_bits=stream.bits, client_takeover=stream.takeover)
    else:
        extension = wsproto_deflate(server_bits=stream.bits, server_takeover=stream.takeover)
    return wsproto_reads(stream.pieces, stream.server, extension)


def _websockets(stream: Stream) -> Outcome:
    extension = None
    if stream.bits is not None:
        extension = WebsocketsDeflate(not stream.takeover, False, stream.bits, 15)
    return websockets_reads(stream.pieces, stream.server, stream.limit, extension)


# ----------------------------------------------------------------------- wsproto

_FINAL = b"\x4b\x04\x00\x00"  # RFC 7692 §7.2.3.4: "a", BFINAL set, and an empty block


def _is_data(step: Step) -> bool:
    return step.opcode < 8


def _room(stream: Stream, step: Step) -> int:
    """Bytes that the present message may still have."""
    return 1 << 62 if stream.limit is None else stream.limit - step.before


_SLOW = b"b`\x18\x05"
_HELLO = Compressor().message(b"Hello" * 40)

WSPROTO = Stranger(
    "wsproto",
    _wsproto,
    [
        Known(
            "does not know close code 1014",
            "RFC 6455 §7.4.2 and IANA's registry: 1014 is 'Bad Gateway' and may be sent.",
            lambda stream, step, frame: (
                step.opcode == CLOSE and frame.payload[:2] == close_payload(1014)
            ),
            Stream(True, frames=[F(CLOSE, close_payload(1014))]),
        ),
        Known(
            "takes a control frame for a part of the compressed message around it",
            "RFC 6455 §5.4: control frames may be injected in the middle of a fragmented "
            "message; RFC 7692 §6.2: of data frames alone the payloads are inflated.",
            lambda stream, step, frame: not _is_data(step) and step.begun > 0 and step.compressed,
            Stream(
                True,
                bits=15,
                frames=[F(BIN, _HELLO[:3], fin=False, rsv=4), F(PING), F(CONT, _HELLO[3:])],
            ),
        ),
        Known(
            "inflates nothing behind BFINAL",
            "RFC 7692 §7.2.3.4: a block with BFINAL set is legal; what follows is more of it.",
            lambda stream, step, frame: step.ended,
            Stream(True, bits=15, frames=[F(BIN, _FINAL, rsv=4)] * 2),
        ),
        Known(
            "inflates before it looks at the order",
            "RFC 6455 §7.1.7: which of two broken rules is told is open.",
            lambda stream, step, frame: step.broken == 1002 and step.compressed and _is_data(step),
            Stream(True, bits=15, frames=[F(BIN, b"", False, 4), F(TEXT, b"\xff" * 4)]),
        ),
        Known(
            "fails on a compressed message of no bytes at all",
            "RFC 7692 §7.2.3.6: an empty message is one byte, 0x00. Choice: we take none for "
            "the same; read literally (§7.2.2), the bytes to be appended are not a block.",
            lambda stream, step, frame: step.untailed and not step.ended,
            Stream(True, bits=15, frames=[F(BIN, rsv=4), F(BIN, _HELLO, rsv=4)]),
        ),
    ],
    limits=False,
)

# -------------------------------------------------------------------- websockets

WEBSOCKETS = Stranger(
    "websockets",
    _websockets,
    [
        Known(
            "takes a length that is not in its shortest form, or is over 2**63",
            'RFC 6455 §5.2: "the minimal number of bytes MUST be used to encode the length", '
            '"the most significant bit MUST be 0".',
            lambda stream, step, frame: (
                (step.width == 2 and step.length < 126)
                or (step.width == 8 and (step.length < 65536 or step.length >> 63 > 0))
            ),
            Stream(True, frames=[F(BIN, b"x", width=2)]),
        ),
        Known(
            "calls corrupt deflate data a protocol error, 1002",
            "RFC 7692 leaves the code open; RFC 6455 §7.4.1: 1007 is for data within a "
            "message that is not consistent with its type, and Autobahn takes it too.",
            lambda stream, step, frame: step.broken == 1007 and step.compressed and _is_data(step),
            Stream(True, bits=15, frames=[F(BIN, b"\xff" * 4, rsv=4)]),
        ),
        Known(
            "fails when a Close comes inside a fragmented message",
            "RFC 6455 §5.4: control frames, and Close is one, may be injected in the middle "
            "of a fragmented message; §5.5.1 says when to stop sending, and no more.",
            lambda stream, step, frame: step.opcode == CLOSE and step.begun > 0,
            Stream(True, frames=[F(TEXT, b"a", fin=False), F(CLOSE)]),
        ),
        Known(
            "holds control frames to the limit of a message",
            "RFC 6455 §5.5: they have a limit of their own, 125 bytes.",
            lambda stream, step, frame: not _is_data(step) and step.length > _room(stream, step),
            Stream(True, limit=1, frames=[F(PING, b"12")]),
        ),
        Known(
            "compares with the limit before it looks at bits, opcode and order",
            "RFC 6455 §7.1.7: which of two broken rules is told is open.",
            lambda stream, step, frame: step.broken == 1002 and step.length > _room(stream, step),
            Stream(True, limit=1, frames=[F(BIN, b"12", rsv=2)]),
        ),
        Known(
            "compares the compressed length with the limit, too",
            "RFC 7692 §8.1 asks for a limit on what a message inflates to; a few bytes that "
            "do not compress travel as more.",
            lambda stream, step, frame: (
                step.compressed and _is_data(step) and step.length > _room(stream, step)
            ),
            Stream(True, limit=2, bits=15, frames=[F(BIN, Compressor().message(b"ab"), rsv=4)]),
        ),
        Known(
            "inflates nothing behind BFINAL",
            "RFC 7692 §7.2.3.4: a block with BFINAL set is legal; what follows is more of it.",
            lambda stream, step, frame: step.ended,
            Stream(True, bits=15, frames=[F(BIN, _FINAL, rsv=4)] * 2),
        ),
        Known(
            "does not see what zlib has read and not given out",
            "RFC 7692 §8.1. It asks for unread input; a bomb of a hundred bytes is read at once.",
            lambda stream, step, frame: step.broken == 1009 and step.compressed and not frame.fin,
            Stream(True, limit=125, bits=15, frames=[F(BIN, _SLOW, False, 4), F(PING)]),
        ),
        Known(
            "looks at a payload when all of it is there, and at a length before the masking key is",
            "RFC 6455 §8.1 and §7.1.7 leave open when to fail; we do at the first wrong byte.",
            lambda stream, step, frame: (
                step.partial and (step.broken is not None or step.length > _room(stream, step))
            ),
            Stream(True, frames=[F(TEXT, b"\xff\xff")], cut_off=1),
        ),
        Known(
            "fails on a compressed message of no bytes at all",
            "RFC 7692 §7.2.3.6: an empty message is one byte, 0x00. Choice: we take none for "
            "the same; read literally (§7.2.2), the bytes to be appended are not a block.",
            lambda stream, step, frame: step.untailed and not step.ended,
            Stream(True, bits=15, frames=[F(BIN, rsv=4), F(BIN, _HELLO, rsv=4)]),
        ),
    ],
    limits=True,
)


STRANGERS = (WSPROTO, WEBSOCKETS)


def compare(
    stream: Stream, stranger: Stranger
) -> tuple[str | None, tuple[Outcome, Outcome] | None]:
    """
    Ask both.

    Returns:
        What cut the stream short, if anything did, and the two answers if they differ.
    """
    asked, known = stranger.asked(stream)
    mine, theirs = ours(asked), stranger.reads(asked)
    return known, None if mine == theirs else (mine, theirs)


def _brief(outcome: Outcome) -> str:
    sizes = [len(message) for message in outcome.messages if not isinstance(message, Fragment)]
    names = [type(event).__name__ for event in outcome.events]
    return f"messages of {sizes}, {names}, code {outcome.code}"


def main() -> int:
    """Compare, print, and return 1 if anything differs."""
    parser = argparse.ArgumentParser(description="random streams against wsproto and websockets")
    parser.add_argument("streams", type=int, nargs="?", default=10_000)
    streams = parser.parse_args().streams
    differ: set[int] = set()
    for stranger in STRANGERS:
        short: Counter[str] = Counter()
        for seed in range(streams):
            known, difference = compare(make_stream(seed), stranger)
            if known is not None:
                short[known] += 1
            if difference is not None:
                differ.add(seed)
                mine, theirs = map(_brief, difference)
                print(f"stream {seed}: ours {mine}; {stranger.name} {theirs}")
        whole = streams - short.total()
        print(
            f"{stranger.name}: {whole:,} streams whole, {short.total():,} up to where it differs:"
        )
        for name, count in short.most_common():
            print(f"  {count:6,}  {name}")
    print(f"{len(differ):,} of {streams:,} differ")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
