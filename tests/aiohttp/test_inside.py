"""What we use of aiohttp's inside; when one of these fails, aiohttp has changed there."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from simplews import AioServer
from simplews.link.aiohttp import _answered_class

from .site import TIMES, request, running

METHODS = {
    "finish_response": ["self", "request", "resp", "start_time"],
    "handle_error": ["self", "request", "status", "exc", "message"],
    "close": ["self"],
    "shutdown": ["self", "timeout"],
    "connection_lost": ["self", "exc"],
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_of_the_request_handler(name: str) -> None:
    method = getattr(web.RequestHandler, name, None)
    where = f"aiohttp {aiohttp.__version__}: RequestHandler.{name}"
    assert method is not None, f"{where} is gone"
    names = list(inspect.signature(method).parameters)
    assert names == METHODS[name], f"{where} takes other arguments: {names}"
    ours = getattr(_answered_class(web.RequestHandler), name)
    assert list(inspect.signature(ours).parameters) == names
    is_async = inspect.iscoroutinefunction(method)
    assert is_async is inspect.iscoroutinefunction(ours), f"{where} is async, or no longer"


def test_set_parser_takes_a_parser() -> None:
    parameters = list(inspect.signature(web.RequestHandler.set_parser).parameters.values())
    where = f"aiohttp {aiohttp.__version__}: RequestHandler.set_parser"
    assert [parameter.name for parameter in parameters[:2]] == ["self", "parser"], where
    needed = [p.name for p in parameters[2:] if p.default is inspect.Parameter.empty]
    assert not needed, f"{where} needs more arguments: {needed}"


def test_the_class_of_a_request_handler_can_be_changed() -> None:
    ours = _answered_class(web.RequestHandler)
    assert _answered_class(web.RequestHandler) is ours
    assert issubclass(ours, web.RequestHandler)
    assert ours.__slots__ == ()


async def test_attributes_of_a_request_and_its_protocol() -> None:
    missing: list[str] = []

    def look(thing: Any, what: str, *names: str) -> None:
        missing.extend(f"{what}.{name}" for name in names if not hasattr(thing, name))

    async def handler(request: web.Request) -> web.Response:
        protocol: Any = request.protocol
        look(protocol, "RequestHandler", "transport", "_close", "_task_handler")
        look(
            request,
            "Request",
            *("transport", "protocol", "writer", "version", "raw_headers", "raw_path"),
            *("method", "keep_alive", "remote", "path"),
        )
        look(request.writer, "StreamWriter", "output_size", "__dict__")
        if not isinstance(protocol._task_handler, asyncio.Task):
            missing.append("RequestHandler._task_handler, a task")
        if request.clone().writer is not request.writer:
            missing.append("clones of a request that share its writer")
        kind = type(protocol)
        protocol.__class__ = _answered_class(kind)
        protocol.__class__ = kind
        return web.Response()

    async with running(handler) as site:
        async with site.peer(request()) as peer:
            assert (await peer.head()).startswith(b"HTTP/1.1 200 "), "see the log"
    assert not missing, f"aiohttp {aiohttp.__version__} has no more: {', '.join(missing)}"


async def test_the_class_is_back_when_a_refused_connection_goes_on() -> None:
    classes: list[Any] = []

    async def handler(request: web.Request) -> None:
        classes.append(type(request.protocol))
        await AioServer.reject(aiohttp=request)
        classes.append(type(request.protocol))

    async with running(handler) as site:
        async with site.peer() as peer:
            for _ in range(TIMES):
                await peer.write(request())
                await peer.head()
    assert classes == [web.RequestHandler, _answered_class(web.RequestHandler)] * TIMES
