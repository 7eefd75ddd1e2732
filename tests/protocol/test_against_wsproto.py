"""Our codec and wsproto's agree, on what Hypothesis draws: frames right and wrong.

wsproto 1.3.2 yields one event for each read, so adjacent data is joined before
it is compared. Where it is known to be wrong it is not asked: close code 1014,
and control frames between the fragments of a compressed message.
"""

from __future__ import annotations

import itertools
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.events import Ping as WsprotoPing
from wsproto.events import Pong as WsprotoPong

from simplews.protocol.codec import Decoder, Encoder, Message
from simplews.protocol.deflate import Agreement, Deflate
from simplews.types import Close

from .by_hand import (
    BIN,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    F,
    byte_by_byte,
    close_payload,
    cut_at,
    feed,
)
from .strangers import wsproto_deflate, wsproto_reads

# --------------------------------------------------------------------- what is drawn

# Every length class and its edges.
sizes = st.sampled_from([0, 1, 2, 3, 4, 5, 100, 124, 125, 126, 127, 1000, 65535, 65536, 65540])
texts = st.text(max_size=30) | sizes.map(lambda size: "x" * size)
binaries = st.binary(max_size=30) | sizes.map(lambda size: b"\xa5" * size)
small = st.binary(max_size=125)
# Bytes that are UTF-8, nearly UTF-8, or not at all.
nearly_text = st.builds(
    lambda text, place, noise: text[:place] + noise + text[place:],
    st.text(max_size=8).map(str.encode),
    st.integers(0, 20),
    st.sampled_from(
        [b"", b"\xff", b"\xed\xa0\x80", b"\xe2\x82", b"\xc0\xaf", b"\xf4\x90", b"\x80"]
    ),
)
keys = st.binary(min_size=4, max_size=4)
close_payloads = st.one_of(
    st.just(b""),
    small,
    st.builds(
        close_payload,
        # 1014 is valid now; wsproto 1.3.2 does not know it.
        st.sampled_from([1000, 1001, 1002, 1003, 1004, 1005, 1006, 1013, 1015, 1016, 2999])
        | st.integers(3000, 4999)
        | st.integers(0, 65535).filter(lambda code: code != 1014),
        st.text(max_size=30).map(str.encode) | nearly_text,
    ),
).filter(lambda payload: payload[:2] != close_payload(1014))


@st.composite
def fragmented(draw: st.DrawFn) -> list[F]:
    """One message in any number of fragments, control frames between them."""
    opcode = draw(st.sampled_from([TEXT, BIN]))
    payload = draw(texts).encode() if opcode == TEXT else draw(binaries)
    places = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    pieces = list(cut_at(payload, places))
    frames = []
    for index, piece in enumerate(pieces):
        frames.append(F(CONT if index else opcode, piece, fin=index == len(pieces) - 1))
        if index < len(pieces) - 1:
            frames += draw(st.lists(controls, max_size=2))
    return frames


controls = st.builds(F, st.sampled_from([PING, PONG]), small)

# Mostly right; each of these may be wrong in any way that a frame can be.
odd_frames = st.builds(
    F,
    opcode=st.integers(0, 15),
    payload=nearly_text | small | binaries,
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0, 1, 2, 4, 7]),
    wrong_way=st.sampled_from([False] * 7 + [True]),
).filter(lambda frame: frame.opcode != CLOSE or frame.payload[:2] != close_payload(1014))

odd_lengths = st.builds(
    F, st.sampled_from([TEXT, BIN, PING]), st.just(b""), width=st.sampled_from([2, 8])
)

frame_lists = st.lists(
    st.one_of(
        fragmented(),
        fragmented(),
        st.lists(controls, min_size=1, max_size=3),
        st.builds(F, st.just(TEXT), nearly_text, st.booleans()).map(lambda frame: [frame]),
        st.builds(F, st.just(CLOSE), close_payloads).map(lambda frame: [frame]),
        odd_frames.map(lambda frame: [frame]),
        odd_lengths.map(lambda frame: [frame]),
    ),
    max_size=5,
).map(lambda lists: [frame for frames in lists for frame in frames])


