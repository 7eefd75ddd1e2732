"""bearer_token(): where it looks, and in which order."""

from __future__ import annotations

import hmac
import secrets
from typing import Any

import pytest
from lilya.websockets import WebSocket as LilyaWebSocket
from starlette.websockets import WebSocket as StarletteWebSocket

from simplews import AioClient, AioServer, ConnectionClosed, HandshakeRequest, Headers, serve
from simplews.auth import bearer_token
from simplews.websocket import WebSocket

from .channel import CONNECT, DENIAL, Channel

Fields = list[tuple[str, str]]


def scope(fields: Fields, query: str, offered: tuple[str, ...]) -> dict[str, Any]:
    return {
        "type": "websocket",
        "path": "/",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in fields],
        "query_string": query.encode(),
        "subprotocols": list(offered),
    }


def request(fields: Fields, query: str, offered: tuple[str, ...]) -> HandshakeRequest:
    return HandshakeRequest("x", f"/?{query}", Headers(fields), offered)


def over(cls: Any) -> Any:
    channel = Channel()
    return lambda *args: cls(scope(*args), channel.receive, channel.send)


#: Every way to say the same thing.
FORMS: dict[str, Any] = {
    "scope": scope,
    "request": request,
    "AioServer": lambda *args: AioServer(request(*args)),
    "simplews": over(WebSocket),
    "starlette": over(StarletteWebSocket),
    "lilya": over(LilyaWebSocket),
}

AUTHORIZATION = ("Authorization", "Bearer h")
COOKIE = ("Cookie", 'a=1; session="c"')
SUBPROTOCOLS = ("chat", "bearer.s")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("fields", "query", "offered", "token"),
    [
        ([AUTHORIZATION, COOKIE], "token=q", SUBPROTOCOLS, "h"),
        ([COOKIE], "token=q", SUBPROTOCOLS, "q"),
        ([COOKIE], "", SUBPROTOCOLS, "c"),
        ([], "", SUBPROTOCOLS, "s"),
        ([], "", ("chat",), None),
        ([], "", (), None),
    ],
)
def test_order(
    form: str, fields: Fields, query: str, offered: tuple[str, ...], token: str | None
) -> None:
    """B14: header field, query, cookie, subprotocol; from whatever has the request."""
    connection = FORMS[form](fields, query, offered)
    assert bearer_token(connection, cookie="session") == token


@pytest.mark.parametrize(
    ("value", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        ("BEARER   abc ", "abc"),
        ("Bearer a.b-c_d~e+f/g==", "a.b-c_d~e+f/g=="),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic dTpw", None),
        ("Bearerabc", None),
        ("", None),
    ],
)
def test_authorization(value: str, token: str | None) -> None:
    """RFC 9110 §11.1: the scheme has no case."""
    assert bearer_token(request([("authorization", value)], "", ())) == token


@pytest.mark.parametrize(
    ("query", "token"),
    [("token=a%2Bb", "a+b"), ("token=", None), ("x=1&token=2&token=3", "2"), ("Token=1", None)],
)
def test_query(query: str, token: str | None) -> None:
    """Percent-decoded; an empty one is none."""
    assert bearer_token(request([], query, ())) == token
    assert bearer_token(scope([], query, ())) == token


def test_an_empty_token_is_none_and_the_next_is_looked_at() -> None:
    """At every place."""
    fields = [("Authorization", "Bearer"), ("Cookie", "session=")]
    connection = request(fields, "token=", ("bearer.", "bearer.s"))
    assert bearer_token(connection, cookie="session") == "s"


def test_names_are_yours() -> None:
    """And None looks at none."""
    connection = request([COOKIE], "token=q&t=q2", ("bearer.s", "jwt-s2"))
    assert bearer_token(connection, query="t") == "q2"
    assert bearer_token(connection, query=None) == "s"
    assert bearer_token(connection, query=None, subprotocol="jwt-") == "s2"
    assert bearer_token(connection, query=None, subprotocol=None) is None
    assert bearer_token(connection, query=None, subprotocol=None, cookie="session") == "c"
    assert bearer_token(connection, query=None, subprotocol=None, cookie="other") is None


def test_scope_with_nothing_in_it() -> None:
    """Every key may be missing; the offer is a header field as well."""
    assert bearer_token({"type": "websocket"}) is None
    assert bearer_token({"query_string": None, "headers": None}) is None
    assert bearer_token({"headers": [(b"sec-websocket-protocol", b"chat, bearer.s")]}) == "s"


def test_other_things() -> None:
    """Said at once."""
    other: Any = "Bearer abc"
    with pytest.raises(TypeError, match="not str"):
        bearer_token(other)


# ------------------------------------------------------- the code of docs/howto/auth.md


SECRET = secrets.token_urlsafe()


def is_valid(token: str | None) -> bool:
    return token is not None and hmac.compare_digest(token.encode(), SECRET.encode())


async def chat(ws: AioServer) -> None:
    if not is_valid(bearer_token(ws)):
        await ws.close(4401, "no valid token")
        return
    async for message in ws:
        await ws.send(message)


async def application(scope: Any, receive: Any, send: Any) -> None:
    ws = WebSocket(scope, receive, send)
    if not is_valid(bearer_token(ws)):
        await ws.reject(4401, "no valid token", status=401)
        return
    await ws.accept()
    async for message in ws:
        await ws.send_text(message)


async def test_guide_with_serve() -> None:
    """The client that has the token is served, the other sees the code."""
    async with serve(chat, "127.0.0.1", 0) as server:
        url = f"ws://localhost:{server.port}/"
        headers = {"Authorization": f"Bearer {SECRET}"}
        async with AioClient.connect(url, headers=headers) as client:
            await client.send("a")
            assert await client.receive() == "a"
        async with AioClient.connect(f"{url}?token=ü") as client:
            with pytest.raises(ConnectionClosed, match="4401"):
                await client.receive()


@pytest.mark.parametrize("query", ["", "token=wrong"])
async def test_guide_with_asgi(query: str) -> None:
    """401, before anything is accepted."""
    channel = Channel(CONNECT)
    whole = {**scope([], query, ()), "extensions": DENIAL}
    await application(whole, channel.receive, channel.send)
    assert channel.sent[0]["status"] == 401
    channel = Channel(CONNECT, {"type": "websocket.disconnect"})
    await application(scope([], f"token={SECRET}", ()), channel.receive, channel.send)
    assert [event["type"] for event in channel.sent] == ["websocket.accept"]
