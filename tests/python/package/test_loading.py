"""load(): what becomes of the weights, and what its arguments may be."""

import gc
import json
import resource
from pathlib import Path

import loadstone
import ml_dtypes
import numpy as np
import pytest
import torch
from loadstone import dtypes
from safetensors.torch import load_file, save_file
from support import TORCH, torch_bytes


@pytest.mark.parametrize("dtype", [None, "bfloat16", torch.float16, ml_dtypes.float8_e5m2, dtypes.float32])
@pytest.mark.parametrize("io", ["auto", "map", "read", "uring", "direct"])
def test_loading(path, dtype, io):
    weights = loadstone.load(path, dtype=dtype, io=io, keep_in_fp32="float16")
    expected = load_file(path)
    assert list(weights) == list(loadstone.open(path))
    assert weights.report.n_tensors == len(expected)
    for name, tensor in weights.items():
        want = expected[name]
        if name == "float16":
            want = want.to(torch.float32)
        elif dtype and want.is_floating_point():
            want = want.to(TORCH[str(loadstone._core.dtype(dtype))])
        assert tensor.dtype.name == str(want.dtype).removeprefix("torch.")
        assert tensor.shape == tuple(want.shape)
        assert bytes(tensor.raw) == torch_bytes(want), name


@pytest.mark.parametrize("io", ["read", "uring", "direct"])
def test_loading_through_a_small_window(path, io):
    weights = loadstone.load(path, dtype="float64", io=io, threads=1, window_nbytes=1 << 16)
    plain = loadstone.load(path, dtype="float64")
    assert all(bytes(tensor.raw) == bytes(plain[name].raw) for name, tensor in weights.items())


def test_loading_some_names(path):
    weights = loadstone.load(path, names=["float1*", "scalar"])
    assert set(weights) == {"float16", "scalar"}
    assert "int8" not in list(weights)
    for nothing in ([], iter(())):
        with pytest.raises(loadstone.ArgumentError, match="names: expected a name or a glob, found none"):
            loadstone.load(path, names=nothing)
    with pytest.raises(KeyError):
        weights["int8"]
    with pytest.raises(KeyError):
        weights["nothing"]


def test_loading_into_memory_of_ones_own(path):
    expected = load_file(path)
    out = {
        "bfloat16": np.zeros((3, 4, 5, 6), np.float32),
        "float32": np.zeros((3, 4, 5, 6), ml_dtypes.bfloat16),
        "float64": bytearray(8 * 360),
        "int8": np.zeros((3, 4, 5, 6), np.int8),
    }
    weights = loadstone.load(path, out=out)
    assert out["bfloat16"].tobytes() == torch_bytes(expected["bfloat16"].float())
    assert out["float32"].tobytes() == torch_bytes(expected["float32"].bfloat16())
    assert out["float64"] == torch_bytes(expected["float64"])
    assert out["int8"].tobytes() == torch_bytes(expected["int8"])
    assert weights["bfloat16"].data_ptr == out["bfloat16"].ctypes.data
    tensor = weights["bfloat16"]
    address = out.pop("bfloat16").ctypes.data
    del weights
    gc.collect()
    assert tensor.data_ptr == address
    assert bytes(tensor.raw) == torch_bytes(expected["bfloat16"].float())


def test_progress_and_cancelling(small):
    calls = []
    loadstone.load(small, io="read", progress=lambda *numbers: calls.append(numbers))
    done, total, seconds = calls[-1]
    assert done == total == 64 * 4 + 300 * 2
    assert seconds >= 0
    loadstone.load(small, progress=True)

    def stop(*numbers):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loadstone.load(small, progress=stop)
    network = loadstone.Network.from_checkpoint(loadstone.open(small))
    with pytest.raises(ZeroDivisionError):
        network.load_into(small, progress=lambda *numbers: 1 / 0)
    assert network["a"].data_ptr is None

    def meddle(*numbers):
        network.to("float16")

    with pytest.raises(RuntimeError, match="being changed by another call"):
        network.load_into(small, progress=meddle)
    network.load_into(small)
    assert network["a"].data_ptr


