"""Loads of what is in the page cache, beside the machine's limits and other loaders."""

import contextlib
import os
import shutil
from functools import partial
from pathlib import Path

from measure import MIB, Unmeasurable, run_json

PAIRS = [("f32", "bf16"), ("bf16", "f32"), ("bf16", "f16")]
USED_PAIRS = [*PAIRS, ("bf16", "bf16")]
MANY_ROUNDS = 11
SAFETENSORS = "safetensors load_file + .to"
MAPPED_LOOP = "the same loop, from a mapping"

# who -> way of bench/loaders.py
OTHERS = {
    "safetensors": "safetensors",
    "safetensors, NumPy": "safetensors-numpy",
    "diffusers": "diffusers",
    "torch.load": "torch",
    "torch.load, mmap": "torch-mmap",
    "Run:ai": "runai",
    "fastsafetensors": "fastsafetensors",
}


def of_interest(who, src):
    """Whether to have another loader read this file: there is no .bin of the large one."""
    return src == "bf16" or not who.startswith("torch.load")


def rounds_of_memory(group):
    """Rounds for what takes some tenths of a second of memory that a virtual machine shares with others."""
    return group.n_rounds if group.env.quick else max(group.n_rounds, MANY_ROUNDS)


def machine(group):
    limits = [group.env.limits]
    nbytes = (256 if group.env.quick else 2048) * MIB
    model = group.env.files.model("bf16")
    copy = [*limits, "copy", "--huge", "--nbytes", nbytes]
    touch = [*limits, "touch", "--nbytes", nbytes]
    read = [*limits, "load", model.file]
    pages = [("2 MiB pages", ["--huge"]), ("4 KiB pages", [])]
    todo = group.add("memcpy, used memory", "", copy)
    for label, option in pages:
        todo += group.add(f"first touch, {label}", "", [*touch, *option], memory_nbytes=nbytes)
        what = f"pread, fresh memory, {label}"
        todo += group.add(what, "", [*read, *option], [model.file], memory_nbytes=model.nbytes)
    todo += group.add("touch of a private mapping", "", [*limits, "map", model.file], [model.file])
    group.rounds(todo)


def same(group):
    model, what = group.env.files.model("bf16"), "bf16 -> bf16"
    files = [model.file]
    load = [group.env.load_bench, "load", model.directory, "--dtype", "bf16"]
    todo = group.add(what, "loadstone", load, files)
    todo += group.add_loader(what, "loadstone, Python", "loadstone", model, "bf16")
    for who, way in OTHERS.items():
        todo += group.add_loader(what, who, way, model, "bf16")
    group.rounds(todo)
    ours, shown = group.get(what, "loadstone"), f"{what}, every page present"
    group.check(shown, ours, "0.1 s for each 3.39 GB", 0.1 * model.nbytes / 3.39e9, 1)
    for who in OTHERS:
        at_least = 1 if who in ("safetensors", "diffusers") else None
        group.check(shown, ours, f"{who} + touch of every page", group.get(what, who), at_least)
    faults = max(ours.values("walk_faults"))
    group.check(
        "page faults of a walk after the load", faults, "1 of 1000 pages", model.nbytes // 4096 // 1000, 1, ""
    )
    check_python(group, ours, group.get(what, "loadstone, Python"), what, "load")


def check_python(group, ours, python, what, key):
    """What Python adds to a load in C."""
    if not python:
        return
    n = python.results[0]["n_tensors"]
    more = python.median(key) - ours.median()
    group.check(f"{what}, what Python adds, {n:,} tensors", more, "10 ms + 1 µs a tensor", 0.01 + n * 1e-6, 1)


def add_mapped_loop(group, what, loop, files, new=0):
    """The same loop over a mapping: no copy, and no guard against a file that is cut meanwhile."""
    return group.add(what, MAPPED_LOOP, [*loop.command, "--map"], files, memory_nbytes=new)


def fresh(group, src, dst):
    model, what = group.env.files.model(src), f"{src} -> {dst}, fresh memory"
    files, new = [model.file], model.nbytes_as(dst)
    loop = group.add_loop(what, model, dst, used=False)
    load = [group.env.load_bench, "load", model.directory, "--dtype", dst]
    todo = [loop, *group.add(what, "loadstone", load, files, memory_nbytes=new)]
    todo += group.add_loader(what, "safetensors", "safetensors", model, dst, new, key="load")
    todo += add_mapped_loop(group, what, loop, files, new)
    group.rounds(todo, rounds_of_memory(group))
    ours = group.get(what, "loadstone")
    group.check(what, ours, "best loop by hand", loop, 0.97)
    group.check(what, ours, MAPPED_LOOP, group.get(what, MAPPED_LOOP))
    group.check(what, ours, SAFETENSORS, group.get(what, "safetensors"), 1.0 if src == "f32" else 1.2)
    check_peak(group, ours, f"{src} -> {dst}")


def check_peak(group, ours, what):
    network = ours.results[0]["network_nbytes"]
    peak = max(ours.values("peak_rss_bytes"))
    group.check(f"{what}, peak resident memory", peak / MIB, "network + 80 MiB", network / MIB + 80, 1, "MiB")


