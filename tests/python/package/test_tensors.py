"""Tensors as NumPy, PyTorch, JAX and the buffer protocol have them, and how long they live."""

import copy
import gc
import hashlib
import importlib.util
import json
import os
import pickle
import sys
from pathlib import Path

import loadstone
import ml_dtypes
import numpy as np
import pytest
import torch
from loadstone import dtypes
from plain import run
from safetensors.torch import load_file, save_file
from support import SAVED, TORCH, torch_bytes


def test_tensors_are_shared_without_a_copy(path):
    weights, expected = loadstone.load(path), load_file(path)
    for name in ("int64", "float32", "float16", "bool", "complex64", "float64", "uint8"):
        tensor = weights[name]
        view = memoryview(tensor)
        assert view.shape == tensor.shape
        assert not view.readonly
        for array in (np.asarray(tensor), np.from_dlpack(tensor), tensor.numpy()):
            assert array.ctypes.data == tensor.data_ptr
            assert array.tobytes() == torch_bytes(expected[name])
        interface = tensor.__array_interface__
        assert interface["data"] == (tensor.data_ptr, False)
        assert interface["typestr"] == np.asarray(tensor).dtype.str
    for name in SAVED:
        array = torch.from_dlpack(weights[name])
        assert array.data_ptr() == weights[name].data_ptr
        assert array.dtype == TORCH[name]
        assert torch_bytes(array) == torch_bytes(expected[name])
    assert torch.from_dlpack(weights["scalar"]).item() == 2.5
    assert torch.from_dlpack(weights["empty"]).shape == (0, 3)


def test_what_the_buffer_protocol_cannot_say(path):
    tensor = loadstone.load(path)["bfloat16"]
    with pytest.raises(BufferError, match="no letter for BF16"):
        memoryview(tensor)
    assert not hasattr(tensor, "__array_interface__")
    assert np.asarray(tensor).dtype == ml_dtypes.bfloat16
    assert np.asarray(tensor).ctypes.data == tensor.data_ptr
    assert hashlib.sha256(tensor).digest() == hashlib.sha256(tensor.raw).digest()


def test_numpy_protocol(path):
    tensor = loadstone.load(path)["bfloat16"]
    assert np.asarray(tensor, dtype=np.float32).dtype == np.float32
    assert np.array(tensor, copy=True).ctypes.data != tensor.data_ptr
    with pytest.raises(ValueError, match="without a copy"):
        tensor.__array__(np.float32, copy=False)


def test_dlpack_protocol(path):
    tensor = loadstone.load(path)["float32"]
    assert tensor.__dlpack_device__() == (1, 0)
    copy = np.from_dlpack(tensor, copy=True)
    assert copy.ctypes.data != tensor.data_ptr
    assert copy.tobytes() == bytes(tensor.raw)
    with pytest.raises(BufferError):
        tensor.__dlpack__(stream=1)
    with pytest.raises(BufferError):
        tensor.__dlpack__(dl_device=(2, 0))
    unused = tensor.__dlpack__(), tensor.__dlpack__(max_version=(1, 0))
    del unused, tensor


def test_dlpack_reads_a_tensor_of_a_checkpoint(path):
    checkpoint, expected = loadstone.open(path), load_file(path)
    for name in SAVED:
        assert torch_bytes(torch.from_dlpack(checkpoint[name])) == torch_bytes(expected[name])
    assert np.from_dlpack(checkpoint["int64"], copy=True).tobytes() == torch_bytes(expected["int64"])
    assert checkpoint["int64"].__dlpack_device__() == (1, 0)
    with pytest.raises(BufferError):
        checkpoint["int64"].__dlpack__(stream=1)


JAX = """\
import sys
import jax
import loadstone
import numpy as np
for tensors in (loadstone.load(sys.argv[1]), loadstone.open(sys.argv[1])):
    for name in sys.argv[2:]:
        array = jax.dlpack.from_dlpack(tensors[name])
        print(name, array.dtype, np.asarray(array).tobytes().hex())
"""


@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="it cannot follow JAX's exceptions")
def test_jax_reads_tensors(path):
    """In a process of its own: JAX's threads do not go well with the forks of other tests."""
    if not importlib.util.find_spec("jax"):
        pytest.skip("JAX is not here")
    names = ["float32", "bfloat16", "float16", "int8", "uint32", "float8_e5m2"]
    done = run("-c", JAX, path, *names)
    expected = [f"{name} {name} {torch_bytes(load_file(path)[name]).hex()}" for name in names]
    assert done.stdout.splitlines() == 2 * expected, done.stderr


@pytest.mark.parametrize("protocol", range(6))
def test_tensors_are_pickled_with_their_bytes(path, protocol):
    for name, tensor in loadstone.load(path).items():
        again = pickle.loads(pickle.dumps(tensor, protocol))
        assert (again.dtype, again.shape) == (tensor.dtype, tensor.shape), name
        assert bytes(again.raw) == bytes(tensor.raw), name


def test_bytes_are_sent_beside_a_pickle(path):
    tensor, buffers = loadstone.load(path)["float64"], []
    data = pickle.dumps(tensor, 5, buffer_callback=buffers.append)
    assert len(data) < 200
    assert bytes(pickle.loads(data, buffers=buffers).raw) == bytes(tensor.raw)


