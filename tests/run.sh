#!/bin/sh
# Installs what is missing, builds bpc twice (optimised, and with sanitizers) and runs every test.
#
#   tests/run.sh [--release | --asan] [-j N] [PATTERN ...]     one of the two builds alone; tests whose name holds PATTERN
set -eu
cd "$(dirname "$0")/.."

builds="release asan"
jobs=$(nproc)
while [ $# -gt 0 ]; do
    case $1 in
    --release) builds=release ;;
    --asan) builds=asan ;;
    -j) jobs=$2; shift ;;
    -h | --help) sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "tests/run.sh: unknown option $1" >&2; exit 2 ;;
    *) break ;;
    esac
    shift
done

tests/install.sh test

# What the last lines say of a step that failed; all of it where a person asks with VERBOSE=1.
quietly() {
    log=$(mktemp)
    if [ -n "${VERBOSE:-}" ]; then
        "$@"
    elif ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "failed: $*" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

status=0
summary=
for build in $builds; do
    folder=build
    [ "$build" = release ] || folder=build-$build
    start=$(date +%s)
    if quietly cmake --preset "$build" -DBUILD_TESTING=ON && quietly cmake --build --preset "$build" -j "$jobs"; then
        echo "== $build: built in $folder/, $(($(date +%s) - start)) s"
        result=passed
        PYTHONDONTWRITEBYTECODE=1 python3 tests/runner.py --build "$folder" -j "$jobs" "$@" || result=FAILED
        if [ "$build" = release ] && [ $# -eq 0 ]; then
            PYTHONDONTWRITEBYTECODE=1 python3 tests/bench/run.py --build "$folder" --smoke || result=FAILED
        fi
    else
        result="FAILED to build"
    fi
    [ "$result" = passed ] || status=1
    summary="$summary  $build: $result, $(($(date +%s) - start)) s"
done
echo "== all:$summary"
exit $status
