class WebSocketState(IntEnum):
    CONNECTING = 0  # Initial state, before accept()
    CONNECTED = 1  # After accept(), can send/receive messages
    DISCONNECTED = 2  # After close() or client disconnect


class WebSocket:
    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None: ...

    async def accept(
        self,
        subprotocol: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None: ...

    async def close(
        self,
        code: int = 1000,
        reason: str = "",
    ) -> None: ...

    async def receive_text(self) -> str: ...

    async def receive_bytes(self) -> bytes: ...

    async def receive_json(self) -> Any: ...

    async def send_text(self, data: str) -> None: ...

    async def send_bytes(self, data: bytes) -> None: ...

    async def send_json(self, data: Any) -> None: ...

    async def iter_text(self) -> AsyncIterator[str]: ...

    async def iter_bytes(self) -> AsyncIterator[bytes]: ...

    def __aiter__(self) -> AsyncIterator[str]: ...

    async def receive_typed(self) -> dict[str, Any]: ...

    async def send_typed(self, data: dict[str, Any]) -> None: ...


class WebSocketDisconnect(Exception):
    def __init__(self, code: int = 1000, reason: str = "") -> None: ...


__all__ = [
    "WebSocket",
    "WebSocketState",
    "WebSocketDisconnect",
]
