#!/usr/bin/env bash
# The Autobahn|Testsuite against simplews, server and client:
#
#   conformance/run.sh [quick|standard|all]      (default: quick, about 3 minutes)
#
# It takes the simplews that $PYTHON (default: python3) imports, sets the suite
# up on the first run (setup.sh), and exits 1 if a case FAILED, is missing, was
# answered wrongly or closed badly. docs/explanation/conformance.md explains
# what is NON-STRICT. SIMPLEWS_PURE=1 in the environment leaves the compiled
# part out; the first line says what is tested.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHON=${PYTHON:-python3}
CASES=${1:-quick}
export CONFORMANCE_HOME=${CONFORMANCE_HOME:-$HOME/.cache/ws-conformance} CHECK=1 AGENT=simplews

"$PYTHON" -c 'import simplews as s; print(f"simplews {s.__version__}, compiled: {bool(s.__speedups__)}, from {s.__path__[0]}")'
bash "$HERE/setup.sh"

PORT=$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$PYTHON" "$HERE/echo_server.py" "$PORT" &
SERVER=$!
trap 'kill "$SERVER" 2>/dev/null || true' EXIT
bash "$HERE/run_server.sh" "$PORT" "$CASES"
CASES=$CASES bash "$HERE/run_client.sh" "$PYTHON" "$HERE/echo_client.py"
