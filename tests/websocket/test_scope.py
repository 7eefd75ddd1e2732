"""What a WebSocket knows from its scope: when it is built, and what it says."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping
from typing import Any

import pytest
from lilya.apps import Lilya
from lilya.routing import Include as LilyaInclude
from lilya.routing import WebSocketPath as LilyaWebSocketPath
from lilya.websockets import WebSocket as LilyaWebSocket
from starlette.applications import Starlette
from starlette.routing import Mount, Route, WebSocketRoute

from simplews.errors import NotInScope, WebSocketRuntimeError
from simplews.types import URL, Headers, MultiMap
from simplews.websocket import Address, ScopeState, WebSocket

from .channel import CONNECT, Channel

LAZY = ("_headers", "_query_params", "_url", "_base_url", "_cookies", "_state")


def opened(**scope: Any) -> WebSocket:
    return Channel().open(**scope)


# ------------------------------------------------------------------- the class


def test_other_scopes_are_refused() -> None:
    """G2, C12: the message has what was expected, and what came."""
    with pytest.raises(ValueError, match="'websocket', got 'http'"):
        WebSocket({"type": "http"}, Channel().receive, Channel().send)
    with pytest.raises(ValueError, match="got None"):
        WebSocket({}, Channel().receive, Channel().send)


def test_it_has_no_instance_dict() -> None:
    """G3; but it can be in a WeakSet."""
    ws = opened()
    assert not hasattr(ws, "__dict__")
    with pytest.raises(AttributeError):
        ws.something = 1  # type: ignore[attr-defined]
    assert weakref.ref(ws)() is ws


def test_nothing_is_built_before_it_is_asked_for() -> None:
    """G4: the constructor looks at the scope's type, and at nothing else."""

    class Watched(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            asked.append(key)
            return super().get(key, default)

    asked: list[str] = []
    scope = Watched(type="websocket", headers=[(b"host", b"x")], path="/", query_string=b"a=1")
    ws = WebSocket(scope, Channel().receive, Channel().send)
    assert asked == ["type"]
    assert [getattr(ws, name) for name in LAZY] == [None] * len(LAZY)
    assert "state" not in scope


@pytest.mark.parametrize("name", [name.removeprefix("_") for name in LAZY])
def test_what_is_built_is_kept(name: str) -> None:
    """G4: on the first access only."""
    ws = opened(headers=[(b"cookie", b"a=1")])
    assert getattr(ws, name) is getattr(ws, name)


def test_it_is_a_mapping_over_its_scope() -> None:
    """L1, E1."""
    ws = opened(path="/chat")
    assert isinstance(ws, Mapping)
    assert ws["path"] == "/chat" and ws.get("nothing") is None
    assert list(ws) == list(ws.scope) and len(ws) == 2 and "path" in ws
    assert dict(ws) == ws.scope
    with pytest.raises(KeyError):
        ws["nothing"]


def test_two_are_never_equal() -> None:
    """C15: a set may hold several with the same scope."""
    one, other = opened(), opened()
    assert one.scope == other.scope and one != other and one == one
    assert len({one, other, one}) == 2


def test_repr_says_state_and_path() -> None:
    """What a log line needs."""
    assert repr(opened(path="/chat")) == "<WebSocket CONNECTING /chat>"


# ------------------------------------------------------------------ properties


def test_defaults_of_an_empty_scope() -> None:
    """Only the type is sure to be there; G7, G8."""
    ws = opened()
    assert (ws.path, ws.scheme, ws.client, ws.subprotocols) == ("/", "ws", None, ())
    assert dict(ws.headers) == dict(ws.query_params) == dict(ws.path_params) == {}
    assert dict(ws.cookies) == {}
    assert (ws.accepted_subprotocol, ws.subprotocol) == (None, None)
    assert ws.url == "/"


def test_headers_are_text_and_have_no_case() -> None:
    """G10, C17; latin-1, as HTTP has it."""
    ws = opened(headers=[(b"x-name", "ü".encode("latin-1")), (b"x-name", b"b")])
    assert isinstance(ws.headers, Headers)
    assert ws.headers["X-Name"] == "ü" and ws.headers.getlist("x-name") == ["ü", "b"]


def test_headers_may_be_any_iterable() -> None:
    """ASGI: "Iterable[[byte string, byte string]]"; it is read once."""
    ws = opened(headers=iter([[b"host", b"example.org"]]), path="/a")
    assert ws.url == "ws://example.org/a" and ws.headers["host"] == "example.org"


@pytest.mark.parametrize(
    ("query", "params"),
    [
        (b"a=1&b=2&a=3", [("a", "1"), ("b", "2"), ("a", "3")]),
        (b"a=&b", [("a", ""), ("b", "")]),
        (b"a=%C3%BC+%26", [("a", "ü &")]),
        ("a=ü".encode(), [("a", "ü")]),
        (b"a=%FF", [("a", "\ufffd")]),
        (b"", []),
        (None, []),
    ],
)
def test_query_params(query: bytes | None, params: list[tuple[str, str]]) -> None:
    """G11, L3: several values a name; what is no UTF-8 is replaced, not raised."""
    ws = opened(query_string=query)
    assert isinstance(ws.query_params, MultiMap)
    assert ws.query_params.multi_items() == params


HOST = [(b"host", b"example.org")]


@pytest.mark.parametrize(
    ("scope", "url"),
    [
        ({"headers": HOST, "path": "/chat"}, "ws://example.org/chat"),
        ({"headers": HOST, "scheme": "wss"}, "wss://example.org/"),
        ({"headers": HOST, "query_string": b"a=1&b=%20"}, "ws://example.org/?a=1&b=%20"),
        # C30: the Host first, because of proxies.
        ({"headers": HOST, "server": ("10.0.0.1", 8000)}, "ws://example.org/"),
        ({"server": ("10.0.0.1", 8000)}, "ws://10.0.0.1:8000/"),
        ({"server": ["::1", 8000]}, "ws://[::1]:8000/"),
        # A default port is left out.
        ({"server": ("10.0.0.1", 80)}, "ws://10.0.0.1/"),
        ({"server": ("10.0.0.1", 443), "scheme": "wss"}, "wss://10.0.0.1/"),
        ({"server": ("10.0.0.1", 443)}, "ws://10.0.0.1:443/"),
        ({"headers": [(b"host", b"example.org:80")]}, "ws://example.org/"),
        ({"headers": [(b"host", b"example.org:")]}, "ws://example.org/"),
        ({"headers": [(b"host", b"example.org:8080")]}, "ws://example.org:8080/"),
        ({"headers": [(b"host", b"[::1]:8080")]}, "ws://[::1]:8080/"),
        # A Unix socket is no host.
        ({"server": ("/run/ws.sock", None)}, "/"),
        # A Host that is none.
        ({"headers": [(b"host", b"a/b?c")], "server": ("x", 80)}, "ws://x/"),
        ({"headers": [(b"host", b"user@evil")], "server": ("x", 80)}, "ws://x/"),
        ({"headers": [(b"host", b"a:99999")], "server": ("x", 80)}, "ws://x/"),
        ({"headers": [(b"host", b"[::zz]")], "server": ("x", 80)}, "ws://x/"),
        ({"headers": [(b"host", b"[::::]")], "server": ("x", 80)}, "ws://x/"),
        ({"headers": [(b"host", b"")], "server": ("x", 80)}, "ws://x/"),
        # ASGI: path is percent-decoded.
        ({"headers": HOST, "path": "/ü a?b#c%\\"}, "ws://example.org/%C3%BC%20a%3Fb%23c%25%5C"),
        ({"headers": HOST, "query_string": "ü#".encode()}, "ws://example.org/?%C3%BC%23"),
        # Without a host, two slashes would begin one.
        ({"path": "//evil.org/x"}, "/%2Fevil.org/x"),
        ({"headers": HOST, "path": "//evil.org/x"}, "ws://example.org//evil.org/x"),
        # G9 and ASGI: the root path is part of the path already ...
        ({"headers": HOST, "root_path": "/api", "path": "/api/ws"}, "ws://example.org/api/ws"),
        ({"headers": HOST, "root_path": "/api/", "path": "/api/ws"}, "ws://example.org/api/ws"),
        ({"headers": HOST, "root_path": "/api", "path": "/api"}, "ws://example.org/api"),
        # ... and where it is not, it comes in front.
        ({"headers": HOST, "root_path": "/api", "path": "/ws"}, "ws://example.org/api/ws"),
        ({"headers": HOST, "root_path": "/api", "path": "/apiary"}, "ws://example.org/api/apiary"),
        ({"headers": HOST, "root_path": "/api", "path": "/"}, "ws://example.org/api/"),
        ({"headers": HOST, "root_path": "", "path": "/ws"}, "ws://example.org/ws"),
    ],
)
def test_url(scope: dict[str, Any], url: str) -> None:
    """G9, C16, C30."""
    ws = opened(**scope)
    assert isinstance(ws.url, URL)
    assert ws.url == url


@pytest.mark.parametrize(
    ("scope", "url"),
    [
        ({"path": "/a/b", "query_string": b"a=1"}, "ws://example.org/"),
        ({"path": "/api/ws", "root_path": "/api"}, "ws://example.org/api/"),
        # Inside a mounted application, it is the outermost one's.
        ({"root_path": "/api/mount", "app_root_path": "/api"}, "ws://example.org/api/"),
        ({"root_path": "/mount", "app_root_path": ""}, "ws://example.org/"),
    ],
)
def test_base_url(scope: dict[str, Any], url: str) -> None:
    """E3, as routers need it."""
    assert opened(headers=HOST, **scope).base_url == url


def test_cookies() -> None:
    """Quoted ones, nameless ones, and those of several fields; the last of a name."""
    fields = [
        (b"cookie", rb'a=1; b = two ;; c="q\"\303\274"; a=3; d=x=y; "'),
        (b"cookie", b"lonely; e="),
    ]
    ws = opened(headers=fields)
    assert dict(ws.cookies) == {
        "a": "3",
        "b": "two",
        "c": 'q"Ã¼',
        "d": "x=y",
        "e": "",
        "": "lonely",
    }


def test_client() -> None:
    """G13: (host, port), or nothing."""
    client = opened(client=["127.0.0.1", 5000]).client
    assert isinstance(client, Address)
    assert client == ("127.0.0.1", 5000) and (client.host, client.port) == ("127.0.0.1", 5000)
    assert opened(client=None).client is None


def test_subprotocols_are_a_tuple() -> None:
    """G14; ASGI lets the key be missing, but not the header field."""
    assert opened(subprotocols=["a", "b"]).subprotocols == ("a", "b")
    assert opened(headers=[(b"sec-websocket-protocol", b"a, b")]).subprotocols == ("a", "b")


def test_path_params() -> None:
    """L4."""
    assert opened(path_params={"username": "ann"}).path_params["username"] == "ann"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("app", "framework"),
        ("session", "SessionMiddleware"),
        ("auth", "AuthenticationMiddleware"),
        ("user", "AuthenticationMiddleware"),
    ],
)
def test_what_others_put_into_the_scope(name: str, source: str) -> None:
    """C18, L5: there, or an error that names who should have put it there."""
    value = object()
    assert getattr(opened(**{name: value}), name) is value
    with pytest.raises(NotInScope, match=source) as caught:
        getattr(opened(), name)
    assert isinstance(caught.value, AssertionError) and isinstance(caught.value, RuntimeError)
    assert caught.value.key == name


