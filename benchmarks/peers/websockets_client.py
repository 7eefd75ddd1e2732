"""websockets' asyncio client, default options."""

from _common import client_main, drive, drive_many
from websockets.asyncio.client import connect

PEER = {
    "role": "client",
    "variants": {"websockets": []},
    "needs": ["websockets"],
    "loops": ["asyncio", "uvloop"],
}


async def main(args, url):
    if args.conns > 1:

        async def open_one():
            ws = await connect(url)
            return ws.send, ws.recv

        return await drive_many(open_one, args)
    async with connect(url) as ws:
        await drive(ws.send, ws.recv, args)


if __name__ == "__main__":
    client_main(main)
