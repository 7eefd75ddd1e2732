#!/usr/bin/env bash
# Starts the suite's fuzzing server on 127.0.0.1 and runs a client driver with
# two words added: the server's URL and the agent's name. The driver goes
# through URL/getCaseCount, URL/runCase?case=N&agent=NAME for N = 1.., and
# URL/updateReports?agent=NAME.
#
#   run_client.sh CMD...            e.g. run_client.sh python echo_client.py
#
# AGENT    the name in the report            (default: client)
# CASES    "1.*,7.9.*", or quick, standard, all (default)
# EXCLUDE  cases to leave out                (default: none)
# OUT      where the report goes             (default: CONFORMANCE_HOME/reports/clients/AGENT)
# PORT     for the fuzzing server            (default: a free one)
# LIMIT    seconds for the driver's run      (default: 3600); what ran is still reported
# CHECK    1: exit 1 unless clean: summarize.py --check, with ALLOW as --allow and
#          STRICT=1 as --strict; up to 20 failed cases get a second try
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CONF=${CONFORMANCE_HOME:-$HOME/.cache/ws-conformance}
[ $# -gt 0 ] || { echo "usage: run_client.sh CMD..." >&2; exit 2; }
AGENT=${AGENT:-client}
OUT=${OUT:-$CONF/reports/clients/$AGENT}
. "$HERE/lib.sh"

SERVER=
trap '[ -z "$SERVER" ] || kill "$SERVER" 2>/dev/null || true' EXIT

go() { # OUT CASES EXCLUDE
    local rc=0 port=${PORT:-$(free_port)}
    prepare_out "$1"
    write_spec "$1/spec.json" fuzzingserver "$port" "$AGENT" "$1" "$2" "$3"
    (cd "$1" && exec "$CONF/py27" "$HERE/runner.py" fuzzingserver spec.json) >"$1/wstest.log" 2>&1 &
    SERVER=$!
    wait_port "$port" || { echo "run_client: the fuzzing server did not start:" >&2; tail -n 5 "$1/wstest.log" >&2; exit 2; }
    export CASE_COUNT
    CASE_COUNT=$("$PY3" -c 'import json, sys; print(len(json.load(open(sys.argv[1]))))' "$1/expected.json")
    timeout -k 30 "${LIMIT:-3600}" "${CMD[@]}" "ws://127.0.0.1:$port" "$AGENT" >"$1/driver.log" 2>&1 || rc=$?
    kill "$SERVER" 2>/dev/null || true      # writes the reports if the driver did not ask for them
    wait "$SERVER" 2>/dev/null || true
    SERVER=
    [ "$rc" = 0 ] && return
    echo "run_client: the driver ended with status $rc (124: over LIMIT); last lines of its log:" >&2
    tail -n 3 "$1/driver.log" >&2
}

CMD=("$@")
go "$OUT" "${CASES:-all}" "${EXCLUDE:-}"
second_try
finish "$OUT"
