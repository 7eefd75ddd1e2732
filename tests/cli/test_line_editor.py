"""The line editor: keys in, lines out; no terminal."""

from __future__ import annotations

import pytest

from simplews.cli.editor import LINE_LIMIT, LineEditor

LEFT, RIGHT, UP, DOWN = "\x1b[D", "\x1b[C", "\x1b[A", "\x1b[B"
HOME, END, DELETE, BACKSPACE = "\x1b[H", "\x1b[F", "\x1b[3~", "\x7f"

KEYS = [
    ("hello\r", ["hello"]),
    ("hello\n", ["hello"]),
    ("a\rb\rc", ["a", "b"]),
    ("Grüße, 世界 🙂\r", ["Grüße, 世界 🙂"]),
    (f"helo{LEFT}l\r", ["hello"]),
    (f"ello{HOME}h{END}!\r", ["hello!"]),
    (f"ello\x1bOHh\x1bOF!{LEFT}{RIGHT}{RIGHT}\r", ["hello!"]),
    (f"hexllo{LEFT * 3}{BACKSPACE}\r", ["hello"]),
    (f"hexllo{LEFT * 4}{DELETE}\r", ["hello"]),
    (f"{BACKSPACE}{DELETE}{LEFT}x\r", ["x"]),
    ("one two  \x17three\r", ["one three"]),
    (f"one two{HOME}\x1bd\r", [" two"]),
    ("one two\x1bb\x1b[1;5D\x1bfx\r", ["onex two"]),
    ("gone\x15kept\r", ["kept"]),
    (f"kept gone{LEFT * 5}\x0b\r", ["kept"]),
    (f"ab{HOME}\x04\r", ["b"]),
    ("tab\there\r", ["tab\there"]),
    (f"one\rtwo\r{UP}{UP}\r", ["one", "two", "one"]),
    (f"one\rdraft{UP}{DOWN}\r", ["one", "draft"]),
    (f"one\r{UP}{UP}{DOWN}{DOWN}new\r", ["one", "new"]),
    (f"{UP}{DOWN}x\r", ["x"]),
    ("x\x00\x07\x1b[15~\x1b[1;2Ay\r", ["xy"]),  # keys without a meaning
    ("x\x1b\x1b[Dy\r", ["yx"]),
    ("one\x04\r\x04two\r", ["one"]),  # nothing after the end of input
]


@pytest.mark.parametrize("keys, lines", KEYS)
def test_keys_whole(keys: str, lines: list[str]) -> None:
    """What arrives in one read."""
    assert LineEditor().feed(keys.encode()) == lines


@pytest.mark.parametrize("keys, lines", KEYS)
def test_keys_byte_by_byte(keys: str, lines: list[str]) -> None:
    """Characters and key sequences may be cut anywhere."""
    editor = LineEditor()
    completed = [line for byte in keys.encode() for line in editor.feed(bytes([byte]))]
    assert completed == lines


def test_ctrl_d_ends_only_an_empty_line() -> None:
    editor = LineEditor()
    editor.feed(b"x\x04")
    assert not editor.ended
    editor.feed(b"\x7f\x04")
    assert editor.ended


def test_invalid_utf8_is_replaced() -> None:
    assert LineEditor().feed(b"a\xffb\r") == ["a\ufffdb"]


def test_line_is_bounded() -> None:
    (line,) = LineEditor().feed(b"x" * (LINE_LIMIT + 5) + b"\r")
    assert len(line) == LINE_LIMIT


def test_endless_sequence_is_dropped() -> None:
    editor = LineEditor()
    for _ in range(100):
        editor.feed(b"\x1b[" + b"0" * 100)
    assert len(editor._pending) < 100


@pytest.mark.parametrize(
    "keys, columns, shown",
    [
        ("", 20, "> "),
        ("abc", 20, "> abc"),
        (f"abc{LEFT}", 20, "> abc\x1b[1D"),
        (f"abc{HOME}", 20, "> abc\x1b[3D"),
        ("abcdefghij", 9, "> efghij"),  # six cells and one for the cursor
        (f"abcdefghij{HOME}", 9, "> abcdef\x1b[6D"),
        ("世界世界", 9, "> 界世界"),  # two cells each
        (f"世界{LEFT}", 20, "> 世界\x1b[2D"),
        ("e\u0301x", 20, "> e\u0301x"),  # a combining accent takes none
        (f"e\u0301x{HOME}", 20, "> e\u0301x\x1b[2D"),
        ("a\tb", 20, "> a b"),
        ("abc", 1, "> c"),  # narrower than the prompt
    ],
)
def test_line_stays_in_one_row(keys: str, columns: int, shown: str) -> None:
    editor = LineEditor()
    editor.feed(keys.encode())
    assert editor.render(columns) == f"\r\x1b[K{shown}"
