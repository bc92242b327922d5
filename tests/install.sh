#!/bin/sh
# Installs with apt-get what is missing to build bpc (`install.sh build`) and to test it (`install.sh test`); does nothing
# where all is there. Not for calling by name: tests/run.sh and examples/quickstart.sh do.
set -eu

missing=
need() { # COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need_file() { # PACKAGE FILE ...: any of the files
    package=$1
    shift
    for file; do
        [ -e "$file" ] && return
    done
    missing="$missing $package"
}

need gcc gcc
need cmake cmake
need make make
need flex flex
need bison bison
need_file libc6-dev /usr/include/stdio.h
need_file zlib1g-dev /usr/include/zlib.h
if [ "${1:-build}" = test ]; then
    need clang clang
    need python3 python3
    need_file libcriterion-dev /usr/include/criterion/criterion.h
    need_file libomp-dev /usr/lib/llvm-*/lib/libomp.so
    need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
    need_file libc6-dev-arm64-cross /usr/aarch64-linux-gnu/lib/libc.a
    need qemu-aarch64 qemu-user
    need pdflatex texlive-latex-base
    need_file llvm-19-dev /usr/lib/llvm-19/include/llvm-c/LLJIT.h
fi
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing, and there is no apt-get to install it:$missing" >&2
    exit 1
fi
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
echo "installing:$missing"
# shellcheck disable=SC2086 # words, not one word
{
    $as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
