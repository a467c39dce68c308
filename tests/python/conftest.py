"""What every test here starts from: the built command, the built library, and ways to write checkpoints."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tree import BUILD

# A shell that runs this in the background, without job control, has it ignore what some tests send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The package stands in the build directory, if the build has it, unless an installed one is to be tested.
if "LDS_INSTALLED" not in os.environ:
    sys.path.insert(0, str(BUILD / "python"))
collect_ignore = [] if importlib.util.find_spec("loadstone") else ["package", "mindspore"]
# MindSpore has environments of its own (./dev test mindspore); our directory of that name looks like it, too.
found = importlib.util.find_spec("mindspore")
if found is None or found.origin is None:
    collect_ignore.append("mindspore")

# Environments of old and new interpreters lack much; what needs it is tested elsewhere.
for module in ("torch", "hypothesis", "safetensors"):
    if not importlib.util.find_spec(module):
        pattern = re.compile(rf"^(?:import|from) {module}\b", re.MULTILINE)
        collect_ignore += [
            str(test) for test in Path(__file__).parent.rglob("test_*.py") if pattern.search(test.read_text())
        ]


class Command:
    """The command line tool; calling it runs it."""

    def __init__(self, path: Path):
        self.path = path

    def __call__(self, *args, check: bool = True, **options) -> subprocess.CompletedProcess:
        """Run with args. With check, anything but exit code 0 fails the test, showing what it said."""
        done = subprocess.run(
            [self.path, *map(str, args)], capture_output=True, text=True, timeout=300, check=False, **options
        )
        if check and done.returncode != 0:
            pytest.fail(f"{' '.join(map(str, done.args))}: exit code {done.returncode}\n{done.stderr}")
        return done

    def json(self, *args, **options):
        """Run with args and --json; what it printed, parsed."""
        return json.loads(self(*args, "--json", **options).stdout)


@pytest.fixture(scope="session")
def build_dir() -> Path:
    return BUILD


@pytest.fixture(scope="session")
def loadstone() -> Command:
    return Command(BUILD / "loadstone")


@pytest.fixture(scope="session")
def library_path() -> Path:
    return BUILD / "libloadstone.so"
