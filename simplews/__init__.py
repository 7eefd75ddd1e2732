"""simplews: WebSockets for asyncio, one connection object everywhere."""

from . import speed
from .client import AioClient
from .connection import AioBase
from .errors import (
    BackendUnavailable,
    ConnectionClosed,
    ConnectionError,
    ConnectTimeout,
    InvalidURL,
    NotInScope,
    UnexpectedMessage,
    WebSocketDisconnect,
    WebSocketError,
    WebSocketRuntimeError,
)
from .link.base import Stats
from .payloads import HAS_ORJSON, HAS_TYTX
from .protocol.deflate import Deflate
from .reconnect import Reconnect, Retry
from .rooms import BroadcastResult, Rooms
from .serve import Server, serve
from .server import AioServer
from .speedups import loaded
from .tally import ServerStats, WorkersStats
from .types import (
    URL,
    BinaryMessage,
    Close,
    CloseCode,
    Ending,
    HandshakeRequest,
    Headers,
    MessageType,
    Response,
    State,
    TextMessage,
    Waiting,
)
from .websocket import WebSocket, WebSocketClose, WebSocketState
from .workers import Workers

__version__ = "0.1.0"

#: The modules that run compiled; empty where all of it is Python.
__speedups__ = loaded()

__all__ = [
    "HAS_ORJSON",
    "HAS_TYTX",
    "URL",
    "AioBase",
    "AioClient",
    "AioServer",
    "BackendUnavailable",
    "BinaryMessage",
    "BroadcastResult",
    "Close",
    "CloseCode",
    "ConnectTimeout",
    "ConnectionClosed",
    "ConnectionError",
    "Deflate",
    "Ending",
    "HandshakeRequest",
    "Headers",
    "InvalidURL",
    "MessageType",
    "NotInScope",
    "Reconnect",
    "Response",
    "Retry",
    "Rooms",
    "Server",
    "ServerStats",
    "State",
    "Stats",
    "TextMessage",
    "UnexpectedMessage",
    "Waiting",
    "WebSocket",
    "WebSocketClose",
    "WebSocketDisconnect",
    "WebSocketError",
    "WebSocketRuntimeError",
    "WebSocketState",
    "Workers",
    "WorkersStats",
    "__speedups__",
    "__version__",
    "serve",
    "speed",
]
