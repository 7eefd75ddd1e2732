"""``octets.py`` and the compiled ``octets.pyx`` do the same."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

import simplews
from simplews.protocol import octets as loaded
from simplews.protocol.xor import by_places

from .by_hand import xor

COMPILED = "simplews.protocol.octets" in simplews.__speedups__
pytestmark = pytest.mark.skipif(not COMPILED, reason="nothing is compiled: there is no twin")


def from_source() -> ModuleType:
    """``octets.py`` beside the one that is loaded, under a name of its own."""
    path = Path(simplews.__file__).parent / "protocol" / "octets.py"
    spec = importlib.util.spec_from_file_location("simplews.protocol.octets_from_source", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def masked_by_places(stream: BytesIO, start: int, stop: int, key: bytes) -> None:
    """What `mask` does where Python is linked with nothing that can XOR (``xor.py``)."""
    with stream.getbuffer() as view:
        by_places(view, start, stop, key)


compiled: Any = loaded
pure: Any = from_source()
without_openssl: Any = from_source()
without_openssl.mask = masked_by_places
PURE = (pure, without_openssl)

KEYS = st.binary(min_size=4, max_size=4)
# Around what either of them decides by: words, blocks, steps.
EDGES = sorted(
    {0, 1, 2, 3, 5, 7, 8, 9, 127, 128, 129, 255, 256, 257, 383, 384, 385}
    | {edge + odd for edge in (512, 768, 4096, 8192, 65536) for odd in (-1, 0, 1)}
)
SIZES = st.sampled_from(EDGES) | st.integers(0, 70_000)
NOISE = os.urandom(1 << 18)


def payload(size: int, start: int = 0) -> bytes:
    return NOISE[start : start + size]


def outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns, with its type; or what it raises, but for the words."""
    try:
        result = call(*arguments)
    except UnicodeError as exc:
        return type(exc), exc.start, exc.end, exc.reason
    return type(result), result


def agree(name: str, *arguments: Any) -> Any:
    """What all of them make of it."""
    expected = outcome(getattr(compiled, name), *arguments)
    for twin in PURE:
        assert outcome(getattr(twin, name), *arguments) == expected
    return expected


def test_the_two_are_different_files() -> None:
    """Otherwise everything below says nothing."""
    assert pure.__file__.endswith(".py") and not compiled.__file__.endswith(".py")


def test_both_have_the_same_names() -> None:
    """What one of them lacks, only a run without the other would find."""
    for name in pure.__all__:
        assert hasattr(compiled, name), name


# ------------------------------------------------------------------- in frames


@given(size=SIZES, start=st.integers(4, 40), after=st.integers(0, 9), masked=st.booleans())
def test_binary_payload(size: int, start: int, after: int, masked: bool) -> None:
    """Wherever it is in what was read."""
    data = payload(start + size + after)
    arguments = data, start, start + size, masked
    agree("binary", *arguments)


TEXTS = (
    st.text(max_size=600)
    | st.builds(lambda unit, size: unit * size, st.sampled_from("aé€😀"), SIZES)
    | st.builds(lambda size, end: "a" * size + end, SIZES, st.text(max_size=4))
)


@given(text=TEXTS, key=KEYS, start=st.integers(4, 40), masked=st.booleans())
def test_text_payload(text: str, key: bytes, start: int, masked: bool) -> None:
    """ASCII or not, shorter or longer than a block."""
    data = text.encode("utf-8")
    frame = bytes(start - 4) + key + (pure.apply_mask(data, key) if masked else data) + b"rest"
    arguments = frame, start, start + len(data), masked
    assert agree("text", *arguments) == (str, text)


@pytest.mark.parametrize("character", ["\x80", "é", "😀"])
def test_one_character_that_is_not_ascii_is_seen_wherever_it_is(character: str) -> None:
    """In whichever block, word or byte: taken for ASCII it would become two others."""
    key = b"\x01\x02\x84\x88"
    for size in (7, 8, 255, 256, 300, 384, 519):
        for place in range(size):
            text = "a" * place + character + "b" * (size - place - 1)
            data = text.encode()
            frame = key + pure.apply_mask(data, key)
            assert compiled.text(frame, 4, len(frame), True) == text, (size, place)


