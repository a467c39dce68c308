"""Make the published numbers: Loadstone beside the machine's own limits and other loaders, on this machine.

    python3 bench/run.py [--build build] [--work .cache/bench] [--quick] [--json FILE] [--docs]

Needs about 11 GB of disk, 20 GB of memory, and half an hour of a machine that does nothing else;
--quick takes a smaller model and a few minutes. The other loaders go into a virtual environment of their own
in --work, or are those of --peer-python. --docs writes docs/benchmarks.md and .svg from the results.
"""

import argparse
import json
import os
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import loops
import machine
import make_checkpoint
import report
from measure import MIB, Bench, Measurement, Unmeasurable, say

TREE = Path(__file__).resolve().parent.parent
PAIRS = [("f32", "bf16"), ("bf16", "f32"), ("bf16", "f16")]
MANY = (232670, 31337)
MEMORY_BOUND = {"F32", "F16", "BF16"}  # what turns them into one another has little to compute
SIZES = {"bf16": 2, "f16": 2, "f32": 4}
GROUPS = ("machine", "same", "fresh", "used", "open", "inspect", "kernels")


@dataclass
class Model:
    """A transformer in a directory, in one file of one dtype."""

    directory: Path
    dtype: str

    def __post_init__(self):
        self.file = self.directory / "diffusion_pytorch_model.safetensors"
        with self.file.open("rb") as file:
            self.data_offset = 8 + struct.unpack("<Q", file.read(8))[0]
        self.nbytes = self.file.stat().st_size - self.data_offset

    def nbytes_as(self, dtype):
        return self.nbytes // SIZES[self.dtype] * SIZES[dtype]


