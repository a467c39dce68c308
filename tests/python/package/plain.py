"""Checkpoints and processes made with nothing but Python, for tests that run where there is nothing else."""

import json
import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import loadstone

NBYTES = {"U8": 1, "F8_E4M3": 1, "F16": 2, "BF16": 2, "F32": 4}


def header_of(shapes):
    """The first bytes of a file with tensors {name: (dtype, shape)}, and how many bytes of data follow."""
    header, end = {}, 0
    for name, (dtype, shape) in shapes.items():
        begin, end = end, end + math.prod(shape) * NBYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text, end


def write(path, tensors):
    """A file with tensors {name: (dtype, shape, bytes)}."""
    header, _ = header_of({name: tensor[:2] for name, tensor in tensors.items()})
    Path(path).write_bytes(header + b"".join(tensor[2] for tensor in tensors.values()))
    return path


def write_sparse(path, shapes):
    """A file with tensors {name: (dtype, shape)} of zeros, which take no room on the disk."""
    header, nbytes = header_of(shapes)
    Path(path).write_bytes(header)
    os.truncate(path, len(header) + nbytes)
    return path


def write_every_kind(path):
    """A file with some tensors to look at, and what its floats are: {name: [value, ...]}."""
    floats = {
        "block.weight": [i / 8 for i in range(24)],
        "block.bias": [-float(i) for i in range(6)],
        "größe": [0.5],
    }
    tensors = {
        "block.weight": ("F32", (4, 6), struct.pack("<24f", *floats["block.weight"])),
        "block.bias": ("F16", (6,), struct.pack("<6e", *floats["block.bias"])),
        "größe": ("F32", (), struct.pack("<f", *floats["größe"])),
        "empty": ("BF16", (0, 3), b""),
        "bytes": ("U8", (7,), bytes(range(7))),
    }
    write(path, tensors)
    return floats


def environment():
    """That of a process which imports the package from where this one has it."""
    return {**os.environ, "PYTHONPATH": str(Path(loadstone.__file__).parents[1])}


def run(*args):
    """Python with these arguments, in a process of its own."""
    return subprocess.run(
        [sys.executable, *map(str, args)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
