"""What two other implementations make of bytes, in our words: wsproto and websockets.

Neither does all that a connection needs. wsproto 1.3.2 yields one event for each
read and joins nothing; websockets' sans-I/O half gives frames and leaves joining
and UTF-8 to its user. Both are done here, with nothing of ours.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import Any

from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate as WebsocketsDeflate
from websockets.frames import Close as WebsocketsClose
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection
from wsproto.events import Message as WsprotoMessage
from wsproto.events import Ping as WsprotoPing
from wsproto.events import Pong as WsprotoPong
from wsproto.extensions import PerMessageDeflate

from simplews.protocol.codec import Message
from simplews.protocol.frames import Ping, Pong
from simplews.types import Close

from .by_hand import Outcome

__all__ = ["join", "websockets_reads", "wsproto_deflate", "wsproto_reads"]

# ----------------------------------------------------------------------- wsproto


def wsproto_reads(
    pieces: Iterable[bytes], server: bool, deflate: PerMessageDeflate | None = None
) -> Outcome:
    """What wsproto makes of *pieces*, in our words."""
    role = ConnectionType.SERVER if server else ConnectionType.CLIENT
    connection = Connection(role, [] if deflate is None else [deflate])
    outcome = Outcome()
    begun: list[str] | list[bytearray] = []
    for piece in pieces:
        if connection.state is not ConnectionState.OPEN or outcome.code is not None:
            break
        connection.receive_data(piece)
        for event in connection.events():
            if isinstance(event, WsprotoMessage):
                begun.append(event.data)
                if event.message_finished:
                    outcome.messages.append(join(begun))
                    begun = []
            elif isinstance(event, WsprotoPing):
                outcome.events.append(Ping(bytes(event.payload)))
            elif isinstance(event, WsprotoPong):
                outcome.events.append(Pong(bytes(event.payload)))
            elif isinstance(event, CloseConnection):
                if connection.state is ConnectionState.OPEN:
                    outcome.code = event.code  # it found a violation
                else:
                    outcome.events.append(Close(event.code, event.reason or ""))
    return outcome


def join(parts: list[str] | list[bytearray]) -> Message:
    """One message, of what arrived of it."""
    if isinstance(parts[0], str):
        return "".join(str(part) for part in parts)
    return b"".join(bytes(part) for part in parts)


def wsproto_deflate(
    client_bits: int = 15,
    server_bits: int = 15,
    client_takeover: bool = True,
    server_takeover: bool = True,
) -> PerMessageDeflate:
    """wsproto's extension, as if this had been agreed on."""
    extension = PerMessageDeflate(
        not client_takeover, client_bits, not server_takeover, server_bits
    )
    extension._enabled = True
    return extension


# -------------------------------------------------------------------- websockets


def websockets_reads(
    pieces: Iterable[bytes],
    server: bool,
    limit: int | None = None,
    deflate: WebsocketsDeflate | None = None,
) -> Outcome:
    """What websockets makes of *pieces*, in our words."""
    protocol: Any
    if server:
        protocol = ServerProtocol(state=State.OPEN, max_size=limit)
    else:
        uri = parse_uri("ws://localhost/")
        protocol = ClientProtocol(uri, state=State.OPEN, max_size=limit)
    protocol.extensions = [] if deflate is None else [deflate]
    reader = _Joining()
    for piece in pieces:
        protocol.receive_data(piece)
        for frame in protocol.events_received():
            reader.frame(frame)
        if reader.outcome.code is not None:
            break
        if protocol.parser_exc is not None:
            reader.outcome.code = protocol.close_sent.code
            break
    return reader.outcome


class _Joining:
    """Joins the frames that websockets gives, and decodes text."""

    def __init__(self) -> None:
        self.outcome = Outcome()
        self._pieces: list[Any] = []
        self._decoder: Any = None

    def frame(self, frame: Any) -> None:
        """One more of them."""
        outcome, payload = self.outcome, bytes(frame.data)
        if outcome.code is not None:
            return
        if frame.opcode is Opcode.PING:
            outcome.events.append(Ping(payload))
        elif frame.opcode is Opcode.PONG:
            outcome.events.append(Pong(payload))
        elif frame.opcode is Opcode.CLOSE:
            close = WebsocketsClose.parse(payload)
            outcome.events.append(Close(int(close.code), close.reason))
        else:
            self._data(frame, payload)

    def _data(self, frame: Any, payload: bytes) -> None:
        if frame.opcode is not Opcode.CONT:
            is_text = frame.opcode is Opcode.TEXT
            self._decoder = codecs.getincrementaldecoder("utf-8")() if is_text else None
            self._pieces = []
        if self._decoder is None:
            self._pieces.append(payload)
        else:
            try:
                self._pieces.append(self._decoder.decode(payload, frame.fin))
            except UnicodeDecodeError:
                self.outcome.code = 1007
                return
        if frame.fin:
            self.outcome.messages.append(self._pieces[0][:0].join(self._pieces))
