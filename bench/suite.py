"""What groups of measurements share: the files, the programs, the other loaders, and a group's findings."""

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
from measure import Bench, Measurement, say

TREE = Path(__file__).resolve().parent.parent
SIZES = {"bf16": 2, "f16": 2, "f32": 4}

# The package that each way of bench/loaders.py and bench/calls.py needs.
PACKAGES = {
    "torch": "torch",
    "diffusers": "diffusers",
    "runai": "runai_model_streamer",
    "fastsafetensors": "fastsafetensors",
    "safetensors": "safetensors",
    "ml_dtypes": "ml_dtypes",
    "loadstone": "loadstone",
    "pread": "os",
}
PAST_CACHE = {"runai", "fastsafetensors"}  # they read directly, hot or cold


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


class Files:
    """The checkpoints that are measured, each made when it is first asked for."""

    def __init__(self, work, loadstone, quick):
        self.work, self.loadstone, self.n_layers = work, loadstone, 4 if quick else 30

    def model(self, dtype, n_layers=None):
        n_layers = n_layers or self.n_layers
        directory = self.work / f"transformer-{n_layers}-{dtype}"
        if not directory.exists():
            say(f"making {directory.name}")
        make_checkpoint.make_transformer(self.loadstone, directory, dtype, n_layers)
        return Model(directory, dtype)

    def many(self, n):
        path = self.work / f"many-{n}.safetensors"
        make_checkpoint.make_many(path, n)
        return path

    def columns(self):
        path = self.work / "columns.safetensors"
        make_checkpoint.make_one(path, (4096, 4096))
        return path

    def huge(self):
        return make_checkpoint.make_huge(self.work / "huge")

    def pickled(self, model, python):
        """The weights of a model as torch.save writes them."""
        path = model.directory.with_suffix(".bin")
        if not path.exists():
            say(f"making {path.name}")
            part = path.with_suffix(".part")
            code = (
                "import sys, torch, safetensors.torch as s; torch.save(s.load_file(sys.argv[1]), sys.argv[2])"
            )
            subprocess.run([python, "-c", code, model.file, part], check=True)
            part.replace(path)
        return path