class Run:
    def __init__(self, args):
        self.args = args
        self.quick = args.quick
        self.n_rounds = args.rounds or (3 if args.quick else 5)
        build = args.build.resolve()
        self.loadstone = build / "loadstone"
        self.limits = build / "bench" / "limits"
        self.load_bench = build / "bench" / "load_bench"
        self.checkasm = build / "tests" / "checkasm" / "checkasm"
        for program in (self.loadstone, self.limits, self.load_bench):
            if not program.exists():
                sys.exit(f"{program} is not there: build first (./dev build)")
        self.work = args.work.resolve()
        self.bench = Bench(self.limits)
        self.found = {}  # name -> Measurement
        self.checks = []
        self.kernels = []

    # What is measured.

    def make_files(self):
        n_layers = 4 if self.quick else 30
        self.models = {}
        for dtype in ("bf16", "f32"):
            directory = self.work / f"transformer-{n_layers}-{dtype}"
            say(f"making {directory.name}")
            make_checkpoint.make_transformer(self.loadstone, directory, dtype, n_layers)
            self.models[dtype] = Model(directory, dtype)
        self.many = {n: self.work / f"many-{n}.safetensors" for n in (*MANY, 1000)}
        for n, path in self.many.items():
            make_checkpoint.make_many(path, n)

    def find_peers(self):
        if self.args.no_peers:
            self.peer_python = None
            return
        self.peer_python = self.args.peer_python or self.work / "peers" / "bin" / "python"
        requirements = TREE / "bench" / "requirements.txt"
        done = self.work / "peers" / "requirements.txt"
        if self.args.peer_python or (done.exists() and done.read_text() == requirements.read_text()):
            return
        say("installing the other loaders")
        subprocess.run([sys.executable, "-m", "venv", self.work / "peers"], check=True)
        pip = [self.peer_python, "-m", "pip", "install", "--quiet"]
        torch = next(line for line in requirements.read_text().splitlines() if line.startswith("torch=="))
        subprocess.run([*pip, torch], check=True)  # by itself: a machine may have a build without GPU code
        subprocess.run([*pip, "-r", requirements], check=True)
        done.write_text(requirements.read_text())

    def add(self, name, command, files=(), memory_nbytes=0, key="seconds"):
        self.found[name] = Measurement(name, list(command), list(files), memory_nbytes, key)
        return [self.found[name]]

    def add_peer(self, name, arguments, files, memory_nbytes=0, key="seconds"):
        if not self.peer_python:
            return []
        command = [self.peer_python, TREE / "bench" / "peers.py", *arguments]
        if memory_nbytes:  # not before the seconds that its imports take
            command += ["--before", *self.bench.back_memory(memory_nbytes)]
        return self.add(name, command, files, key=key)

    def add_loops(self, what, model, dtype, used):
        found = []
        for i, loop in enumerate(loops.Search(self.bench, model, dtype, used, self.quick).run()):
            loop.label, loop.name = loop.name, f"{what}, loop {i + 1}"
            self.found[loop.name] = loop
            found.append(loop)
        return found

    # The groups of measurements, each in rounds of its own.

    def run_machine(self):
        say("the machine's limits")
        nbytes = (256 if self.quick else 2048) * MIB
        model = self.models["bf16"]
        limits = [self.limits]
        todo = self.add("memcpy, used memory", [*limits, "copy", "--huge", "--nbytes", nbytes])
        todo += self.add(
            "first touch, 2 MiB pages", [*limits, "touch", "--huge", "--nbytes", nbytes], memory_nbytes=nbytes
        )
        todo += self.add(
            "first touch, 4 KiB pages", [*limits, "touch", "--nbytes", nbytes], memory_nbytes=nbytes
        )
        todo += self.add(
            "pread, fresh memory, 2 MiB pages",
            [*limits, "load", model.file, "--huge"],
            [model.file],
            model.nbytes,
        )
        todo += self.add(
            "pread, fresh memory, 4 KiB pages", [*limits, "load", model.file], [model.file], model.nbytes
        )
        todo += self.add("touch of a private mapping", [*limits, "map", model.file], [model.file])
        self.bench.rounds(todo, self.n_rounds)

    def run_same(self):
        say("bf16 -> bf16")
        model = self.models["bf16"]
        what = "bf16 -> bf16"
        todo = self.add(
            f"{what}, loadstone", [self.load_bench, "load", model.directory, "--dtype", "bf16"], [model.file]
        )
        todo += self.add_peer(f"{what}, safetensors", ["safetensors", model.file, "bf16"], [model.file])
        todo += self.add_peer(f"{what}, diffusers", ["diffusers", model.directory, "bf16"], [model.file])
        self.bench.rounds(todo, self.n_rounds)
        ours = self.found[f"{what}, loadstone"]
        shown = f"{what}, every page present"
        self.check(shown, ours, "0.1 s for each 3.39 GB", 0.1 * model.nbytes / 3.39e9, 1)
        for peer in ("safetensors", "diffusers"):
            self.check(shown, ours, f"{peer} + touch of every page", self.found.get(f"{what}, {peer}"), 1)
        self.check(
            "page faults of a walk after the load",
            max(ours.values("walk_faults")),
            "1 of 1000 pages",
            model.nbytes // 4096 // 1000,
            1,
            "",
        )

    def run_fresh(self):
        for src, dst in PAIRS:
            model, what = self.models[src], f"{src} -> {dst}, fresh memory"
            say(what)
            new = model.nbytes_as(dst)
            best = self.add_loops(what, model, dst, used=False)
            todo = best + self.add(
                f"{what}, loadstone",
                [self.load_bench, "load", model.directory, "--dtype", dst],
                [model.file],
                new,
            )
            todo += self.add_peer(
                f"{what}, safetensors", ["safetensors", model.file, dst], [model.file], new, "load"
            )
            todo += self.add(
                f"{what}, best loop from a mapping", [*best[0].command, "--map"], [model.file], new
            )
            self.bench.rounds(todo, self.n_rounds)
            ours, loop = self.found[f"{what}, loadstone"], min(best, key=Measurement.median)
            self.check(what, ours, "best loop by hand", loop, 0.95)
            self.check(
                what,
                ours,
                "safetensors load_file + .to",
                self.found.get(f"{what}, safetensors"),
                1.0 if src == "f32" else 1.2,
            )
            network = ours.results[0]["network_nbytes"]
            self.check(
                f"{src} -> {dst}, peak resident memory",
                max(ours.values("peak_rss_bytes")) / MIB,
                "network + 80 MiB",
                network / MIB + 80,
                1,
                "MiB",
            )

    def run_used(self):
        for src, dst in PAIRS:
            model, what = self.models[src], f"{src} -> {dst}, used memory"
            say(what)
            best = self.add_loops(what, model, dst, used=True)
            pages = ["--huge"] if "--huge" in best[0].command else []
            load = [self.load_bench, "load", model.directory, "--dtype", dst, *pages]
            ways = ("lds_param_bind", "--bind"), ("lds_allocator", "--allocator")
            todo = list(best)
            for way, option in ways:
                todo += self.add(f"{what}, {way}", [*load, option], [model.file])
            todo += self.add_peer(
                f"{what}, copy_", ["safetensors-used", model.file, dst], [model.file], 0, "load"
            )
            todo += self.add_peer(
                f"{what}, safetensors",
                ["safetensors", model.file, dst],
                [model.file],
                model.nbytes_as(dst),
                "load",
            )
            self.bench.rounds(todo, self.n_rounds)
            loop = min(best, key=Measurement.median)
            for way, _ in ways:
                ours = self.found[f"{what}, {way}"]
                shown = f"{what} ({way})"
                self.check(shown, ours, "best loop by hand", loop, 0.9)
                peer, copy = self.found.get(f"{what}, safetensors"), self.found.get(f"{what}, copy_")
                self.check(shown, ours, "safetensors load_file + .to, fresh", peer, 2)
                self.check(shown, ours, "safetensors load_file + copy_, used", copy, None)

    def run_open(self):
        say("headers")
        todo = []
        for n in MANY:
            path = self.many[n]
            todo += self.add(f"open {n}, loadstone", [self.load_bench, "open", path], [path])
            todo += self.add_peer(f"open {n}, safetensors", ["open", path], [path])
            todo += self.add(f"load {n}, loadstone", [self.load_bench, "load", path], [path], key="load")
        self.bench.rounds(todo, self.n_rounds)
        for n in MANY:
            ours = self.found[f"open {n}, loadstone"]
            if n == MANY[0]:
                self.check(f"opening {n:,} tensors", ours, "0.12 s", 0.12, 1)
            self.check(
                f"opening {n:,} tensors",
                ours,
                "safetensors safe_open + keys",
                self.found.get(f"open {n}, safetensors"),
                None,
            )
            load = self.found[f"load {n}, loadstone"]
            self.check(f"plan and load of {n:,} tensors, each", load.median() / n * 1e6, "1 µs", 1, 1, "µs")

    def run_inspect(self):
        say("inspect")
        runs = ["spawn", "--runs", 50 if self.quick else 200, "--"]
        path = self.many[1000]
        todo = self.add("inspect 1000", [self.limits, *runs, self.loadstone, "inspect", path])
        todo += self.add("inspect 1000, true", [self.limits, *runs, "true"])
        self.bench.rounds(todo, self.n_rounds)
        ours = self.found["inspect 1000"]
        self.check("loadstone inspect of 1,000 tensors, whole process", ours, "15 ms", 0.015, 1)
        self.check(
            "loadstone inspect of 1,000 tensors, whole process",
            ours,
            "the command true",
            self.found["inspect 1000, true"],
            None,
        )

    def run_kernels(self):
        say("kernels")
        if not self.checkasm.exists():
            subprocess.run(
                ["ninja", "-C", self.args.build, "tests/checkasm/checkasm"],
                check=True,
                stdout=subprocess.DEVNULL,
            )
        run = subprocess.run([self.checkasm, "--bench", "--json"], stdout=subprocess.PIPE, check=True)
        self.kernels = json.loads(run.stdout)
        for kernel in self.kernels:
            src, dst, isa = kernel["src"], kernel["dst"], kernel["isa"]
            if isa != "c" and {src, dst} <= MEMORY_BOUND:
                ours, copy = 1e3 / kernel["gbps"], 1e3 / kernel["memcpy_gbps"]
                self.check(f"kernel {src} -> {dst}, {isa}, data in L2", ours, "memcpy", copy, 0.5, "ms/GB")

    # What is made of it.

    def check(self, what, ours, label, other, at_least, unit="s"):
        """
        A line of the table: how many times as good as other ours is. Both are seconds (or another unit of
        which less is better), as a measurement or as a plain figure. at_least None only shows; other None was
        not measured.
        """
        if other is None:
            return
        values = {}
        for side, figure in (("ours", ours), ("other", other)):
            if isinstance(figure, Measurement):
                values[side] = (figure.median(), *figure.spread())
            else:
                values[side] = (figure, figure, figure)
        ratio = values["other"][0] / values["ours"][0] if values["ours"][0] else None
        reached = ratio is None or at_least is None or ratio >= at_least
        verdict = "" if at_least is None else "pass" if reached else "short"
        self.checks.append(
            {
                "what": what,
                **values,
                "beside": label,
                "unit": unit,
                "ratio": ratio,
                "at_least": at_least,
                "verdict": verdict,
            }
        )

    def results(self, seconds):
        return {
            "machine": machine.describe(self.work),
            "peers": machine.peers(self.peer_python),
            "quick": self.quick,
            "rounds": self.n_rounds,
            "took_seconds": seconds,
            "checks": self.checks,
            "model_nbytes": {dtype: model.nbytes for dtype, model in self.models.items()},
            "measurements": {
                name: m.as_json() | {"label": getattr(m, "label", "")}
                for name, m in self.found.items()
                if m.results
            },
            "kernels": self.kernels,
        }

    def run(self):
        begin = time.monotonic()
        self.work.mkdir(parents=True, exist_ok=True)
        self.make_files()
        self.find_peers()
        for group in self.args.only or GROUPS:
            getattr(self, f"run_{group}")()
        return self.results(time.monotonic() - begin)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", type=Path, default=TREE / "build", help="the build directory")
    parser.add_argument("--work", type=Path, default=TREE / ".cache" / "bench", help="where files are kept")
    parser.add_argument("--quick", action="store_true", help="a smaller model, fewer rounds")
    parser.add_argument("--rounds", type=int, help="how often each measurement is made")
    parser.add_argument(
        "--only", action="append", choices=GROUPS, help="this group of measurements; repeatable"
    )
    parser.add_argument("--peer-python", type=Path, help="a Python that has bench/requirements.txt")
    parser.add_argument("--no-peers", action="store_true", help="leave the other loaders out")
    parser.add_argument("--json", type=Path, help="write all results here")
    parser.add_argument("--docs", action="store_true", help="write docs/benchmarks.md and .svg")
    return parser.parse_args()


def main():
    args = parse_arguments()
    if args.docs and args.only:
        sys.exit("--docs needs all the measurements: leave --only out")
    try:
        results = Run(args).run()
    except Unmeasurable as reason:
        sys.exit(f"bench: {reason}")
    print(report.as_text(results))
    args_json = args.json or args.work / "results.json"
    args_json.write_text(json.dumps(results, indent=1) + os.linesep)
    say(f"all results: {args_json}")
    report.write_svg(results, args.work / "benchmarks.svg")
    if args.docs:
        report.write_docs(results, TREE / "docs")


if __name__ == "__main__":
    main()