def test_progress_ends_though_pages_are_left_for_want_of_descriptors(tmp_path):
    n = 24
    files = {f"w{i}": f"model-{i + 1:05d}-of-{n:05d}.safetensors" for i in range(n)}
    for name, file in files.items():
        save_file({name: torch.zeros(1000)}, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    calls = []
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with loadstone.open(tmp_path) as checkpoint:
        n_open = len(list(Path("/proc/self/fd").iterdir()))
        resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + n // 2, before[1]))
        try:
            weights = loadstone.load(checkpoint, progress=lambda *numbers: calls.append(numbers))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert weights.report.fallback == "too few descriptors: pages are read on first use"
    assert calls[-1][0] == calls[-1][1] == n * 4000


def test_weights_are_what_has_values_now(small):
    weights = loadstone.load(small, names=["a"])
    assert (list(weights), len(weights), "b" in weights) == (["a"], 1, False)
    weights.network.load_into(small, names=["b"])
    assert (list(weights), len(weights), "b" in weights) == (["a", "b"], 2, True)


def test_weights_are_not_listed_while_they_change(small):
    weights, busy = loadstone.load(small), []
    assert list(weights) == ["a", "b"]

    def look(*numbers):
        uses = lambda: list(weights), lambda: len(weights), lambda: weights["a"], lambda: "a" in weights
        for use in uses:
            with pytest.raises(RuntimeError, match="being changed by another call"):
                use()
            busy.append(use)

    weights.network.load_into(small, progress=look)
    assert busy
    assert list(weights) == ["a", "b"]
    assert list(weights.network) == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": [1]}, "names: expected a str, found 1"),
        ({"keep_in_fp32": [b"a"]}, "keep_in_fp32: expected a str, found b'a'"),
        ({"network": 3}, "network: expected a Network, found int"),
        ({"progress": 5}, "progress: expected True or a callable, found 5"),
        ({"progress": "yes"}, "progress: expected True or a callable, found 'yes'"),
        ({"pool": 7}, "pool: expected a Pool, found int"),
        ({"names": 3}, "names: expected names or globs, found 3"),
        ({"names": b"a"}, "names: expected a str, found b'a'"),
        ({"keep_in_fp32": 3}, "keep_in_fp32: expected names or globs, found 3"),
    ],
)
def test_arguments_of_the_wrong_type(small, arguments, message):
    with pytest.raises(TypeError, match=f"^{message}$"):
        loadstone.load(small, **arguments)


def test_none_is_kept_in_float32(small):
    weights = loadstone.load(small, dtype="float16", keep_in_fp32=None)
    assert {tensor.dtype for tensor in weights.values()} == {dtypes.float16}


@pytest.mark.parametrize("cache", ["", b""])
def test_no_folder_is_not_any_folder(small, cache):
    with pytest.raises(loadstone.ArgumentError, match=f"cache: expected a folder, found {cache!r}; True"):
        loadstone.load(small, dtype="float16", cache=cache)


@pytest.mark.parametrize("io", [[1], "mmap", None])
def test_sources_that_there_are_not(small, io):
    with pytest.raises(loadstone.ArgumentError, match="io: expected auto, map, read, uring or direct, found"):
        loadstone.load(small, io=io)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            lambda path, pool: loadstone.load(path, threads=2**32 + 1),
            "threads: expected 1 to 1024, found 4294967297",
        ),
        (lambda path, pool: loadstone.load(path, threads=-1), "threads: expected 1 to 1024, found -1"),
        (lambda path, pool: loadstone.load(path, threads=0), "threads: expected 1 to 1024, found 0"),
        (lambda path, pool: loadstone.load(path, threads=1025), "threads: expected 1 to 1024, found 1025"),
        (
            lambda path, pool: loadstone.load(path, cache_nbytes=-1),
            "cache_nbytes: expected 0 to MOST, found -1",
        ),
        (
            lambda path, pool: loadstone.load(path, threads=2, window_nbytes=1 << 16),
            "options: expected a window of at least 65536 bytes for each of 2 threads, found 65536",
        ),
        (
            lambda path, pool: loadstone.load(path, window_nbytes=2**64),
            "window_nbytes: expected 0 to MOST, found ALL",
        ),
        (
            lambda path, pool: loadstone.Network().load_into(path, seed=2**64),
            "seed: expected 0 to MOST, found ALL",
        ),
        (lambda path, pool: loadstone.Network().init_missing(-1), "seed: expected 0 to MOST, found -1"),
        (lambda path, pool: loadstone.Network().init_missing(2**64), "seed: expected 0 to MOST, found ALL"),
        (lambda path, pool: loadstone.Pool(-1), "max_nbytes: expected 0 to MOST, found -1"),
        (lambda path, pool: pool.trim(2**64), "keep_nbytes: expected 0 to MOST, found ALL"),
        (lambda path, pool: loadstone.Network().add("a", [2**64]), "shape: expected 0 to MOST, found ALL"),
        (
            lambda path, pool: loadstone.convert_dtype(np.zeros(3), "bf16", threads=0),
            "threads: expected 1 to 1024, found 0",
        ),
    ],
)
def test_numbers_that_are_out_of_range(small, use, message):
    message = message.replace("MOST", str(2**64 - 1)).replace("ALL", str(2**64))
    with pytest.raises(loadstone.ArgumentError, match=f"^{message}$"):
        use(small, loadstone.Pool())


def test_numbers_are_integers(small):
    with pytest.raises(TypeError, match=r"^threads: expected an integer, found '4'$"):
        loadstone.load(small, threads="4")
    with pytest.raises(TypeError, match=r"^max_nbytes: expected an integer, found None$"):
        loadstone.Pool(None)
    assert loadstone.load(small, threads=np.int64(1024), dtype="float64").report.n_threads