# ----------------------------------------------------------------------- state


def test_state_is_that_of_the_scope() -> None:
    """C31: a proxy; what middleware wrote is there, and what we write middleware sees."""
    scope_state = {"db": 1}
    ws = opened(state=scope_state)
    ws.state.user = "ann"
    ws.state["room"] = "lobby"
    assert scope_state == {"db": 1, "user": "ann", "room": "lobby"}
    assert ws.state.db == ws.state["db"] == 1
    del ws.state.db
    del ws.state["room"]
    assert dict(ws.state) == {"user": "ann"} and len(ws.state) == 1 and "user" in ws.state
    assert repr(ws.state) == "ScopeState({'user': 'ann'})"


def test_state_is_made_on_demand() -> None:
    """C31."""
    ws = opened()
    ws.state.user = "ann"
    assert ws.scope["state"] == {"user": "ann"}


def test_state_without_a_value() -> None:
    """An attribute is an AttributeError, an item a KeyError; hasattr() and get() work."""
    state = ScopeState({})
    with pytest.raises(AttributeError, match="no 'user'"):
        state.user  # noqa: B018
    with pytest.raises(AttributeError, match="no 'user'"):
        del state.user
    with pytest.raises(KeyError):
        state["user"]
    assert not hasattr(state, "user") and state.get("user") is None