def draw_bytes(data: st.DataObject, frames: list[F], server: bool) -> bytes:
    return b"".join(frame.to(server, data.draw(keys) if server else b"") for frame in frames)


def draw_cuts(data: st.DataObject, stream: bytes) -> list[bytes]:
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=6))
    return list(cut_at(stream, sorted(places)))


# ------------------------------------------------------------------ what is compared


@given(st.data(), frame_lists, st.booleans())
def test_frames_right_and_wrong_mean_the_same(
    data: st.DataObject, frames: list[F], server: bool
) -> None:
    """RELIABILITY: same messages, same events, same close code, however it is cut."""
    stream = draw_bytes(data, frames, server)
    ours = feed(Decoder(server), draw_cuts(data, stream))
    assert ours == wsproto_reads(draw_cuts(data, stream), server)


@given(st.data(), frame_lists, st.booleans())
def test_messages_and_control_frames_come_in_the_same_order(
    data: st.DataObject, frames: list[F], server: bool
) -> None:
    """At the same byte, even: neither is early or late."""
    frames = [frame for frame in frames if len(frame.payload) < 300]
    stream = draw_bytes(data, frames, server)
    decoder = Decoder(server)
    ours, theirs = [], []
    for place, byte in enumerate(byte_by_byte(stream)):
        outcome = feed(decoder, [byte])
        ours += [(place, item) for item in [*outcome.messages, *outcome.events]]
        if decoder.done:
            break
    for place in range(len(ours)):
        outcome = wsproto_reads([stream[: ours[place][0] + 1]], server)
        theirs.append(len(outcome.messages) + len(outcome.events))
    assert theirs == list(range(1, len(ours) + 1))


@given(st.binary(max_size=60), st.booleans(), st.data())
def test_any_bytes_mean_the_same(noise: bytes, server: bool, data: st.DataObject) -> None:
    """Nearly all of it is wrong; we may notice it a little earlier."""
    ours = feed(Decoder(server), draw_cuts(data, noise))
    theirs = wsproto_reads([noise], server)
    if theirs.events[-1:] == ours.events[-1:]:
        assert ours.messages == theirs.messages and ours.events == theirs.events
    if theirs.code is not None and noise[:2] and close_payload(1014) not in noise:
        assert ours.code == theirs.code


@st.composite
def compressed_streams(draw: st.DrawFn) -> tuple[list[F], int, bool]:
    """Messages compressed by zlib or plain, with the window and the takeover they have."""
    bits = draw(st.integers(9, 15))
    takeover = draw(st.booleans())
    level = draw(st.sampled_from([0, 1, 6, 9]))
    frames: list[F] = []
    stream = zlib.compressobj(level, zlib.DEFLATED, -bits)
    for _ in range(draw(st.integers(1, 4))):
        opcode = draw(st.sampled_from([TEXT, BIN]))
        payload = draw(texts).encode() if opcode == TEXT else draw(binaries)
        compressed = draw(st.booleans())
        if compressed:
            if not takeover:
                stream = zlib.compressobj(level, zlib.DEFLATED, -bits)
            payload = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
            payload = payload[:-4] or b"\0"
        places = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        pieces = list(cut_at(payload, places))
        for index, piece in enumerate(pieces):
            rsv = 4 if compressed and not index else 0
            final = index == len(pieces) - 1
            frames.append(F(CONT if index else opcode, piece, fin=final, rsv=rsv))
            if final or not compressed:
                frames += draw(st.lists(controls, max_size=1))
    return frames, bits, takeover


@given(st.data(), compressed_streams(), st.booleans())
def test_compressed_messages_inflate_to_the_same(
    data: st.DataObject, drawn: tuple[list[F], int, bool], server: bool
) -> None:
    """Window, takeover, level and fragments as zlib may choose them."""
    frames, bits, takeover = drawn
    stream = draw_bytes(data, frames, server)
    agreed = Agreement(15, bits, True, takeover, Deflate())
    ours = feed(Decoder(server, agreement=agreed), draw_cuts(data, stream))
    if server:
        extension = wsproto_deflate(client_bits=bits, client_takeover=takeover)
    else:
        extension = wsproto_deflate(server_bits=bits, server_takeover=takeover)
    assert ours == wsproto_reads(draw_cuts(data, stream), server, extension)
    assert ours.code is None