class Others:
    """The other loaders, in a virtual environment of their own, and why some of them are not there."""

    def __init__(self, work, python=None, wanted=True):
        self.directory = work / "peers"
        self.python = python or self.directory / "bin" / "python" if wanted else None
        self.reasons = {}  # package -> why it cannot be imported, or None
        self.failed = {}  # name in requirements.txt -> why it was not installed
        if wanted and not python:
            self.install()

    def install(self):
        requirements = (TREE / "bench" / "requirements.txt").read_text()
        done = self.directory / "installed.json"
        if done.exists():
            installed = json.loads(done.read_text())
            if installed["requirements"] == requirements:
                self.failed = installed["failed"]
                return
        say("installing the other loaders")
        subprocess.run([sys.executable, "-m", "venv", self.directory], check=True)
        for line in requirements.splitlines():  # one by one: a machine may have some of them and not others
            if not line.startswith("#"):
                pip = [self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", line]
                run = subprocess.run(pip, stderr=subprocess.PIPE, text=True, check=False)
                if run.returncode:
                    self.failed[line] = last_line(run.stderr)
                    say(f"  not installed: {line}: {self.failed[line]}")
        done.write_text(json.dumps({"requirements": requirements, "failed": self.failed}))

    def reason_against(self, package):
        """Why a package cannot be used, or None."""
        if not self.python and package != "loadstone":
            return "left out by --no-peers"
        if package not in self.reasons:
            run = subprocess.run(
                [self.python or sys.executable, "-c", f"import {package}"],
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            name = package.replace("_", "-")
            installing = next((why for line, why in self.failed.items() if line.startswith(name)), None)
            self.reasons[package] = (installing or last_line(run.stderr)) if run.returncode else None
        return self.reasons[package]


def last_line(text):
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"


def git(*arguments):
    run = subprocess.run(["git", "-C", TREE, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    return run.stdout.strip()


class Environment:
    """The programs of a build, the files, and the other loaders."""

    def __init__(self, args):
        build = args.build.resolve()
        self.quick = args.quick
        self.n_rounds = args.rounds or 3
        self.loadstone = build / "loadstone"
        self.limits = build / "bench" / "limits"
        self.load_bench = build / "bench" / "load_bench"
        self.slow_fs = build / "bench" / "slow_fs"
        self.checkasm = build / "tests" / "checkasm" / "checkasm"
        for program in (self.loadstone, self.limits, self.load_bench):
            if not program.exists():
                sys.exit(f"{program} is not there: build first (./dev build)")
        self.build = build
        self.work = args.work.resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.bench = Bench(self.limits)
        self.files = Files(self.work, self.loadstone, self.quick)
        self.others = Others(self.work, args.peer_python, not args.no_peers)
        os.environ["PYTHONPATH"] = str(build / "python")
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled


class Group:
    """Measurements that are made in turn, under the same conditions, and what they say about Loadstone."""

    def __init__(self, name, environment):
        self.name = name
        self.env = environment
        self.n_rounds = environment.n_rounds
        self.found = {}  # name -> Measurement
        self.checks = []
        self.left_out = {}  # who -> reason
        self.kernels = []
        self.began = time.time()

    def add(self, what, who, command, files=(), **options):
        measurement = Measurement(what, who, list(command), list(files), **options)
        self.found[measurement.name] = measurement
        return [measurement]

    def add_python(self, what, who, program, arguments, files=(), **options):
        """A measurement by a program of this directory, which the Python of the other loaders runs."""
        loader = arguments[0]
        package = next(PACKAGES[prefix] for prefix in PACKAGES if loader.startswith(prefix))
        reason = self.env.others.reason_against(package)
        if reason:
            self.left_out[who] = reason
            return []
        python = self.env.others.python or sys.executable
        command = [python, TREE / "bench" / program, *arguments]
        memory_nbytes = options.pop("memory_nbytes", 0)
        if memory_nbytes:  # not before the seconds that its imports take
            command += ["--before", *self.env.bench.back_memory(memory_nbytes)]
        return self.add(
            what,
            who,
            command,
            files,
            other=True,
            past_cache=loader in PAST_CACHE and not options.get("cold"),
            **options,
        )

    def add_loader(self, what, who, way, model, dtype, new_nbytes=0, **options):
        """A load through Python, of the file or the directory that this way wants."""
        path = file = model.file
        if way == "diffusers":
            path = model.directory
        elif way.startswith("torch"):
            if self.env.others.reason_against("torch"):
                self.left_out[who] = self.env.others.reason_against("torch")
                return []
            path = file = self.env.files.pickled(model, self.env.others.python)
        if way == "loadstone":  # whose pages are present then
            options["key"] = "load"
        return self.add_python(
            what, who, "loaders.py", [way, path, dtype], [file], memory_nbytes=new_nbytes, **options
        )

    def add_loop(self, what, model, dtype, used):
        best = loops.LoopSearch(what, self.env.bench, model, dtype, used, self.env.quick).run()
        self.found[best.name] = best
        return best

    def add_disk(self, what, who, model, *extra, memory_nbytes=0):
        best = loops.best_of_disk(what, who, self.env.bench, model.file, extra, memory_nbytes)
        self.found[best.name] = best
        return best

    def rounds(self, measurements, n_rounds=None):
        self.env.bench.rounds(measurements, n_rounds or self.n_rounds)
        for measurement in measurements:
            if measurement.failure:
                self.left_out[measurement.name] = measurement.failure
                del self.found[measurement.name]

    def get(self, what, who):
        return self.found.get(f"{what}, {who}")

    def check(self, what, ours, label, other, at_least=None, unit="s"):
        """
        A line of the table: how many times as good as other ours is. Both are seconds (or another unit of
        which less is better), as a measurement or as a plain figure. at_least None only shows; other None was
        not measured.
        """
        if other is None or ours is None:
            return
        values = {}
        for side, figure in (("ours", ours), ("other", other)):
            if isinstance(figure, Measurement):
                values[side] = (figure.median(), *figure.spread())
            else:
                values[side] = (figure, figure, figure)
        ratio = values["other"][0] / values["ours"][0] if values["ours"][0] > 0 else None
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

    def results(self):
        return {
            "group": self.name,
            "commit": git("describe", "--always", "--dirty=, with changes", "--abbrev=10"),
            "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime(self.began)),
            "machine": machine.describe(self.env.work),
            "packages": machine.packages(self.env.others.python),
            "left_out": self.left_out,
            "quick": self.env.quick,
            "took_seconds": time.time() - self.began,
            "checks": self.checks,
            "measurements": {name: m.as_json() for name, m in self.found.items() if m.results},
            "kernels": self.kernels,
        }
