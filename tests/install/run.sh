#!/usr/bin/env bash
# run.sh PREFIX: is what was installed there enough to build, link and run a program, and is nothing missing?
set -euo pipefail
prefix=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib

completion=share/bash-completion/completions/loadstone
for file in include/loadstone.h lib/libloadstone.so lib/pkgconfig/loadstone.pc bin/loadstone \
    share/man/man1/loadstone{,-inspect,-load,-manifest,-cache}.1 "$completion"; do
    [[ -e $prefix/$file ]] || { echo "not installed: $file" >&2; exit 1; }
done
[[ $(pkg-config --modversion loadstone) == "$("$prefix/bin/loadstone" --version | awk '{print $NF}')" ]]

# What completes after "loadstone load --dry".
complete_dry() {
    # shellcheck source=/dev/null
    source "$prefix/$completion"
    COMP_WORDS=(loadstone load --dry) COMP_CWORD=2
    _loadstone loadstone --dry load
    echo "${COMPREPLY[*]}"
}
[[ $(complete_dry) == --dry-run ]] || { echo "the completion does not complete" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
read -ra flags < <(pkg-config --cflags loadstone)
read -ra libraries < <(pkg-config --libs loadstone)
warnings=(-Wall -Wextra -Wpedantic -Werror)

build_and_run() {
    echo "$*"
    "$@" "${warnings[@]}" "${flags[@]}" -o consumer "$here/consumer.c" "${libraries[@]}"
    ./consumer
}

for example in "$here"/../../examples/*.c; do
    echo "$example"
    cc "${warnings[@]}" "${flags[@]}" -o example "$example" "${libraries[@]}"
done

build_and_run cc -std=c99 -x c
build_and_run cc -std=c11 -x c
build_and_run c++ -std=c++11 -x c++
build_and_run c++ -std=c++20 -x c++
