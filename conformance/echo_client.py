"""The client that goes through the suite's fuzzing server, case by case.

python echo_client.py URL AGENT        (run_client.sh adds both)
"""

import asyncio
import contextlib
import sys

from simplews import AioClient, ConnectionClosed

# Seconds without a message after which a case is given up; the report shows it.
IDLE = 45


async def echo(url: str) -> None:
    with contextlib.suppress(ConnectionClosed):
        async with AioClient.connect(url) as ws:
            while (message := await ws.receive(timeout=IDLE)) is not None:
                await ws.send(message)


async def main(url: str, agent: str) -> None:
    async with AioClient.connect(f"{url}/getCaseCount") as ws:
        count = int(await ws.receive_text())
    for case in range(1, count + 1):
        await echo(f"{url}/runCase?case={case}&agent={agent}")
    await echo(f"{url}/updateReports?agent={agent}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
