"""The command line: its options, its forms of output, its exit codes; inspect and manifest."""

import ctypes
import json
import math
import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from cli_support import (
    mixed_tensors,
    random_tensor,
    raw_bytes,
    write_many,
    write_pipeline,
    write_raw,
    write_shards,
    write_t5,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from tree import ROOT

DONE, MISMATCH, USAGE, FORMAT, IO, MEMORY, CANCELLED = 0, 1, 2, 3, 4, 5, 130


@pytest.fixture
def one(tmp_path):
    """A file with one tensor."""
    path = tmp_path / "one.safetensors"
    save_file({"w": torch.ones(2, 3)}, path)
    return path


def fails(loadstone, code, *args, **options):
    """Run, expect this exit code and one line on stderr; the line without its prefix."""
    done = loadstone(*args, check=False, **options)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("loadstone: "), done.stderr
    if code != MISMATCH:
        assert done.stdout == ""
    return done.stderr[len("loadstone: ") : -1]


# ------------------------------------------------------------------------------------------- the frame


def test_version_and_help(loadstone):
    assert re.fullmatch(r"loadstone \d+\.\d+\.\d+\n", loadstone("--version").stdout)
    text = loadstone("--help").stdout
    for command in ("inspect", "load", "manifest"):
        assert command in text
        assert loadstone("help", command).stdout == loadstone(command, "--help").stdout
    assert loadstone("help").stdout == loadstone("help", "--help").stdout == text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "expected a command (see 'loadstone help')"),
        (["fly"], "'fly' is not a command (see 'loadstone help')"),
        (["help", "fly"], "'fly' is not a command (see 'loadstone help')"),
        (["help", "load", "it"], "help: expected one command, found 'it' as well (see 'loadstone help')"),
        (["load"], "load: expected a PATH (see 'loadstone help load')"),
        (["cache"], "cache: expected list|clear (see 'loadstone help cache')"),
        (["load", "a", "b"], "load: expected one PATH, found 'b' as well (see 'loadstone help load')"),
        (["load", "--", "--a", "--b"], "load: expected one PATH, found '--b' as well"),
        (["inspect", "--fly", "a"], "inspect: unknown option '--fly' (see 'loadstone help inspect')"),
        (["inspect", "-z", "a"], "inspect: unknown option '-z' (see 'loadstone help inspect')"),
        (["inspect", "--json=yes", "a"], "inspect: --json takes no value"),
        (["load", "a", "--dtype"], "load: --dtype: expected DTYPE after it"),
        (["load", "a", "-d"], "load: -d: expected DTYPE after it"),
        (["load", "a", "--map="], "load: --map: expected FILE, found ''"),
        (["inspect", "a", "--revision", ""], "inspect: --revision: expected REV, found ''"),
        (["load", "a", "-d", "bf17"], "load: --dtype: expected a float dtype"),
        (["load", "a", "--dtype=i32"], "load: --dtype: expected a float dtype"),
        (["load", "a", "--io", "swim"], "load: --io: expected auto|map|read|uring|direct, found 'swim'"),
        (["load", "a", "--threads", "-1"], "load: --threads: expected 1 to 1024, found '-1'"),
        (["load", "a", "--threads", "0"], "load: --threads: expected 1 to 1024, found '0'"),
        (["load", "a", "--threads", "1025"], "load: --threads: expected 1 to 1024, found '1025'"),
        (["load", "a", "-j", "4294967296"], "load: --threads: expected 1 to 1024, found '4294967296'"),
        (["load", "a", "--seed", "18446744073709551616"], "load: --seed: expected a number"),
        (["load", "a", "--window", "1TiBs"], "load: --window: expected a size, as 67108864, 64MiB or 64MB"),
        (["load", "a", "--window", "99999999999G"], "load: --window: expected a size"),
        (
            ["load", "a", "--window", "0"],
            "load: --window: expected a size, as 67108864, 64MiB or 64MB, not 0",
        ),
        (
            ["load", "a", "--cache-size=0G"],
            "load: --cache-size: expected a size, as 67108864, 64MiB or 64MB, not",
        ),
        (
            ["load", "a", "--cache", "b"],
            "load: expected one PATH, found 'b' as well: DIR is given as --cache=DIR",
        ),
        (["load", "a", "--cache=b", "c"], "load: expected one PATH, found 'c' as well (see"),
        (
            ["cache", "list", "b"],
            "cache: expected one list|clear, found 'b' as well: DIR is given as --cache=DIR",
        ),
        (
            ["cache", "list", "--cache-size", "1G"],
            "cache: --cache-size: expected clear with it, found list (see 'loadstone help cache')",
        ),
        (["cache", "list", "--variant", "fp16"], "cache: unknown option '--variant'"),
    ],
)
def test_usage_errors(loadstone, args, message):
    assert fails(loadstone, USAGE, *args).startswith(message)


