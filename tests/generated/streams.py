"""Random streams of frames, right and wrong: a number makes one, always the same."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from ..protocol.by_hand import BIN, CLOSE, CONT, PING, PONG, TEXT, F, close_payload, cut_at

__all__ = ["Stream", "make_stream"]


@dataclass
class Stream:
    """
    What one end sends.

    Attributes:
        server: Whether a server reads it: then it is masked.
        limit: The reader's ``max_message_size``.
        bits: The window that was agreed on, or None without compression.
        takeover: Whether a message may refer to those before it.
        frames: The frames.
        cut_off: Bytes that are missing at the end.
        places: Where it is cut.
        keys: Seed of the masking keys.
    """

    server: bool
    limit: int | None = None
    bits: int | None = None
    takeover: bool = True
    frames: list[F] = field(default_factory=list)
    cut_off: int = 0
    places: tuple[float, ...] = ()
    keys: int = 0

    @property
    def data(self) -> bytes:
        """Its bytes."""
        draw = Random(self.keys)
        whole = b"".join(frame.to(self.server, draw.randbytes(4)) for frame in self.frames)
        return whole[: len(whole) - self.cut_off] if self.cut_off else whole

    @property
    def pieces(self) -> list[bytes]:
        """Its bytes, cut."""
        data = self.data
        return list(cut_at(data, [int(place * len(data)) for place in self.places]))


# Every length class and its edges.
_SIZES = (0, 1, 2, 5, 30, 124, 125, 126, 127, 1000, 65535, 65536, 70_000)
_LIMITS = (None, None, None, None, 0, 1, 125, 126, 1000, 65536)
_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999)
_NEVER = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535)
_NOT_UTF8 = (b"\xff", b"\xed\xa0\x80", b"\xe2\x82", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\x80")
_WORDS = ("", "a", "grüß", "€", "𝄞", "\0", "Hello, world! ")


class _Maker:
    """Draws the frames of one stream."""

    def __init__(self, draw: Random, stream: Stream) -> None:
        self.draw = draw
        self.stream = stream
        self.compressor = self._new_compressor()

    def _new_compressor(self) -> zlib._Compress:
        bits = self.stream.bits or 15
        return zlib.compressobj(self.draw.choice((0, 1, 6, 9)), zlib.DEFLATED, -bits)

    def payload(self, text: bool) -> bytes:
        draw = self.draw
        size = draw.choice(_SIZES[:10] if draw.random() < 0.9 else _SIZES)
        if text:
            word = draw.choice(_WORDS).encode()
            return (word * (size // max(len(word), 1)) if word else b"") + b"x" * (size % 3)
        return draw.randbytes(min(size, 200)) + b"\xa5" * max(size - 200, 0)

    def deflated(self, data: bytes, final: bool = False) -> bytes:
        if not self.stream.takeover:
            self.compressor = self._new_compressor()
        if final:  # RFC 7692 §7.2.3.4: a block with BFINAL, and the compressor is finished
            out = self.compressor.compress(data) + self.compressor.flush(zlib.Z_FINISH)
            self.compressor = self._new_compressor()
            return out + b"\0"
        out = self.compressor.compress(data) + self.compressor.flush(zlib.Z_SYNC_FLUSH)
        return out[:-4] or b"\0"

    def control(self) -> F:
        return F(self.draw.choice((PING, PONG)), self.draw.randbytes(self.draw.choice((0, 4, 125))))

    # ------------------------------------------------------------- what is right

    def message(self) -> list[F]:
        draw = self.draw
        text = draw.random() < 0.6
        payload = self.payload(text)
        rsv = 0
        if self.stream.bits is not None and draw.random() < 0.6:
            payload, rsv = self.deflated(payload), 4
        return self.frames(TEXT if text else BIN, payload, rsv)

    def frames(self, opcode: int, payload: bytes, rsv: int) -> list[F]:
        """A message in one frame or several, control frames between them."""
        draw = self.draw
        if draw.random() < 0.5:
            return [F(opcode, payload, rsv=rsv)]
        places = sorted(draw.randint(0, len(payload)) for _ in range(draw.randint(1, 4)))
        pieces = list(cut_at(payload, places))
        frames = []
        for index, piece in enumerate(pieces):
            last = index == len(pieces) - 1
            frames.append(F(CONT if index else opcode, piece, last, 0 if index else rsv))
            if not last and draw.random() < 0.3:
                frames.append(self.control())
        return frames

    def controls(self) -> list[F]:
        return [self.control() for _ in range(self.draw.randint(1, 3))]

    def close(self) -> list[F]:
        reason = "tschüß €𝄞".encode()[: self.draw.choice((0, 3, 9))]
        code = close_payload(self.draw.choice(_CODES), reason)
        return [F(CLOSE, self.draw.choice((b"", code)))]

    # ------------------------------------------------------------- what is wrong

    def never_sent(self) -> list[F]:
        return [F(CLOSE, close_payload(self.draw.choice(_NEVER)))]

    def odd_close(self) -> list[F]:
        bad = close_payload(1000, b"ok" + self.draw.choice(_NOT_UTF8))
        return [F(CLOSE, self.draw.choice((b"\x03", bad)))]

    def not_utf8(self) -> list[F]:
        noise = self.draw.choice(_NOT_UTF8)
        payload = "grüß".encode() * self.draw.randint(0, 3) + noise + b"x" * self.draw.randint(0, 3)
        rsv = 0
        if self.stream.bits is not None and self.draw.random() < 0.5:
            payload, rsv = self.deflated(payload), 4
        return self.frames(TEXT, payload, rsv)

    def any_frame(self) -> list[F]:
        draw = self.draw
        opcode = draw.randrange(16)
        payload = b"" if opcode == CLOSE else draw.randbytes(draw.choice((0, 3, 126)))
        rsv = draw.choice((0, 0, 1, 2, 4, 7))
        return [F(opcode, payload, draw.random() < 0.7, rsv, wrong_way=draw.random() < 0.2)]

    def out_of_order(self) -> list[F]:
        frames = self.message()
        place = self.draw.randrange(len(frames) + 1)
        return [*frames[:place], F(self.draw.choice((CONT, TEXT, BIN)), b"?"), *frames[place:]]

    def odd_length(self) -> list[F]:
        draw = self.draw
        huge = F(BIN, b"", width=8, says=draw.choice((1 << 63, 1 << 62, 1 << 40)))
        longer = F(draw.choice((TEXT, BIN)), b"x" * draw.choice((0, 5, 125)), width=2)
        longest = F(BIN, b"x" * draw.choice((0, 126, 65535)), width=8)
        return [draw.choice((longer, longest, huge))]

    def corrupt(self) -> list[F]:
        if self.stream.bits is None:
            return self.any_frame()
        noise = self.draw.choice((b"\xff" * 4, b"\x06", b"\x05\0\0\0\0", self.draw.randbytes(9)))
        return self.frames(BIN, noise, 4)

    def final_block(self) -> list[F]:
        if self.stream.bits is None:
            return self.message()
        return self.frames(BIN, self.deflated(self.payload(False), final=True), 4)

    def bomb(self) -> list[F]:
        if self.stream.bits is None:
            return self.message()
        return self.frames(BIN, self.deflated(bytes(self.draw.choice((1001, 100_000)))), 4)


def make_stream(seed: int) -> Stream:
    """
    The stream with the number *seed*.

    Most of it is right, so that what is wrong comes in every state.
    """
    draw = Random(seed)
    stream = Stream(
        server=draw.random() < 0.5,
        limit=draw.choice(_LIMITS),
        bits=draw.choice((None, 9, 10, 12, 15)),
        takeover=draw.random() < 0.7,
        keys=seed,
    )
    make = _Maker(draw, stream)
    right: list[Callable[[], list[F]]] = [make.message] * 5 + [make.controls, make.bomb]
    wrong: list[Callable[[], list[F]]] = [
        make.any_frame,
        make.bomb,
        make.close,
        make.corrupt,
        make.final_block,
        make.never_sent,
        make.not_utf8,
        make.odd_close,
        make.odd_length,
        make.out_of_order,
    ]
    for _ in range(draw.randint(1, 6)):
        stream.frames += draw.choice(wrong if draw.random() < 0.25 else right)()
    if draw.random() < 0.1:
        stream.cut_off = draw.randint(1, 6)
    stream.places = tuple(sorted(draw.random() for _ in range(draw.randint(0, 6))))
    return stream
