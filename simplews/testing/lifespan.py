"""The lifespan of an ASGI application: what it does before its first and after its last client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from .deadline import Deadline, Unset

__all__ = ["lifespan"]


@contextlib.asynccontextmanager
async def lifespan(app: Any, timeout: float | Unset | None) -> AsyncIterator[dict[str, Any]]:
    """
    Start *app* up, and shut it down at the end of the block.

    Args:
        app: The application.
        timeout: Seconds that each of the two may take.

    Yields:
        Its state, for scopes to have a copy of.

    Raises:
        RuntimeError: It says that it failed.
    """
    state: dict[str, Any] = {}
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    living = asyncio.ensure_future(app(scope, events.get, answers.put))

    async def step(name: str) -> None:
        events.put_nowait({"type": f"lifespan.{name}"})
        answering = asyncio.ensure_future(answers.get())
        try:
            async with Deadline(timeout, f"the {name} of the application"):
                await asyncio.wait([living, answering], return_when=asyncio.FIRST_COMPLETED)
        finally:
            answering.cancel()
            await asyncio.wait([answering])
        if answering.cancelled():
            living.result()  # raises, if it did
            raise RuntimeError(f"the application ended without an answer to lifespan.{name}")
        answer = answering.result()
        if answer["type"] != f"lifespan.{name}.complete":
            why = answer.get("message") or answer["type"]
            raise RuntimeError(f"the {name} of the application failed: {why}")

    try:
        await step("startup")
        try:
            yield state
        finally:
            await step("shutdown")
        async with Deadline(timeout, "the application, after its shutdown,"):
            await living
    finally:
        living.cancel()
        await asyncio.wait([living])
