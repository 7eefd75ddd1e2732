"""What ``simplews connect`` shows: to a person, to the next program in a pipe, or as JSON.

Whatever came from the peer passes through `escape` first: a message must not be
able to move the cursor, retitle the terminal or draw a line that we seem to
have written.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Callable
from typing import Any, Protocol

from .. import AioClient, ConnectionError

__all__ = ["ForJson", "ForPeople", "ForPipes", "Screen", "escape"]

TEXT_SHOWN = 4000  # characters of a message that a person is shown
BYTES_SHOWN = 64
REASON_SHOWN = 200  # characters

# C0 controls but the tab, DEL and C1 controls steer a terminal; bidirectional
# overrides reorder what is read (CVE-2021-42574); the separators end lines.
_UNSAFE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SHORT = {"\n": r"\n", "\r": r"\r"}

Print = Callable[[str], None]


def escape(text: str) -> str:
    r"""Make *text* one harmless line: ``\n``, ``\r``, ``\x1b``, ``\u202e``."""
    return _UNSAFE.sub(lambda found: _SHORT.get(found[0]) or _escaped(found[0]), text)


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


class Screen(Protocol):
    """One way to show a connection's life."""

    def opened(self, ws: AioClient) -> None:
        """The opening handshake succeeded."""

    def sent(self, line: str) -> None:
        """A line was sent as a text message."""

    def received(self, message: str | bytes) -> None:
        """A message arrived."""

    def pong(self, rtt: float) -> None:
        """A ping was answered after *rtt* seconds."""

    def ended(self, ws: AioClient) -> None:
        """The connection is over."""

    def failed(self, error: ConnectionError) -> None:
        """The connection could not be opened."""


class ForPeople:
    """
    A conversation with ``>`` before what was sent and ``<`` before what came.

    Args:
        print: Prints a line on standard output.
        colour: Whether to colour the marks.
        repeat_sent: Whether to print what was sent; a plain console shows it
            already.
    """

    SENT, RECEIVED, NEWS, TROUBLE = "\x1b[32m", "\x1b[36m", "\x1b[2m", "\x1b[31m"

    def __init__(self, print: Print, *, colour: bool, repeat_sent: bool) -> None:
        self._print = print
        self._colour = colour
        self._repeat_sent = repeat_sent

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}\x1b[0m" if self._colour else text

    def opened(self, ws: AioClient) -> None:
        subprotocol = f", subprotocol {escape(ws.subprotocol)}" if ws.subprotocol else ""
        self._news(f"* connected to {escape(ws.url)}{subprotocol}")
        self._news("* Enter sends the line, Ctrl-D closes the connection")

    def sent(self, line: str) -> None:
        if self._repeat_sent:
            self._print(f"{self._paint(self.SENT, '>')} {escape(line)}")

    def received(self, message: str | bytes) -> None:
        mark = self._paint(self.RECEIVED, "<")
        if isinstance(message, bytes):
            self._print(f"{mark} {self._paint(self.NEWS, _summary(message))}")
            return
        # Lines after the first are indented, so that none passes for one of ours.
        lines = [escape(line) for line in message[:TEXT_SHOWN].split("\n")]
        self._print(f"{mark} " + "\n  ".join(lines))
        if len(message) > TEXT_SHOWN:
            self._news(f"  ({len(message) - TEXT_SHOWN} more characters; a pipe shows all)")

    def pong(self, rtt: float) -> None:
        self._news(f"* pong after {rtt * 1000:.1f} ms")

    def ended(self, ws: AioClient) -> None:
        self._print(self._paint(self.NEWS, f"* {escape(ws.explain())}"))

    def failed(self, error: ConnectionError) -> None:
        _tell(str(error))

    def _news(self, text: str) -> None:
        self._print(self._paint(self.NEWS, text))


def _summary(message: bytes) -> str:
    more = " ..." if len(message) > BYTES_SHOWN else ""
    return f"{len(message)} bytes: {message[:BYTES_SHOWN].hex(' ')}{more}"


class ForPipes:
    """Each message a line; the reason of the end on standard error."""

    def __init__(self, print: Print) -> None:
        self._print = print

    def opened(self, ws: AioClient) -> None: ...

    def sent(self, line: str) -> None: ...

    def received(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._print(f"base64:{_base64(message)}")
        else:
            self._print(escape(message))

    def pong(self, rtt: float) -> None:
        _tell(f"pong after {rtt * 1000:.1f} ms")

    def ended(self, ws: AioClient) -> None:
        _tell(ws.explain())

    def failed(self, error: ConnectionError) -> None:
        _tell(str(error))


def _tell(text: str) -> None:
    print(f"simplews connect: {escape(text)}", file=sys.stderr, flush=True)


class ForJson:
    """Each event a JSON object on a line of its own."""

    def __init__(self, print: Print) -> None:
        self._print = print

    def opened(self, ws: AioClient) -> None:
        self._event("open", url=ws.url, subprotocol=ws.subprotocol)

    def sent(self, line: str) -> None:
        self._event("sent", type="text", data=line)

    def received(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._event("received", type="binary", base64=_base64(message))
        else:
            self._event("received", type="text", data=str(message))

    def pong(self, rtt: float) -> None:
        self._event("pong", rtt=rtt)

    def ended(self, ws: AioClient) -> None:
        self._event("closed", code=ws.close_code, reason=ws.close_reason, message=ws.explain())

    def failed(self, error: ConnectionError) -> None:
        body = error.body.decode("utf-8", "replace")
        self._event("failed", status=error.status_code, message=str(error), body=body)

    def _event(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, **fields}, ensure_ascii=False)
        # JSON itself escapes C0 controls only.
        self._print(_UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", line))


def _base64(message: bytes) -> str:
    return base64.b64encode(message).decode()
