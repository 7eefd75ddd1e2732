"""
A server that Prometheus can watch: its counters at /metrics, on the same port.

Start:  python examples/prometheus.py [HOST [PORT]]
See:    Echoing on ws://localhost:8765, counting on http://localhost:8765/metrics
Then:   python examples/echo_client.py
        curl http://localhost:8765/metrics

Ctrl-C stops it.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Mapping

from simplews import AioServer, HandshakeRequest, Response, ServerStats, serve

# The text exposition format; https://prometheus.io/docs/instrumenting/exposition_formats/
TEXT_FORMAT = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


def family(name: str, kind: str, meaning: str, values: Mapping[str, float]) -> str:
    """One metric with all its values, by their labels."""
    samples = "".join(f"simplews_{name}{labels} {value}\n" for labels, value in values.items())
    return f"# HELP simplews_{name} {meaning}\n# TYPE simplews_{name} {kind}\n{samples}"


def labelled(label: str, values: Mapping[int, int]) -> dict[str, int]:
    return {f'{{{label}="{key}"}}': value for key, value in sorted(values.items())}


def exposition(stats: ServerStats) -> str:
    ways = '{direction="in"}', '{direction="out"}'
    messages = dict(zip(ways, (stats.messages_in, stats.messages_out), strict=True))
    sizes = dict(zip(ways, (stats.bytes_in, stats.bytes_out), strict=True))
    return "".join(
        family(name, kind, meaning, values if isinstance(values, dict) else {"": values})
        for name, kind, meaning, values in (
            ("connections_open", "gauge", "Connections that are open.", stats.open),
            ("connections_opened_total", "counter", "Connections ever open.", stats.opened),
            (
                "connections_ended_total",
                "counter",
                "Connections that have ended, by close code; 1006 means lost.",
                labelled("code", stats.ended),
            ),
            ("clients_opening", "gauge", "Clients that are being answered.", stats.opening),
            (
                "clients_refused_total",
                "counter",
                "Clients refused, by HTTP status.",
                labelled("status", stats.refused),
            ),
            (
                "clients_too_slow_total",
                "counter",
                "Clients that were not open within open_timeout.",
                stats.opening_timeouts,
            ),
            ("clients_left_total", "counter", "Clients that left unanswered.", stats.left),
            ("http_answers_total", "counter", "Plain HTTP answers.", stats.http_answers),
            ("handlers_running", "gauge", "Handlers that run.", stats.handlers),
            ("handler_errors_total", "counter", "Handlers that raised.", stats.handler_errors),
            ("messages_total", "counter", "Messages, by direction.", messages),
            ("bytes_total", "counter", "Bytes of frames, by direction.", sizes),
            (
                "loop_blocked_seconds_total",
                "counter",
                "Seconds for which the event loop was found blocked.",
                stats.loop_blocked,
            ),
        )
    )


async def echo(ws: AioServer) -> None:
    async for message in ws:
        await ws.send(message)


async def main(host: str = "localhost", port: str = "8765") -> None:
    async def answer(request: HandshakeRequest) -> Response:
        # Whoever reaches the port reaches this: keep it from the world in the proxy.
        if request.path == "/metrics":
            return Response(200, TEXT_FORMAT, exposition(server.stats))
        return Response(404, {}, "Metrics are at /metrics.\n")

    async with serve(echo, host, int(port), http=answer) as server:
        url = f"{host}:{server.port}"
        print(f"Echoing on ws://{url}, counting on http://{url}/metrics", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("simplews").setLevel(logging.INFO)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