@given(data=st.binary(max_size=40), before=SIZES, key=KEYS, masked=st.booleans())
def test_what_is_not_utf8_is_refused_the_same_way(
    data: bytes, before: int, key: bytes, masked: bool
) -> None:
    """With the position of the wrong byte; what follows the payload is not looked at."""
    whole = b"a" * before + data
    frame = key + (pure.apply_mask(whole, key) if masked else whole) + b"\x80\x80\x80"
    arguments = frame, 4, 4 + len(whole), masked
    agree("text", *arguments)


# Halves of surrogate pairs too: they cannot be sent.
ANY_TEXT = st.text(st.characters(codec=None), max_size=50) | TEXTS


@given(data=ANY_TEXT)
def test_text_as_it_travels(data: str) -> None:
    """Or why it cannot."""
    agree("utf8", data)


@given(data=ANY_TEXT | st.binary(max_size=50))
def test_size_of_a_payload(data: str | bytes) -> None:
    """What its header is going to say."""
    agree("payload_size", data)


@given(data=ANY_TEXT | st.binary(max_size=50), seen=st.booleans())
def test_size_in_memory(data: str | bytes, seen: bool) -> None:
    """Also when somebody has asked for the text's UTF-8, which CPython then keeps with it."""
    if seen and isinstance(data, str):
        with contextlib.suppress(UnicodeEncodeError):
            ctypes.pythonapi.PyUnicode_AsUTF8(ctypes.py_object(data))
    agree("memory_size", data)


# --------------------------------------------------------------------- masking


@given(
    size=SIZES,
    start=st.integers(0, 9),
    key=KEYS,
    kind=st.sampled_from([bytes, bytearray, memoryview]),
)
def test_masking(size: int, start: int, key: bytes, kind: Callable[[bytes], Any]) -> None:
    """Every kind of bytes, wherever they begin."""
    data = kind(payload(size + start))[start:]
    agree("apply_mask", data, key)


# ------------------------------------------------------------- what is read into


@given(size=SIZES)
def test_read_buffer_shows_its_beginning(size: int) -> None:
    """Of the size that was asked for, writable, and over the same memory every time."""
    for twin in (compiled, *PURE):
        buffer = twin.ReadBuffer(70_001)
        view = buffer.view(size)
        assert len(view) == size and not view.readonly
        view[:] = payload(size)
        assert buffer.view(size) == payload(size)
        assert buffer.view(size + 1)[:size] == payload(size)


