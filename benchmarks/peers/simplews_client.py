"""simplews' AioClient, and simple-websocket's, which has the same calls."""

import importlib

from _common import client_main, drive, drive_many

PEER = {
    "role": "client",
    "variants": {
        "simplews": ["--variant", "simplews"],
        "simplews-speed": ["--variant", "simplews"],
        "simplews-pure": ["--variant", "simplews"],
        "simple-websocket": ["--variant", "simple_websocket"],
    },
    "env": {
        "simplews-pure": {"SIMPLEWS_PURE": "1"},
        "simplews-speed": {"SIMPLEWS_SPEED": "1"},
    },
    "needs": {
        "simplews": ["simplews"],
        "simplews-speed": ["simplews"],
        "simplews-pure": ["simplews"],
        "simple-websocket": ["simple_websocket"],
    },
    "loops": ["asyncio", "uvloop"],
}


async def main(args, url):
    connect = importlib.import_module(args.variant).AioClient.connect
    if args.conns > 1:

        async def open_one():
            ws = await connect(url)
            return ws.send, ws.receive

        return await drive_many(open_one, args)
    ws = await connect(url)
    await drive(ws.send, ws.receive, args)
    await ws.close()


if __name__ == "__main__":
    client_main(main)
