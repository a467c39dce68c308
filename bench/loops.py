"""The search for the machine's limits: every freedom that bench/limits has, tried on this machine."""

import itertools

from measure import Measurement, Unmeasurable, run_json, say

KIB, MIB = 1 << 10, 1 << 20
PROBE_NBYTES = 512 * MIB
N_VARIED = 4
SIEVES = ((6, 3), (3, 6))  # of the best so many go on, and are measured so many times

PAGES = {"2 MiB pages": ["--huge"], "4 KiB pages": []}
BLOCKS = {f"{size // KIB} KiB blocks": ["--block", size] for size in (64 * KIB, 256 * KIB, MIB, 4 * MIB)}
QUICK_BLOCKS = {name: BLOCKS[name] for name in ("256 KiB blocks", "1024 KiB blocks")}
KERNELS = {
    "own kernel": [],
    "own kernel, streaming stores": ["--stream"],
    "library's kernel": ["--library"],
}
SHARING = {"blocks in turn": [], "a half each": ["--halves"]}
POPULATE = {"": [], "populated by the block": ["--populate"]}


def combined(*tables):
    """(description, options) of each way to choose one entry from each table."""
    for choice in itertools.product(*(table.items() for table in tables)):
        options = list(itertools.chain.from_iterable(part for _, part in choice))
        yield ", ".join(label for label, _ in choice if label), options


def sieve(bench, measurements):
    """The best of what is most promising first. Of equals it is the luckiest: it is still to be made anew."""
    for n, n_rounds in SIEVES:
        measurements = measurements[:n]
        bench.rounds(measurements, n_rounds)
        measurements.sort(key=Measurement.median)
    measurements[0].results.clear()
    return measurements[0]


class LoopSearch:
    """The best loop by hand that reads and converts."""

    def __init__(self, what, bench, model, dtype, used, quick):
        self.what = what
        self.bench, self.model, self.quick = bench, model, quick
        self.base = [bench.limits, "load", model.file, "--offset", model.data_offset]
        self.base += ["--src", model.dtype, "--dst", dtype, *(["--used"] if used else [])]
        self.new_nbytes = 0 if used else model.nbytes_as(dtype)
        self.populate = {"": []} if used else POPULATE  # memory used before has nothing to populate
        self.probed = {}  # description -> (seconds of a part of the file, options)

    def measurement(self, label, command, new_nbytes):
        return Measurement(
            self.what, "best loop", command, [self.model.file], memory_nbytes=new_nbytes, label=label
        )

    def probe(self, name, options):
        if name in self.probed:
            return
        part = min(PROBE_NBYTES, self.model.nbytes)
        command = [*self.base, *options, "--nbytes", part]
        new_nbytes = self.new_nbytes * part // self.model.nbytes
        try:
            result = self.bench.once(self.measurement(name, command, new_nbytes))
            self.probed[name] = (result["seconds"], options)
        except Unmeasurable as reason:
            if "no loop of our own" not in str(reason):
                raise

    def ranked(self):
        return sorted(self.probed.items(), key=lambda entry: entry[1][0])

    def run(self):
        """The best, as a measurement of the whole file that is still to be made."""
        say("  the best loop by hand")
        plain = next(combined(SHARING, self.populate))[0]
        for name, options in combined(PAGES, QUICK_BLOCKS if self.quick else BLOCKS, KERNELS):
            self.probe(f"{name}, {plain}", options)
        for name, (_, options) in self.ranked()[:N_VARIED]:
            for change, more in combined(SHARING, self.populate):
                self.probe(name.replace(plain, change), options + more)
        loops = [
            self.measurement(name, self.base + options, self.new_nbytes)
            for name, (_, options) in self.ranked()
        ]
        return sieve(self.bench, loops)


DEPTHS = (1, 2, 4, 8, 16, 32, 64)
DISK_BLOCKS = (128 * KIB, 512 * KIB, MIB, 2 * MIB, 4 * MIB)


def best_of_disk(what, who, bench, file, extra=(), memory_nbytes=0):
    """
    The fastest way to read a file past the page cache, as a measurement that is still to be made: a number of
    requests at a time, a block size, and pages of the buffers, each tried on a part of the file first.
    Buffers are used again and again, so that small ones stay in the processor's cache, which the disk of a
    virtual machine makes use of.
    """
    say(f"  the {who}")
    nbytes = file.stat().st_size
    part = min(PROBE_NBYTES, nbytes // 2) // MIB * MIB
    probed = []
    ways = itertools.product(DEPTHS, DISK_BLOCKS, PAGES.items())
    for i, (depth, block, (pages, huge)) in enumerate(ways):
        options = ["--threads", depth, "--block", block, *huge, *extra]
        offset = (i * part % (nbytes - part)) // MIB * MIB
        command = [bench.limits, "direct", file, *options]
        seconds = run_json([*command, "--offset", offset, "--nbytes", part])["seconds"]
        probed.append((seconds, f"{depth} at a time, {block // KIB} KiB each, {pages}", command))
    ranked = [
        Measurement(what, who, command, [file], cold=True, memory_nbytes=memory_nbytes, label=label)
        for _, label, command in sorted(probed)
    ]
    return sieve(bench, ranked)
