"""What does not depend on the size of the weights: headers, many tensors, single calls, start-up, kernels."""

import json
import subprocess
import sys

from hot import check_python, rounds_of_memory
from suite import SIZES

MANY = (232670, 31337)
COLUMNS, ALL_COLUMNS = (64, 1024), "all columns of 4096"
# who -> way of bench/calls.py
COLUMN_READERS = {
    "safetensors get_slice": "safetensors",
    "each row announced, then read": "pread-announced",
    "a read for each row, and what the kernel reads ahead": "pread",
}
MEMORY_BOUND = {"F32", "F16", "BF16"}  # what turns them into one another has little to compute


def opening(group):
    todo = []
    for n in MANY:
        path, load_bench = group.env.files.many(n), group.env.load_bench
        todo += group.add(f"open {n}", "loadstone", [load_bench, "open", path], [path])
        todo += group.add_python(f"open {n}", "safetensors", "loaders.py", ["safetensors-open", path], [path])
        todo += group.add(f"load {n}", "loadstone", [load_bench, "load", path], [path], key="load")
    group.rounds(todo)
    for n in MANY:
        ours, what = group.get(f"open {n}", "loadstone"), f"opening {n:,} tensors"
        if n == MANY[0]:
            group.check(what, ours, "0.12 s", 0.12, 1)
        group.check(what, ours, "safetensors safe_open + keys", group.get(f"open {n}", "safetensors"))
        each = group.get(f"load {n}", "loadstone").median() / n * 1e6
        group.check(f"plan and load of {n:,} tensors, each", each, "1 µs", 1, 1, "µs")


def many(group):
    todo = []
    for n in MANY:
        path, load_bench = group.env.files.many(n), group.env.load_bench
        what = f"open + every tensor, {n}"
        todo += group.add_python(what, "loadstone, Python", "loaders.py", ["loadstone-tensors", path], [path])
        todo += group.add_python(what, "safetensors", "loaders.py", ["safetensors-tensors", path], [path])
        what = f"load, {n}"
        todo += group.add(what, "loadstone", [load_bench, "load", path], [path])
        todo += group.add_python(
            what, "loadstone, Python", "loaders.py", ["loadstone", path, "bf16"], [path], key="load"
        )
        what = f"load + every tensor, {n}"
        todo += group.add_python(what, "loadstone, Python", "loaders.py", ["loadstone-weights", path], [path])
    group.rounds(todo)
    for n in MANY:
        theirs = group.get(f"open + every tensor, {n}", "safetensors")
        ours = group.get(f"open + every tensor, {n}", "loadstone, Python")
        shown, beside = f"open + every tensor of {n:,}", "safetensors safe_open + get_tensor"
        group.check(shown, ours, beside, theirs, 15 if n == MANY[0] else None)
        ours = group.get(f"load + every tensor, {n}", "loadstone, Python")
        group.check(f"load + every tensor of {n:,}", ours, beside, theirs)
        what = f"load, {n}"
        check_python(
            group, group.get(what, "loadstone"), group.get(what, "loadstone, Python"), "load", "load"
        )


def huge(group):
    """671 billion parameters in 163 sparse files: no weight is read."""
    index = group.env.files.huge()
    what = "open a checkpoint of 671 billion parameters in 163 files"
    todo = group.add(what, "loadstone", [group.env.load_bench, "open", index])
    todo += group.add_python(what, "safetensors", "loaders.py", ["safetensors-open-shards", index])
    group.rounds(todo)
    ours = group.get(what, "loadstone")
    group.check(what, ours, "safetensors safe_open + keys", group.get(what, "safetensors"))
    group.check("its network and its plan", ours.median("network") + ours.median("plan"), "opening it", ours)


def python(group):
    """Importing, and single calls."""
    path, env = group.env.files.many(1000), group.env
    spawn = [env.limits, "spawn", "--runs", 20, "--", sys.executable, "-c"]
    todo = group.add("python -c", "import loadstone", [*spawn, "import loadstone"])
    todo += group.add("python -c", "pass", [*spawn, "pass"])
    calls = {"open": "open of 1,000 tensors", "tensor": "one tensor", "slice": "one slice of 3 rows"}
    for call, what in calls.items():
        for who in ("loadstone", "safetensors"):
            todo += group.add_python(what, who, "calls.py", [who, call, path], [path])
    group.rounds(todo)
    more = group.get("python -c", "import loadstone").median() - group.get("python -c", "pass").median()
    group.check("import loadstone, beside starting Python", more, "15 ms", 0.015, 1)
    for what in calls.values():
        group.check(
            f"{what} (Python)", group.get(what, "loadstone"), "safetensors", group.get(what, "safetensors")
        )


def columns(group):
    """Some columns of a 4096 x 4096 weight, cold: what comes from the disk."""
    path, options = group.env.files.columns(), {"cold": True, "partial": True}
    call = ["loadstone", "whole", path, 0]
    todo = group.add_python(ALL_COLUMNS, "loadstone", "calls.py", call, [path], **options)
    for n in COLUMNS:
        for who, way in {"loadstone": "loadstone", **COLUMN_READERS}.items():
            call = [way, "columns", path, n]
            todo += group.add_python(f"{n} columns of 4096", who, "calls.py", call, [path], **options)
    group.rounds(todo, rounds_of_memory(group))
    for n in COLUMNS:
        check_columns(group, f"{n} columns of 4096", 2 * n * 4 * 4096 + 4096 * 4096)


