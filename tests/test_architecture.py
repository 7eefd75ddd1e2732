"""The arrows of the house, drawn from its imports: a lower room never imports a higher one."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import simplews

PACKAGE = Path(simplews.__file__).parent

# From the lowest floor to the highest. Rooms of one floor do not know each other.
# A new module is given its place here, or its test fails.
FLOORS: list[set[str]] = [
    {"errors", "speedups", "types"},
    {"protocol"},
    {"lifespan", "link", "origins", "payloads"},
    {"connection"},
    {"opening", "reconnect", "redirects", "tally"},
    {"server", "client", "websocket", "rooms", "auth"},
    {"resume", "speed"},
    {"workers"},
    {"serve"},
    {"simplews"},  # __init__.py: the public names
    {"cli", "testing"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# The same within simplews.rooms: from what an engine is to what a person calls.
ROOMS_FLOORS: list[set[str]] = [
    {"backend", "envelope", "member", "tasks"},
    {"feed", "members", "memory", "nats", "publishing", "redis"},
    {"filling", "heartbeat"},
    {"exchange"},
    {"joining", "presence"},
    {"rooms"},
    {"simplews.rooms"},  # __init__.py: the public names
]

# Both only hold values, and each describes itself with the other.
NEIGHBOURS = {frozenset({"errors", "types"})}

# What simplews needs at run time; the optional parts go through importlib.
REQUIRED = {"certifi", "h11", "wsproto"}

# What a program loads of its own accord, which then has it.
PLUGINS = {"simplews.testing.fixtures": {"pytest", "pytest_asyncio"}}

# Nothing that parses, frames, masks, inflates or negotiates does I/O, reads a
# clock or starts a task.
WAITING = {
    "_thread",
    "asyncio",
    "concurrent",
    "multiprocessing",
    "queue",
    "sched",
    "select",
    "selectors",
    "signal",
    "socket",
    "socketserver",
    "ssl",
    "subprocess",
    "threading",
    "time",
}

SOURCES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """``protocol/codec.py`` is ``simplews.protocol.codec``."""
    parts = ["simplews", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path) for path in SOURCES}


def room_of(module: str) -> str:
    """``simplews.protocol.codec`` is in the room ``protocol``."""
    return [*module.split("."), "simplews"][1]


def imports(source: str, package: list[str]) -> Iterator[tuple[str, int]]:
    """Modules that *source*, of *package*, imports, in functions as well, with their lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                # `from . import frames` imports a module, `from .. import Rooms` a name.
                whole = f"{module}.{alias.name}"
                yield whole if whole in MODULES else module, node.lineno


def imports_of(path: Path) -> Iterator[tuple[str, int]]:
    package = name_of(path).split(".")
    if path.stem != "__init__":
        package.pop()
    return imports(path.read_text("utf-8"), package)


def of_ours(module: str) -> bool:
    return module.split(".")[0] == "simplews"


every_source = pytest.mark.parametrize("path", SOURCES, ids=name_of)


@every_source
def test_module_has_its_room(path: Path) -> None:
    """ARCHITECTURE: every room has one job, and a floor."""
    assert room_of(name_of(path)) in FLOOR


@every_source
def test_arrows_point_down(path: Path) -> None:
    """ARCHITECTURE, 'Arrows': protocol, link, connection, server and client, serve, cli."""
    room = room_of(name_of(path))
    for module, line in imports_of(path):
        if not of_ours(module):
            continue
        other = room_of(module)
        if other == room or frozenset({room, other}) in NEIGHBOURS:
            continue
        assert FLOOR[other] < FLOOR[room], f"{path}:{line}: {room} imports {other}"


def test_arrows_point_down_within_rooms() -> None:
    """From `Rooms` to the exchange, from there to its four parts, to what an engine is."""
    floor = {name: number for number, names in enumerate(ROOMS_FLOORS) for name in names}
    modules = [path for path in SOURCES if room_of(name_of(path)) == "rooms"]
    assert {name_of(path).removeprefix("simplews.rooms.") for path in modules} == floor.keys()
    for path in modules:
        here = name_of(path).removeprefix("simplews.rooms.")
        for module, line in imports_of(path):
            other = module.removeprefix("simplews.rooms.")
            if other in floor:
                assert floor[other] < floor[here], f"{path}:{line}: {here} imports {other}"


@every_source
def test_imports_exist(path: Path) -> None:
    """The arrows are drawn from what is there."""
    for module, line in imports_of(path):
        if of_ours(module):
            assert module in MODULES, f"{path}:{line}: {module}"


@every_source
def test_only_what_is_required_is_imported(path: Path) -> None:
    """The standard library and the dependencies; the rest is optional, and not imported here."""
    for module, line in imports_of(path):
        top = module.split(".")[0]
        known = of_ours(module) or top in sys.stdlib_module_names or top in REQUIRED
        known = known or top in PLUGINS.get(name_of(path), ())
        assert known, f"{path}:{line}: {module}"


def closure(start: set[str]) -> dict[str, str]:
    """Modules of ours that importing *start* leads to, and everything else on the way."""
    files = {name_of(path): path for path in SOURCES}
    found: dict[str, str] = {}
    todo = [(module, module) for module in start]
    while todo:
        module, way = todo.pop()
        if module in found:
            continue
        found[module] = way
        # The package itself is what a person imports; its rooms do not need it.
        if of_ours(module) and module != "simplews":
            todo += [(other, f"{way} > {other}") for other, _ in imports_of(files[module])]
    return found


def test_protocol_does_no_io() -> None:
    """STYLE: "the core does no I/O", also by way of what it imports of ours."""
    protocol = {module for module in MODULES if room_of(module) == "protocol"}
    assert len(protocol) > 4
    for module, way in closure(protocol).items():
        assert module.split(".")[0] not in WAITING, way
        if of_ours(module):
            assert FLOOR[room_of(module)] <= FLOOR["protocol"], way


def test_protocol_can_be_imported_without_an_event_loop() -> None:
    """And so do wsproto and h11 behind it: asyncio and threading are never loaded."""
    program = """
import importlib, sys, types
path, *modules = sys.argv[1:]
before = set(sys.modules)
# In place of simplews/__init__.py, which imports every room.
package = types.ModuleType("simplews")
package.__path__ = [path]
sys.modules["simplews"] = package
for module in modules:
    importlib.import_module(module)
print(*sorted({"asyncio", "threading", "socket", "ssl", "selectors"} & (set(sys.modules) - before)))
"""
    protocol = sorted(module for module in MODULES if room_of(module) == "protocol")
    loaded = subprocess.run(
        [sys.executable, "-I", "-c", program, str(PACKAGE), *protocol],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert loaded.stdout.split() == []


def test_arrows_are_drawn_from_every_kind_of_import() -> None:
    """The test of the tests: relative and absolute, of modules and names, in functions."""
    source = """
from ..link import wire, Link
from . import frames as f
from .. import AioClient
import simplews.serve as s, zlib
def late():
    from simplews.rooms.member import Member
    import asyncio
"""
    found = list(imports(source, ["simplews", "protocol"]))
    assert found == [
        ("simplews.link.wire", 2),
        ("simplews.link", 2),
        ("simplews.protocol.frames", 3),
        ("simplews", 4),
        ("simplews.serve", 5),
        ("zlib", 5),
        ("simplews.rooms.member", 7),
        ("asyncio", 8),
    ]
    rooms = [room_of(module) for module, _ in found if of_ours(module)]
    assert rooms == ["link", "link", "protocol", "simplews", "serve", "rooms"]
