"""
granian, whose I/O is in Rust: ASGI, one worker, default options.

The worker is a child process; the CPU time and the memory of the whole process
tree are added up.
"""

import os
import signal
import socket
import subprocess
import sys
import time

from _common import ready, server_args

PEER = {
    "role": "server",
    "variants": {"granian": []},
    "needs": ["granian"],
    "loops": ["asyncio", "uvloop"],
    "no-deflate": ["granian"],
    "tls": ["granian"],
}


def main(args):
    argv = [sys.executable, "-m", "granian", "--interface", "asgi", "--workers", "1"]
    argv += ["--host", "127.0.0.1", "--port", str(args.port), "--loop", args.loop, "--no-log"]
    if args.cert:
        argv += ["--ssl-certificate", args.cert, "--ssl-keyfile", args.key]
    process = subprocess.Popen([*argv, "_asgi_apps:bare"], stdin=subprocess.DEVNULL)
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", args.port), 1).close()
            break
        except OSError:
            time.sleep(0.02)
    ready()
    while os.read(0, 4096):
        pass
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(3)
    except subprocess.TimeoutExpired:
        process.kill()


if __name__ == "__main__":
    main(server_args())
