"""The cache of converted weights: the same bytes, from a mapping, whatever happens to the folder."""

import fcntl
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from cache_support import MIB, cache, entries, model, save_model
from safetensors.torch import load_file, save_file

__all__ = ["cache", "model"]  # fixtures


def test_second_load_is_a_mapping(loadstone, model, cache):
    plain = loadstone.json("load", model, "-d", "f32", "--digest")
    assert plain["cache"] is None
    first = loadstone.json("load", model, "-d", "f32", f"--cache={cache}", "--digest")
    assert first["cache"] == "stored"
    second = loadstone.json("load", model, "-d", "f32", f"--cache={cache}", "--digest")
    assert (second["cache"], second["bytes_written"]) == ("hit", 0)
    assert second["source"] == "map+cache" and second["reason"] == "converted by an earlier load"
    assert plain["digests"] == first["digests"] == second["digests"]
    # What stands there is a checkpoint for anybody.
    (entry,) = entries(cache)
    found = load_file(entry)
    expected = {name: t.float() for name, t in load_file(model).items() if t.dtype == torch.bfloat16}
    assert {name: found[name] for name in expected}.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert loadstone("inspect", entry).returncode == 0
    assert [p.suffix for p in cache.iterdir()] == [".safetensors"]


def test_few_descriptors(loadstone, tmp_path, cache):
    """With so few that the entry cannot be opened once more, its pages are left, and the report says so."""
    path = tmp_path / "half.safetensors"
    save_file({"w": torch.ones(1000, dtype=torch.bfloat16)}, path)
    loadstone("load", path, "-d", "f32", f"--cache={cache}")
    for n in range(4, 64):
        args = ("load", path, "-d", "f32", f"--cache={cache}", "--json")
        limit = resource.RLIMIT_NOFILE, (n, n)
        done = loadstone(*args, check=False, preexec_fn=lambda limit=limit: resource.setrlimit(*limit))
        if done.returncode == 0 and (found := json.loads(done.stdout))["cache"] == "hit":
            break
    assert found["source"] == "cache"
    assert found["fallback"] == "too few descriptors: pages are read on first use"


def test_phases_make_up_the_whole(loadstone, model, cache, tmp_path):
    """The load's own time, as the trace has it: opening and making the network are no phases."""
    trace = tmp_path / "trace.json"
    for expected in ("stored", "hit"):
        found = loadstone.json("load", model, "-d", "f32", f"--cache={cache}", "--trace", trace)
        assert found["cache"] == expected
        phases = found["phases"]
        parts = [phases[k] for k in ("plan", "cache", "memory", "transfer", "init", "check")]
        spans = [e for e in json.loads(trace.read_text())["traceEvents"] if e["ph"] == "X" and not e["tid"]]
        whole = max(e["ts"] + e["dur"] for e in spans) - min(e["ts"] for e in spans)
        # A phase of less than a microsecond is not in the trace, also where it is the first or the last.
        assert sum(parts) * 1e6 == pytest.approx(whole, abs=4)
        assert sum(parts) <= found["seconds"]


def test_what_is_mapped_already_is_not_kept(loadstone, model, cache):
    found = loadstone.json("load", model, f"--cache={cache}")
    assert found["cache"] == "nothing to store"
    assert entries(cache) == []


def test_every_dtype_and_choice_has_its_own_entry(loadstone, model, cache):
    for n, args in enumerate((["-d", "f32"], ["-d", "f16"], ["-d", "f16", "--keep-f32", "*3*"]), 1):
        assert loadstone.json("load", model, *args, f"--cache={cache}")["cache"] == "stored"
        assert len(entries(cache)) == n
        plain = loadstone.json("load", model, *args, "--digest")["digests"]
        again = loadstone.json("load", model, *args, f"--cache={cache}", "--digest")
        assert (again["cache"], again["digests"]) == ("hit", plain)


def test_a_changed_source_is_converted_anew(loadstone, tmp_path, cache):
    model = save_model(tmp_path / "model.safetensors", seed=1)
    loadstone("load", model, "-d", "f32", f"--cache={cache}")
    save_model(model, seed=2)
    found = loadstone.json("load", model, "-d", "f32", f"--cache={cache}", "--digest")
    assert found["cache"] == "stored"
    assert found["digests"] == loadstone.json("load", model, "-d", "f32", "--digest")["digests"]


def touch(model: Path) -> None:
    os.utime(model)


