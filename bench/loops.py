"""The search for the best loop by hand: every freedom that bench/limits has, tried on this machine."""

import itertools

from measure import Measurement, Unmeasurable, say

KIB, MIB = 1 << 10, 1 << 20
TUNE_NBYTES = 1 << 30
N_SECOND_LOOK, N_FINALISTS = 8, 3

PAGES = {"4 KiB pages": (), "2 MiB pages": ("--huge",)}
BLOCKS = {f"{size >> 10} KiB blocks": ("--block", size) for size in (64 * KIB, 256 * KIB, MIB, 4 * MIB)}
KERNELS = {
    "own kernel": (),
    "own kernel, streaming stores": ("--stream",),
    "library's kernel": ("--library",),
}
SHARING = {"blocks in turn": (), "a half each": ("--halves",)}
POPULATE = {"": (), "populated by the block": ("--populate",)}
QUICK_BLOCKS = {name: BLOCKS[name] for name in ("256 KiB blocks", "1024 KiB blocks")}


def candidates(used, quick):
    """(description, options) of each loop. Memory used before has nothing to populate."""
    tables = [PAGES, QUICK_BLOCKS if quick else BLOCKS, KERNELS, SHARING, {"": ()} if used else POPULATE]
    for choice in itertools.product(*(table.items() for table in tables)):
        name = ", ".join(label for label, _ in choice if label)
        options = [option for _, part in choice for option in part]
        yield name, options + (["--used"] if used else [])


def search(bench, model, pair, used, quick):
    """The finalists, each a measurement of the whole file, best first."""
    src, dst = pair
    base = [bench.limits, "load", model.file, "--offset", model.data_offset, "--src", src, "--dst", dst]
    loops = [
        Measurement(name, base + options, [model.file], 0 if used else model.nbytes_as(dst))
        for name, options in candidates(used, quick)
    ]
    say(f"  {len(loops)} loops, {src} -> {dst}, {'used' if used else 'fresh'} memory")
    first = []
    for loop in loops:
        part = min(TUNE_NBYTES, model.nbytes)
        probe = Measurement(
            loop.name,
            [*loop.command, "--nbytes", part],
            loop.files,
            loop.memory_nbytes * part // model.nbytes,
        )
        try:
            first.append((bench.once(probe)["seconds"], loop))
        except Unmeasurable as reason:
            if "no loop of our own" not in str(reason):
                raise
    first.sort(key=lambda entry: entry[0])
    second = [loop for _, loop in first[:N_SECOND_LOOK]]
    bench.rounds(second, 2 if quick else 3)
    second.sort(key=lambda loop: loop.median())
    for loop in second:
        loop.results.clear()
    return second[:N_FINALISTS]
