#!/bin/sh
# Installs what is missing, builds bpc three times (optimised, with sanitizers, without LLVM) and runs the tests: all of them
# with the first two, and with the third those that LLVM's absence can touch.
#
#   tests/run.sh [--release | --asan | --plain] [-j N] [PATTERN ...]    one of the builds alone; tests whose name holds PATTERN
set -eu
cd "$(dirname "$0")/.."

builds="release asan plain"
jobs=$(nproc)
while [ $# -gt 0 ]; do
    case $1 in
    --release) builds=release ;;
    --asan) builds=asan ;;
    --plain) builds=plain ;;
    -j) jobs=$2; shift ;;
    -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
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
        patterns="$*"
        [ "$build" = plain ] && [ $# -eq 0 ] && patterns="unit/ reject/ jit/ host/ docs/ golden/relu agree/iris train/iris"
        # shellcheck disable=SC2086 # words, not one word
        PYTHONDONTWRITEBYTECODE=1 python3 tests/runner.py --build "$folder" -j "$jobs" $patterns || result=FAILED
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
