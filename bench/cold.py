"""Loads of what is not in the page cache, beside the rate of the disk itself."""

import shutil

from hot import OTHERS, for_pairs, of_interest, rounds_of_memory
from measure import MIB, Measurement, Unmeasurable

PAIRS = [("bf16", "bf16"), ("bf16", "f16"), ("bf16", "f32"), ("f32", "bf16")]
SOURCES = ("map", "read", "uring", "direct")  # that can be asked for
LEFT_OUT = {"safetensors, NumPy, cold": "converts so slowly that the disk does not show"}


def taken_nbytes(model, dst):
    """The memory that a cold load takes: for the parameters, and of the page cache."""
    return model.nbytes_as(dst) + model.nbytes


def cold(group, src, dst):
    model, what = group.env.files.model(src), f"{src} -> {dst}, cold"
    new = taken_nbytes(model, dst)
    options = {"cold": True, "memory_nbytes": new}
    load = [group.env.load_bench, "load", model.directory, "--dtype", dst]
    todo = group.add(what, "loadstone", load, [model.file], **options)
    for source in SOURCES:
        if source != "map" or src == dst:
            who = f"loadstone, {source}"
            todo += group.add(what, who, [*load, "--io", source], [model.file], **options)
    todo += group.add_loader(what, "loadstone, Python", "loadstone", model, dst, new, cold=True)
    wanted = {w: way for w, way in OTHERS.items() if of_interest(w, src) and f"{w}, cold" not in LEFT_OUT}
    group.left_out |= LEFT_OUT
    for who, way in wanted.items():
        todo += group.add_loader(what, who, way, model, dst, new, cold=True)
    group.rounds(todo)

    ours = group.get(what, "loadstone")
    for who in wanted:
        group.check(what, ours, f"{who} + touch of every page", group.get(what, who), target(who, src, dst))


def disk(group, src, dst):
    """A cold load beside the disk itself: read as fast as it goes, and so that something comes of it."""
    model, what = group.env.files.model(src), f"{src} -> {dst}, beside the disk"
    options = {"cold": True, "memory_nbytes": taken_nbytes(model, dst)}
    looks = "best direct read that looks at each cache line"
    fills = f"{looks}, and fills new memory"
    best = "best direct read of the file"
    others = {best: group.add_disk(what, "best direct read", model)}
    others[looks] = group.add_disk(what, looks, model, "--look")
    if src != dst:
        percent, new = 100 * model.nbytes_as(dst) // model.nbytes, model.nbytes_as(dst)
        others[fills] = group.add_disk(what, fills, model, "--look", "--fill", percent, memory_nbytes=new)
    load = [group.env.load_bench, "load", model.directory, "--dtype", dst]
    keep = [group.env.limits, "direct", model.file, "--huge", "--used"]
    keeping, keeps = [], "direct reads into memory for all of it"
    for depth, block in ((2, MIB), (8, 4 * MIB)):
        who, how = f"{keeps}, {depth} of {block // MIB} MiB at a time", ["--threads", depth, "--block", block]
        keeping += group.add(what, who, [*keep, *how], [model.file], **options)
    todo = group.add(what, "loadstone", load, [model.file], **options)
    group.rounds([*others.values(), *keeping, *todo], rounds_of_memory(group))
    others[keeps] = min(keeping, key=Measurement.median)
    ours = group.get(what, "loadstone")
    for label, other in others.items():
        group.check(what, ours, label, other, 0.95 if label == best else None)


def remote(group):
    """A file system that takes 5 ms for each read, as one behind a network does."""
    path = group.env.files.columns()
    what = f"{path.stat().st_size // MIB} MiB, 5 ms for each read"
    load = [group.env.slow_fs, 5, path, group.env.load_bench, "load", "{}"]
    todo = group.add(what, "loadstone", load)
    todo += group.add(what, "loadstone, read", [*load, "--io", "read"])
    todo += group.add(what, "loadstone, map", [*load, "--io", "map"])
    lazy = group.add(what, "loadstone, map --lazy", [*load, "--io", "map", "--lazy"])
    group.rounds(todo + lazy)
    ours, walked = group.get(what, "loadstone"), lazy[0].median() + lazy[0].median("walk")
    group.check(what, ours, "mapping it and a walk through all pages", walked, 5)
    group.check(what, ours, "loadstone, map", group.get(what, "loadstone, map"))


def store(group, src, dst):
    """A load that keeps its result for the next, which takes as long as the disk needs for it."""
    model, directory = group.env.files.model(src), group.env.work / f"store-{dst}"
    load = [group.env.load_bench, "load", model.directory, "--dtype", dst]
    for state in ("hot", "cold"):
        what = f"{src} -> {dst}, {state}, kept for the next load"
        is_cold = state == "cold"
        memory = taken_nbytes(model, dst) if is_cold else model.nbytes_as(dst)
        options = {"cold": is_cold, "memory_nbytes": memory}
        keep = [*load, "--cache", directory, "--store"]
        todo = group.add(what, "loadstone, storing", keep, [model.file], **options)
        todo += group.add(what, "loadstone", load, [model.file], **options)
        group.rounds(todo)
        ours = group.get(what, "loadstone, storing")
        if set(ours.values("cache")) != {"stored"}:
            raise Unmeasurable(f"{what}: {ours.values('cache')}")
        group.check(what, ours, "without the cache", group.get(what, "loadstone"))
    shutil.rmtree(directory)


def target(who, src, dst):
    if who == "Run:ai":
        return 1.3 if (src, dst) == ("bf16", "f32") else 1
    return 1.8 if who == "safetensors" and src != dst else None


GROUPS = {
    **for_pairs("cold", cold, PAIRS),
    **for_pairs("disk", disk, PAIRS),
    "remote": remote,
    **for_pairs("store", store, [("bf16", "f16")]),
}