def test_library_refuses_what_options_say(loadstone, one):
    assert "window" in fails(loadstone, USAGE, "load", one, "--io", "read", "--window", "1K", "-j1")


@pytest.mark.parametrize("args", [["-d", "bf16"], ["-dbf16"], ["-vd", "bf16"], ["--dtype=bfloat16"]])
def test_forms_of_options(loadstone, one, args):
    for order in ([*args, one], [one, *args], [*args, "--", one]):
        assert "f32 -> bf16" in loadstone("load", *order).stdout


@pytest.mark.parametrize("size", ["1048576", "1M", "1MiB", "2MB", "2000kB", "1048576B", "1024K", "1G"])
def test_sizes(loadstone, one, size):
    loadstone("load", one, "--io=read", "-j2", "--window", size)


def test_output_that_cannot_be_written(loadstone, one):
    with Path("/dev/full").open("w") as full:
        for args in (["inspect", one], ["load", one, "--json"], ["--version"], ["help"]):
            done = subprocess.run(
                [loadstone.path, *args], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
            assert done.returncode == IO
            assert done.stderr == "loadstone: standard output: No space left on device\n"


def test_limit_of_file_sizes(loadstone, tmp_path):
    """An error, or a cache without an entry, and no signal that ends the program."""
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(100000)}, path)

    def limited(*args):
        command = ["sh", "-c", 'ulimit -f 8; exec "$0" load "$@"', loadstone.path, path, *args]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = limited("--dtype", "f16", f"--cache={tmp_path}/cache")
    assert (done.returncode, done.stderr) == (DONE, "")
    assert "not stored: " in done.stdout and "File too large" in done.stdout
    many = write_many(tmp_path / "many.safetensors", 1000)
    command = f"ulimit -f 8; '{loadstone.path}' inspect '{many}' > '{tmp_path}/out'"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (IO, "loadstone: standard output: File too large\n")


