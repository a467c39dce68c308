# Getting what a command needs, once. Sourced by ./dev, from the root of the tree.
# shellcheck shell=bash disable=SC2034,SC2191

# package=probe: what is there once the package is installed. A file, a Python module (import:), a header of
# Python (header:), a pkg-config file (pkg:), a library that clang brings (clang:), or a command.
build_packages=(gcc=cc libc6-dev=/usr/include/stdio.h meson=meson ninja-build=ninja pkg-config=pkg-config
    libpcre2-dev=/usr/include/pcre2.h libxxhash-dev=/usr/include/xxhash.h
    liburing-dev=/usr/include/liburing.h)
python_packages=(python3=python3 python3-venv=import:ensurepip python3-dev=header:Python.h)
test_packages=(libcmocka-dev=/usr/include/cmocka.h g++=c++ binutils=nm locales=/usr/share/i18n/locales/de_DE)
clang_packages=(clang=clang)
fuzz_packages=(clang=clang libclang-rt-dev=clang:libclang_rt.fuzzer)
cross_packages=(gcc-aarch64-linux-gnu=aarch64-linux-gnu-gcc
    libc6-dev-arm64-cross=/usr/aarch64-linux-gnu/include/stdio.h qemu-user-static=qemu-aarch64-static)
lint_packages=(clang-format=clang-format clang-tidy=clang-tidy shellcheck=shellcheck
    mandoc=mandoc)

# Probes come before packages, so that a second run asks nobody, and a system with other packages will do.
missing_packages() {
    local entry probe
    for entry in "$@"; do
        probe=${entry#*=}
        case $probe in
        /*) [[ -e $probe ]] ;;
        import:*) python3 -c "import ${probe#import:}" 2>/dev/null ;;
        clang:*) compgen -G "$(clang -print-runtime-dir 2>/dev/null)/${probe#clang:}*" >/dev/null ;;
        pkg:*) pkg-config --exists "${probe#pkg:}" ;;
        header:*) [[ -e $(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/${probe#header:} ]] ;;
        *) command -v "$probe" >/dev/null ;;
        esac || echo "${entry%%=*}"
    done
}

need_packages() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    [[ ${#missing[@]} -gt 0 ]] || return 0
    local -a root=()
    if [[ $(id -u) -ne 0 ]]; then root=(sudo); fi
    if ! command -v apt-get >/dev/null || ! command -v "${root[0]:-apt-get}" >/dev/null; then
        echo "Packages are missing, and this cannot install them without apt-get, and root or sudo." >&2
        echo "Install them, as root, and run it again:" >&2
        echo "    apt-get install ${missing[*]}" >&2
        return 1
    fi
    echo "installing ${missing[*]}"
    "${root[@]}" apt-get update
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
}

# An interpreter that imports the package from where it is built.
need_interpreter() {
    [[ -x .venv/bin/python ]] || python3 -m venv .venv
    local site
    for site in .venv/lib/python3*/site-packages; do
        [[ -e $site/loadstone.pth ]] || echo "$PWD/build/python" >"$site/loadstone.pth"
    done
}

# .venv holds what tests/requirements.txt says; a copy of that file in it marks it as complete.
need_venv() {
    need_interpreter
    cmp -s tests/requirements.txt .venv/requirements.txt && return 0
    rm -f .venv/requirements.txt
    local torch
    torch=$(grep '^torch==' tests/requirements.txt)
    # On its own and first: it is the one for which a machine may have a build without GPU code on its disk.
    .venv/bin/python -m pip install "$torch"
    .venv/bin/python -m pip install -r tests/requirements.txt
    cp tests/requirements.txt .venv/requirements.txt
}

# The versions of MindSpore that its adapter is tested on.
mindspore_versions=(2.7.0 2.7.1 2.10.0)

# Prints where the environment for one of them is. They take 3 GB each: several trees may share them.
mindspore_env() {
    echo "${LDS_MINDSPORE_ENVS:-$PWD/.cache/mindspore}/$1"
}

# As .venv, an environment is complete when it holds a copy of what it was made from.
need_mindspore() {
    local env
    env=$(mindspore_env "$1")
    cmp -s tests/requirements-mindspore.txt "$env/requirements.txt" && return 0
    mkdir -p "$env"
    rm -f "$env/requirements.txt"
    [[ -x $env/bin/python ]] || python3 -m venv "$env"
    "$env/bin/python" -m pip install "mindspore==$1" -r tests/requirements-mindspore.txt
    cp tests/requirements-mindspore.txt "$env/requirements.txt"
}

# foreign_apt DIRECTORY ARCHITECTURE SUITE: an apt of its own for packages of another architecture or release of
# Debian, so that the system is not changed: what dpkg has taken in is hard to take back, and needs root. An empty
# SUITE is the system's own. What apt-get is to be called with is in apt_options then.
foreign_apt() {
    local apt=$1 architecture=$2 suite=$3
    rm -rf "$apt"
    mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,packages}
    apt_options=(-o "APT::Architecture=$architecture" -o "APT::Architectures::=$architecture"
        -o "Dir::State=$apt/state" -o "Dir::Cache=$apt/cache" -o Dir::State::status=/dev/null
        -o "APT::Sandbox::User=$(id -un)" -o Acquire::Languages=none)
    if [[ -n $suite ]]; then
        local type from="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian"
        for type in deb deb-src; do echo "$type $from $suite main"; done >"$apt/sources.list"
        apt_options+=(-o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null)
    fi
    apt-get "${apt_options[@]}" update
}

# unpack DIRECTORY ARCHITECTURE SUITE PACKAGE...: these packages, without what they depend on.
unpack() {
    local dir=$1 apt=$1.apt package
    foreign_apt "$apt" "$2" "$3"
    (cd "$apt/packages" && apt-get "${apt_options[@]}" download "${@:4}")
    rm -rf "$dir"
    mkdir -p "$dir"
    for package in "$apt"/packages/*.deb; do
        dpkg-deb -x "$package" "$dir"
    done
    rm -rf "$apt"
}

# The libraries for aarch64, beside the cross compiler's libc.
need_sysroot() {
    local sysroot=$PWD/.cache/sysroot-aarch64
    [[ -e $sysroot/complete ]] && return 0
    unpack "$sysroot" arm64 "" libpcre2-dev libpcre2-8-0 libxxhash-dev libxxhash0 libcmocka-dev libcmocka0 \
        liburing-dev liburing2
    touch "$sysroot/complete"
}

# configure DIRECTORY OPTION...: set up a build directory, again only if the options are others than before.
configure() {
    local dir=$1
    shift
    [[ -e $dir/build.ninja && $(cat "$dir/options" 2>/dev/null) == "${CC:-} $*" ]] && return 0
    rm -rf "$dir"
    meson setup "$dir" "$@"
    echo "${CC:-} $*" >"$dir/options"
}
