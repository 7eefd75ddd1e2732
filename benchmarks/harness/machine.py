"""What a run is made with: versions, processor, modules that are there, a certificate."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import peers, processes

DISTRIBUTIONS = (
    "simplews",
    "simple-websocket",
    "websockets",
    "aiohttp",
    "picows",
    "aiofastnet",
    "isal",
    "wsproto",
    "uvicorn",
    "httptools",
    "hypercorn",
    "granian",
    "starlette",
    "uvloop",
)

# Run by the interpreter of the adapters, which need not be the one that runs us.
VERSIONS = """
import importlib.metadata, json, platform, ssl, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        try:
            found[name] = __import__(name).__version__
        except (ImportError, AttributeError, SyntaxError):
            pass
try:
    import simplews
    found["simplews"] += " (compiled)" if simplews.__speedups__ else " (not compiled)"
except (ImportError, AttributeError, KeyError):
    pass
found["openssl"] = ssl.OPENSSL_VERSION.split()[1]
print(json.dumps([platform.python_implementation() + " " + platform.python_version(), found]))
"""

ABSENT = """
import importlib.util, json, sys
print(json.dumps([name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]))
"""

CERTIFICATE = """
import sys, trustme
issued = trustme.CA().issue_cert("127.0.0.1", "localhost")
issued.cert_chain_pems[0].write_to_path(sys.argv[1])
issued.private_key_pem.write_to_path(sys.argv[2])
"""


def _ask(python: str, code: str, *args: str) -> Any:
    done = subprocess.run(
        [python, "-P", "-c", code, *args],  # the one that is installed, wherever we are
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=processes.environment({}, peers.FOLDER),
    )
    return json.loads(done.stdout)


def absent(python: str, modules: Iterable[str]) -> set[str]:
    """Those of *modules* that *python* cannot find."""
    return set(_ask(python, ABSENT, *sorted(set(modules))))


def processor() -> str:
    """What the processor calls itself."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.lower().startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.machine()


def describe(python: str) -> dict[str, Any]:
    """What a reader of the results has to know of the machine and the programs."""
    implementation, versions = _ask(python, VERSIONS, *DISTRIBUTIONS)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": implementation,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions,
    }


def certificate(python: str, folder: Path) -> tuple[Path, Path] | None:
    """
    A self-signed certificate and its key, for one run, in *folder*.

    The command ``openssl`` makes it, or else the package trustme; None without
    either. The generator does not verify it.
    """
    cert, key = folder / "cert.pem", folder / "key.pem"
    openssl = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-days", "2"]
    openssl += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"]
    openssl += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    for argv in (
        [*openssl, "-out", str(cert), "-keyout", str(key)],
        [python, "-c", CERTIFICATE, str(cert), str(key)],
    ):
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True)
        except FileNotFoundError:
            continue
        if done.returncode == 0:
            return cert, key
    return None
