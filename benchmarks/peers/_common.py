"""
What the adapters share; nothing here is on a server's way of a message.

A server's adapter calls ``server_args()``, listens, and awaits
``serve_forever()``. A client's calls ``client_main()`` and hands its connection
to ``drive()`` or ``drive_many()``.
"""

import argparse
import asyncio
import json
import os
import resource
import ssl
import time


def raise_file_limit():
    """Allow as many descriptors as we may have; an adapter can be run by hand, too."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run_loop(coro, loop):
    """Run *coro* under the event loop of that name."""
    if loop == "uvloop":
        import uvloop

        return uvloop.run(coro)
    return asyncio.run(coro)


# -------------------------------------------------------------------- servers


def server_args(**extra):
    """What the harness asks of a server, and *extra* arguments with their defaults."""
    raise_file_limit()
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("--cert", help="with --key: serve TLS")
    parser.add_argument("--key")
    parser.add_argument(
        "--max-size", type=int, help="largest message to let in; unset: the peer's default"
    )
    for name, default in extra.items():
        parser.add_argument("--" + name.replace("_", "-"), default=default)
    return parser.parse_args()


def tls(args):
    """The SSLContext that the arguments ask for, or None."""
    if not args.cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(args.cert, args.key)
    return context


def limit(args, name):
    """``{name: --max-size}``, or nothing when that is unset."""
    return {name: args.max_size} if args.max_size else {}


def ready():
    """Tell the harness that the server listens."""
    print("READY", flush=True)


async def serve_forever():
    """Say that the server listens, and end the process when stdin is closed."""
    ready()
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def gone():
        if not os.read(0, 4096):
            loop.remove_reader(0)
            ended.set()

    loop.add_reader(0, gone)
    await ended.wait()
    os._exit(0)  # no orderly shutdown of whatever is still connected


async def until_listening(port, task):
    """Wait for a server, run by *task*, that does not tell when it listens."""
    for _ in range(300):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0.02)
        if task.done():
            task.result()
    raise SystemExit("it does not listen")


# -------------------------------------------------------------------- clients


def client_args():
    """What the harness asks of a client."""
    raise_file_limit()
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--op", choices=["text", "bin"], default="text")
    parser.add_argument("--window", type=int, default=1)
    parser.add_argument("--secs", type=float, default=1.0)
    parser.add_argument("--warmup", type=float, default=0.3)
    parser.add_argument("--conns", type=int, default=1)
    parser.add_argument("--variant", default="")
    return parser.parse_args()


def make_payload(size, op):
    data = bytes((i * 7 + 13) % 94 + 33 for i in range(min(size, 4096)))
    data = (data * (size // len(data) + 1))[:size]
    return data.decode() if op == "text" else data


class Meter:
    """Counts messages between the end of the warm-up and the end of the run."""

    def __init__(self, args):
        self.secs = args.secs
        self.begin = time.perf_counter() + args.warmup
        self.before = None

    def tick(self, n):
        """Tell the meter that *n* messages were received; true when time is up."""
        t = time.perf_counter()
        if self.before is None:
            if t >= self.begin:
                self.before = self.read(n)
            return False
        if t - self.before[1] < self.secs:
            return False
        self.after = self.read(n)
        return True

    @staticmethod
    def read(n):
        times = os.times()
        return n, time.perf_counter(), time.process_time(), times.user, times.system

    def report(self, size, **more):
        n, secs, cpu, user, system = (b - a for a, b in zip(self.before, self.after, strict=True))
        figures = {
            "secs": secs,
            "msgs": n,
            "rx_bytes": n * size,
            "cpu_s": cpu,
            "user_ticks": user * 100,
            "sys_ticks": system * 100,
            **more,
        }
        print(json.dumps(figures), flush=True)


def batch_for(size):
    """How many messages go by between two looks at the clock."""
    return 32 if size <= 1024 else 8 if size <= 65536 else 1


def check(got, payload, unwrap):
    """End the run if an echo is not what was sent."""
    if (unwrap(got) if unwrap else got) != payload:
        raise SystemExit("echo differs from what was sent")


async def drive(send, recv, args, unwrap=None):
    """
    Echo over one connection: ping-pong, or a window that one task keeps full.

    *send* and *recv* are the peer's own coroutine functions, called directly.
    *recv* may return any object; *unwrap* takes the payload out of it, for the
    first and the last message only.
    """
    payload = make_payload(args.size, args.op)
    meter = Meter(args)
    batch = batch_for(args.size)
    await send(payload)
    check(await recv(), payload, unwrap)
    n = 0
    if args.window == 1:
        while True:
            for _ in range(batch):
                await send(payload)
                await recv()
            n += batch
            if meter.tick(n):
                break
    else:
        for _ in range(args.window):
            await send(payload)
        while True:
            for _ in range(batch):
                await recv()
                await send(payload)
            n += batch
            if meter.tick(n):
                break
        for _ in range(args.window):
            got = await recv()
        check(got, payload, unwrap)
    meter.report(args.size)


async def open_many(open_one, args):
    """Open ``args.conns`` connections one after the other; what they are, and their cost."""
    out = [await open_one()]  # the first pays for imports and caches
    t, c = time.perf_counter(), time.process_time()
    for _ in range(args.conns - 1):
        out.append(await open_one())
    return out, {
        "n": len(out) - 1,
        "secs": time.perf_counter() - t,
        "cpu_s": time.process_time() - c,
    }


async def drive_many(open_one, args, unwrap=None):
    """
    Ping-pong over many connections at once, a task for each.

    ``open_one()`` opens one more and returns its *send* and *recv*, which are
    as for ``drive()``.
    """
    pairs, setup = await open_many(open_one, args)
    payload = make_payload(args.size, args.op)
    meter = Meter(args)
    n = 0
    over = False

    async def one(send, recv):
        nonlocal n, over
        await send(payload)
        check(await recv(), payload, unwrap)
        while not over:
            await send(payload)
            await recv()
            n += 1
            if n % 32 == 0 and not over:
                over = meter.tick(n)

    await asyncio.gather(*(one(send, recv) for send, recv in pairs))
    meter.report(args.size, setup=setup)


def client_main(main):
    """Run ``main(args, url)``, which connects and drives."""
    args = client_args()
    run_loop(main(args, f"ws://127.0.0.1:{args.port}/echo"), args.loop)
