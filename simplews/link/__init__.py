"""One open WebSocket, whatever carries it. Speaks messages."""

from ..speedups import ignore_compiled, wanted

if not wanted():
    ignore_compiled(__path__[0])
