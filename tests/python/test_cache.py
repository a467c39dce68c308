"""The cache of converted weights: the same bytes, from a mapping, whatever happens to the folder."""

import fcntl
import json
import os
import random
import re
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

MIB = 1 << 20


def save_model(path: Path, n: int = 8, seed: int = 0) -> Path:
    generator = torch.Generator().manual_seed(seed)
    tensors = {f'w"{i}\n\\é': torch.randn(64, 65 + i, generator=generator).bfloat16() for i in range(n)}
    tensors |= {"count": torch.arange(5), "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3)}
    save_file(tensors, path)
    return path


@pytest.fixture
def model(tmp_path):
    return save_model(tmp_path / "model.safetensors")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def entries(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.safetensors"))


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


def test_least_recently_used_goes_first(loadstone, tmp_path, cache):
    models = [save_model(tmp_path / f"{i}.safetensors", seed=i) for i in range(3)]
    size = 0
    for i, model in enumerate(models[:2]):
        loadstone("load", model, "-d", "f32", f"--cache={cache}")
        size = entries(cache)[0].stat().st_size
        os.utime(max(entries(cache), key=lambda p: p.stat().st_ctime_ns), (1000 + i, entry_mtime(cache)))
    assert loadstone.json("load", models[0], "-d", "f32", f"--cache={cache}")["cache"] == "hit"
    loadstone("load", models[2], "-d", "f32", f"--cache={cache}", "--cache-size", 2 * size)
    listed = loadstone.json("cache", "list", f"--cache={cache}")["entries"]
    assert {e["source"] for e in listed} == {str(models[0]), str(models[2])}
    assert all(e["bytes"] == size and e["used"] > time.time() - 1000 for e in listed)


def entry_mtime(cache: Path) -> float:
    return max(entries(cache), key=lambda p: p.stat().st_ctime_ns).stat().st_mtime


def test_too_large_for_the_cache(loadstone, model, cache):
    found = loadstone.json("load", model, "-d", "f32", f"--cache={cache}", "--cache-size", "1kB")
    needed = re.fullmatch(rf"not stored: {cache}: may have 1000 bytes, and this needs (\d+)", found["cache"])
    assert needed, found["cache"]
    assert list(cache.iterdir()) == []
    found = loadstone.json("load", model, "-d", "f32", f"--cache={cache}", "--cache-size", needed[1])
    assert found["cache"] == "stored"


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


@pytest.fixture
def open_model(model):
    """One in a folder that everybody can reach, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "models" / "model.safetensors"
        path.parent.mkdir()
        shutil.copy(model, path)
        path.chmod(0o644)
        for parent in (path.parent, path.parent.parent):
            parent.chmod(0o755)
        if any(parent.stat().st_mode & 0o111 != 0o111 for parent in path.resolve().parents):
            pytest.skip("there is no folder here that everybody can reach")
        yield path


def mode_of_entry(loadstone, model: Path, cache: Path) -> int:
    loadstone("load", model, "-d", "f32", f"--cache={cache}", preexec_fn=lambda: os.umask(0))
    (entry,) = entries(cache)
    mode = stat.S_IMODE(entry.stat().st_mode)
    entry.unlink()
    return mode


def test_who_may_read_an_entry(loadstone, open_model, tmp_path):
    """Everybody if they may read all of its source; folders that are made for it are the user's alone."""
    for mode, expected in ((0o644, 0o644), (0o604, 0o600), (0o640, 0o600), (0o600, 0o600)):
        open_model.chmod(mode)
        cache = tmp_path / f"{mode:o}" / "cache"
        assert mode_of_entry(loadstone, open_model, cache) == expected
        assert [stat.S_IMODE(path.stat().st_mode) for path in (cache, cache.parent)] == [0o700] * 2


def test_who_may_read_an_entry_of_a_closed_folder(loadstone, open_model, tmp_path):
    """Whoever cannot reach the source may not read the entry, whatever the source's own mode says."""
    cache, folder = tmp_path / "cache", open_model.parent
    for closed in (folder, folder.parent):
        for mode, expected in ((0o711, 0o644), (0o710, 0o600), (0o701, 0o600), (0o744, 0o600)):
            closed.chmod(mode)
            assert mode_of_entry(loadstone, open_model, cache) == expected
        closed.chmod(0o755)


def test_who_may_read_an_entry_of_a_link(loadstone, open_model, tmp_path):
    """What the link leads to counts, and not where the link is."""
    cache, away, link = tmp_path / "cache", open_model.parent.parent / "away", tmp_path / "link.safetensors"
    link.symlink_to(open_model)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    assert mode_of_entry(loadstone, link, cache) == 0o644
    away.mkdir(mode=0o700)
    real = open_model.rename(away / "real.safetensors")
    open_model.symlink_to(real)
    assert mode_of_entry(loadstone, open_model, cache) == 0o600


def test_who_may_read_an_entry_of_a_listed_source(loadstone, open_model, tmp_path):
    """An access control list may keep somebody out whom the mode lets in."""
    read, execute, any_id = 4, 1, 0xFFFFFFFF
    for path, allowed in ((open_model, read), (open_model.parent, read | execute)):
        cache = tmp_path / "cache"
        entry_kinds = [(1, 7, any_id), (2, 0, 1234), (4, allowed, any_id), (16, allowed, any_id)]
        acl = struct.pack("<I", 2)
        acl += b"".join(struct.pack("<HHI", *e) for e in [*entry_kinds, (32, allowed, any_id)])
        try:
            os.setxattr(path, "system.posix_acl_access", acl)
        except OSError:
            pytest.skip("there are no access control lists here")
        assert mode_of_entry(loadstone, open_model, cache) == 0o600
        os.removexattr(path, "system.posix_acl_access")
        assert mode_of_entry(loadstone, open_model, cache) == 0o644


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


STRANGER = 54321  # a user's number


@pytest.mark.skipif(os.geteuid() != 0, reason="files cannot be given away")
def test_whose_entries_are_believed(loadstone, model, cache):
    """Those of whoever may write to the folder, unless that is everybody."""
    args = ["load", model, "-d", "f32", f"--cache={cache}"]
    loadstone(*args)
    for mode, expected in ((0o755, "hit"), (0o775, "hit"), (0o777, "stored"), (0o1777, "stored")):
        (entry,) = entries(cache)
        os.chown(entry, STRANGER, -1)
        cache.chmod(mode)
        assert loadstone.json(*args)["cache"] == expected
        assert loadstone.json(*args)["cache"] == "hit"
        (entry,) = entries(cache)
        assert entry.stat().st_uid == (0 if expected == "stored" else STRANGER)


def as_stranger() -> None:
    os.setgid(STRANGER)
    os.setuid(STRANGER)


def need_stranger(loadstone) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs another user")
    try:
        loadstone("--version", preexec_fn=as_stranger)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("another user cannot run the command here")


def test_uses_by_others_count(loadstone, open_model):
    """In a folder of a group: what others use is not the next to go."""
    need_stranger(loadstone)
    cache = open_model.parent.parent / "cache"
    cache.mkdir()
    os.chown(cache, 0, STRANGER)
    cache.chmod(0o2775)
    models = [open_model.with_name(f"{name}.safetensors") for name in "abc"]
    for path in models:
        shutil.copy(open_model, path)
        path.chmod(0o644)
    args = ["-d", "f32", f"--cache={cache}"]
    for path in models[:2]:
        assert loadstone.json("load", path, *args)["cache"] == "stored"
    for path in (models[0], models[1], models[0]):
        time.sleep(0.05)
        assert loadstone.json("load", path, *args, preexec_fn=as_stranger)["cache"] == "hit"
    listed = loadstone.json("cache", "list", f"--cache={cache}")["entries"]
    assert [entry["source"] for entry in listed] == [str(path) for path in models[:2]]
    kept, gone = (Path(entry["path"]) for entry in listed)
    uses = {path.with_suffix(".used") for path in (kept, gone)}
    assert set(cache.glob("*.used")) == uses and sum(path.stat().st_size for path in uses) == 0
    size = kept.stat().st_size
    assert loadstone.json("load", models[2], *args, "--cache-size", 2 * size)["cache"] == "stored"
    assert kept.exists() and not gone.exists()
    assert list(cache.glob("*.used")) == [kept.with_suffix(".used")]
    kept.unlink()
    assert (
        loadstone.json("cache", "clear", f"--cache={cache}", preexec_fn=as_stranger)["bytes_removed"] == size
    )
    assert list(cache.iterdir()) == []


def test_two_users_of_a_folder(loadstone, model):
    """In a folder where users cannot remove each other's files, like /tmp."""
    need_stranger(loadstone)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        shared = Path(shutil.copy(model, folder))
        shared.chmod(0o644)
        shared.parent.chmod(0o755)
        cache.mkdir()
        cache.chmod(0o1777)
        args = ["load", shared, "-d", "f32", f"--cache={cache}"]
        assert loadstone.json(*args)["cache"] == "stored"
        assert loadstone.json(*args, preexec_fn=as_stranger)["cache"] == "hit"  # root's
        (entry,) = entries(cache)
        os.chown(entry, STRANGER + 1, -1)
        why = "cannot be given its name: Operation not permitted"
        assert loadstone.json(*args, preexec_fn=as_stranger)["cache"] == f"not stored: {cache}: {why}"
        entry.rename(entry.with_suffix(".tmp"))
        why = "cannot be written to: Operation not permitted"
        assert loadstone.json(*args, preexec_fn=as_stranger)["cache"] == f"not stored: {cache}: {why}"
        assert loadstone.json("cache", "clear", f"--cache={cache}", preexec_fn=as_stranger) == {
            "bytes_removed": 0
        }
        assert len(list(cache.iterdir())) == 1


def test_a_clock_that_went_back(loadstone, tmp_path, cache):
    """Entries of a time that has yet to come are used, and go like others."""
    models = [save_model(tmp_path / f"{i}.safetensors", seed=i) for i in range(2)]
    args = ["-d", "f32", f"--cache={cache}"]
    loadstone("load", models[0], *args)
    (entry,) = entries(cache)
    future = time.time() + 1e8
    os.utime(entry, (future, entry.stat().st_mtime))
    assert loadstone.json("load", models[0], *args)["cache"] == "hit"
    os.utime(entry, (future, entry.stat().st_mtime))
    loadstone("load", models[1], *args, "--cache-size", entry.stat().st_size)
    (left,) = loadstone.json("cache", "list", f"--cache={cache}")["entries"]
    assert left["source"] == str(models[1])


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


@pytest.fixture
def mount_tmpfs(tmp_path):
    """A function that mounts a file system of so many bytes, and says where."""
    folder = tmp_path / "small"

    def mount(size: int) -> Path:
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("nothing can be mounted here")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", folder], check=True)


def test_a_disk_that_may_not_be_written_to(loadstone, mount_tmpfs, model):
    small = mount_tmpfs(MIB)
    args = ["load", model, "--digest", f"--cache={small}"]
    stored = loadstone.json(*args, "-d", "f32")
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    found = loadstone.json(*args, "-d", "f32")
    assert (found["cache"], found["digests"]) == ("hit", stored["digests"])
    found = loadstone.json(*args, "-d", "f16")
    assert found["cache"] == f"not stored: {small}: cannot be written to: Read-only file system"


def test_a_disk_that_fills(loadstone, mount_tmpfs, model):
    """The file system has no room for what is written: the load is whole, and says it."""
    small = mount_tmpfs(100 << 10)
    found = loadstone.json("load", model, "-d", "f32", f"--cache={small}", "--digest")
    assert found["cache"] == f"not stored: {small}: has no room for 0.00 GB: No space left on device"
    assert found["digests"] == loadstone.json("load", model, "-d", "f32", "--digest")["digests"]
    assert list(small.iterdir()) == []


def test_a_full_disk_costs_no_entry_in_vain(loadstone, mount_tmpfs, tmp_path):
    """Entries that the cap has no place for go before the write, but only if that is enough for it."""
    small = mount_tmpfs(8 * MIB)
    models = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path, nbytes in zip(models, (3 * MIB, 6 * MIB), strict=True):
        save_file({"w": torch.zeros(nbytes // 4, dtype=torch.bfloat16)}, path)
    (small / "filler").write_bytes(bytes(3 * MIB))
    assert loadstone.json("load", models[0], "-d", "f32", f"--cache={small}")["cache"] == "stored"
    (first,) = entries(small)
    args = ["load", models[1], "-d", "f32", f"--cache={small}", "--cache-size", "7MiB"]
    assert loadstone.json(*args)["cache"] == (
        f"not stored: {small}: has no room for 0.01 GB: No space left on device"
    )
    assert entries(small) == [first]
    (small / "filler").unlink()
    assert loadstone.json(*args)["cache"] == "stored"
    (second,) = entries(small)
    assert second != first and second.stat().st_size > 6 * MIB


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


def test_what_is_being_written_has_the_cap_for_itself(loadstone, model, cache):
    """A load that finds no room beside other writers does not write. What is left over does not count."""
    args = ["load", model, "-d", "f32", f"--cache={cache}"]
    loadstone(*args)
    (entry,) = entries(cache)
    size = entry.stat().st_size
    entry.unlink()
    other = cache / f"{'0' * 32}.tmp"
    with other.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(MIB)
        found = loadstone.json(*args, "--cache-size", MIB + size - 1)
        why = f"may have {MIB + size - 1} bytes; others are writing {MIB}, and this needs {size}"
        assert found["cache"] == f"not stored: {cache}: {why}"
        assert list(cache.iterdir()) == [other]
        assert loadstone.json(*args, "--cache-size", MIB + size)["cache"] == "stored"
        entries(cache)[0].unlink()
    assert loadstone.json(*args, "--cache-size", MIB + size - 1)["cache"] == "stored"
    assert [path.name for path in cache.iterdir()] == [entry.name]


def unfinished_nbytes(cache: Path) -> int:
    """What is being written, while nobody begins or ends: the folder's lock is what they ask for."""
    folder = os.open(cache, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        return sum(p.stat().st_size for p in cache.glob("*.tmp"))
    except FileNotFoundError:  # thrown away
        return 0
    finally:
        os.close(folder)


def test_many_stores_keep_to_the_cap(loadstone, tmp_path, cache):
    """Each has its place when it begins to write; together they have not."""
    models = [tmp_path / f"{i}.safetensors" for i in range(6)]
    for path in models:
        save_file({"w": torch.zeros(4 * MIB, dtype=torch.bfloat16)}, path)
    cap, busy = 40 * MIB, "may have 41943040 bytes; others are writing "
    cache.mkdir()
    for _ in range(3):
        command = ["-d", "f32", f"--cache={cache}", f"--cache-size={cap}", "--json"]
        running = [
            subprocess.Popen([loadstone.path, "load", path, *command], stdout=subprocess.PIPE)
            for path in models
        ]
        while any(process.poll() is None for process in running):
            assert unfinished_nbytes(cache) <= cap
            time.sleep(0.005)
        reports = [json.loads(process.communicate()[0]) for process in running]
        states = [r["cache"].removeprefix(f"not stored: {cache}: ") for r in reports]
        assert all(state in ("stored", "hit") or state.startswith(busy) for state in states)
        assert 1 <= len(entries(cache)) <= 2
        assert sum(p.stat().st_size for p in cache.iterdir()) <= cap


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