def used(group, src, dst):
    model, what = group.env.files.model(src), f"{src} -> {dst}, used memory"
    files = [model.file]
    loop = group.add_loop(what, model, dst, used=True)
    pages = ["--huge"] if "--huge" in loop.command else []
    load = [group.env.load_bench, "load", model.directory, "--dtype", dst, *pages]
    todo = [loop, *group.add(what, "lds_param_bind", [*load, "--bind"], files)]
    todo += group.add(what, "lds_allocator", [*load, "--allocator"], files)
    todo += add_mapped_loop(group, what, loop, files)
    todo += group.add_loader(what, "out=, Python", "loadstone-used", model, dst, key="load")
    todo += group.add_loader(what, "copy_", "safetensors-used", model, dst, key="load")
    if src != dst:  # else both map the file
        new = model.nbytes_as(dst)
        todo += group.add(what, "lds_pool", [*load, "--pool"], files)
        todo += group.add_loader(what, "safetensors", "safetensors", model, dst, new, key="load")
    group.rounds(todo, rounds_of_memory(group))
    targets = {"lds_param_bind": 0.9, "lds_allocator": 0.9, "lds_pool": 0.95, "out=, Python": None}
    for way, at_least in targets.items():
        ours, shown = group.get(what, way), f"{what} ({way})"
        group.check(shown, ours, "best loop by hand", loop, at_least)
        group.check(shown, ours, MAPPED_LOOP, group.get(what, MAPPED_LOOP))
        group.check(shown, ours, f"{SAFETENSORS}, fresh", group.get(what, "safetensors"), 2)
        group.check(shown, ours, "safetensors load_file + copy_, used", group.get(what, "copy_"))


def cache(group, src, dst):
    """A load whose result was kept by the one before."""
    model, what = group.env.files.model(src), f"{src} -> {dst}, kept from the last load"
    same, directory = group.env.files.model(dst), group.env.work / f"cache-{dst}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    load = [group.env.load_bench, "load", model.directory, "--dtype", dst]
    stored = run_json([*load, "--cache", directory])["cache"]
    kept = list(directory.rglob("*.safetensors"))
    if stored != "stored" or len(kept) != 1:
        raise Unmeasurable(f"{what}: {stored}; {len(kept)} files in the cache")
    todo = group.add(what, "loadstone, cache", [*load, "--cache", directory], kept)
    command = [group.env.load_bench, "load", same.directory, "--dtype", dst]
    todo += group.add(what, f"loadstone, {dst} file", command, [same.file])
    todo += group.add(what, "loadstone", load, [model.file], memory_nbytes=model.nbytes_as(dst))
    group.rounds(todo)
    shutil.rmtree(directory)
    ours, mapped = group.get(what, "loadstone, cache"), group.get(what, f"loadstone, {dst} file")
    if set(ours.values("cache")) != {"hit"}:
        raise Unmeasurable(f"{what}: the cache was not used")
    group.check(f"{what}, beside a {dst} file", ours.median() - mapped.median(), "0.1 s more", 0.1, 1)
    group.check(what, ours, "without the cache", group.get(what, "loadstone"))


def others(group, src, dst):
    """The same load by everybody, into fresh memory."""
    model, what = group.env.files.model(src), f"{src} -> {dst}, everybody"
    new = model.nbytes_as(dst)
    load = [group.env.load_bench, "load", model.directory, "--dtype", dst]
    todo = group.add(what, "loadstone", load, [model.file], memory_nbytes=new)
    todo += group.add_loader(what, "loadstone, Python", "loadstone", model, dst, new, key="load")
    wanted = {who: way for who, way in OTHERS.items() if of_interest(who, src)}
    for who, way in wanted.items():
        todo += group.add_loader(what, who, way, model, dst, new, key="load")
    group.rounds(todo)
    ours = group.get(what, "loadstone, Python")
    group.check(f"{what} (Python)", ours, "the same from C", group.get(what, "loadstone"))
    for who in wanted:
        at_least = {"safetensors": 1.0 if src == "f32" else 1.2}.get(who)
        group.check(f"{what} (Python)", ours, who, group.get(what, who), at_least)


@contextlib.contextmanager
def quota(thousandths):
    """The beginning of a command that runs with so many thousandths of a processor, in a control group."""
    is_v1 = Path("/sys/fs/cgroup/cpu").is_dir()
    folder = Path("/sys/fs/cgroup/cpu" if is_v1 else "/sys/fs/cgroup") / f"loadstone-bench-{os.getpid()}"
    try:
        folder.mkdir()
        if is_v1:
            (folder / "cpu.cfs_quota_us").write_text(str(thousandths * 100))
        else:
            (folder / "cpu.max").write_text(f"{thousandths * 100} 100000")
    except OSError as error:
        raise Unmeasurable(f"no control group with a quota can be made: {error}") from error
    try:
        yield ["sh", "-c", f'echo $$ >{folder}/cgroup.procs && exec "$@"', "sh"]
    finally:
        folder.rmdir()


def crowd(group):
    """Eight loads of a small model, one after the other and at once, also with half a processor."""
    model = group.env.files.model("bf16", n_layers=4)
    load = [group.env.load_bench, "crowd", model.directory, "--dtype", "f16", "--loads", 8]
    memory = {"memory_nbytes": 8 * model.nbytes}
    with quota(500) as limited:
        todo = []
        for what, before in (("8 loads", []), ("8 loads, half a processor", limited)):
            todo += group.add(what, "one after the other", [*before, *load], [model.file], **memory)
            todo += group.add(what, "at once", [*before, *load, "--at-once"], [model.file], **memory)
        group.rounds(todo, rounds_of_memory(group))
    for what in ("8 loads", "8 loads, half a processor"):
        ours, in_turn = group.get(what, "at once"), group.get(what, "one after the other")
        group.check(f"{what} at once, bf16 -> f16", ours, "one after the other", in_turn, 1)


def for_pairs(name, function, pairs=PAIRS):
    return {f"{name}.{src}-{dst}": partial(function, src=src, dst=dst) for src, dst in pairs}


GROUPS = {
    "machine": machine,
    "same": same,
    **for_pairs("fresh", fresh),
    **for_pairs("used", used, USED_PAIRS),
    **for_pairs("others", others),
    **for_pairs("cache", cache, PAIRS[:2]),
    "crowd": crowd,
}
