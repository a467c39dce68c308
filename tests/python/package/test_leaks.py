"""Whatever is done again and again leaves nothing behind: no objects, memory, descriptors or mappings."""

import gc
import os
import sys
from pathlib import Path

import loadstone
import pytest
from plain import write_every_kind, write_sparse

EXPECTED = (loadstone.LoadstoneError, ArithmeticError, BufferError, LookupError, TypeError, ValueError)


def look(*values):
    """Having made them was the point."""


def use_all(path):
    """Go through the package, errors and ends in the middle included."""
    checkpoint = loadstone.open(path)
    for tensor in checkpoint.values():
        look(tensor.shape, tensor.dtype, tensor.file, tensor.offset, repr(tensor), tensor.read().raw)
    look(checkpoint["block.weight"][1:3, ::2], checkpoint["block.weight"][..., 0].__dlpack__(copy=True))
    look(checkpoint.metadata, checkpoint.files, checkpoint.path, checkpoint.components, repr(checkpoint))
    for io in ("map", "read"):
        weights = loadstone.load(checkpoint, dtype="float16", io=io, progress=lambda *numbers: None)
        for tensor in weights.values():
            look(tensor.raw, tensor.__dlpack__(), tensor.__dlpack__(max_version=(1, 0)), repr(tensor))
        look(memoryview(weights["block.weight"]), weights["block.weight"].__array_interface__)
        look(weights._repr_html_(), str(weights.report), weights.report.to_dict())
    loadstone.load(checkpoint, out={"bytes": bytearray(7)})["bytes"].__dlpack__()
    network = loadstone.Network("bfloat16")
    with network.scope("block"), network.default_dtype("float32"):
        network.add("weight", (4, 6))
        network.add("extra", [3], init="normal", b=1.0)
    network.tie("head", "block.weight")
    network.load_into(checkpoint, strict=False, key_map=[{"exact": "größe", "drop": True}])
    network.half()["head"].set_dtype("float32")
    look(network["block.extra"].init, network["head"].tied_to, network["head"].tensor)
    for _ in range(2):
        loadstone.load(checkpoint, network=weights.network, out={"bytes": bytearray(7)})
        loadstone.load(checkpoint, network=weights.network, out={"bytes": weights["bytes"]})
    use_badly(path, checkpoint, network)


def use_badly(path, checkpoint, network):
    def stop(*numbers):
        raise ZeroDivisionError

    for call in (
        lambda: loadstone.open(path.with_name("nothing")),
        lambda: loadstone.load(checkpoint, progress=stop),
        lambda: loadstone.load(checkpoint, out={"bytes": bytearray(6)}),
        lambda: loadstone.load(checkpoint, out={"bytes": b"1234567"}),
        lambda: loadstone.load(checkpoint, dtype="float7"),
        lambda: loadstone.load(checkpoint, keep_in_fp32=["\ud800"]),
        lambda: loadstone.KeyMap([{"regex": "("}]),
        lambda: network.load_into(checkpoint),
        lambda: network.add("late", (1,)),
        lambda: loadstone.Network().add("a", [1, "b"]),
        lambda: checkpoint["block.weight"][9],
        lambda: checkpoint["block.weight"][0, 0, 0],
        lambda: checkpoint["block.weight"].read("int8"),
        lambda: checkpoint["nothing"],
        lambda: memoryview(checkpoint["empty"].read()),
        lambda: checkpoint["bytes"].read().__dlpack__(stream=1),
    ):
        with pytest.raises(EXPECTED):
            call()


def census():
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "blocks": sys.getallocatedblocks(),
        "references": getattr(sys, "gettotalrefcount", int)(),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "mappings": len(Path("/proc/self/maps").read_text().splitlines()),
        "memory": pages * os.sysconf("SC_PAGESIZE"),
    }


def assert_settles(function, n, **most):
    """
    n calls leave no more behind than `most` says, in one of 20 rounds: what leaks does so in every round, and
    caches fill ever more slowly.
    """
    most = {"files": 0, **most}
    for _ in range(20):
        before = census()
        for _ in range(n):
            function()
        after = census()
        growth = {what: after[what] - before[what] for what in most}
        if all(growth[what] <= most[what] for what in most):
            return
    raise AssertionError(growth)


def test_nothing_grows(tmp_path):
    path = tmp_path / "model.safetensors"
    write_every_kind(path)
    # What one call in two leaves behind is too much.
    assert_settles(lambda: use_all(path), 100, mappings=0, blocks=50, references=50)


def test_memory_is_given_back(tmp_path):
    """Weights of 16 MiB, dropped 10 times in each of the ways that there are."""
    path = write_sparse(tmp_path / "model.safetensors", {"a": ("F32", (2048, 2048)), "b": ("F16", (8, 8))})

    def use():
        look(loadstone.load(path)["b"].raw)
        loadstone.load(path, dtype="bfloat16", io="read")["a"].__dlpack__()
        loadstone.load(path, out={"a": bytearray(16 << 20)})
        loadstone.open(path)["a"].read("float16")
        network.load_into(path)
        network.half()
        loadstone.load(path, network=network, out={"a": bytearray(8 << 20)})

    network = loadstone.Network.from_checkpoint(loadstone.open(path))
    assert_settles(use, 10, memory=32 << 20)