def test_names_of_methods_are_items_only() -> None:
    """Else ``state.items = ...`` could be written and never read."""
    state = ScopeState({})
    with pytest.raises(AttributeError, match=r"state\['items'\]"):
        state.items = 1  # type: ignore[assignment,method-assign]
    state["items"] = 1
    assert state["items"] == 1 and list(state.items()) == [("items", 1)]


# --------------------------------------------------------------------- routers


async def through(app: Any, path: str, seen: list[WebSocket], **scope: Any) -> WebSocket:
    """Send a WebSocket through a real application; *seen* is where its handler puts ours."""
    channel = Channel(CONNECT)
    whole = {
        "type": "websocket",
        "path": path,
        "root_path": "",
        "headers": HOST,
        "query_string": b"",
        "subprotocols": [],
        **scope,
    }
    await app(whole, channel.receive, channel.send)
    return seen[-1]


def starlette(seen: list[WebSocket]) -> Starlette:
    async def handler(foreign: Any) -> None:
        seen.append(WebSocket(foreign.scope, foreign.receive, foreign.send))
        await seen[-1].accept()
        await seen[-1].close()

    async def page(request: Any) -> Any:
        raise AssertionError("never called")

    return Starlette(
        routes=[
            WebSocketRoute("/ws/{room}", handler, name="room"),
            Route("/page/{n}", page, name="page"),
            Mount("/inner", name="inner", routes=[WebSocketRoute("/ws", handler, name="deep")]),
        ]
    )


