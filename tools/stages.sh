# What ./dev runs, stage by stage: one line each, the log only if it fails. Sourced by ./dev.
# shellcheck shell=bash disable=SC2154

logs=.cache/logs
failed=()

# stage NAME COMMAND...: what fails is remembered, and the stages after it run all the same: together they
# often tell more. Not to be called in a condition, which would switch off set -e for the command.
stage() {
    local name=$1 log=$logs/${1// /-}.log begin=$SECONDS status
    shift
    mkdir -p "$logs"
    printf '%-28s' "$name"
    set +e
    (
        set -e
        "$@"
    ) >"$log" 2>&1 </dev/null
    status=$?
    set -e
    if [[ $status -eq 0 ]]; then
        printf 'ok %5d s  %s\n' $((SECONDS - begin)) "$(summary "$log")"
    else
        printf 'FAILED %d s  %s\n' $((SECONDS - begin)) "$log"
        tail -n 60 "$log" | sed 's/^/    /'
        failed+=("$name")
    fi
}

# How many tests a log says there were.
summary() {
    sed -n -E -e 's/^Ok: +([0-9]+) *$/\1 programs/p' -e 's/^=*( |)([0-9]+ passed.*) in .*$/\2/p' "$1" | tail -n 1
}

# need NAME COMMAND...: a stage without which the others make no sense.
need() {
    stage "$@"
    finish
}

finish() {
    [[ ${#failed[@]} -gt 0 ]] || return 0
    printf '\nfailed:%s\n' "$(printf ' %s;' "${failed[@]}")"
    exit 1
}

test_tree() {
    case $1 in
    full | quick | mindspore | wheels) ;;
    *)
        echo "expected ./dev test, ./dev test quick, ./dev test mindspore or ./dev test wheels" >&2
        exit 2
        ;;
    esac
    local -a packages=("${build_packages[@]}" "${python_packages[@]}" "${test_packages[@]}")
    if [[ $1 == full ]]; then packages+=("${clang_packages[@]}" "${cross_packages[@]}" "${lint_packages[@]}"); fi
    if [[ $1 == full || $1 == wheels ]]; then packages+=("${python_build_packages[@]}"); fi
    need packages need_packages "${packages[@]}"
    if [[ $1 == mindspore ]]; then
        need python need_venv
        need build build_strictly
        mindspore_stages
        finish
        return
    fi
    need python need_venv
    need build build_strictly
    if [[ $1 == wheels ]]; then
        wheel_stages
        finish
        return
    fi
    stage tree check_tree
    stage symbols python3 tools/check_symbols.py build/libloadstone.so
    stage "unit asan ubsan" test_sanitized build-asan address,undefined
    if [[ $1 == quick ]]; then
        stage pytest test_python -m "not slow"
    else
        stage "unit tsan" test_sanitized build-tsan thread
        stage "unit clang" test_clang
        stage "unit aarch64" test_aarch64
        stage "command asan ubsan" test_sanitized_command
        stage install test_install
        stage pytest test_python
        mindspore_stages
        stage "pytest package asan ubsan" test_package_sanitized
        wheel_stages
        lint_stages
    fi
    finish
}

build_strictly() {
    configure build --buildtype=release -Dwerror=true -Dpython="$PWD/.venv/bin/python"
    ninja -C build
}

check_tree() {
    python3 tools/check_tree.py
}

# Sanitizers see more where the optimiser leaves more in place; -O1 keeps the tests short. Their checks add paths
# that cannot be taken, which gcc then warns about: so warnings are no errors here. Use after return is not
# looked for: Debian 12's gcc puts the frames that this needs at multiples of 32 bytes, and takes what AVX-512
# stores into them to be at multiples of 64.
test_sanitized() {
    local dir=$1 sanitizers=$2
    local -a run=()
    # With many random bits in addresses ThreadSanitizer finds no place for its shadow.
    if [[ $sanitizers == thread ]] && setarch -R true 2>/dev/null; then run=(setarch -R); fi
    configure "$dir" --buildtype=debug --optimization=1 -Db_sanitize="$sanitizers"
    ninja -C "$dir"
    set_sanitizers
    "${run[@]}" meson test -C "$dir" --print-errorlogs --timeout-multiplier 4
}

set_sanitizers() {
    export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=0
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
}

# The command as test_sanitized has built it.
test_sanitized_command() {
    set_sanitizers
    LDS_BUILD_DIR=build-asan .venv/bin/python -m pytest -q tests/python/test_cli*.py -m "not address_space"
}

test_clang() {
    CC=clang configure build-clang --buildtype=release -Dwerror=true
    ninja -C build-clang
    meson test -C build-clang --print-errorlogs --timeout-multiplier 2
}

test_aarch64() {
    if [[ $(uname -m) == aarch64 ]]; then
        echo "this machine is one: the other stages have tested it"
        return 0
    fi
    need_sysroot
    local libraries=$PWD/.cache/sysroot-aarch64
    export PKG_CONFIG_SYSROOT_DIR=$libraries QEMU_LD_PREFIX=/usr/aarch64-linux-gnu
    export QEMU_SET_ENV=LD_LIBRARY_PATH=$libraries/usr/lib/aarch64-linux-gnu
    configure build-aarch64 --cross-file cross/aarch64.ini --buildtype=release -Dwerror=true
    ninja -C build-aarch64
    meson test -C build-aarch64 --print-errorlogs --timeout-multiplier 10
}

# A program that knows nothing but pkg-config, in C and in C++, against what meson installs.
test_install() {
    local prefix=$PWD/.cache/install
    rm -rf "$prefix"
    configure build-install --buildtype=release --prefix="$prefix" --libdir=lib
    ninja -C build-install
    meson install -C build-install --quiet
    tests/install/run.sh "$prefix"
}

test_python() {
    LDS_BUILD_DIR=build .venv/bin/python -m pytest -q tests/python "$@"
}

# The package under AddressSanitizer. Python leaves things of its own behind, so of what is left at the end only
# that counts which code of this tree allocated; a leak made on purpose first shows that one would be seen. What the
# garbage collector knows of is in a list, and never seen: that is for test_leaks.py, which takes long here.
test_package_sanitized() {
    local logs=$PWD/.cache/asan-python
    configure build-asan-python --buildtype=debug --optimization=1 -Db_sanitize=address,undefined -Db_lundef=false \
        -Dtests=false -Dpython="$PWD/.venv/bin/python"
    ninja -C build-asan-python
    rm -rf "$logs"
    mkdir -p "$logs"
    PYTHONPATH=build-asan-python/python run_sanitized "$logs/expected" -c \
        'import ctypes, loadstone
file = loadstone.open("tests/golden/checkpoint/good/every_dtype.safetensors")
for tensor in file.values(): ctypes.pythonapi.Py_IncRef(ctypes.py_object(tensor.read()))'
    show_leaks "$logs"/expected.* || { echo "a leak is not seen here"; return 1; }
    LDS_BUILD_DIR=build-asan-python run_sanitized "$logs/found" -m pytest -q tests/python/package \
        --ignore=tests/python/package/test_leaks.py
    if show_leaks "$logs"/found.*; then return 1; fi
}

# run_sanitized LOG ARGUMENT...: Python. An error ends it; leaks, which are never none, are only written down.
run_sanitized() {
    LD_PRELOAD=$(gcc -print-file-name=libasan.so) PYTHONMALLOC=malloc UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
        ASAN_OPTIONS=detect_leaks=1:exitcode=0:abort_on_error=1:detect_stack_use_after_return=0:log_path="$1" \
        .venv/bin/python "${@:2}"
}

show_leaks() {
    grep -E ' in [a-z_]+ \.\./(src|python/core)/' "$@"
}

mindspore_stages() {
    local version
    stage "mindspore models" make_mindspore_models
    for version in "${mindspore_versions[@]}"; do
        stage "mindspore $version" test_mindspore "$version"
    done
}

# By torch, which the environments of MindSpore do not have.
make_mindspore_models() {
    rm -rf .cache/mindspore-models
    .venv/bin/python tests/python/mindspore/make_models.py .cache/mindspore-models
}

test_mindspore() {
    need_mindspore "$1"
    LDS_BUILD_DIR=build LDS_MINDSPORE_MODELS=.cache/mindspore-models \
        "$(mindspore_env "$1")/bin/python" -m pytest -q tests/python/mindspore
}

wheel_stages() {
    local version
    stage pythons need_pythons
    for version in 3.9 3.13 3.13t; do stage "wheel $version" test_wheel "$version"; done
    stage sdist test_sdist
}

lint_tree() {
    need packages need_packages "${build_packages[@]}" "${python_packages[@]}" "${test_packages[@]}" \
        "${lint_packages[@]}"
    need python need_venv
    need build build
    stage tree check_tree
    lint_stages
    finish
}

lint_stages() {
    stage clang-format lint_format
    stage clang-tidy lint_tidy
    stage "clang-tidy python" lint_extension
    stage ruff lint_python
    stage stubtest lint_stubs
    stage "man pages" mandoc -T lint -W warning docs/man/*.1
    stage shellcheck shellcheck -x dev .ci/run tools/*.sh tests/install/run.sh
}

lint_format() {
    git ls-files -z '*.c' '*.h' | xargs -0 clang-format --dry-run -Werror
}

# Templates are looked at through the files that include them. With assertions on, xxhash.h tells the analyser what
# it takes for granted.
lint_tidy() {
    git ls-files -z 'src/*.c' 'cli/*.c' 'examples/*.c' ':!src/dtype/arm/*' |
        xargs -0 -n 4 -P 2 clang-tidy -p build --quiet --extra-arg=-UNDEBUG --extra-arg=-DXXH_DEBUGLEVEL=1
}

# The same for what includes Python's headers, of which it is to say nothing.
lint_extension() {
    clang-tidy -p build --quiet --header-filter='python/core/' python/core/*.c
}

# The types that the package declares against what is there.
lint_stubs() {
    .venv/bin/stubtest --concise --mypy-config-file pyproject.toml --allowlist tools/stubtest.txt \
        --ignore-unused-allowlist loadstone
}

lint_python() {
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
}

format_tree() {
    need packages need_packages "${python_packages[@]}" "${lint_packages[@]}"
    need python need_venv
    git ls-files -z '*.c' '*.h' | xargs -0 clang-format -i
    .venv/bin/ruff check --fix .
    .venv/bin/ruff format .
}

# The fuzz targets are clang's libFuzzer programs; each keeps what it finds new in .cache/fuzz, beside the
# corpus that is in the tree.
fuzz_tree() {
    local seconds=$1 target
    need packages need_packages "${build_packages[@]}" "${fuzz_packages[@]}"
    need build build_fuzzers
    for target in build-fuzz/fuzz/fuzz_*; do
        [[ -f $target && -x $target ]] || continue
        stage "${target##*/}" run_fuzzer "$target" "$seconds"
    done
    finish
}

build_fuzzers() {
    CC=clang configure build-fuzz --buildtype=debugoptimized -Dfuzz=true
    ninja -C build-fuzz fuzz_targets
}

run_fuzzer() {
    local target=$1 seconds=$2 name=${1##*/fuzz_}
    local found=.cache/fuzz/$name
    local -a options=(-timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$found/")
    if [[ -n $seconds ]]; then options+=(-max_total_time="$seconds"); else options+=(-runs=1000000); fi
    mkdir -p "$found/corpus"
    if [[ -e fuzz/$name.dict ]]; then options+=(-dict="fuzz/$name.dict"); fi
    local -a corpus=("$found/corpus")
    if [[ -d fuzz/corpus/$name ]]; then corpus+=("fuzz/corpus/$name"); fi
    "$target" "${options[@]}" "${corpus[@]}"
}
