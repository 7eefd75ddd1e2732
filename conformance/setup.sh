#!/usr/bin/env bash
# Builds the Autobahn|Testsuite runner (unmodified `wstest`, on a real CPython
# 2.7). Idempotent. The last line printed is where the runner is.
#
# CONFORMANCE_HOME  where everything goes  (default: ~/.cache/ws-conformance)
# PYTHON27          a python2.7 to use     (default: looked for; see below)
# PYTHON3           the python3 to use     (default: python3)
#
# Where the Python 2.7 comes from, the first that works:
#   1. $PYTHON27, python2.7 on PATH, or a pyenv 2.7 (nothing to download);
#   2. Debian 11's python2.7 packages, downloaded with apt from the mirror this
#      machine already uses and unpacked (not installed) under CONFORMANCE_HOME.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CONF=${CONFORMANCE_HOME:-$HOME/.cache/ws-conformance}
PY3=${PYTHON3:-python3}
SUITE=autobahntestsuite==25.10.1
mkdir -p "$CONF"
CONF=$(cd "$CONF" && pwd)
LOG=$CONF/setup.log

say() { echo "setup: $*" >&2; }
die() { say "$*"; say "log: $LOG"; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

works27() { "$1" -c 'import sys, zlib, ssl; assert sys.version_info[:2] == (2, 7)' >/dev/null 2>&1; }

find27() {
    local p
    for p in "${PYTHON27:-}" "$(command -v python2.7 || true)" \
             "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7*/bin/python2.7 \
             "$CONF"/debian11/python2.7; do
        [ -n "$p" ] && [ -x "$p" ] && works27 "$p" && { echo "$p"; return 0; }
    done
    return 1
}

# Debian 11's python2.7, unpacked beside the rest: no chroot, nothing installed.
unpack27() {
    local d=$CONF/debian11 site release
    command -v apt-get >/dev/null || die "no python2.7 here and no apt-get to get one"
    # the mirror that this machine's own Debian comes from
    release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    site=$(apt-get indextargets --format '$(SITE) $(RELEASE)' | awk -v r="$release" '$2 == r { print $1; exit }')
    [ -n "$site" ] || die "found no mirror for '$release' in apt's sources"
    rm -rf "$d"
    mkdir -p "$d"/apt/{etc/apt.conf.d,etc/preferences.d,state/lists/partial,cache/archives/partial} "$d"/debs "$d"/root
    : >"$d/apt/state/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site bullseye main" >"$d/apt/etc/sources.list"
    cat >"$d/apt/apt.conf" <<CONF
Dir::Etc "$d/apt/etc";
Dir::Etc::sourcelist "$d/apt/etc/sources.list";
Dir::Etc::sourceparts "-";
Dir::State "$d/apt/state";
Dir::State::status "$d/apt/state/status";
Dir::Cache "$d/apt/cache";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
CONF
    export APT_CONFIG=$d/apt/apt.conf
    apt-get update -q >>"$LOG" 2>&1 || die "could not read Debian 11's package list"
    (cd "$d/debs" && apt-get download -q libpython2.7-minimal libpython2.7-stdlib \
        python2.7-minimal libpython2.7 libpython2.7-dev libffi7 libssl1.1 >>"$LOG" 2>&1) \
        || die "could not download Debian 11's python2.7"
    unset APT_CONFIG
    for p in "$d"/debs/*.deb; do dpkg-deb -x "$p" "$d/root"; done
    rm -rf "$d/debs" "$d/apt"
    local lib
    lib=$(dirname "$(find "$d/root" -name libssl.so.1.1 -print -quit)")
    # its libraries, and its headers for the two requirements that compile
    cat >"$d/python2.7" <<WRAP
#!/bin/sh
LD_LIBRARY_PATH="$lib\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}" \\
C_INCLUDE_PATH="$d/root/usr/include/python2.7:$d/root/usr/include" \\
exec "$d/root/usr/bin/python2.7" "\$@"
WRAP
    chmod +x "$d/python2.7"
    works27 "$d/python2.7" || die "unpacked Debian 11's python2.7, but it does not run"
}

venv3() { # venv3 DIR: a Python 3 venv, with Debian's python3-venv if it's missing
    [ -x "$1/bin/pip" ] && return 0
    rm -rf "$1"
    "$PY3" -m venv "$1" >>"$LOG" 2>&1 && return 0
    rm -rf "$1"
    as_root apt-get update -q >>"$LOG" 2>&1 || true
    as_root apt-get install -y -q python3-venv >>"$LOG" 2>&1 || die "cannot make a Python 3 venv"
    "$PY3" -m venv "$1" >>"$LOG" 2>&1 || die "cannot make a Python 3 venv"
}

runner_ok() { [ -x "$CONF/py27" ] && "$CONF/py27" "$HERE/runner.py" --selfcheck >/dev/null 2>&1; }

: >"$LOG"
if ! runner_ok; then
    PY27=$(find27) || { say "no python2.7 here; unpacking Debian 11's"; unpack27; PY27=$(find27) || die "no python2.7"; }
    say "python2.7: $PY27"
    command -v gcc >/dev/null || {
        say "installing gcc (two of the suite's requirements are C)"
        as_root apt-get update -q >>"$LOG" 2>&1 || true
        as_root apt-get install -y -q gcc libc6-dev >>"$LOG" 2>&1 || die "no C compiler"
    }
    # pip 20.3.4 and setuptools 44 are the last for 2.7 and still on PyPI; they
    # run unpacked, so neither get-pip nor an old virtualenv is needed.
    venv3 "$CONF/boot"
    rm -rf "$CONF/wheels" "$CONF/boot27" "$CONF/site"
    "$CONF/boot/bin/pip" download -q --no-deps -d "$CONF/wheels" \
        pip==20.3.4 setuptools==44.0.0 wheel==0.37.1 >>"$LOG" 2>&1 || die "pip download failed"
    for w in "$CONF"/wheels/*.whl; do "$PY3" -m zipfile -e "$w" "$CONF/boot27"; done
    PIP_CONSTRAINT=$HERE/constraints-py27.txt PYTHONPATH=$CONF/boot27 PYTHONNOUSERSITE=1 \
        "$PY27" -m pip install --no-warn-script-location --target "$CONF/site" "$SUITE" >>"$LOG" 2>&1 \
        || die "pip install $SUITE failed"
    rm -rf "$CONF/wheels" "$CONF/boot27" "$CONF/boot"
    cat >"$CONF/py27" <<WRAP
#!/bin/sh
CONFORMANCE_SITE="$CONF/site" PYTHONNOUSERSITE=1 exec "$PY27" "\$@"
WRAP
    chmod +x "$CONF/py27"
    runner_ok || { "$CONF/py27" "$HERE/runner.py" --selfcheck >>"$LOG" 2>&1 || true; die "installed, but the runner does not start"; }
fi

"$CONF/py27" "$HERE/runner.py" --selfcheck >&2
echo "$CONF"
