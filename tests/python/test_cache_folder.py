"""The folder of a cache, which users and disks have a say in: who may read what is in it, and what goes."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import stat
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import torch
from cache_support import MIB, cache, entries, model, save_model
from safetensors.torch import save, save_file

__all__ = ["cache", "model"]  # fixtures


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
    """Everybody, or a group, if they may read all of its source; folders made for it are the user's alone."""
    for mode, expected in ((0o644, 0o644), (0o604, 0o600), (0o640, 0o640), (0o600, 0o600)):
        open_model.chmod(mode)
        cache = tmp_path / f"{mode:o}" / "cache"
        assert mode_of_entry(loadstone, open_model, cache) == expected
        assert [stat.S_IMODE(path.stat().st_mode) for path in (cache, cache.parent)] == [0o700] * 2


def test_who_may_read_an_entry_of_a_closed_folder(loadstone, open_model, tmp_path):
    """Whoever cannot reach the source may not read the entry, whatever the source's own mode says."""
    cache, folder = tmp_path / "cache", open_model.parent
    for closed in (folder, folder.parent):
        for mode, expected in ((0o711, 0o644), (0o710, 0o640), (0o701, 0o600), (0o744, 0o600)):
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


def access_list(allowed: int, to_somebody: int) -> bytes:
    """What gives all the same, but for one user."""
    any_id = 0xFFFFFFFF
    found = [(1, 7, any_id), (2, to_somebody, 1234), (4, allowed, any_id)]
    found += [(16, allowed | to_somebody, any_id), (32, allowed, any_id)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in found)


def test_who_may_read_an_entry_of_a_listed_source(loadstone, open_model, tmp_path):
    """An access control list may keep somebody out whom the mode lets in."""
    read, execute = 4, 1
    for path, allowed in ((open_model, read), (open_model.parent, read | execute)):
        cache = tmp_path / "cache"
        try:
            os.setxattr(path, "system.posix_acl_access", access_list(allowed, 0))
        except OSError:
            pytest.skip("there are no access control lists here")
        assert mode_of_entry(loadstone, open_model, cache) == 0o600
        os.removexattr(path, "system.posix_acl_access")
        assert mode_of_entry(loadstone, open_model, cache) == 0o644


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


def as_member(user: int, *groups: int):
    """What makes a process one of a user who is in these groups."""

    def become() -> None:
        os.setgroups(groups)
        os.setgid(user)
        os.setuid(user)

    return become


def shared_folder(model: Path, group: int) -> Path:
    """A folder beside the model's that a group may write to."""
    folder = model.parent.parent / "cache"
    folder.mkdir()
    os.chown(folder, 0, group)
    folder.chmod(0o2770)
    return folder


def restrict(path: Path, mode: int, group: int) -> None:
    os.chown(path, 0, group)
    path.chmod(mode)


GROUP, OTHER_GROUP = 54300, 54301


def test_members_of_a_group_share_an_entry(loadstone, open_model):
    """The group is the source's, whatever the folder's is and its list of others would give them."""
    need_stranger(loadstone)
    cache = shared_folder(open_model, OTHER_GROUP)
    restrict(open_model.parent, 0o2770, GROUP)
    restrict(open_model, 0o640, GROUP)
    with contextlib.suppress(OSError):  # there are lists
        os.setxattr(cache, "system.posix_acl_default", access_list(0, 7))
    args = ["load", open_model, "-d", "f32", f"--cache={cache}"]
    members = [as_member(user, GROUP, OTHER_GROUP) for user in (STRANGER, STRANGER + 1)]
    assert loadstone.json(*args, preexec_fn=members[0])["cache"] == "stored"
    (entry,) = entries(cache)
    found = entry.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o640, STRANGER, GROUP)
    assert os.listxattr(entry) == []
    assert loadstone.json(*args, preexec_fn=members[1])["cache"] == "hit"
    assert loadstone.json(*args)["cache"] == "hit"  # by root
    os.utime(open_model)
    assert loadstone.json(*args, preexec_fn=members[1])["cache"] == "stored"
    assert loadstone.json(*args, preexec_fn=members[0])["cache"] == "hit"
    assert len(entries(cache)) == 1


def test_an_owner_who_is_no_member(loadstone, open_model):
    """He may read the source, and not the group's entry: his own does not take its place."""
    need_stranger(loadstone)
    cache = shared_folder(open_model, OTHER_GROUP)
    owner, member = as_member(STRANGER, OTHER_GROUP), as_member(STRANGER + 1, GROUP, OTHER_GROUP)
    os.chown(open_model, STRANGER, GROUP)
    open_model.chmod(0o640)
    args = ["load", open_model, "-d", "f32", f"--cache={cache}"]
    for state in ("stored", "hit"):
        for who in (member, owner):
            assert loadstone.json(*args, preexec_fn=who)["cache"] == state
    modes = {path.stat().st_uid: stat.S_IMODE(path.stat().st_mode) for path in entries(cache)}
    assert modes == {STRANGER: 0o600, STRANGER + 1: 0o640}


