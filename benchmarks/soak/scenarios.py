"""
What is done to a contender, and what is seen of it from outside.

A scenario takes a `Stage` and a `Scale` and returns its figures: MB are 10⁶ bytes of
resident memory above what there was before, at the peak; seconds are wall-clock time,
except where their name says cpu. It never waits without a deadline. `Unfit` means that
the contender has no way to do what the scenario is about.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from soak.stage import Stage
from soak.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Raw,
    Relay,
    Unexpected,
    bomb,
    header,
    readable,
    request,
    response,
)

MEGABYTE = 1_000_000

# Seconds for what takes long because a contender is slow, or the machine busy.
LONG = 30.0

Figures = dict[str, Any]


class Unfit(Exception):
    """The contender has nothing that the scenario is about."""


@dataclass(frozen=True)
class Scale:
    """
    How much of everything.

    Attributes:
        ping: `ping_interval`, in seconds.
        timeout: `open_timeout` and `close_timeout`, in seconds.
    """

    flood: int = 500 * MEGABYTE
    pings: int = 200_000
    bomb: int = 1000 * MEGABYTE
    fragments: int = 1_000_000
    big: int = 100 * MEGABYTE
    cycles: int = 5000
    warned_cycles: int = 500
    connections: int = 1000
    drips: int = 200
    ping: float = 1.0
    timeout: float = 2.0
    neighbour: float = 1.5


FULL = Scale()
QUICK = Scale(
    pings=100_000,
    bomb=200 * MEGABYTE,
    fragments=200_000,
    big=20 * MEGABYTE,
    cycles=500,
    warned_cycles=100,
    connections=200,
    drips=50,
    ping=0.5,
    timeout=1.0,
    neighbour=0.7,
)


def _ended(stage: Stage, path: str, timeout: float) -> int | str | None:
    """The code that the application was told, "none" without one; None: it was told nothing."""
    event = stage.running.event("ended", timeout, path=path)
    if event is None:
        return None
    return "none" if event["code"] is None else int(event["code"])


def _memory(stage: Stage) -> Figures:
    """The peak, or the limit at which it was ended."""
    return {"mb": 1300.0, "ended": True} if stage.exceeded else {"mb": stage.watch.peak()}


# ------------------------------------------------------------------ flow control


def _unread_app(stage: Stage, data: bytes, times: int, deflate: bool = False) -> Figures:
    if stage.name == "picows":
        raise Unfit("frames are handed to a callback")
    with stage.play():
        raw = stage.open("/idle", deflate=deflate)
        taken = raw.push(data, times)
        stage.settle()
        return {**_memory(stage), "taken_mb": taken / 1e6}


def unread_app(stage: Stage, scale: Scale) -> Figures:
    """The peer sends 500 MB in messages of 64 KiB; the application takes none."""
    raw = Raw(socket.socket(), server=stage.client)
    frame = raw.frame(BINARY, bytes(65536))
    raw.sock.close()
    return _unread_app(stage, frame, scale.flood // 65536)


def unread_app_small(stage: Stage, scale: Scale) -> Figures:
    """The same in messages of 100 bytes."""
    raw = Raw(socket.socket(), server=stage.client)
    frames = raw.frame(BINARY, bytes(100)) * 600
    raw.sock.close()
    return _unread_app(stage, frames, scale.flood // 60_000)


def unread_app_deflate(stage: Stage, scale: Scale) -> Figures:
    """500 MB in messages of 100 KB that are compressed to a hundredth."""
    raw = Raw(socket.socket(), server=stage.client)
    frames = raw.frame(BINARY, bomb_of(100_000), rsv1=True) * 50
    raw.sock.close()
    return _unread_app(stage, frames, scale.flood // 5_000_000, deflate=True)


def bomb_of(size: int) -> bytes:
    """*size* zeros as one compressed message, small."""
    import zlib

    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (deflate.compress(bytes(size)) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


def unread_peer(stage: Stage, scale: Scale) -> Figures:
    """The application sends 500 MB; the peer reads nothing."""
    with stage.play():
        stage.open("/flood", room=65536)
        flooded = stage.running.event("flooded", 0.7)
        stage.settle(limit=8)
        return {**_memory(stage), "all_sent": flooded is not None}


def ping_flood(stage: Stage, scale: Scale) -> Figures:
    """Pings of 125 bytes, whose pongs are not read."""
    with stage.play():
        raw = stage.open("/sink", room=4096)
        pings = raw.frame(PING, bytes(125)) * 500
        taken = raw.push(pings, scale.pings // 500, stall=4, limit=LONG)
        stage.settle()
        return {**_memory(stage), "cpu_s": stage.watch.cpu(), "taken_mb": taken / 1e6}


# --------------------------------------------------------------- hostile messages


def compressed_bomb(stage: Stage, scale: Scale) -> Figures:
    """1 MB that inflates to 1 GB, with a limit of 1 MB."""
    payload = bomb(scale.bomb)
    if stage.name == "picows":
        raise Unfit("it does not compress")
    with stage.play(max_size=MEGABYTE):
        raw = stage.open("/sink", deflate=True)
        raw.push(raw.frame(BINARY, payload, rsv1=True), 1, stall=5)
        code, seconds = raw.finish(10)
        raw.sock.close()
        app = _ended(stage, "/sink", 5)
        return {
            **_memory(stage),
            "code": code,
            "app": app,
            "tcp_s": seconds,
            "cpu_s": stage.watch.cpu(),
        }


def empty_fragments(stage: Stage, scale: Scale) -> Figures:
    """A million fragments with nothing in them, of one message."""
    with stage.play():
        raw = stage.open("/sink")
        raw.sock.sendall(raw.frame(TEXT, b"", fin=False))
        many = raw.frame(CONTINUATION, b"", fin=False) * 10_000
        taken = raw.push(many, scale.fragments // 10_000, limit=LONG, stall=5)
        complete = taken == len(many) * (scale.fragments // 10_000)
        if complete:
            # What is not refused must work: the message ends, and the next one comes.
            with contextlib.suppress(OSError):
                raw.send(CONTINUATION, b"")
                raw.send(CLOSE, b"\x03\xe8")
        code, _ = raw.finish(LONG)
        raw.sock.close()
        figures = {**_memory(stage), "code": code, "app": _ended(stage, "/sink", 5)}
        return {**figures, "cpu_s": stage.watch.cpu()}


def length_alone(stage: Stage, scale: Scale) -> Figures:
    """A length of 2⁶² with nothing behind it; and a hundred of 900 kB with one byte."""
    with stage.play():
        # What connections cost is another matter, so they are there before.
        raw, *others = [stage.open("/sink") for _ in range(101)]
        stage.settle()
        stage.watch.mark()
        raw.sock.sendall(header(BINARY, 1 << 62, mask=not raw.server) + raw.key)
        code, seconds = raw.finish(1)
        for other in others:
            other.sock.sendall(header(BINARY, 900_000, mask=not raw.server) + raw.key + b"x")
        stage.settle()
        return {**_memory(stage), "code": code, "tcp_s": seconds, "cpu_s": stage.watch.cpu()}


def neighbours(stage: Stage, scale: Scale) -> Figures:
    """
    Another client's round trips while one floods, with messages and with pings.

    What a trip takes is counted in the contender's own processor time: it does other
    things first. On a machine that is busy otherwise, seconds say more of that.
    """
    with stage.play():
        neighbour = stage.open("/echo")
        trips: list[float] = []
        own: list[float] = []
        for path, opcode, size in (("/sink", BINARY, 100), ("/sink", PING, 100)):
            flooder = stage.open(path)
            data = flooder.frame(opcode, bytes(size)) * 600
            thread = threading.Thread(
                target=flooder.push,
                args=(data, 1 << 30),
                kwargs={"stall": 5.0, "limit": scale.neighbour + 0.2},
                daemon=True,
            )
            thread.start()
            time.sleep(0.2)
            end = time.monotonic() + scale.neighbour
            while time.monotonic() < end:
                begin, ran = time.monotonic(), stage.watch.ran()
                neighbour.send(TEXT, b"hello")
                neighbour.message(10)
                trips.append(time.monotonic() - begin)
                own.append(stage.watch.ran() - ran)
                time.sleep(0.005)
            flooder.sock.close()
            thread.join(10)
        trips.sort()
        return {
            "own_ms": max(own) * 1e3,
            "worst_ms": trips[-1] * 1e3,
            "p50_ms": trips[len(trips) // 2] * 1e3,
            "trips": len(trips),
        }


# ---------------------------------------------------------------------- liveness


class Partner(threading.Thread):
    """
    Keeps rules on behalf of raw peers: reads everything and answers pings.

    Attributes:
        pings: How many came.
        closed: When a Close or the end of the stream came, and what it said.
    """

    def __init__(self, raws: list[Raw], *, pong: bool = True) -> None:
        super().__init__(daemon=True)
        self.pings = 0
        self.closed: dict[Raw, tuple[float, str]] = {}
        self._raws = list(raws)
        self._pong = pong
        self._over = threading.Event()
        self.start()

    def stop(self) -> None:
        """No more."""
        self._over.set()
        self.join(5)

    def run(self) -> None:
        raws = {raw.sock: raw for raw in self._raws}
        for raw in self._raws:
            raw.sock.setblocking(False)
        while raws and not self._over.is_set():
            for sock in readable(list(raws), 0.05):
                raw = raws[sock]
                try:
                    raw._fill(0.001)
                    while raw._parse() is not None:
                        opcode, payload = raw.receive(0.001)
                        if opcode == PING:
                            self.pings += 1
                            if self._pong:
                                raw.send(PONG, payload, timeout=1)
                        elif opcode == CLOSE:
                            code = int.from_bytes(payload[:2], "big") or 1005
                            self.closed.setdefault(raw, (time.monotonic(), str(code)))
                except TimeoutError:
                    continue
                except (OSError, EOFError) as exc:
                    how = "FIN" if isinstance(exc, EOFError) else "RST"
                    self.closed.setdefault(raw, (time.monotonic(), how))
                    del raws[sock]


def peer_gone(stage: Stage, scale: Scale) -> Figures:
    """The cable is cut, `ping_interval` is p: when is everybody woken, and with which code?"""
    # close_timeout is half of it by default, wherever there is one.
    with stage.play(ping_interval=scale.ping, close_timeout=scale.ping / 2):
        relay = Relay(stage.port)
        try:
            raws = []
            for _ in range(8):  # each at another moment of its interval
                raws.append(stage.open("/sink", port=relay.port))
                time.sleep(scale.ping / 8)
            # Its application only sends, and the peer takes what comes.
            raws.append(stage.open("/flood", port=relay.port, room=65536))
            partner = Partner(raws)
            time.sleep(0.7 * scale.ping)
            dark = relay.dark()
            partner.stop()
            return _woken(stage, dark, scale.ping)
        finally:
            relay.close()


def _woken(stage: Stage, dark: float, p: float) -> Figures:
    """When those who wait in receive() and send() were woken, in intervals after *dark*."""
    codes = Counter[str]()
    times: dict[str, list[float]] = {"/sink": [], "/flood": []}
    for path in ["/sink"] * 8 + ["/flood"]:
        event = stage.running.event("ended", max(dark + 6 * p - time.monotonic(), 0), path=path)
        if event is None:
            codes[f"{path} never"] += 1
        else:
            times[path].append((event["at"] - dark) / p)
            codes[f"{event['code']}"] += 1
    return {
        "codes": dict(codes),
        "receive_p": max(times["/sink"]) if len(times["/sink"]) == 8 else None,
        "send_p": max(times["/flood"], default=None),
    }


def kept_alive(stage: Stage, scale: Scale) -> Figures:
    """
    A peer that is busy sending and does not come to answering; an application that is slow.

    Neither is a reason to close the connection; pings still go out to the first.
    """
    p = scale.ping
    with stage.play(ping_interval=p):
        busy = stage.open("/sink")
        partner = Partner([busy], pong=False)
        data = busy.frame(BINARY, bytes(1000))
        begin = time.monotonic()
        while not partner.closed and time.monotonic() < begin + 5 * p:
            busy.push(data, 1, stall=1)
            time.sleep(0.01)
        partner.stop()
        figures: Figures = {"busy_p": 5.0, "pings": partner.pings}
        if busy in partner.closed:
            at, figures["busy"] = partner.closed[busy]
            figures["busy_p"] = (at - begin) / p
        if stage.name == "picows":
            return figures
        slow = stage.open("/idle")
        slow.push(slow.frame(BINARY, bytes(65536)), 1000, stall=0.3, limit=2)
        # Our pongs are behind what the application does not take.
        partner = Partner([slow])
        time.sleep(5 * p)
        partner.stop()
        figures["slow"] = partner.closed.get(slow, (0, "open"))[1]
        return figures


# --------------------------------------------------------------- opening, closing


def dripping(stage: Stage, scale: Scale) -> Figures:
    """200 opening handshakes at once, a byte each 0.2 s, open_timeout 2 s."""
    with stage.play(open_timeout=scale.timeout):
        files = stage.watch.files()
        figures = (
            _dripping_server(stage, scale) if stage.client else _dripping_clients(stage, scale)
        )
        time.sleep(0.1)
        return {**figures, **_memory(stage), "files": stage.watch.files() - files}


def _drip(
    socks: list[socket.socket], text: bytes, limit: float
) -> tuple[list[float], Counter[str]]:
    """Send *text* to all, a byte each 0.2 s, until they are closed; when, and the answers."""
    begin = time.monotonic()
    answers: Counter[str] = Counter()
    ended: list[float] = []
    left = list(socks)
    got: dict[socket.socket, bytes] = dict.fromkeys(socks, b"")
    for sock in socks:
        sock.setblocking(False)
    i = 0
    while left and time.monotonic() < begin + limit:
        for sock in left:
            with contextlib.suppress(OSError):
                sock.send(text[i : i + 1])
        i = min(i + 1, len(text) - 5)
        until = time.monotonic() + 0.2
        while (wait := until - time.monotonic()) > 0 and left:
            for sock in readable(left, wait):
                try:
                    data = sock.recv(4096)
                except OSError:
                    data = b""
                if data:
                    got[sock] += data
                    continue
                left.remove(sock)
                ended.append(time.monotonic() - begin)
                answers[got[sock][9:12].decode("latin-1") or "closed"] += 1
    return ended, answers


def _dripping_clients(stage: Stage, scale: Scale) -> Figures:
    neighbour = stage.open("/echo")
    worst = 0.0
    over = threading.Event()

    def talk() -> None:
        nonlocal worst
        while not over.wait(0.02):
            begin = time.monotonic()
            neighbour.send(TEXT, b"hello")
            neighbour.message(10)
            worst = max(worst, time.monotonic() - begin)

    socks = []
    for _ in range(scale.drips):
        socks.append(socket.create_connection(("127.0.0.1", stage.port), 5))
    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    try:
        ended, answers = _drip(socks, request(stage.port, "/sink"), 2.5 * scale.timeout)
    finally:
        over.set()
        thread.join(10)
        for sock in socks:
            sock.close()
    return {
        "closed": len(ended),
        "of": scale.drips,
        "last_t": max(ended) / scale.timeout if len(ended) == scale.drips else None,
        "answers": dict(answers),
        "neighbour_ms": worst * 1e3,
    }


def _dripping_server(stage: Stage, scale: Scale) -> Figures:
    """The client opens 50 connections, and the answers drip."""
    number = min(scale.drips, 50)
    stage.listener.settimeout(10)
    socks = []
    for _ in range(number):
        stage.running.tell("open /sink")
    for _ in range(number):
        sock, _ = stage.listener.accept()
        socks.append(sock)
    try:
        head = response(request(stage.port, "/sink"))
        _drip(socks, head, 2.5 * scale.timeout)
    finally:
        for sock in socks:
            sock.close()
    times = []
    for _ in range(number):
        event = stage.running.event("not open", 2)
        if event is not None:
            times.append(event["took"])
    late = [seconds for seconds in times if seconds > 1.5 * scale.timeout]
    return {
        "closed": len(times) - len(late),
        "of": number,
        "last_t": max(times) / scale.timeout if len(times) == number and not late else None,
        "answers": {},
    }


def close_unanswered(stage: Stage, scale: Scale) -> Figures:
    """close() to a peer that does not answer, and to one that does not read; 2 s for it."""
    with stage.play(close_timeout=scale.timeout):
        files = stage.watch.files()
        raw = stage.open("/close", room=4096)
        stage.open("/stalled", room=4096)
        raw.send(TEXT, b"now")
        figures: Figures = {"silent_t": None, "stalled_t": None}
        end = time.monotonic() + 3 * scale.timeout
        for _ in figures:
            event = stage.running.event("closed", max(end - time.monotonic(), 0))
            if event is not None:
                figures[f"{event['how']}_t"] = event["took"] / scale.timeout
        end = time.monotonic() + 1.5 * scale.timeout
        while stage.watch.files() > files and time.monotonic() < end:
            time.sleep(0.05)
        return {**figures, "files": stage.watch.files() - files}


# ----------------------------------------------------------------- large messages


def receive_large(stage: Stage, scale: Scale) -> Figures:
    """One message of 100 MB comes; what it takes beside it."""
    if stage.name == "picows":
        raise Unfit("a callback gets frames, in a buffer of the library's")
    with stage.play(max_size=2 * scale.big):
        raw = stage.open("/take")
        frame = raw.frame(BINARY, b"x" * scale.big)
        stage.watch.mark()
        raw.push(frame, 1, stall=10, limit=20)
        size = int(raw.message(10))
        if size != scale.big:
            raise Unexpected(f"{size} bytes came")
        return {**_memory(stage), "times": stage.watch.peak() / (scale.big / 1e6)}


def send_large(stage: Stage, scale: Scale) -> Figures:
    """One message of 100 MB is made and sent; what that takes, the message included."""
    with stage.play():
        raw = stage.open("/give")
        stage.watch.mark()
        raw.send(TEXT, str(scale.big).encode())
        end = time.monotonic() + 20
        total = 0
        while total < scale.big:
            raw.sock.settimeout(max(end - time.monotonic(), 0.001))
            data = raw.sock.recv(1 << 20)
            if not data:
                raise Unexpected("it ended in the middle")
            total += len(data)
        return {**_memory(stage), "times": stage.watch.peak() / (scale.big / 1e6)}


# ------------------------------------------------------------------ coming, going


def cycles(stage: Stage, scale: Scale) -> Figures:
    """
    Connections are opened and closed 5,000 times: properly, by an RST, by a FIN, and
    half-open. A client is refused and cancels as well. Then 500 times with `-X dev -W error`.
    """
    with stage.play():
        _cycle(stage, 300)
        _quiet(stage)
        before = stage.running.report()
        stage.watch.mark()
        begin = time.monotonic()
        _cycle(stage, scale.cycles)
        _quiet(stage)
        after = stage.running.report()
        figures: Figures = {
            "files": after["files"] - before["files"],
            "tasks": after["tasks"] - before["tasks"],
            "mb": stage.watch.growth(),
            "took_s": time.monotonic() - begin,
        }
    with stage.play(strict=True):
        _cycle(stage, scale.warned_cycles)
        _quiet(stage)
        stage.running.report()
        text = stage.running.errors()
    return {**figures, "stderr": text.count("\n"), "text": text[-300:]}


def _quiet(stage: Stage) -> None:
    """Wait until nothing happens any more, and what waits for a peer that has gone is over."""
    stage.settle(still=0.25, limit=4)


def _cycle(stage: Stage, number: int) -> None:
    if stage.client:
        _cycle_client(stage, number)
        return
    for i in range(number):
        kind = i % 8
        if kind == 7:  # half a request
            with socket.create_connection(("127.0.0.1", stage.port), 5) as sock:
                sock.sendall(request(stage.port, "/echo")[:60])
            continue
        with Raw.connect(stage.port, "/echo", deflate=False) as raw:
            if kind == 5:
                raw.reset()
            elif kind == 6:
                raw.sock.shutdown(socket.SHUT_RDWR)
            else:
                raw.send(TEXT, b"hello")
                raw.message()
                raw.send(CLOSE, b"\x03\xe8")
                raw.finish(5)


def _cycle_client(stage: Stage, number: int) -> None:
    """A server for one client: it accepts, refuses or lets wait, as the path says."""
    over = threading.Event()
    stage.listener.settimeout(0.1)
    threads: list[threading.Thread] = []

    def serve() -> None:
        while not over.is_set():
            try:
                sock, _ = stage.listener.accept()
            except OSError:
                continue
            try:
                sock.settimeout(5)
                head = sock.recv(65536)
                if b"/refused" in head:
                    sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
                else:
                    if b"/slow" in head:
                        time.sleep(0.002)
                    sock.sendall(response(head))
                    with Raw(sock, server=True) as raw:
                        raw.finish(5)
            except (OSError, EOFError):
                pass
            finally:
                sock.close()

    for _ in range(20):
        threads.append(threading.Thread(target=serve, daemon=True))
        threads[-1].start()
    try:
        third = number // 3
        for path, seconds in (("/echo", 0), ("/refused", 0), ("/slow", 0.001)):
            stage.running.tell(f"cycle {third} {path} {seconds}")
            if stage.running.event("cycled", 60) is None:
                raise Unexpected(f"the cycles of {path} do not end")
    finally:
        over.set()
        for thread in threads:
            thread.join(10)


def shutdown(stage: Stage, scale: Scale) -> Figures:
    """A server with 1,000 open connections is stopped as its documentation says."""
    if stage.client:
        raise Unfit("a client is no server")
    with stage.play():
        raws = [stage.open("/sink") for _ in range(scale.connections)]
        stage.settle()
        stage.watch.mark()
        stage.running.tell("stop")
        begin = time.monotonic()
        codes, last = _farewell(raws, 10.0)
        event = stage.running.event("stopped", max(begin + 10 - time.monotonic(), 0))
        text = stage.running.errors()
        return {
            "codes": dict(codes),
            "tcp_s": last - begin,
            "cpu_s": stage.watch.cpu(),
            "took_s": None if event is None else event["took"],
            "stderr": text.count("\n"),
            "text": text[-300:],
        }


def _farewell(raws: list[Raw], timeout: float) -> tuple[Counter[str], float]:
    """Answer the Close of each; the codes, and when the last connection had ended."""
    poll = select.epoll()
    by_number = {raw.sock.fileno(): raw for raw in raws}
    codes: Counter[str] = Counter()
    seen: dict[int, str] = {}
    for number, raw in by_number.items():
        raw.sock.setblocking(False)
        poll.register(number, select.EPOLLIN)
    end = time.monotonic() + timeout
    last = time.monotonic()
    while by_number and time.monotonic() < end:
        for number, _ in poll.poll(0.2):
            raw = by_number[number]
            try:
                raw._fill(0.001)
                while raw._parse() is not None:
                    opcode, payload = raw.receive(0.001)
                    if opcode == CLOSE:
                        seen[number] = str(int.from_bytes(payload[:2], "big") or 1005)
                        raw.send(CLOSE, payload[:2], timeout=1)
            except TimeoutError:
                continue
            except (EOFError, OSError) as exc:
                codes[seen.get(number, "FIN" if isinstance(exc, EOFError) else "RST")] += 1
                poll.unregister(number)
                del by_number[number]
                raw.sock.close()  # some end their side of TCP only, and wait for ours
                last = time.monotonic()
    poll.close()
    for number in by_number:
        codes[seen.get(number, "none")] += 1
        last = end
    return codes, last


def cancelled_receives(stage: Stage, scale: Scale) -> Figures:
    """10,000 receive()s are cancelled or time out while messages come."""
    if stage.name == "picows":
        raise Unfit("callbacks are not cancelled")
    with stage.play():
        raw = stage.open("/cancels")
        end = time.monotonic() + 15
        number = 0
        while stage.running.event("given up", 0) is None and time.monotonic() < end:
            for _ in range(number % 7 + 1):
                raw.send(TEXT, str(number).encode())
                number += 1
            time.sleep(0.0005)
        raw.send(TEXT, b"end")
        event = stage.running.event("counted", 10)
        if event is None:
            raise Unexpected("it does not come to the last message")
        return {
            "given_up": event["given_up"],
            "sent": number,
            "lost": number - (event["got"] - event["twice"]),
            "twice": event["twice"],
            "disorder": event["disorder"],
        }


Scenario = Callable[[Stage, Scale], Figures]

SCENARIOS: dict[str, Scenario] = {
    function.__name__.replace("_", "-"): function
    for function in (
        unread_app,
        unread_app_small,
        unread_app_deflate,
        unread_peer,
        ping_flood,
        compressed_bomb,
        empty_fragments,
        length_alone,
        neighbours,
        peer_gone,
        kept_alive,
        dripping,
        close_unanswered,
        receive_large,
        send_large,
        cycles,
        shutdown,
        cancelled_receives,
    )
}

# Whose figures are times of others: nothing else may run meanwhile.
ALONE = {"neighbours"}

# Those in which little happens for seconds.
WAITING = {"peer-gone", "kept-alive", "close-unanswered"}
