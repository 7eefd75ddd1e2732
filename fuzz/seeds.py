"""
Writes the hand-made part of the corpus::

    python fuzz/seeds.py

Each seed is a name and bytes; those that the fuzzer found are named by their hash.
"""

from __future__ import annotations

import zlib
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"

_REQUEST = (
    b"GET /chat?a=b HTTP/1.1\r\nHost: localhost:8765\r\nUpgrade: websocket\r\n"
    b"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
)
_ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: {accept}\r\n"
)


def _deflated(data: bytes, mode: int = zlib.Z_SYNC_FLUSH, bits: int = 15) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, -bits)
    out = stream.compress(data) + stream.flush(mode)
    return out[:-4] if mode == zlib.Z_SYNC_FLUSH else out


def _masked(frame: bytes) -> bytes:
    """The same frame from a client; its key is all zeros."""
    width = {126: 2, 127: 8}.get(frame[1], 0)
    return (
        frame[:1] + bytes([frame[1] | 0x80]) + frame[2 : 2 + width] + bytes(4) + frame[2 + width :]
    )


_STREAMS = {
    "text": [b"\x81\x05Hello"],
    "fragments-and-ping": [b"\x01\x03Hel", b"\x89\x02hi", b"\x80\x02lo"],
    "close": [b"\x82\x01a", b"\x88\x05\x03\xe8bye", b"\x81\x01x"],
    "close-1014": [b"\x88\x02\x03\xf6"],
    "close-of-one-byte": [b"\x88\x01\x03"],
    "split-character": [b"\x01\x02\xe2\x82", b"\x80\x01\xac"],
    "surrogate": [b"\x81\x03\xed\xa0\x80"],
    "beyond-unicode": [b"\x81\x04\xf4\x90\x80\x80"],
    "overlong": [b"\x81\x02\xc0\xaf"],
    "length-126": [b"\x82\x7e\x00\x7e" + b"x" * 126],
    "length-not-shortest": [b"\x82\x7e\x00\x05Hello"],
    "length-promised": [b"\x82\x7f\x00\x00\x00\x01\x00\x00\x00\x00" + b"little"],
    "length-first-bit": [b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00"],
    "empty-fragments": [b"\x02\x00"] + [b"\x00\x00"] * 8 + [b"\x80\x00"],
    "reserved-bit": [b"\xa1\x00"],
    "reserved-opcode": [b"\x83\x00"],
    "continuation-alone": [b"\x80\x01a"],
    "two-messages-at-once": [b"\x01\x01a", b"\x81\x01b"],
    "fragmented-ping": [b"\x09\x00"],
    "long-ping": [b"\x89\x7e\x00\x7e" + b"p" * 126],
    "over-the-limit": [b"\x02\x7e\x00\x7e" + b"x" * 126, b"\x80\x7e\x04\x00" + b"y" * 1024],
}

_OFFERS = {
    "plain": b"permessage-deflate",
    "browser": b"permessage-deflate; client_max_window_bits",
    "window-8": b"permessage-deflate; server_max_window_bits=8, permessage-deflate",
    "quoted": b'permessage-deflate; client_max_window_bits="1\\2"; server_max_window_bits="9"',
    "commas": b'foo; a="b,c;d", , permessage-deflate; client_no_context_takeover',
    "twice": b"permessage-deflate; client_max_window_bits; client_max_window_bits=9",
    "zero": b"permessage-deflate; client_max_window_bits=09",
    "open-quote": b'permessage-deflate; a="',
    "no-takeover": b"permessage-deflate; server_no_context_takeover; client_no_context_takeover",
}

_PAYLOADS = {
    "hello": _deflated(b"Hello") + b"||" + _deflated(b"Hello"),
    "rfc-shared-window": b"\xf2\x48\xcd\xc9\xc9\x07\x00||\xf2\x00\x11\x00\x00",
    "stored": b"\x00\x05\x00\xfa\xffHello\x00",
    "final-block": b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00||" + _deflated(b"again"),
    "only-final-blocks": b"\x03\x00" * 70,
    "zero-byte": b"\x00||\x00",
    "nothing": b"||" + _deflated(b"after nothing"),
    "bomb": _deflated(bytes(100_000)),
    "corrupt": b"\xff\xff\xff\xff||\x00",
    "too-far-back": b"\x06",
    "fragments": b"\xf2\x48|\xcd\xc9|\xc9\x07\x00",
    "ends-in-a-fragment": b"\xf2\x48\xcd\xc9\xc9\x07\x00|",
}


def seeds() -> dict[str, dict[str, bytes]]:
    """Target, name, bytes."""
    request = {
        "plain": _REQUEST + b"\r\n",
        "extension": _REQUEST + b"Sec-WebSocket-Extensions: " + _OFFERS["browser"] + b"\r\n\r\n",
        "subprotocols": _REQUEST + b"Sec-WebSocket-Protocol: chat, superchat\r\n\r\n",
        "absolute": _REQUEST.replace(b"/chat", b"http://other.example/chat") + b"\r\n",
        "http10": _REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n",
        "post": _REQUEST.replace(b"GET", b"POST") + b"Content-Length: 3\r\n\r\nabc",
        "version-8": _REQUEST.replace(b": 13", b": 8") + b"\r\n",
        "folded": _REQUEST + b"X: a\r\n b\r\n\r\n",
        "bare-lf": _REQUEST.replace(b"\r\n", b"\n") + b"\n",
        "two-hosts": _REQUEST + b"host: other\r\n\r\n",
        "nul": _REQUEST + b"X: a\0b\r\n\r\n",
        "latin-1": _REQUEST + b"X: gr\xfc\xdfe\r\nCookie: a=\xff\r\n\r\n",
        "space-before-colon": _REQUEST + b"X : a\r\n\r\n",
        "short-key": _REQUEST.replace(b"dGhl", b"") + b"\r\n",
        "many": _REQUEST + b"A: b\r\n" * 130 + b"\r\n",
        "long-line": _REQUEST.replace(b"/chat", b"/" + b"a" * 9000) + b"\r\n",
        "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    }
    response = {
        "plain": _ANSWER + b"\r\n",
        "wrong-accept": _ANSWER.replace(b"{accept}", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") + b"\r\n",
        "subprotocol": _ANSWER + b"Sec-WebSocket-Protocol: chat\r\n\r\n",
        "not-offered": _ANSWER + b"Sec-WebSocket-Protocol: other\r\n\r\n",
        "deflate": _ANSWER + b"Sec-WebSocket-Extensions: permessage-deflate; "
        b"server_max_window_bits=10\r\n\r\n",
        "other-extension": _ANSWER + b"Sec-WebSocket-Extensions: foo\r\n\r\n",
        "two-connections": _ANSWER + b"Connection: close\r\n\r\n",
        "interim": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + _ANSWER + b"\r\n",
        "refused": b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\n"
        b"Content-Length: 6\r\n\r\nno way, and more",
        "chunked": b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n",
        "to-the-end": b"HTTP/1.0 404 Not Found\r\n\r\nuntil the end",
        "redirect": b"HTTP/1.1 302 Found\r\nLocation: ws://other/\r\nContent-Length: 0\r\n\r\n",
        "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "length-and-chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "not-http": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "no-body": b"HTTP/1.1 204 No Content\r\n\r\n",
    }
    frames = {}
    for name, parts in _STREAMS.items():
        frames[f"{name}-client"] = b"\x00" + b"".join(parts)
        frames[f"{name}-server"] = b"\x01" + b"".join(map(_masked, parts))
    for limit in (2, 4, 6):
        frames[f"limit-{limit}"] = bytes([limit]) + b"".join(_STREAMS["over-the-limit"])
    deflate = {}
    for name, offer in _OFFERS.items():
        deflate[f"offer-{name}"] = b"\x07" + offer + b"\n" + _PAYLOADS["hello"]
    deflate["answer"] = b"\x06permessage-deflate; server_max_window_bits=9\n" + _PAYLOADS["hello"]
    for name, payload in _PAYLOADS.items():
        deflate[f"payload-{name}"] = b"\x07" + _OFFERS["plain"] + b"\n" + payload
        deflate[f"payload-{name}-small"] = b"\x02" + _OFFERS["plain"] + b"\n" + payload
        deflate[f"payload-{name}-alone"] = b"\x0f" + _OFFERS["no-takeover"] + b"\n" + payload
    return {"request": request, "response": response, "frames": frames, "deflate": deflate}


if __name__ == "__main__":
    for target, named in seeds().items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in named.items():
            (folder / name).write_bytes(data)
