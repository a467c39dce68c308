"""Measurements, each in a process of its own: made under the same conditions, in turn, and summed up."""

import json
import os
import random
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ATTEMPTS = 8
MOST_STOLEN = 0.02  # of a run's time on all processors
TICK_SECONDS = 0.01  # in which the kernel counts it
MIB = 1 << 20


class Unmeasurable(Exception):
    """A measurement that cannot be made here, with the reason."""


@dataclass
class Measurement:
    """A command that prints a JSON object, and the state in which files and memory have to be for it."""

    what: str  # it does: loads that are compared have this in common
    who: str  # does it
    command: list
    files: list = field(default_factory=list)  # that have to be in the page cache
    cold: bool = False  # they must not be in it, then
    partial: bool = False  # it reads parts of them
    past_cache: bool = False  # it reads them from the disk whether they are there or not
    memory_nbytes: int = 0  # that it takes new
    key: str = "seconds"
    other: bool = False  # somebody else's: one that fails is left out, and said to be
    label: str = ""
    results: list = field(default_factory=list)
    rejected: int = 0
    failure: str = ""

    def __post_init__(self):
        self.in_nbytes = sum(Path(file).stat().st_size for file in self.files)

    @property
    def name(self):
        return f"{self.what}, {self.who}" if self.who else self.what

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
            "what": self.what,
            "who": self.who,
            "label": self.label,
            "command": [str(part) for part in self.command],
            "key": self.key,
            "cold": self.cold,
            "in_nbytes": self.in_nbytes,
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


def given_back_nbytes():
    """What this virtual machine has given back to its host so far, where the kernel counts it."""
    try:
        return int(Path("/sys/module/page_reporting/parameters/reported_kib").read_text()) << 10
    except OSError:
        return 0


def stolen_seconds():
    """The time of all processors that this virtual machine's host had for others, so far."""
    return int(Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK")


class Disturbance:
    """What a virtual machine's host does to a run, from now on."""

    def __init__(self):
        self.began, self.stolen, self.given_back = time.monotonic(), stolen_seconds(), given_back_nbytes()

    def is_none(self, measurement):
        """No time was taken that matters; nor, from a hot run that takes new memory, any of that."""
        time_it_had = (time.monotonic() - self.began) * os.cpu_count()
        if stolen_seconds() - self.stolen > time_it_had * MOST_STOLEN + TICK_SECONDS:
            return False
        return not measurement.memory_nbytes or measurement.cold or given_back_nbytes() == self.given_back


class Bench:
    """Runs measurements; knows the program that looks after the page cache and new memory."""

    def __init__(self, limits):
        self.limits = limits
        self.read_in = set()  # the files that this run has read into the page cache

    def prepare(self, measurement):
        """
        Bring the files into the page cache, or have it let go of them, as the kernel itself confirms. Have
        the host of a virtual machine back as much memory as will be taken: it hands out memory that was free
        for a while only at the first touch, and slowly, which would be measured instead of the loop.
        """
        for file in measurement.files:
            if not (self.is_cold(file) if measurement.cold else self.is_hot(file)):
                return False
        if measurement.memory_nbytes:
            run_json(self.back_memory(measurement.memory_nbytes))
        return True

    def is_cold(self, file):
        self.read_in.discard(file)
        return run_json([self.limits, "evict", file])["resident"] == 0

    def is_hot(self, file):
        """
        Read once from its beginning to its end: the kernel keeps what came in so in large pieces, which are
        mapped many times faster than the small ones that page faults on a mapping leave behind.
        """
        if file not in self.read_in:
            run_json([self.limits, "evict", file])
            self.read_in.add(file)
        return run_json([self.limits, "warm", file])["resident"] == 1

    def back_memory(self, nbytes):
        """The command that has the host back this much memory."""
        return [self.limits, "back", "--nbytes", nbytes + 64 * MIB]

    def from_where_it_should(self, measurement, disk_nbytes):
        """Whether a run read from the disk what is cold, and nothing that is hot."""
        nbytes = sum(Path(file).stat().st_blocks * 512 for file in measurement.files)
        if measurement.past_cache:
            return True
        if measurement.cold:
            return measurement.partial or disk_nbytes >= nbytes * 95 // 100
        return disk_nbytes <= nbytes // 100 + MIB

    def once(self, measurement):
        """
        One result. A hot run that had to go to the disk is thrown away and made again, and so are a cold one
        that did not, one that took new memory while the machine gave memory back to its host, and one for
        which the host had no processors.
        """
        for attempt in range(ATTEMPTS):
            if self.prepare(measurement):
                disturbance = Disturbance()
                result = run_json(measurement.command)
                undisturbed = disturbance.is_none(measurement) or attempt + 1 == ATTEMPTS
                if undisturbed and self.from_where_it_should(measurement, result.get("disk_nbytes", 0)):
                    return result
            measurement.rejected += 1
        where = "keep out of" if measurement.cold else "stay in"
        raise Unmeasurable(f"{measurement.name}: its files do not {where} the page cache")

    def try_once(self, measurement):
        """One result more; of somebody else's loader, one that fails is not tried again."""
        if measurement.failure:
            return
        try:
            measurement.results.append(self.once(measurement))
        except Unmeasurable as reason:
            if not measurement.other:
                raise
            measurement.failure = str(reason)
            measurement.results.clear()
            say(f"  left out: {measurement.name}: {reason}")

    def rounds(self, measurements, n_rounds):
        """
        Every measurement once a round, in another order each time: which memory one leaves behind decides how
        fast the next one's is, so that none may always follow the same. The orders are those of every run.
        """
        orders = random.Random(0)
        for i in range(n_rounds):
            say(f"  round {i + 1} of {n_rounds}")
            for measurement in orders.sample(measurements, len(measurements)):
                self.try_once(measurement)