def test_closed_pipe(loadstone, one):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([loadstone.path, "inspect", one], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (IO, b"")


def test_closed_stdout(loadstone, one):
    command = f"'{loadstone.path}' inspect '{one}' >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == IO
    assert "standard output: Bad file descriptor" in done.stderr


@pytest.mark.parametrize("locale", ["C", "POSIX", "tr_TR.UTF-8", "de_DE.UTF-8", "nonsense"])
def test_locale_does_not_matter(loadstone, tmp_path, locale):
    path = tmp_path / "model.safetensors"
    save_file(mixed_tensors(), path)
    forms = (
        ["inspect", path],
        ["inspect", path, "-t"],
        ["manifest", path, "--json"],
        ["load", path, "--digest", "-v"],
    )
    for args in forms:
        env = os.environ | {"LC_ALL": locale, "LANG": locale}
        here = loadstone(*args, encoding="utf-8").stdout
        there = loadstone(*args, env=env, encoding="utf-8").stdout
        timeless = [re.sub(r"\d+\.\d+ s\b", "", text) for text in (here, there)]
        assert timeless[0] == timeless[1]


def options_of(loadstone, command):
    """All long options that the help of a command has."""
    return set(re.findall(r"^ .*?(--[a-z0-9-]+)", loadstone("help", command).stdout, re.M))


@pytest.mark.parametrize("command", ["inspect", "load", "manifest", "cache"])
def test_completion_knows_all_options(loadstone, command):
    script = (ROOT / "cli/completion/loadstone.bash").read_text()
    words = re.search(rf"{command}\)\s*words='([^']*)'", script).group(1)
    assert set(words.split()) == options_of(loadstone, command)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["c"], ["cache"]),
        (["help", "m"], ["manifest"]),
        (["cache", ""], ["list", "clear"]),
        (["cache", "--json", "l"], ["list"]),
        (["cache", "--cache-"], ["--cache-size"]),
        (["load", "--io", "d"], ["direct"]),
        (["load", "--io", "=", "u"], ["uring"]),
        (["load", "--io", "="], ["auto", "map", "read", "uring", "direct"]),
        (["load", "-d", "b"], ["bf16"]),
        (["load", ""], []),  # file names, by bash itself
        (["cache", "--cache", "=", "l"], []),
        (["cache", "clear", "--cache-size", "1"], []),
    ],
)
def test_completion_offers(typed, offered):
    """With the words as bash divides them: an equals sign is one of its own."""
    script = f"""
        . {shlex.quote(str(ROOT / "cli/completion/loadstone.bash"))}
        COMP_WORDS=(loadstone {shlex.join(typed)})
        COMP_CWORD={len(typed)}
        _loadstone loadstone "${{COMP_WORDS[-1]}}" "${{COMP_WORDS[-2]}}"
        printf '%s\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (offered, "")


@pytest.mark.parametrize("command", ["inspect", "load", "manifest", "cache"])
def test_man_pages_know_all_options(loadstone, command):
    pages = [(ROOT / "docs/man" / name).read_text() for name in (f"loadstone-{command}.1", "loadstone.1")]
    described = {"-" + name.replace("\\-", "-") for name in re.findall(r"Fl (\\-[a-z0-9-]+)", "".join(pages))}
    assert options_of(loadstone, command) <= described


# ------------------------------------------------------------------------------------------ exit codes


def test_exit_codes_of_bad_files(loadstone, tmp_path, one):
    (tmp_path / "pointer.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1234\n"
    )
    (tmp_path / "page.safetensors").write_text("<!DOCTYPE html><html><body>Not Found</body></html>")
    (tmp_path / "short.safetensors").write_bytes(one.read_bytes()[:-3])
    (tmp_path / "nothing.safetensors").write_bytes(b"")
    write_raw(
        tmp_path / "hole.safetensors", {"w": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, b"ab"
    )
    write_raw(
        tmp_path / "dtype.safetensors", {"w": {"dtype": "U9", "shape": [1], "data_offsets": [0, 1]}}, b"a"
    )
    for command in ("inspect", "load", "manifest"):
        for name in ("pointer", "page", "short", "nothing", "hole", "dtype"):
            path = tmp_path / f"{name}.safetensors"
            assert str(path) in fails(loadstone, FORMAT, command, path)
            assert str(path) in fails(loadstone, FORMAT, command, path, "--json")


def test_exit_code_of_what_is_not_there(loadstone, tmp_path):
    for command in ("inspect", "load", "manifest"):
        assert "nowhere" in fails(loadstone, IO, command, tmp_path / "nowhere")
        fails(loadstone, IO, command, tmp_path)
        fails(loadstone, USAGE, command, "")


def test_documents_name_the_variables_of_the_hub_cache():
    code = (ROOT / "src/checkpoint/hub.c").read_text()
    names = set(re.findall(r'variable\("(\w+)"\)', code)) - {"HOME"}
    assert {"HF_HUB_CACHE", "XDG_CACHE_HOME"} < names
    for document in ("docs/man/loadstone.1", "include/loadstone.h", "docs/checkpoints.md"):
        assert names <= set(re.findall(r"[A-Z_]{4,}", (ROOT / document).read_text())), document


def read_as_others_do():
    """Take CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH from a program of root, which then reads as others do."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_exit_code_of_no_permission(loadstone, one):
    one.chmod(0)
    options = {"preexec_fn": read_as_others_do} if os.geteuid() == 0 else {}
    assert fails(loadstone, IO, "inspect", one, **options) == f"{one}: cannot be opened: Permission denied"