def change_mode(model: Path) -> None:
    model.chmod(0o640 if model.stat().st_mode & 0o4 else 0o644)


def add_link(model: Path) -> None:
    os.link(model, model.with_suffix(f".{model.stat().st_nlink}"))


def write_again(model: Path) -> None:
    model.write_bytes(model.read_bytes())


@pytest.mark.parametrize("change", [touch, change_mode, add_link, write_again])
def test_the_entry_of_what_a_source_was_goes(loadstone, tmp_path, cache, change):
    """It would never be hit again. Other dtypes' and sources' stay, and another file's of that name."""
    model, other = (save_model(tmp_path / f"{name}.safetensors") for name in "ab")
    args = ["load", model, "-d", "f32", f"--cache={cache}"]
    loadstone("load", other, "-d", "f32", f"--cache={cache}")
    loadstone("load", model, "-d", "f16", f"--cache={cache}")
    kept = set(entries(cache))
    for _ in range(2):
        assert loadstone.json(*args)["cache"] == "stored"
        (last,) = set(entries(cache)) - kept
        change(model)
    assert loadstone.json(*args, "--cache-size", "64GiB")["cache"] == "stored"
    assert loadstone.json(*args)["cache"] == "hit"
    (entry,) = set(entries(cache)) - kept
    assert entry != last
    shutil.copy(model, tmp_path / "new").rename(model)
    assert loadstone.json(*args)["cache"] == "stored"
    assert {*kept, entry} < set(entries(cache))


def test_initial_values_are_made_beside_it(loadstone, model, cache, tmp_path):
    network = json.loads(loadstone("manifest", model, "-d", "f32", "--json").stdout)
    network.append(
        {"name": "more", "dtype": "F32", "shape": [100], "init": {"kind": "normal", "a": 0, "b": 1}}
    )
    manifest = tmp_path / "network.json"
    manifest.write_text(json.dumps(network))
    args = ["load", model, "--network", manifest, "--no-strict", "--seed", 3, "--digest"]
    plain = loadstone.json(*args)
    for state in ("stored", "hit"):
        found = loadstone.json(*args, f"--cache={cache}")
        assert (found["cache"], found["digests"]) == (state, plain["digests"])
        assert found["initialised"] == ["more"]


