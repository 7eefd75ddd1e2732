"""
Subprotocols: both sides agree on what the messages mean (RFC 6455 §1.9).

The client offers what it speaks, best first; the server knows what it speaks.
`ws.subprotocol` is what they agreed on, or None.

Start:  python examples/subprotocols.py [HOST [PORT]]
See:    offered v2.example, v1.example: agreed on v2.example, {"hello": "world"}
        offered v1.example: agreed on v1.example, hello world
        offered something.else: agreed on None, which this server does not accept
"""

import asyncio
import json
import sys

from simplews import AioClient, AioServer, ConnectionClosed, serve


async def greet(ws: AioServer) -> None:
    match ws.subprotocol:
        case "v2.example":
            await ws.send(json.dumps({"hello": "world"}))
        case "v1.example":
            await ws.send("hello world")
        case None:
            await ws.close(1008, "no common subprotocol")


async def show(url: str, offers: list[str]) -> None:
    async with AioClient.connect(url, subprotocols=offers) as ws:
        print(f"offered {', '.join(offers)}: agreed on {ws.subprotocol}, ", end="")
        try:
            print(await ws.receive())
        except ConnectionClosed:
            print("which this server does not accept")


async def main(host: str = "localhost", port: str = "0") -> None:
    spoken = ["v1.example", "v2.example"]
    async with serve(greet, host, int(port), subprotocols=spoken) as server:
        url = f"ws://{host}:{server.port}"
        await show(url, ["v2.example", "v1.example"])
        await show(url, ["v1.example"])
        await show(url, ["something.else"])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
