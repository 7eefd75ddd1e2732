"""simplews: WebSockets for asyncio, one connection object everywhere."""

from .client import AioClient
from .connection import AioBase
from .errors import (
    ConnectionClosed,
    ConnectionError,
    ConnectTimeout,
    InvalidURL,
    WebSocketDisconnect,
    WebSocketError,
    WebSocketRuntimeError,
)
from .payloads import HAS_ORJSON
from .protocol.deflate import Deflate
from .rooms import BroadcastResult, Rooms
from .serve import Server, serve
from .server import AioServer
from .types import (
    URL,
    BinaryMessage,
    Close,
    CloseCode,
    HandshakeRequest,
    Headers,
    MessageType,
    Response,
    State,
    TextMessage,
)

__version__ = "0.1.0"

__all__ = [
    "HAS_ORJSON",
    "URL",
    "AioBase",
    "AioClient",
    "AioServer",
    "BinaryMessage",
    "BroadcastResult",
    "Close",
    "CloseCode",
    "ConnectTimeout",
    "ConnectionClosed",
    "ConnectionError",
    "Deflate",
    "HandshakeRequest",
    "Headers",
    "InvalidURL",
    "MessageType",
    "Response",
    "Rooms",
    "Server",
    "State",
    "TextMessage",
    "WebSocketDisconnect",
    "WebSocketError",
    "WebSocketRuntimeError",
    "__version__",
    "serve",
]