@pytest.mark.parametrize(
    ("dtype", "shape", "data"),
    [("f32", (2,), b"1234"), ("f32", (2**40, 2**40), b""), ("f4", (3,), b"1"), ("i8", [1] * 65, b"1")],
)
def test_a_pickle_that_contradicts_itself_is_refused(dtype, shape, data):
    with pytest.raises(ValueError, match=f"the shape and the dtype are not those of {len(data)} bytes"):
        loadstone._core.tensor_of(dtype, shape, data)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_have_memory_of_their_own(path, copied):
    weights = loadstone.load(path)
    for name, tensor in weights.items():
        again = copied(tensor)
        assert (again.dtype, again.shape, bytes(again.raw)) == (tensor.dtype, tensor.shape, bytes(tensor.raw))
        assert again.data_ptr != tensor.data_ptr, name
    mine = loadstone.load(path, out={"int8": np.zeros((3, 4, 5, 6), np.int8)})["int8"]
    assert bytes(copied(mine).raw) == bytes(weights["int8"].raw)


def test_one_element_is_a_number(tmp_path):
    one = {name: torch.tensor([[52]]).to(dtype) for name, dtype in TORCH.items() if name in SAVED}
    save_file(one, tmp_path / "one.safetensors")
    for name, tensor in loadstone.load(tmp_path / "one.safetensors").items():
        value = one[name].item()
        assert (tensor.item(), type(tensor.item())) == (value, type(value)), name
        if name != "complex64":
            assert (int(tensor), float(tensor)) == (int(value), float(value)), name
        assert bool(tensor) is True
    assert bool(loadstone._core.tensor_of("bfloat16", (), bytes(2))) is False
    digits = loadstone._core.tensor_of("uint8", (2,), b"42")
    for number in (int, float, complex, bool, loadstone.Tensor.item):
        with pytest.raises(ValueError, match=r"expected a tensor of one element, found shape \[2\]"):
            number(digits)
    with pytest.raises(loadstone.UnsupportedError, match="float8_e8m0fnu is only carried"):
        loadstone._core.tensor_of("float8_e8m0fnu", (), b"1").item()


def test_a_tensor_of_a_checkpoint_is_there_whatever_is_in_it(path):
    checkpoint = loadstone.open(path)
    assert all(bool(checkpoint.get(name)) for name in ("scalar", "empty", "float32"))


def test_an_empty_tensor_may_have_any_extents(tmp_path):
    header = {
        "a": {"dtype": "F32", "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]},
        "b": {"dtype": "F32", "shape": [0, 2**63], "data_offsets": [0, 0]},
    }
    text = json.dumps(header).encode()
    path = tmp_path / "empty.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    for tensors in (loadstone.load(path), loadstone.open(path)):
        assert tensors["a"].shape == (0, 2**62, 2**62)
        assert torch.from_dlpack(tensors["a"]).numel() == 0
    for read in (lambda: loadstone.load(path)["b"], loadstone.open(path)["b"].read):
        with pytest.raises(MemoryError):  # no index of Python's reaches so far
            read()


def test_views_outlive_weights_and_file(path, tmp_path):
    copy = tmp_path / "gone.safetensors"
    copy.write_bytes(path.read_bytes())
    expected = load_file(path)
    weights = loadstone.load(copy, io="map", lazy=True)
    views = {
        "float32": np.asarray(weights["float32"]),
        "bfloat16": torch.from_dlpack(weights["bfloat16"]),
        "int64": memoryview(weights["int64"]),
        "uint8": weights["uint8"].raw,
    }
    del weights
    copy.unlink()
    gc.collect()
    assert views["float32"].tobytes() == torch_bytes(expected["float32"])
    assert torch_bytes(views["bfloat16"]) == torch_bytes(expected["bfloat16"])
    assert bytes(views["int64"]) == torch_bytes(expected["int64"])
    views["float32"][...] = 1  # the mapping is private
    assert bytes(views["uint8"]) == torch_bytes(expected["uint8"])


def test_fork_with_a_live_mapping(path):
    weights = loadstone.load(path, io="map")
    expected = torch_bytes(load_file(path)["int64"])
    child = os.fork()
    if not child:
        os._exit(0 if bytes(weights["int64"].raw) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_nothing_is_leaked(path):
    def use():
        checkpoint = loadstone.open(path)
        weights = loadstone.load(checkpoint, dtype="bfloat16", progress=lambda *numbers: None)
        for name in checkpoint:
            checkpoint[name][...].raw, weights[name].raw, repr(weights[name]), checkpoint[name].numpy()
            torch.from_dlpack(weights[name]), weights[name].__dlpack__()
        loadstone.load(checkpoint, out={"int8": bytearray(360)})
        repr(checkpoint), weights._repr_html_(), weights.report.to_dict()
        for bad in ("nothing", "/proc/self/mem"):
            with pytest.raises(loadstone.LoadstoneError):
                loadstone.open(bad)

    def counts():
        gc.collect()
        references = [sys.getrefcount(dtype) for dtype in dtypes.all]
        types = [sys.getrefcount(getattr(loadstone._core, n)) for n in ("Checkpoint", "Tensor", "Network")]
        return references, types, len(list(Path("/proc/self/fd").iterdir()))

    use()
    before = counts()
    for _ in range(5):
        use()
    after = counts()
    assert after == before
