"""aiohttp's client (ClientSession.ws_connect), default options."""

import aiohttp
from _common import client_main, drive, drive_many

PEER = {
    "role": "client",
    "variants": {"aiohttp": []},
    "needs": ["aiohttp"],
    "loops": ["asyncio", "uvloop"],
}


async def many(args, url):
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def open_one():
            ws = await session.ws_connect(url)
            return ws.send_str, ws.receive

        await drive_many(open_one, args, unwrap=lambda m: m.data)


async def main(args, url):
    if args.conns > 1:
        return await many(args, url)
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url) as ws:
            send = ws.send_str if args.op == "text" else ws.send_bytes
            await drive(send, ws.receive, args, unwrap=lambda m: m.data)


if __name__ == "__main__":
    client_main(main)