def test_exit_codes_of_small_files(loadstone, one, tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text("[{]")
    for option in ("--map", "--network"):
        assert "nowhere: No such file" in fails(loadstone, IO, "load", one, option, "nowhere")
        assert "Is a directory" in fails(loadstone, IO, "load", one, option, tmp_path)
        assert "bad.json" in fails(loadstone, FORMAT, "load", one, option, bad)


@pytest.mark.address_space
def test_out_of_memory(loadstone, tmp_path):
    """1 TiB of float8 in a sparse file, to be 4 TiB of float32."""
    n = 1 << 40
    path = write_raw(
        tmp_path / "huge.safetensors", {"w": {"dtype": "F8_E4M3", "shape": [n], "data_offsets": [0, n]}}
    )
    os.truncate(path, path.stat().st_size + n)
    limit = ["sh", "-c", 'ulimit -v 1000000; exec "$0" "$@"', loadstone.path, "load", path, "-d", "f32"]
    done = subprocess.run(limit, capture_output=True, text=True, check=False)
    assert done.returncode == MEMORY, done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == ""
    # What can be planned can be printed.
    assert loadstone.json("load", path, "-d", "f32", "--dry-run")["bytes_written"] == 4 * n


def catches_interrupt(pid: int) -> bool:
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught[1], 16) & 1 << (signal.SIGINT - 1))


