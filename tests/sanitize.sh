#!/usr/bin/env bash
# The compiled part under AddressSanitizer and UndefinedBehaviorSanitizer:
#
#   tests/sanitize.sh [PYTEST ARGUMENTS]
#
# The default is tests/protocol, tests/link and the corpus of the fuzzer.
#
# Builds the checkout, in a scratch copy, with gcc's sanitizers and runs tests with
# it; the first error ends the run. $PYTHON (default: python3) has what the tests
# need, setuptools and Cython. Leaks are not looked for: Python keeps what it has
# until the end.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=${PYTHON:-python3}
[ $# -gt 0 ] || set -- tests/protocol tests/link tests/generated/test_fuzz_corpus.py

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
(cd "$HERE" && tar --exclude='*.so' --exclude=__pycache__ -cf - setup.py pyproject.toml README.md \
    LICENSE simplews tests fuzz conformance) | tar -xf - -C "$scratch"
cd "$scratch"

CFLAGS='-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1 -g' \
    LDFLAGS='-fsanitize=address,undefined' SIMPLEWS_SPEEDUPS=1 \
    "$PYTHON" setup.py -q build_ext --inplace

export PYTHONPATH=$scratch PYTHONMALLOC=malloc PYTHONDEVMODE=1
export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1
"$PYTHON" -c 'import simplews; assert simplews.__speedups__'
"$PYTHON" -m pytest -q -p no:cacheprovider "$@"