async def test_url_for_with_starlette() -> None:
    """E5: absolute, with the scheme that fits the route."""
    seen: list[WebSocket] = []
    ws = await through(starlette(seen), "/ws/lobby", seen, scheme="wss")
    assert ws.path_params == {"room": "lobby"}
    assert isinstance(ws.app, Starlette)
    assert ws.url_for("room", room="a b") == "wss://example.org/ws/a b"
    assert isinstance(ws.url_for("room", room="x"), URL)
    assert ws.url_for("page", n=1) == "https://example.org/page/1"
    assert ws.path_for("room", room="x") == ws.url_path_for("room", room="x")
    with pytest.raises(Exception, match="No route exists"):
        ws.url_for("nothing")


async def test_url_for_inside_a_mount_of_starlette() -> None:
    """The root path of the outermost application, not of the mounted one, comes in front."""
    seen: list[WebSocket] = []
    ws = await through(starlette(seen), "/api/inner/ws", seen, root_path="/api")
    assert ws.url == "ws://example.org/api/inner/ws"
    assert ws.base_url == "ws://example.org/api/"
    assert ws.url_for("inner:deep") == "ws://example.org/api/inner/ws"
    assert ws.url_for("room", room="x") == "ws://example.org/api/ws/x"


async def test_path_for_with_lilya() -> None:
    """L6."""
    seen: list[WebSocket] = []

    async def handler(websocket: LilyaWebSocket) -> None:
        seen.append(WebSocket(websocket.scope, websocket.receive, websocket.send))
        await seen[-1].accept()
        await seen[-1].close()

    app = Lilya(
        routes=[
            LilyaWebSocketPath("/ws/{room}", handler, name="room"),
            LilyaInclude("/inner", routes=[LilyaWebSocketPath("/ws", handler, name="deep")]),
        ]
    )
    ws = await through(app, "/ws/lobby", seen)
    assert ws.path_params == {"room": "lobby"}
    for reverse in (ws.path_for, ws.url_path_for, ws.url_for):
        assert reverse("room", room="x") == "ws://example.org/ws/x"
    inner = await through(app, "/inner/ws", seen)
    assert inner.url == "ws://example.org/inner/ws"
    assert inner.base_url == "ws://example.org/"


def test_url_for_with_a_router_of_ones_own() -> None:
    """C19: all that it needs is ``url_path_for()``."""

    class Router:
        def url_path_for(self, name: str, /, **params: Any) -> str:
            return f"/{name}/{params['n']}"

    ws = opened(headers=HOST, router=Router(), root_path="/api")
    assert ws.url_for("room", n=1) == "ws://example.org/api/room/1"


def test_url_for_without_a_router() -> None:
    """C19: a clear error."""
    with pytest.raises(WebSocketRuntimeError, match="no router"):
        opened().url_for("room")


def test_it_leaves_no_cycle_behind() -> None:
    """A server with many short connections does not wait for the collector."""
    ws = opened(headers=HOST)
    ws.url, ws.state, ws.cookies  # noqa: B018
    reference = weakref.ref(ws)
    gc.disable()
    try:
        del ws
        assert reference() is None
    finally:
        gc.enable()