def test_interrupt(loadstone, tmp_path):
    n = 4 << 30
    path = write_raw(
        tmp_path / "large.safetensors", {"w": {"dtype": "F64", "shape": [n // 8], "data_offsets": [0, n]}}
    )
    os.truncate(path, path.stat().st_size + n)
    args = [loadstone.path, "load", path, "--io", "read", "-d", "f8_e5m2", "-j1", "--json"]
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not catches_interrupt(process.pid):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == CANCELLED, err
    assert (out, err) == ("", "loadstone: interrupted\n")


def test_interrupt_of_what_waits(loadstone, one, tmp_path):
    """A pipe that nobody writes to: there is no load yet that could be cancelled."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    args = [loadstone.path, "load", one, "--map", pipe]
    with subprocess.Popen(args) as process, pipe.open("wb"):  # which waits until it is opened for reading
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == -signal.SIGINT


# --------------------------------------------------------------------------------------------- inspect


def view(path):
    """What safetensors says of a file."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {n: (s.get_dtype(), s.get_shape()) for n, s in tensors.items()}, file.metadata() or {}


def same_as_safetensors(found, path):
    tensors, metadata = view(path)
    assert {t["name"]: (t["dtype"], t["shape"]) for t in found["tensors"]} == tensors
    assert found["metadata"] == metadata
    begin = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    offset = begin
    for t in found["tensors"]:
        assert t["file"] == str(path) and t["offset"] == offset
        offset += t["nbytes"]
    assert offset == path.stat().st_size


def test_inspect_json(loadstone, tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = mixed_tensors()
    save_file(tensors, path, {"format": "pt", 'q"\\\n\t\x01\x7f': "ü\u2028\U0001f642"})
    found = loadstone.json("inspect", path)
    same_as_safetensors(found, path)
    data = path.read_bytes()
    for t in found["tensors"]:
        assert data[t["offset"] : t["offset"] + t["nbytes"]] == raw_bytes(tensors[t["name"]])


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(NAMES.filter(lambda name: name != "__metadata__"), unique=True, max_size=8),
    metadata=st.dictionaries(NAMES, NAMES, max_size=4),
)
def test_inspect_any_names(loadstone, tmp_path, names, metadata):
    path = tmp_path / "names.safetensors"
    save_file({name: torch.zeros(i % 3, 2) for i, name in enumerate(names)}, path, metadata or None)
    same_as_safetensors(loadstone.json("inspect", path, encoding="utf-8"), path)
    for args in (["inspect"], ["inspect", "--tree"], ["manifest"]):
        text = loadstone(*args, path, encoding="utf-8").stdout
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def test_inspect_text(loadstone, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a.w": torch.ones(1000, 3).half(), "b": torch.ones(2), "c": torch.ones(3)}, path, {"k": "v"})
    assert loadstone("inspect", path).stdout == (
        f"{path}\n\n"
        "tensor  dtype    size  shape\n"
        "b       f32       8 B  [2]\n"
        "c       f32      12 B  [3]\n"
        "a.w     f16    6.0 kB  [1000, 3]\n\n"
        "f16    1  tensor   6.0 kB\n"
        "f32    2  tensors    20 B\n"
        "total  3  tensors  6.0 kB\n\n"
        "metadata\n"
        "  k  v\n"
    )


def test_inspect_tree(loadstone, tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = {f"model.layers.{i}.{n}": torch.ones(2, 2) for i in range(12) for n in ("a.w", "b.w", "c")}
    tensors["model.layers.5.c"] = torch.ones(3)
    tensors |= {f"model.layers.12.{n}": torch.ones(1) for n in "de"}
    tensors |= {"head": torch.ones(4), "model": torch.ones(1), "model.": torch.ones(1)}
    save_file(tensors, path)
    assert loadstone("inspect", path, "--tree").stdout.split("\n\n")[1].split("\n") == [
        "module      tensors      size  dtype  shape",
        "head              1      16 B  f32    [4]",
        "model             1       4 B  f32    [1]",
        "model            39     584 B",
        "                  1       4 B  f32    [1]",
        "  layers         38     580 B",
        "    [0-4]     5 x 3  5 x 48 B",
        "      a.w         1      16 B  f32    [2, 2]",
        "      b.w         1      16 B  f32    [2, 2]",
        "      c           1      16 B  f32    [2, 2]",
        "    5             3      44 B",
        "      a.w         1      16 B  f32    [2, 2]",
        "      b.w         1      16 B  f32    [2, 2]",
        "      c           1      12 B  f32    [3]",
        "    [6-11]    6 x 3  6 x 48 B",
        "      a.w         1      16 B  f32    [2, 2]",
        "      b.w         1      16 B  f32    [2, 2]",
        "      c           1      16 B  f32    [2, 2]",
        "    12            2       8 B",
        "      d           1       4 B  f32    [1]",
        "      e           1       4 B  f32    [1]",
    ]


def test_inspect_deep_names(loadstone, tmp_path):
    """Names of many dots make neither a deep recursion nor long lines of spaces."""
    path = tmp_path / "deep.safetensors"
    save_file(
        {"a." * 100000 + "b": torch.ones(1), "a." * 100000 + "c": torch.ones(1), "c": torch.ones(1)}, path
    )
    assert len(loadstone("inspect", "-t", path).stdout) < 1000000


def test_inspect_no_tensors(loadstone, tmp_path):
    path = tmp_path / "empty.safetensors"
    save_file({}, path)
    assert loadstone.json("inspect", path) == {"tensors": [], "metadata": {}}
    assert "total  0  tensors  0 B\n" in loadstone("inspect", path).stdout
    loadstone("inspect", "--tree", path)


def test_inspect_many(loadstone, tmp_path):
    path = write_many(tmp_path / "many.safetensors", 100000)
    assert len(loadstone.json("inspect", path)["tensors"]) == 100000
    assert loadstone("inspect", path).stdout.count("\n") == 100005
    assert (
        "layers.[0-999].experts.[0-99].w  100,000 x 1  100,000 x 4 B  bf16   [2]"
        in loadstone("inspect", "--tree", path).stdout
    )


def test_inspect_shards(loadstone, tmp_path):
    tensors = {f"w{i}": random_tensor((3,), torch.float32, i) for i in range(7)}
    write_shards(tmp_path / "model", "model", tensors, 3)
    for path in (tmp_path / "model", tmp_path / "model/model.safetensors.index.json"):
        found = loadstone.json("inspect", path)
        assert {t["name"] for t in found["tensors"]} == set(tensors)
        assert len({t["file"] for t in found["tensors"]}) == 3
        assert found["metadata"] == {"format": "pt"}


def test_inspect_pipeline(loadstone, tmp_path):
    parts = write_pipeline(tmp_path / "pipe")
    found = loadstone.json("inspect", tmp_path / "pipe")
    assert list(found["components"]) == ["text_encoder", "transformer", "vae"]
    assert found["metadata"] == {} and found["components"]["vae"]["metadata"] == {"made": "by a test"}
    assert found["tensors"] == [t for part in found["components"].values() for t in part["tensors"]]
    for name in ("transformer", "vae"):
        tensors = found["components"][name]["tensors"]
        assert {t["name"] for t in tensors} == set(parts[name])
        assert {t["component"] for t in tensors} == {name}
    text = loadstone("inspect", "-t", tmp_path / "pipe").stdout
    assert "\ntransformer\n\n" in text and "blocks.[0-5].w" in text


def test_variant_and_hub_cache(loadstone, tmp_path, one):
    snapshot = tmp_path / "hub/models--org--name/snapshots/abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "hub/models--org--name/refs").mkdir()
    (tmp_path / "hub/models--org--name/refs/main").write_text("abc")
    save_file({"full": torch.ones(1)}, snapshot / "model.safetensors")
    save_file({"half": torch.ones(1).half()}, snapshot / "model.fp16.safetensors")
    env = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub")}

    def names(*args):
        return [t["name"] for t in loadstone.json("inspect", *args, env=env)["tensors"]]

    assert names("org/name") == ["full"]
    assert names("org/name", "--revision", "abc") == ["full"]
    assert names("org/name", "--variant=fp16") == ["half"]
    assert names(snapshot, "--variant=fp16") == ["half"]
    assert loadstone.json("load", "org/name", env=env)["tensors"] == 1
    fails(loadstone, IO, "inspect", "org/name", "--revision", "other", env=env)
    fails(loadstone, IO, "inspect", "org/other", env=env)


# -------------------------------------------------------------------------------------------- manifest


def test_manifest_of_config(loadstone, tmp_path):
    params = write_t5(tmp_path / "t5")
    found = loadstone.json("manifest", tmp_path / "t5")
    assert {p["name"]: (p["dtype"], p["shape"]) for p in found} == {
        name: ("BF16", list(t.shape)) for name, t in params.items()
    }
    assert [p["name"] for p in found] == list(params)
    ties = {p["name"]: p["tied_to"] for p in found if p["tied_to"]}
    assert ties == {"encoder.embed_tokens.weight": "shared.weight"}
    assert {p["dtype"] for p in loadstone.json("manifest", tmp_path / "t5", "-d", "float32")} == {"F32"}
    text = loadstone("manifest", tmp_path / "t5").stdout
    assert text.startswith(str(tmp_path / "t5")) and ": T5EncoderModel\n" in text
    assert "\n20 parameters, " in text

    (tmp_path / "bare").mkdir()
    (tmp_path / "t5/config.json").rename(tmp_path / "bare/config.json")
    assert {p["dtype"] for p in loadstone.json("manifest", tmp_path / "bare")} == {"F32"}


@pytest.mark.parametrize("dtype", [None, "f32", "f16"])
def test_manifest_round_trip(loadstone, tmp_path, dtype):
    write_t5(tmp_path / "t5")
    options = ["-d", dtype] if dtype else []
    manifest = tmp_path / "net.json"
    manifest.write_text(loadstone("manifest", tmp_path / "t5", "--json", *options).stdout)
    one = loadstone.json("load", tmp_path / "t5", "--digest", *options)
    two = loadstone.json("load", tmp_path / "t5", "--digest", "--network", manifest)
    assert one["digests"] == two["digests"] and len(one["digests"]) == 20


def test_manifest_of_checkpoint(loadstone, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(mixed_tensors(), path)
    found = loadstone.json("manifest", path, encoding="utf-8")
    assert {p["name"]: (p["dtype"], p["shape"]) for p in found} == view(path)[0]
    assert all(p["init"] == "none" and p["tied_to"] is None for p in found)


def test_manifest_of_pipeline(loadstone, tmp_path):
    parts = write_pipeline(tmp_path / "pipe")
    found = loadstone.json("manifest", tmp_path / "pipe")
    assert {name: {p["name"] for p in part} for name, part in found.items()} == {
        name: set(part) for name, part in parts.items()
    }


def test_limit_of_open_files(loadstone, tmp_path):
    """The soft limit is raised; the hard one is explained."""
    tensors = {f"w{i}": random_tensor((3,), torch.float32, i) for i in range(40)}
    write_shards(tmp_path / "model", "model", tensors, 40)
    loadstone("load", tmp_path / "model", "-q")

    def limited(which):
        command = f'ulimit {which} 24 && exec "$0" load "$1"'
        args = ["sh", "-c", command, loadstone.path, tmp_path / "model"]
        return subprocess.run(args, capture_output=True, text=True, check=False)

    done = limited("-S -n")
    assert done.returncode == 0, done.stderr
    done = limited("-n")
    assert (done.returncode, done.stderr.count("\n")) == (IO, 1)
    assert "limit (ulimit -n)" in done.stderr and "Too many open files" in done.stderr


def test_unknown_architecture(loadstone, tmp_path, one):
    model = tmp_path / "model"
    model.mkdir()
    one.rename(model / "model.safetensors")
    unheard = {
        "architectures": ["Unheard"],
        "time_step_limit": [0.0, math.inf],
        "x": -math.inf,
        "y": math.nan,
    }
    for config in ({"_class_name": "Unheard"}, unheard, {"model_type": "unheard"}):
        (model / "config.json").write_text(json.dumps(config))
        for command in ("load", "manifest"):
            done = loadstone(command, model)
            assert done.stderr.count("\n") == 1
            assert done.stderr.endswith("; going by the checkpoint's own names\n")
            assert loadstone(command, model, "-q").stderr == ""
        assert loadstone.json("load", model)["architecture"] is None


def test_config_that_is_a_broken_link(loadstone, tmp_path, one):
    """Not as if there were none: a hub snapshot whose blob is gone has a config all the same."""
    model = tmp_path / "model"
    model.mkdir()
    one.rename(model / "model.safetensors")
    (model / "config.json").symlink_to("../blobs/gone")
    for command in ("load", "manifest"):
        said = fails(loadstone, IO, command, model)
        assert "config.json: is a link to a file that is not there" in said


def test_config_that_is_not_understood(loadstone, tmp_path):
    write_t5(tmp_path / "t5", feed_forward_proj="gated-mystery")
    for command in ("load", "manifest"):
        assert "feed_forward_proj" in fails(loadstone, FORMAT, command, tmp_path / "t5")
    (tmp_path / "t5/config.json").write_text("{")
    fails(loadstone, FORMAT, "load", tmp_path / "t5")