def damage(entry: Path, how: str) -> None:
    data = bytearray(entry.read_bytes())
    times = (entry.stat().st_atime_ns, entry.stat().st_mtime_ns)
    if how == "cut":
        del data[len(data) // 2 :]
    elif how == "zeros":
        data[-40000:] = bytes(40000)
    elif how == "a bit":
        data[-1] ^= 1
    elif how == "header":
        data[9] = ord("x")
    elif how == "empty":
        data = bytearray()
    entry.write_bytes(data)
    if how != "time":
        os.utime(entry, ns=times)


@pytest.mark.parametrize("how", ["cut", "zeros", "a bit", "header", "empty", "time"])
def test_a_damaged_entry_is_replaced(loadstone, model, cache, how):
    first = loadstone.json("load", model, "-d", "f32", f"--cache={cache}", "--digest")
    damage(entries(cache)[0], how)
    for state in ("stored", "hit"):
        found = loadstone.json("load", model, "-d", "f32", f"--cache={cache}", "--digest")
        assert (found["cache"], found["digests"]) == (state, first["digests"])


def test_what_is_verified_of_a_large_entry(loadstone, tmp_path, cache):
    """64 samples of 256 KiB, from the first byte to the last: damage is found there, and not between."""
    model, nbytes, sample = tmp_path / "model.safetensors", 40 * MIB, 256 << 10
    save_file({"w": torch.randn(nbytes // 4).bfloat16()}, model)
    args = ["load", model, "-d", "f32", f"--cache={cache}", "--digest"]
    first = loadstone.json(*args)
    (entry,) = entries(cache)
    header_nbytes = entry.stat().st_size - nbytes
    step = (nbytes - sample) // 63

    def flip(offset: int) -> None:
        times = (entry.stat().st_atime_ns, entry.stat().st_mtime_ns)
        with entry.open("r+b") as file:
            file.seek(header_nbytes + offset)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
        os.utime(entry, ns=times)

    for offset in (0, sample - 1, 31 * step, 31 * step + sample - 1, nbytes - sample, nbytes - 1):
        flip(offset)
        for state in ("stored", "hit"):
            found = loadstone.json(*args)
            assert (found["cache"], found["digests"]) == (state, first["digests"]), offset
    flip(31 * step + sample)
    found = loadstone.json(*args)
    assert found["cache"] == "hit" and found["digests"] != first["digests"]


def test_list_and_clear(loadstone, model, cache, tmp_path):
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "xdg")}
    assert loadstone("cache", "list", env=env).stdout == "0 entries, 0 B\n"
    assert loadstone("cache", "clear", env=env).stdout == "removed 0 B\n"
    assert loadstone.json("load", model, "-d", "f32", "--cache", env=env)["cache"] == "stored"
    folder = tmp_path / "xdg" / "loadstone"
    (entry,) = entries(folder)
    (listed,) = loadstone.json("cache", "list", env=env)["entries"]
    assert (listed["path"], listed["source"]) == (str(entry), str(model))
    text = loadstone("cache", "list", env=env).stdout
    assert str(entry) in text and "\n1 entry, " in text
    (folder / "notes.txt").write_text("not ours")
    size = entry.stat().st_size
    assert loadstone.json("cache", "clear", env=env) == {"bytes_removed": size}
    assert [p.name for p in folder.iterdir()] == ["notes.txt"]
    done = loadstone("cache", "empty", check=False)
    assert done.returncode == 2
    assert "expected list or clear, found 'empty'" in done.stderr


def test_what_is_unfinished_is_listed(loadstone, model, cache):
    """What is being written, and what somebody has left who was: clear takes that away, and counts it."""
    loadstone("load", model, "-d", "f32", f"--cache={cache}")
    (entry,) = entries(cache)
    left, busy = (cache / f"{digit * 32}.tmp" for digit in "01")
    left.write_bytes(bytes(3000))
    (cache / "other.tmp").write_bytes(bytes(5000))
    with busy.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(4000)
        found = loadstone.json("cache", "list", f"--cache={cache}")
        assert [e["path"] for e in found["entries"]] == [str(entry)]
        assert sorted(found["unfinished"], key=lambda u: u["path"]) == [
            {"path": str(left), "bytes": 3000, "being_written": False},
            {"path": str(busy), "bytes": 4000, "being_written": True},
        ]
        lines = loadstone("cache", "list", f"--cache={cache}").stdout.splitlines()
        assert re.fullmatch(r"1 entry, .* kB; 2 unfinished, 7\.0 kB", lines[-1]), lines[-1]
        assert re.split(r" {2,}", next(line for line in lines if str(left) in line)) == [
            "left unfinished",
            "3.0 kB",
            str(left),
        ]
        assert any(line.startswith("being written ") and line.endswith(str(busy)) for line in lines)
        assert loadstone.json("cache", "clear", f"--cache={cache}", "--cache-size=1GB") == {
            "bytes_removed": 3000
        }
        size = entry.stat().st_size
        assert loadstone.json("cache", "clear", f"--cache={cache}") == {"bytes_removed": size}
    assert loadstone("cache", "clear", f"--cache={cache}").stdout == "removed 4.0 kB\n"
    assert [path.name for path in cache.iterdir()] == ["other.tmp"]


def test_other_files_are_left_alone(loadstone, model, cache):
    """A folder that is used for other things, too: only names that the cache gives are its own."""
    key = "0123456789abcdef" * 2
    ours = [f"{key}.tmp", f"{'0' * 32}.tmp"]
    others = ["Cargo.lock", "notes.tmp", ".tmp", "model.safetensors", ".safetensors", f"{key}.lock"]
    others += [f"{key}-1.tmp", f"{key}.tmp.tmp", f"{key}0.tmp", f"{key[1:]}.tmp", f"{key.upper()}.tmp"]
    others += [f"{key.upper()}.safetensors", f"{key}.safetensors~", f"{key}.safetensors.tmp"]
    cache.mkdir()
    for name in ours + others:
        (cache / name).write_text("to be kept")
    (cache / f"{'f' * 32}.safetensors").mkdir()
    assert loadstone.json("load", model, "-d", "f32", f"--cache={cache}")["cache"] == "stored"
    assert not any((cache / name).exists() for name in ours)
    (listed,) = loadstone.json("cache", "list", f"--cache={cache}")["entries"]
    (cache / ours[0]).write_text("left")
    assert loadstone.json("cache", "clear", f"--cache={cache}") == {"bytes_removed": listed["bytes"] + 4}
    assert {p.name for p in cache.iterdir()} == {*others, f"{'f' * 32}.safetensors"}
    assert all((cache / name).read_text() == "to be kept" for name in others)


def test_a_path_that_is_not_utf8(loadstone, tmp_path, cache):
    folder = tmp_path / os.fsdecode(b"mod\xe8le\xff")
    folder.mkdir()
    model = folder / "model.safetensors"
    save_model(tmp_path / "model.safetensors").rename(model)
    for state in ("stored", "hit"):
        assert loadstone.json("load", model, "-d", "f32", f"--cache={cache}")["cache"] == state
    (listed,) = loadstone.json("cache", "list", f"--cache={cache}")["entries"]
    assert listed["source"] == f"{tmp_path}/mod\ufffdle\ufffd/model.safetensors"


def test_a_folder_that_cannot_be_had(loadstone, model, tmp_path):
    (tmp_path / "file").write_text("")
    found = loadstone.json("load", model, "-d", "f32", f"--cache={tmp_path}/file/cache")
    assert found["cache"].startswith(f"not stored: {tmp_path}/file/cache: cannot be opened: ")
    assert found["tensors"] == 11
    found = loadstone.json("load", model, "-d", "f32", "--cache=/proc/loadstone/cache")
    assert found["cache"] == "not stored: /proc/loadstone/cache: cannot be made: No such file or directory"


def test_the_text_says_what_became_of_it(loadstone, model, cache, tmp_path):
    (tmp_path / "file").write_text("")
    why = f"not stored: {tmp_path}/file/x: cannot be opened: Not a directory"
    args = ["load", model, "-d", "f32"]
    assert f"\ncache: {why}\n" in loadstone(*args, f"--cache={tmp_path}/file/x").stdout
    assert f"; cache {why}; plan 0." in loadstone(*args, f"--cache={tmp_path}/file/x", "-v").stdout
    assert loadstone(*args, f"--cache={tmp_path}/file/x", "-q").stdout == ""
    for state, source in (("stored", r"map\+(view|read)"), ("hit", r"map\+cache")):
        done = loadstone(*args, f"--cache={cache}", "-v").stdout
        assert re.search(rf"\n{source} \(", done) and f"; cache {state}; plan 0." in done
        phases = re.search(r"; (plan.*); threads were reading", done)[1]
        assert re.findall(r"(\w+) \d", phases) == ["plan", "cache", "memory", "transfer", "init", "check"]
    assert "cache" not in loadstone(*args, f"--cache={cache}").stdout
    assert "cache" not in re.search(r"\(.*", loadstone(*args, "-v").stdout)[0].partition(")")[2]


def test_the_text_says_why(loadstone, model):
    """The reasons that the JSON has: to read, to read in this way, and not to read as was asked."""
    for io in ("read", "uring", "direct"):
        found = loadstone.json("load", model, "--io", io)
        why = [found[key] for key in ("reason", "source_reason", "fallback") if found[key]]
        assert f"\n{found['source']} ({'; '.join(dict.fromkeys(why))}), " in (
            loadstone("load", model, "--io", io, "-v").stdout
        )


def test_what_keeps_an_entry_from_being_written(loadstone, model, cache):
    """Somebody else who writes it is one thing, a folder that cannot be written to another."""
    args = ["load", model, "-d", "f32", f"--cache={cache}"]
    loadstone(*args)
    (entry,) = entries(cache)
    entry.unlink()
    temporary = entry.with_suffix(".tmp")
    with temporary.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert loadstone.json(*args)["cache"] == f"not stored: {cache}: another load is writing the same"
        assert loadstone.json("cache", "clear", f"--cache={cache}") == {"bytes_removed": 0}
        assert temporary.exists()
    temporary.unlink()
    temporary.mkdir()
    assert loadstone.json(*args)["cache"] == f"not stored: {cache}: cannot be written to: Is a directory"


def test_not_with_an_io_that_reads(loadstone, model, cache):
    done = loadstone("load", model, "-d", "f32", f"--cache={cache}", "--io", "read", check=False)
    assert done.stderr == "loadstone: options: what a cache has is mapped, which io does not allow\n"


def test_no_folder_of_the_users_own(loadstone, model, tmp_path):
    """What says where it is may be missing, or a relative path, which the standard wants ignored."""
    env = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    why = "there is no folder for the cache: neither XDG_CACHE_HOME nor HOME is set"
    for more in ({}, {"XDG_CACHE_HOME": "relative"}, {"HOME": ""}):
        found = loadstone.json("load", model, "-d", "f32", "--cache", env=env | more, cwd=tmp_path)
        assert found["cache"] == f"not stored: {why}"
        for what in ("list", "clear"):
            done = loadstone("cache", what, env=env | more, cwd=tmp_path, check=False)
            assert (done.returncode, done.stderr) == (4, f"loadstone: {why}\n")
    assert [path.name for path in tmp_path.iterdir()] == [model.name]
    home = tmp_path / "home"
    args = ["load", model, "-d", "f32", "--cache"]
    env |= {"HOME": str(home), "XDG_CACHE_HOME": "relative"}
    assert loadstone.json(*args, env=env, cwd=tmp_path)["cache"] == "stored"
    assert len(entries(home / ".cache" / "loadstone")) == 1


def test_links_are_not_followed(loadstone, model, cache, tmp_path):
    """A link is none of the cache's files: it is not used, and what it leads to is not touched."""
    args = ["load", model, "-d", "f32", f"--cache={cache}"]
    loadstone(*args)
    (entry,) = entries(cache)
    elsewhere = entry.rename(tmp_path / "elsewhere")
    before = elsewhere.stat()
    entry.symlink_to(elsewhere)
    assert loadstone.json("cache", "list", f"--cache={cache}") == {"entries": [], "unfinished": []}
    assert loadstone.json(*args)["cache"] == "stored"
    assert not entry.is_symlink() and elsewhere.stat() == before
    entry.unlink()
    temporary = entry.with_suffix(".tmp")
    temporary.symlink_to(tmp_path / "made")
    why = "cannot be written to: Too many levels of symbolic links"
    assert loadstone.json(*args)["cache"] == f"not stored: {cache}: {why}"
    assert not (tmp_path / "made").exists()
    assert loadstone.json("cache", "clear", f"--cache={cache}") == {"bytes_removed": 0}


def test_an_entry_that_goes_while_it_is_mapped(loadstone, model, cache, tmp_path):
    """Whoever has it mapped keeps it."""
    library = pytest.importorskip("loadstone")
    for _ in range(2):
        weights = library.load(model, dtype="float32", cache=cache)
    assert weights.report.cache == "hit"
    assert loadstone.json("cache", "clear", f"--cache={cache}")["bytes_removed"] > 0
    assert list(cache.iterdir()) == []
    assert torch.equal(torch.from_dlpack(weights["count"]), torch.arange(5))
    name = 'w"3\n\\é'
    assert torch.equal(torch.from_dlpack(weights[name]), load_file(model)[name].float())


def test_a_write_that_fails(loadstone, model, cache):
    import resource

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))

    found = loadstone.json("load", model, "-d", "f32", f"--cache={cache}", preexec_fn=limit)
    assert found["cache"].startswith(f"not stored: {cache}: ") and "File too large" in found["cache"]
    assert list(cache.iterdir()) == []


