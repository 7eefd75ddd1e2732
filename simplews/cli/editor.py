"""A line that a person is typing: keys in, completed lines out. No terminal is touched here.

`LineEditor.feed` takes what the terminal sent; `LineEditor.render` returns what
to write so that the line is shown. The line never wraps: a long one scrolls
sideways, as linenoise does it. So whatever is printed meanwhile has one row to
clear and one to draw again, which readline cannot promise: it does not say
where its cursor is.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable

__all__ = ["CLEAR_ROW", "LineEditor"]

CLEAR_ROW = "\r\x1b[K"
HISTORY_LIMIT = 500  # lines
LINE_LIMIT = 65536  # characters: a paste may be long, but not without end

# ECMA-48 §5.4: CSI, parameters, intermediates, final byte. ESC O begins the
# arrow keys of some terminals, and Alt sends ESC before the key.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[ -~]|(?=\x1b)|[^\[O\x1b])")
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]{0,30}[ -/]{0,30}|O)?\Z")
_TEXT = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]+")
_WORD_BEFORE = re.compile(r"\S*\s*\Z")
_WORD_AFTER = re.compile(r"\s*\S*")


class LineEditor:
    """
    One line with a cursor, and the lines before it.

    Args:
        prompt: Shown before the line.

    Attributes:
        ended: Ctrl-D was pressed on an empty line; nothing more will be read.
    """

    def __init__(self, prompt: str = "> ") -> None:
        self.ended = False
        self._prompt = prompt
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._pending = ""  # the beginning of a key's sequence
        self._line = ""
        self._cursor = 0
        self._history: list[str] = []
        self._shown = 0  # index into the history; its length stands for the new line
        self._draft = ""  # the new line, while an older one is shown
        self._keys = self._key_table()

    def feed(self, data: bytes) -> list[str]:
        """
        Take what the terminal sent.

        Returns:
            The lines that were completed, without their ends.
        """
        text = self._pending + self._decode(data)
        self._pending = ""
        lines: list[str] = []
        position = 0
        while position < len(text) and not self.ended:
            key = _TEXT.match(text, position) or _SEQUENCE.match(text, position)
            if key is None and _UNFINISHED.match(text, position):
                self._pending = text[position:]
                break
            pressed = key[0] if key else text[position]
            position += len(pressed)
            if pressed in ("\r", "\n"):
                lines.append(self._enter())
            elif pressed in self._keys:
                self._keys[pressed]()
            elif key is not None and pressed[0] != "\x1b":
                self._insert(pressed)
        return lines

    def render(self, columns: int) -> str:
        """
        Show the prompt and the line, with the cursor in its place.

        Args:
            columns: Width of the terminal, in cells.
        """
        room = max(columns - len(self._prompt) - 1, 1)
        start, before = self._cursor, 0
        while start > 0 and before + _width(self._line[start - 1]) <= room:
            start -= 1
            before += _width(self._line[start])
        end, after = self._cursor, 0
        while end < len(self._line) and before + after + _width(self._line[end]) <= room:
            after += _width(self._line[end])
            end += 1
        visible = self._line[start:end].replace("\t", " ")
        back = f"\x1b[{after}D" if after else ""
        return f"{CLEAR_ROW}{self._prompt}{visible}{back}"

    # ------------------------------------------------------------------ keys

    def _key_table(self) -> dict[str, Callable[[], None]]:
        left, right = lambda: self._move(-1), lambda: self._move(1)
        older, newer = lambda: self._recall(-1), lambda: self._recall(1)
        home, end = lambda: self._move(-LINE_LIMIT), lambda: self._move(LINE_LIMIT)
        word_left = lambda: self._move(-self._word_before())  # noqa: E731
        word_right = lambda: self._move(self._word_after())  # noqa: E731
        table: dict[Callable[[], None], str] = {
            left: "\x02 \x1b[D \x1bOD",
            right: "\x06 \x1b[C \x1bOC",
            older: "\x10 \x1b[A \x1bOA",
            newer: "\x0e \x1b[B \x1bOB",
            home: "\x01 \x1b[H \x1bOH \x1b[1~ \x1b[7~",
            end: "\x05 \x1b[F \x1bOF \x1b[4~ \x1b[8~",
            word_left: "\x1bb \x1b[1;5D \x1b[1;3D",
            word_right: "\x1bf \x1b[1;5C \x1b[1;3C",
            lambda: self._delete(-1): "\x7f \x08",
            lambda: self._delete(1): "\x1b[3~",
            lambda: self._delete(-self._word_before()): "\x17 \x1b\x7f",
            lambda: self._delete(self._word_after()): "\x1bd",
            lambda: self._delete(-LINE_LIMIT): "\x15",
            lambda: self._delete(LINE_LIMIT): "\x0b",
            self._delete_or_end: "\x04",
        }
        return {key: action for action, keys in table.items() for key in keys.split(" ")}

    def _enter(self) -> str:
        line, self._line, self._cursor = self._line, "", 0
        if line and line not in self._history[-1:]:
            self._history.append(line)
            del self._history[:-HISTORY_LIMIT]
        self._shown = len(self._history)
        return line

    def _insert(self, text: str) -> None:
        text = text[: LINE_LIMIT - len(self._line)]
        self._line = self._line[: self._cursor] + text + self._line[self._cursor :]
        self._cursor += len(text)

    def _move(self, by: int) -> None:
        self._cursor = min(max(self._cursor + by, 0), len(self._line))

    def _delete(self, by: int) -> None:
        """Delete *by* characters after the cursor, or before it when negative."""
        there = self._cursor
        self._move(by)
        start, end = sorted((there, self._cursor))
        self._line = self._line[:start] + self._line[end:]
        self._cursor = start

    def _delete_or_end(self) -> None:
        if self._line:
            self._delete(1)
        else:
            self.ended = True

    def _word_before(self) -> int:
        found = _WORD_BEFORE.search(self._line[: self._cursor])
        return len(found[0]) if found else 0

    def _word_after(self) -> int:
        found = _WORD_AFTER.match(self._line, self._cursor)
        return len(found[0]) if found else 0

    def _recall(self, by: int) -> None:
        wanted = self._shown + by
        if not 0 <= wanted <= len(self._history):
            return
        if self._shown == len(self._history):
            self._draft = self._line
        self._shown = wanted
        self._line = self._draft if wanted == len(self._history) else self._history[wanted]
        self._cursor = len(self._line)


def _width(character: str) -> int:
    """Cells that a character takes in a terminal."""
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    # UAX #11: wide and fullwidth characters take two cells.
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
