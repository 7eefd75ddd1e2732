"""
picows: callbacks, with and without its compiled transport, and coroutines.

The transport is aiofastnet, which it uses when that is installed; the API of
coroutines is `picows.websockets`.
"""

from _common import limit, run_loop, serve_forever, server_args, tls

PEER = {
    "role": "server",
    "variants": {
        "picows": ["--api", "listener"],
        "picows-plain-transport": ["--api", "listener", "--fastnet", "0"],
        "picows-websockets": ["--api", "websockets"],
    },
    "needs": {
        "picows": ["picows", "aiofastnet"],
        "picows-plain-transport": ["picows"],
        "picows-websockets": ["picows"],
    },
    "loops": ["asyncio", "uvloop"],
    "no-deflate": ["picows", "picows-plain-transport"],
    "tls": ["picows", "picows-plain-transport", "picows-websockets"],
}


async def listener(args):
    from picows import WSListener, WSMsgType, ws_create_server

    peers = set()
    TEXT, BINARY, CLOSE = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CLOSE

    class Echo(WSListener):
        def on_ws_frame(self, transport, frame):
            kind = frame.msg_type
            if kind == TEXT or kind == BINARY:  # noqa: SIM109 - what a listener of picows does
                # no copy is made of the payload, send() copies it
                transport.send(kind, frame.get_payload_as_memoryview())
            elif kind == CLOSE:
                transport.send_close(frame.get_close_code())
                transport.disconnect()

    class Bcast(WSListener):
        def on_ws_connected(self, transport):
            peers.add(transport)

        def on_ws_disconnected(self, transport):
            peers.discard(transport)

        def on_ws_frame(self, transport, frame):
            if frame.msg_type == CLOSE:
                transport.disconnect()
                return
            payload = frame.get_payload_as_bytes()
            for t in peers:
                t.send(TEXT, payload)

    def factory(request):
        return Bcast() if request.path == b"/bcast" else Echo()

    await ws_create_server(
        factory,
        "127.0.0.1",
        args.port,
        backlog=1024,
        use_aiofastnet=args.fastnet == "1",
        ssl=tls(args),
        **limit(args, "max_frame_size"),
    )
    await serve_forever()


async def coroutine(args):
    from picows.websockets import broadcast, serve

    clients = set()

    async def handler(ws):
        if ws.request.path == "/bcast":
            clients.add(ws)
            try:
                async for message in ws:
                    broadcast(clients, message)
            finally:
                clients.discard(ws)
        else:
            async for message in ws:
                await ws.send(message)

    async with serve(
        handler, "127.0.0.1", args.port, backlog=1024, ssl=tls(args), **limit(args, "max_size")
    ):
        await serve_forever()


if __name__ == "__main__":
    args = server_args(api="listener", fastnet="1")
    run_loop(listener(args) if args.api == "listener" else coroutine(args), args.loop)