def test_many_processes_at_once(loadstone, model, cache):
    command = [loadstone.path, "load", model, "-d", "f32", f"--cache={cache}", "--digest", "--json"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(8)]
    reports = [json.loads(process.communicate()[0]) for process in running]
    assert all(r["digests"] == reports[0]["digests"] for r in reports)
    states = {r["cache"] for r in reports}
    assert states <= {"stored", "hit", f"not stored: {cache}: another load is writing the same"}
    assert "stored" in states
    assert len(list(cache.iterdir())) == 1


def test_killed_at_any_moment(loadstone, tmp_path, cache):
    """Whatever moment a writer is killed at: what stands under an entry's name is whole."""
    model = tmp_path / "model.safetensors"
    save_file({f"w{i}": torch.randn(1 << 20).bfloat16() for i in range(8)}, model)
    args = ["load", model, "-d", "f32", f"--cache={cache}"]
    began = time.monotonic()
    expected = loadstone.json(*args, "--digest")["digests"]
    whole = time.monotonic() - began
    reference = entries(cache)[0].read_bytes()
    rng = random.Random(7)
    n_left = 0
    for _ in range(30):
        loadstone("cache", "clear", f"--cache={cache}")
        with subprocess.Popen([loadstone.path, *args], stdout=subprocess.DEVNULL) as process:
            time.sleep(rng.random() * whole)
            process.kill()
        found = entries(cache)
        n_left += len(found)
        for entry in found:
            data = entry.read_bytes()
            assert len(data) == len(reference) and data[4096:] == reference[4096:]
    found = loadstone.json(*args, "--digest")
    assert found["digests"] == expected
    loadstone("cache", "clear", f"--cache={cache}")
    assert list(cache.iterdir()) == []
    shutil.rmtree(cache)