class Assemblies(RuleBasedStateMachine):
    """Payloads that come in pieces, in whatever way and with whatever else held."""

    @initialize(key=KEYS | st.just(b""), sizes=st.lists(SIZES, min_size=1, max_size=4))
    def begin(self, key: bytes, sizes: list[int]) -> None:
        self.size = sum(sizes)
        self.key = key
        self.wire = bytearray()
        self.twins = [twin.Assembly(self.size, key) for twin in (compiled, *PURE)]
        self.views: list[memoryview] = []
        self.given: list[tuple[bytes, bytes]] = []
        self.open = True

    def has_come(self, data: bytes) -> None:
        self.wire += data

    @precondition(lambda self: self.open)
    @rule(size=SIZES, start=st.integers(0, 9))
    def add(self, size: int, start: int) -> None:
        """Out of something longer that was read; into both, if they can be told from here."""
        size = min(size, self.size - len(self.wire))
        data = payload(start + size + 3)
        for twin in self.twins:
            if hasattr(twin, "add"):
                twin.add(data, start, start + size)
            else:
                self.read_into(twin, data[start : start + size])
        self.has_come(data[start : start + size])

    @precondition(lambda self: self.open)
    @rule(size=SIZES, start=st.integers(0, 9), hold=st.booleans(), wide=st.booleans())
    def read(self, size: int, start: int, hold: bool, wide: bool) -> None:
        """Into the memory that an assembly gives, some of it, all of it or nothing."""
        data = payload(min(size, self.size - len(self.wire)), start)
        for twin in self.twins:
            self.read_into(twin, data, hold, wide)
        self.has_come(data)

    def read_into(self, twin: Any, data: bytes, hold: bool = False, wide: bool = False) -> None:
        if twin.room() is None:  # it does not read in place
            twin.add(data, 0, len(data))
            return
        while True:
            room = twin.room()
            assert len(room) or not twin.left
            piece = data[: len(room)]
            # What is behind it does not count, but for a reader that wrote there.
            room[: len(piece)] = piece
            if wide:
                room[len(piece) :] = payload(len(room) - len(piece))
            if hold:
                self.views.append(room)
            else:
                room.release()
            twin.filled(len(piece))
            data = data[len(piece) :]
            if not data:
                return

    @precondition(lambda self: self.open)
    @rule(times=st.integers(1, 3), hold=st.booleans())
    def ask_for_room(self, times: int, hold: bool) -> None:
        """And read nothing."""
        for twin in self.twins:
            for _ in range(times):
                room = twin.room()
                if hold and room is not None:
                    self.views.append(room)

    @precondition(lambda self: self.open)
    @rule(size=st.integers(-2, 3))
    def fill_more_than_there_is(self, size: int) -> None:
        """It is refused, and changes nothing."""
        room = self.twins[0].room()
        if not 0 <= size <= len(room):
            with pytest.raises(ValueError):
                self.twins[0].filled(size)
        with pytest.raises(ValueError):
            self.twins[0].filled(len(room) + 1)

    @rule()
    def let_views_go(self) -> None:
        self.views.clear()

    @precondition(lambda self: self.open)
    @rule()
    def take(self) -> None:
        """At the end, or where the rest is wanted in pieces."""
        expected = xor(bytes(self.wire), self.key) if self.key else bytes(self.wire)
        for twin in self.twins:
            taken = twin.take()
            assert type(taken) is bytes and taken == expected
            self.given.append((taken, expected))
        self.open = False

    @precondition(lambda self: not self.open)
    @rule()
    def take_what_is_not_there(self) -> None:
        """What was taken is gone."""
        for twin in self.twins:
            assert twin.take() == b""

    @precondition(lambda self: not self.open)
    @rule(key=KEYS | st.just(b""), size=SIZES)
    def begin_another(self, key: bytes, size: int) -> None:
        """Views of the one before may be held."""
        views, given = self.views, self.given
        self.begin(key, [size])
        self.views, self.given = views, given

    @invariant()
    def both_wait_for_as_much(self) -> None:
        if hasattr(self, "twins"):
            assert {twin.left for twin in self.twins} == {self.size - len(self.wire)}

    @invariant()
    def what_was_taken_stays(self) -> None:
        for taken, expected in getattr(self, "given", ()):
            assert taken == expected

    @invariant()
    def views_can_be_looked_at(self) -> None:
        for view in getattr(self, "views", ()):
            assert len(bytes(view)) == len(view)


TestAssemblies = Assemblies.TestCase
TestAssemblies.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


def test_announced_payload_costs_nothing() -> None:
    """Memory is taken as the payload arrives; a header may say anything."""
    for twin in (compiled, *PURE):
        for size in (1 << 60, (1 << 63) - 1):
            assembly = twin.Assembly(size, b"keys")
            assert assembly.left == size
            room = assembly.room()
            assert room is None or len(room) <= 1 << 20
            assert assembly.take() == b""


@pytest.mark.parametrize("phase", range(4))
def test_every_phase_of_the_key(phase: int) -> None:
    """The key goes on where the piece before ended (RFC 6455 §5.3)."""
    key = b"\x01\x20\x40\x80"
    data = payload(100)
    for second in range(9):
        assembly = compiled.Assembly(100, key)
        position = 0
        for size in (phase, second, 100 - phase - second):
            room = assembly.room()
            room[:size] = data[position : position + size]
            assembly.filled(size)
            position += size
        assert assembly.left == 0
        assert assembly.take() == xor(data, key)