def check_columns(group, what, bound):
    ours, mib = group.get(what, "loadstone"), 1 << 20
    if not ours:
        return
    read, shown = max(ours.values("disk_nbytes")) / mib, f"{what}, cold, from the disk"
    group.check(shown, read, "twice the slice + a page a row", bound / mib, 1, "MiB")
    for who in COLUMN_READERS:
        theirs = group.get(what, who)
        if theirs:
            group.check(shown, read, who, max(theirs.values("disk_nbytes")) / mib, unit="MiB")
            group.check(f"{what}, cold", ours, who, theirs)
    group.check(f"{what}, cold", ours, "all columns", group.get(ALL_COLUMNS, "loadstone"))


def add_limits(group, what, src, dst, n):
    """
    Loops by hand and memcpy of as many bytes, from and into memory that was used before: on one thread and
    on all, with plain and with streaming stores. What a machine does not have is left out by itself.
    """
    nbytes = n * SIZES[src]
    limits = [group.env.limits, "copy", "--huge", "--runs", max(21, (32 << 20) // n)]
    threads = {"1 thread": ["--threads", 1], "all threads": []}
    stores = {"plain": [], "streaming": ["--stream"]}
    todo = []
    for label, options in threads.items():
        command = [*limits, *options, "--nbytes", (nbytes + n * SIZES[dst]) // 2]
        todo += group.add(what, f"memcpy of as many bytes, {label}", command)
        for kind, more in stores.items():
            command = [*limits, *options, *more, "--nbytes", nbytes, "--src", src, "--dst", dst]
            todo += group.add(what, f"loop by hand, {kind} stores, {label}", command, other=True)
    return todo


def best(group, what, who):
    """The fastest of what begins so."""
    found = [m for m in group.found.values() if m.what == what and m.who.startswith(who)]
    return min(found, key=lambda m: m.median(), default=None)


def convert(group):
    """The kernels alone, from Python, in memory used before, beside ml_dtypes and the machine's limits."""
    pairs, sizes = [("f32", "bf16"), ("bf16", "f32")], {"32 Mi": 32 << 20, "256 Ki": 256 << 10}
    cases = [
        (f"convert {label} {src} to {dst}", src, dst, n) for src, dst in pairs for label, n in sizes.items()
    ]
    todo = []
    for what, src, dst, n in cases:
        for who in ("loadstone", "ml_dtypes"):
            todo += group.add_python(what, who, "calls.py", [who, "convert", src, dst, n])
        todo += add_limits(group, what, src, dst, n)
    group.rounds(todo)
    for what, *_ in cases:
        ours, shown = group.get(what, "loadstone"), f"{what} (Python)"
        group.check(shown, ours, "ml_dtypes astype", group.get(what, "ml_dtypes"), 4)
        for limit in ("loop by hand", "memcpy of as many bytes"):
            group.check(shown, ours, f"the best {limit}", best(group, what, limit))


def inspect(group):
    runs = ["spawn", "--runs", 50 if group.env.quick else 200, "--"]
    path = group.env.files.many(1000)
    what = "inspect 1000 tensors, whole process"
    todo = group.add(what, "loadstone", [group.env.limits, *runs, group.env.loadstone, "inspect", path])
    todo += group.add(what, "true", [group.env.limits, *runs, "true"])
    group.rounds(todo)
    ours, shown = group.get(what, "loadstone"), "loadstone inspect of 1,000 tensors, whole process"
    group.check(shown, ours, "15 ms", 0.015, 1)
    group.check(shown, ours, "the command true", group.get(what, "true"))


def fastest(runs):
    """Of the runs of one kernel, as checkasm takes the best of its turns: others can only make it slower."""
    gbps, memcpy_gbps = (max(run[key] for run in runs) for key in ("gbps", "memcpy_gbps"))
    best = {"gbps": gbps, "memcpy_gbps": memcpy_gbps, "ratio": gbps / memcpy_gbps}
    return {**runs[0], **best, "n_rounds": len(runs)}


def kernels(group):
    if not group.env.checkasm.exists():
        ninja = ["ninja", "-C", group.env.build, "tests/checkasm/checkasm"]
        subprocess.run(ninja, check=True, stdout=subprocess.DEVNULL)
    command = [group.env.checkasm, "--bench", "--json"]
    runs = []
    for _ in range(group.n_rounds):
        run = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        runs.append(json.loads(run.stdout))
    group.kernels = [fastest(kernel) for kernel in zip(*runs, strict=True)]
    for kernel in group.kernels:
        src, dst, isa = kernel["src"], kernel["dst"], kernel["isa"]
        if isa != "c" and {src, dst} <= MEMORY_BOUND:
            ours, copy = 1e3 / kernel["gbps"], 1e3 / kernel["memcpy_gbps"]
            group.check(f"kernel {src} -> {dst}, {isa}, data in L2", ours, "memcpy", copy, 0.5, "ms/GB")


GROUPS = {
    "open": opening,
    "many": many,
    "huge": huge,
    "python": python,
    "columns": columns,
    "convert": convert,
    "inspect": inspect,
    "kernels": kernels,
}
