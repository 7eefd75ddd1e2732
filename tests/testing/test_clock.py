"""`ClockLoop` and threads, which know nothing of its clock."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from simplews.testing import ClockLoop


class Slow(ThreadPoolExecutor):
    """Its end takes until the loop has had nothing to do twice."""

    def __init__(self, loop: ClockLoop) -> None:
        super().__init__()
        self._looked = 0
        self._enough = threading.Event()
        loop.when_idle(self._look)

    def _look(self) -> bool:
        self._looked += 1
        if self._looked == 2:
            self._enough.set()
        return False

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        assert self._enough.wait(20)
        super().shutdown(wait, cancel_futures=cancel_futures)


def test_closing_the_loop_waits_for_its_threads() -> None:
    """Python 3.12 gives them five minutes, which would be over at the first jump."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ClockLoop)
        loop.set_default_executor(Slow(loop))
        assert await loop.run_in_executor(None, lambda: "x") == "x"

    with asyncio.Runner(loop_factory=ClockLoop) as runner:
        runner.run(main())
