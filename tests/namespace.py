"""Another host, as far as the network is concerned: a network namespace behind a link of ours.

What is sent over a link that is cut is neither refused nor answered: no RST, no FIN,
no ICMP. It needs root, Linux and iproute2, and is skipped where they are missing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

__all__ = ["Link", "linked_namespace"]

# RFC 5737: for documentation. A quarter of a hundred links fit, of two addresses each.
_NETWORK = "198.51.100"
# A locally administered address that nobody has.
_NOBODY = "02:00:00:00:00:00"


def _ip(*words: str) -> str:
    return subprocess.run(
        ["ip", *words], check=True, capture_output=True, text=True, timeout=10
    ).stdout


class Link:
    """
    A link to a namespace.

    Attributes:
        name: Of the namespace.
        here: Our address on the link.
        there: That of the namespace.
        prefix: What to put before a command, for it to run there.
    """

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.prefix = ("ip", "netns", "exec", name)
        self.here, self.there = (f"{_NETWORK}.{4 * number + host}" for host in (1, 2))
        self._near, self._far = f"ws{os.getpid()}a", f"ws{os.getpid()}b"

    def _set_up(self, stack: contextlib.ExitStack) -> None:
        name, near, far = self.name, self._near, self._far
        _ip("netns", "add", name)
        stack.callback(_ip, "netns", "delete", name)
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        # The namespace would take it along, but some time later.
        stack.callback(_ip, "link", "delete", near)
        _ip("address", "add", f"{self.here}/30", "dev", near)
        _ip("link", "set", near, "up")
        _ip("-n", name, "address", "add", f"{self.there}/30", "dev", far)
        _ip("-n", name, "link", "set", far, "up")

    def take_down(self) -> None:
        """Pull the cable out at our end, for good."""
        _ip("link", "set", self._near, "down")

    def cut(self) -> None:
        """Lose every packet, in both directions; both ends think that they are linked."""
        # Sent to a hardware address that nobody has: the other end takes it for
        # somebody else's.
        nobody = ("lladdr", _NOBODY, "nud", "permanent")
        _ip("neighbour", "replace", self.there, "dev", self._near, *nobody)
        _ip("-n", self.name, "neighbour", "replace", self.here, "dev", self._far, *nobody)

    def heal(self) -> None:
        """Carry packets again."""
        _ip("neighbour", "delete", self.there, "dev", self._near)
        _ip("-n", self.name, "neighbour", "delete", self.here, "dev", self._far)


def _unused() -> int:
    """The number of a link whose addresses nobody uses."""
    used = _ip("route")
    for offset in range(64):
        number = (os.getpid() + offset) % 64
        if f"{_NETWORK}.{4 * number}/" not in used:
            return number
    pytest.skip("this machine uses the addresses of this test")


@contextlib.contextmanager
def linked_namespace() -> Iterator[Link]:
    """A network namespace, and the link to it; the test is skipped where that is not allowed."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    with contextlib.ExitStack() as stack:
        try:
            link = Link(f"simplews-{os.getpid()}", _unused())
            link._set_up(stack)
        except (OSError, subprocess.SubprocessError) as exc:
            pytest.skip(f"no network namespaces here: {exc} {getattr(exc, 'stderr', None) or ''}")
        yield link
