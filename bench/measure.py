"""Measurements, each in a process of its own: made under the same conditions, in turn, and summed up."""

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ATTEMPTS = 8
MIB = 1 << 20


class Unmeasurable(Exception):
    """A measurement that cannot be made here, with the reason."""


@dataclass
class Measurement:
    """A command that prints a JSON object, and what it needs to be measured hot."""

    name: str
    command: list
    files: list = field(default_factory=list)  # that have to be in the page cache
    memory_nbytes: int = 0  # that it takes new
    key: str = "seconds"
    results: list = field(default_factory=list)
    rejected: int = 0

    def values(self, key=None):
        return [result[key or self.key] for result in self.results]

    def median(self, key=None):
        return statistics.median(self.values(key))

    def spread(self, key=None):
        values = self.values(key)
        return min(values), max(values)

    def as_json(self):
        low, high = self.spread()
        return {
            "name": self.name,
            "command": [str(part) for part in self.command],
            "key": self.key,
            "in_nbytes": sum(Path(file).stat().st_size for file in self.files),
            "median": self.median(),
            "min": low,
            "max": high,
            "rejected": self.rejected,
            "results": self.results,
        }


def say(text):
    print(text, file=sys.stderr, flush=True)


def run_json(command):
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if run.returncode:
        lines = run.stderr.strip().splitlines()
        raise Unmeasurable(
            f"{Path(command[0]).name} ended with status {run.returncode}: "
            f"{lines[-1] if lines else 'no message'}"
        )
    return json.loads(run.stdout)


class Bench:
    """Runs measurements; knows the program that looks after the page cache and new memory."""

    def __init__(self, limits):
        self.limits = limits

    def prepare(self, measurement):
        """
        Bring the files into the page cache, as the kernel itself confirms. Have the host of a virtual machine
        back as much memory as will be taken: it hands out memory that was free for a while only at the first
        touch, and slowly, which would be measured instead of the loop.
        """
        for file in measurement.files:
            if run_json([self.limits, "warm", file])["resident"] < 1:
                return False
        if measurement.memory_nbytes:
            run_json(self.back_memory(measurement.memory_nbytes))
        return True

    def back_memory(self, nbytes):
        """The command that has the host back this much memory."""
        return [self.limits, "touch", "--huge", "--nbytes", nbytes + 64 * MIB]

    def once(self, measurement):
        """One result. A run that had to go to the disk is thrown away and made again."""
        nbytes = sum(Path(file).stat().st_blocks * 512 for file in measurement.files)
        for _ in range(ATTEMPTS):
            if self.prepare(measurement):
                result = run_json(measurement.command)
                if result.get("disk_nbytes", 0) <= nbytes // 100 + MIB:
                    return result
            measurement.rejected += 1
        raise Unmeasurable(f"{measurement.name}: its files do not stay in the page cache")

    def rounds(self, measurements, n_rounds):
        """Every measurement once a round, beginning with another one each time."""
        for i in range(n_rounds):
            say(f"  round {i + 1} of {n_rounds}")
            for j in range(len(measurements)):
                measurement = measurements[(i + j) % len(measurements)]
                measurement.results.append(self.once(measurement))
