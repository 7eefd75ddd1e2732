#!/usr/bin/env bash
# The Autobahn|Testsuite against simplews, server and client:
#
#   conformance/run.sh [quick|standard|all] [SOURCE...]     (default: quick serve client)
#
# A SOURCE is who has the server's connections first, see echo_server.py, or
# "client". Quick takes about a minute and a half for each.
# It takes the simplews that $PYTHON (default: python3) imports, sets the suite
# up on the first run (setup.sh), and exits 1 if a case FAILED, is missing, was
# answered wrongly or closed badly. docs/explanation/conformance.md explains
# what is NON-STRICT. SIMPLEWS_PURE=1 in the environment leaves the compiled
# part out; the first line says what is tested.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHON=${PYTHON:-python3}
CASES=${1:-quick}
shift || true
[ $# -gt 0 ] || set -- serve client
export CONFORMANCE_HOME=${CONFORMANCE_HOME:-$HOME/.cache/ws-conformance} CHECK=1

"$PYTHON" -c 'import simplews as s; print(f"simplews {s.__version__}, compiled: {bool(s.__speedups__)}, from {s.__path__[0]}")'
bash "$HERE/setup.sh"

SERVER=
trap '[ -z "$SERVER" ] || kill "$SERVER" 2>/dev/null || true' EXIT
status=0
for source in "$@"; do
    export AGENT=simplews-$source
    if [ "$source" = client ]; then
        CASES=$CASES bash "$HERE/run_client.sh" "$PYTHON" "$HERE/echo_client.py" || status=1
        continue
    fi
    PORT=$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    "$PYTHON" "$HERE/echo_server.py" "$PORT" "$source" &
    SERVER=$!
    bash "$HERE/run_server.sh" "$PORT" "$CASES" || status=1
    kill "$SERVER"
    wait "$SERVER" 2>/dev/null || true
    SERVER=
done
exit "$status"
