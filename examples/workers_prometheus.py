"""
Several processes that Prometheus can watch: their sum at /metrics, on a port beside.

Start:  python examples/workers_prometheus.py [HOST [PORT [METRICS_PORT]]]
See:    Echoing on ws://localhost:8765, counting on http://localhost:8766/metrics
Then:   python examples/echo_client.py
        curl http://localhost:8766/metrics

Ctrl-C stops it.
"""

import asyncio
import contextlib
import sys

from prometheus import TEXT_FORMAT, echo, exposition, family

from simplews import HandshakeRequest, Response, serve


async def main(host: str = "localhost", port: str = "8765", metrics_port: str = "8766") -> None:
    # A worker can only count for itself. The supervisor serves nobody, so it has time.
    async def answer(request: HandshakeRequest) -> Response:
        if request.path != "/metrics":
            return Response(404, {}, "Metrics are at /metrics.\n")
        stats = await workers.stats()
        each = {f'{{pid="{pid}"}}': one.open for pid, one in stats.processes.items()}
        return Response(
            200,
            TEXT_FORMAT,
            exposition(stats.total)
            + family("worker_connections_open", "gauge", "Open, by process.", each)
            + family("workers_late", "gauge", "Workers that are busy.", {"": len(stats.late)}),
        )

    workers = serve(echo, host, int(port), workers=2)
    # No handlers: nobody can open a WebSocket there.
    metrics = serve({}, host, int(metrics_port), http=answer)
    async with workers, metrics:
        print(
            f"Echoing on ws://{host}:{workers.port}, "
            f"counting on http://{host}:{metrics.port}/metrics",
            flush=True,
        )
        await workers.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