@pytest.mark.skipif(os.geteuid() != 0, reason="files cannot be given away")
def test_who_may_read_an_entry_of_many_files(loadstone, open_model, tmp_path):
    """All of them are looked at, and each folder that they are in."""
    cache, folder, away = tmp_path / "cache", open_model.parent, open_model.parent.parent / "away"
    away.mkdir(mode=0o755)
    shards = [folder / f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    for i, shard in enumerate(shards):
        save_file({f"w{i}": torch.ones(100, dtype=torch.bfloat16)}, shard)
        shard.chmod(0o644)
    names = {f"w{i}": shard.name for i, shard in enumerate(shards)}
    open_model.unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    shards[2].symlink_to(shards[2].rename(away / "shard"))
    for changes, expected in (
        ({}, 0o644),
        ({shards[1]: (0o640, GROUP)}, 0o640),
        ({shards[1]: (0o640, GROUP), away: (0o750, GROUP)}, 0o640),
        ({shards[1]: (0o640, GROUP), away: (0o750, OTHER_GROUP)}, 0o600),
        ({shards[0]: (0o640, GROUP), shards[2]: (0o640, OTHER_GROUP)}, 0o600),
        ({away: (0o700, GROUP)}, 0o600),
        ({shards[1]: (0o240, GROUP)}, 0o600),
        ({shards[1]: (0o640, 65534)}, 0o600),  # what stands for groups without a number
    ):
        for path in (*shards, away):
            restrict(path, *changes.get(path, (0o755, 0)))
        assert mode_of_entry(loadstone, folder, cache) == expected


def test_private_entries_of_two_users(loadstone, open_model):
    """They stand side by side. Here no one group says who may read the source."""
    need_stranger(loadstone)
    cache = shared_folder(open_model, GROUP)
    restrict(open_model.parent, 0o750, GROUP)
    restrict(open_model, 0o640, OTHER_GROUP)
    args = ["load", open_model, "-d", "f32", f"--cache={cache}"]
    users = [STRANGER, STRANGER + 1]
    for state in ("stored", "hit", "stored"):
        for user in users:
            found = loadstone.json(*args, preexec_fn=as_member(user, GROUP, OTHER_GROUP))
            assert found["cache"] == state
        owners = [(p.stat().st_uid, stat.S_IMODE(p.stat().st_mode)) for p in entries(cache)]
        assert sorted(owners) == [(user, 0o600) for user in users]
        if state == "hit":
            os.utime(open_model)


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


def test_least_recently_used_goes_first(loadstone, tmp_path, cache):
    models = [save_model(tmp_path / f"{i}.safetensors", seed=i) for i in range(3)]
    size = 0
    for i, path in enumerate(models[:2]):
        loadstone("load", path, "-d", "f32", f"--cache={cache}")
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


@pytest.fixture
def mount_small(tmp_path):
    """A function that mounts a file system of so many bytes, and says where."""
    folder = tmp_path / "small"

    def mount(size: int, kind: str = "tmpfs") -> Path:
        folder.mkdir()
        command = ["mount", "-t", kind, "-o", f"size={size}", kind, folder]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("nothing can be mounted here")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_may_not_be_written_to(loadstone, mount_small, model):
    small = mount_small(MIB)
    args = ["load", model, "--digest", f"--cache={small}"]
    stored = loadstone.json(*args, "-d", "f32")
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    found = loadstone.json(*args, "-d", "f32")
    assert (found["cache"], found["digests"]) == ("hit", stored["digests"])
    found = loadstone.json(*args, "-d", "f16")
    assert found["cache"] == f"not stored: {small}: cannot be written to: Read-only file system"


def test_a_disk_that_fills(loadstone, mount_small, model):
    """The file system has no room for what is written: the load is whole, and says it."""
    small = mount_small(100 << 10)
    found = loadstone.json("load", model, "-d", "f32", f"--cache={small}", "--digest")
    assert found["cache"] == f"not stored: {small}: has no room for 0.00 GB: No space left on device"
    assert found["digests"] == loadstone.json("load", model, "-d", "f32", "--digest")["digests"]
    assert list(small.iterdir()) == []


def test_a_disk_that_does_not_tell_its_size(loadstone, mount_small, model):
    """Nor can it set room aside."""
    small = mount_small(MIB, "ramfs")
    for state in ("stored", "hit"):
        assert loadstone.json("load", model, "-d", "f32", f"--cache={small}")["cache"] == state


def test_a_source_that_changes_faster_than_the_clock(mount_small):
    """Its times are those of the kernel's tick in ramfs, as in older kernels everywhere."""
    library = pytest.importorskip("loadstone")
    small = mount_small(MIB, "ramfs")
    for value in range(50):
        data = save({"w": torch.full([8], value, dtype=torch.bfloat16)})
        (small / "model.safetensors").write_bytes(data)
        weights = library.load(small / "model.safetensors", dtype="float32", cache=small / "cache")
        assert weights.report.cache == "stored"
        assert torch.from_dlpack(weights["w"])[0] == value


def test_a_full_disk_costs_no_entry_in_vain(loadstone, mount_small, tmp_path):
    """Entries that the cap has no place for go before the write, but only if that is enough for it."""
    small = mount_small(8 * MIB)
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
