class AioServer:
    def __init__(self, request, subprotocols=None, receive_bytes=4096,
                 ping_interval=None, max_message_size=None):
        ...

    @classmethod
    async def accept(cls, aiohttp=None, asgi=None, sock=None, headers=None,
                     subprotocols=None, receive_bytes=4096, ping_interval=None,
                     max_message_size=None):
        ...

    async def send(self, data):
        ...

    async def receive(self, timeout=None):
        ...

    async def close(self, reason=None, message=None):
        ...

    def choose_subprotocol(self, request):
        ...


class AioClient:
    def __init__(self, url, subprotocols=None, headers=None, receive_bytes=4096,
                 ping_interval=None, max_message_size=None, ssl_context=None):
        ...

    @classmethod
    async def connect(cls, url, subprotocols=None, headers=None, receive_bytes=4096,
                      ping_interval=None, max_message_size=None, ssl_context=None):
        ...

    async def send(self, data):
        ...

    async def receive(self, timeout=None):
        ...

    async def close(self, reason=None, message=None):
        ...


class AioBase:
    subprotocol: str | None         # Negotiated subprotocol name
    connected: bool                 # Connection status
    receive_bytes: int              # Buffer size for receiving data
    ping_interval: float | None     # Ping interval in seconds
    max_message_size: int | None    # Maximum message size limit
    rsock: asyncio.StreamReader | None    # Read stream
    wsock: asyncio.StreamWriter | None    # Write stream
    event: asyncio.Event            # Async event for synchronization
    task: asyncio.Task | None       # Background task handle