# ----------------------------------------------------------- one writes, the other reads

messages = st.lists(
    st.tuples(texts | binaries, st.lists(st.integers(0, 200), max_size=3), st.booleans(), controls),
    min_size=1,
    max_size=4,
)


def cut_message(message: Message, places: list[int]) -> list[Any]:
    assert isinstance(message, str | bytes)
    bounds = [0, *sorted(min(place, len(message)) for place in places), len(message)]
    return [message[a:b] for a, b in itertools.pairwise(bounds)]


@given(messages, st.booleans(), st.integers(9, 15), st.booleans(), st.data())
def test_wsproto_reads_what_we_write(
    drawn: list[tuple[Message, list[int], bool, F]],
    server: bool,
    bits: int,
    takeover: bool,
    data: st.DataObject,
) -> None:
    """Whole or in fragments, compressed or not, with pings between and behind."""
    encoder = Encoder(server, Agreement(bits, 15, takeover, True, Deflate(level=6)))
    stream = b""
    for message, places, compress, control in drawn:
        pieces = cut_message(message, places)
        for index, piece in enumerate(pieces):
            payload = piece.encode() if isinstance(piece, str) else piece
            final = index == len(pieces) - 1
            if compress:
                payload = encoder.deflate(payload, final)
            opcode = CONT if index else TEXT if isinstance(message, str) else BIN
            if len(pieces) == 1 and not compress:
                stream += encoder.message(opcode, payload)
            else:
                stream += encoder.frame(opcode, payload, final, compress and not index)
            if final or not compress:
                stream += encoder.frame(control.opcode, control.payload)
    if server:
        extension = wsproto_deflate(server_bits=bits, server_takeover=takeover)
    else:
        extension = wsproto_deflate(client_bits=bits, client_takeover=takeover)
    theirs = wsproto_reads(draw_cuts(data, stream), not server, extension)
    assert theirs.messages == [message for message, _, _, _ in drawn]
    assert theirs.code is None


@given(messages, st.booleans(), st.integers(9, 15), st.booleans(), st.booleans(), st.data())
def test_we_read_what_wsproto_writes(
    drawn: list[tuple[Message, list[int], bool, F]],
    server: bool,
    bits: int,
    takeover: bool,
    compress: bool,
    data: st.DataObject,
) -> None:
    """Its compressor flushes only at the end of a message."""
    role = ConnectionType.SERVER if server else ConnectionType.CLIENT
    extension = wsproto_deflate(bits, bits, takeover, takeover)
    connection = Connection(role, [extension] if compress else [])
    stream = b""
    for message, places, _, control in drawn:
        pieces = cut_message(message, places)
        for index, piece in enumerate(pieces):
            final = index == len(pieces) - 1
            event = TextMessage(piece, True, final) if isinstance(piece, str) else None
            stream += connection.send(event or BytesMessage(piece, True, final))
            ping = WsprotoPing if control.opcode == PING else WsprotoPong
            stream += connection.send(ping(control.payload))
    stream += connection.send(CloseConnection(1001, "tschüß"))
    agreed = Agreement(15, bits, True, takeover, Deflate()) if compress else None
    decoder = Decoder(not server, agreement=agreed)
    ours = feed(decoder, draw_cuts(data, stream))
    assert ours.messages == [message for message, _, _, _ in drawn]
    assert ours.code is None and ours.events[-1] == Close(1001, "tschüß")


@pytest.mark.parametrize("server", [False, True], ids=["client", "server"])
def test_wsproto_still_has_the_traps_that_are_left_out(server: bool) -> None:
    """When this fails, wsproto has been mended and may be asked about them, too."""
    unknown = F(CLOSE, close_payload(1014)).to(server)
    assert wsproto_reads([unknown], server).code == 1002
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = compressor.compress(b"Hello" * 9) + compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]
    frames = [F(BIN, payload[:3], fin=False, rsv=4), F(PING), F(CONT, payload[3:])]
    stream = b"".join(frame.to(server) for frame in frames)
    assert wsproto_reads([stream], server, wsproto_deflate()).messages != [b"Hello" * 9]
