"""out=: loading into memory that the caller has."""

import array
import ctypes
import gc
import mmap
import sys
import weakref

import loadstone
import ml_dtypes
import numpy as np
import pytest
import torch
from loadstone import dtypes
from safetensors.torch import load_file, save_file
from support import SAVED, TORCH, torch_bytes

SHAPE = (3, 4, 5, 6)


@pytest.mark.parametrize("name", SAVED)
def test_every_dtype_into_torch_and_numpy(path, name):
    expected = torch_bytes(load_file(path)[name])
    tensor = torch.zeros(SHAPE, dtype=TORCH[name])
    loadstone.load(path, out={name: tensor})
    assert torch_bytes(tensor) == expected
    values = np.zeros(SHAPE, loadstone.open(path)[name].dtype.numpy)
    loadstone.load(path, out={name: values})
    assert values.tobytes() == expected


@pytest.mark.parametrize("target", ["float16", "bfloat16", "float32", "float64", "float8_e5m2"])
def test_an_array_of_floats_decides_the_dtype(path, target):
    expected = load_file(path)["bfloat16"].to(TORCH[target])
    tensor = torch.zeros(SHAPE, dtype=TORCH[target])
    weights = loadstone.load(path, out={"bfloat16": tensor})
    assert torch_bytes(tensor) == torch_bytes(expected)
    assert weights["bfloat16"].dtype.name == target
    assert weights["bfloat16"].data_ptr == tensor.data_ptr()


def test_a_torch_module_is_filled_in_place(tmp_path):
    source, module = torch.nn.Linear(5, 7), torch.nn.Linear(5, 7, dtype=torch.bfloat16)
    save_file(source.state_dict(), tmp_path / "linear.safetensors")
    assert module.weight.requires_grad
    loadstone.load(tmp_path / "linear.safetensors", out=dict(module.named_parameters()))
    assert torch.equal(module.weight, source.weight.bfloat16())
    assert torch.equal(module.bias, source.bias.bfloat16())
    loadstone.load(tmp_path / "linear.safetensors", out=module.state_dict())


def test_memory_outlives_the_parameter_that_had_it(tmp_path):
    source, module = torch.nn.Linear(1024, 1024), torch.nn.Linear(1024, 1024)
    save_file(source.state_dict(), tmp_path / "linear.safetensors")
    weights = loadstone.load(tmp_path / "linear.safetensors", out=dict(module.named_parameters()))
    module.half()  # its parameters are elsewhere now
    gc.collect()
    assert bytes(weights["weight"].raw) == torch_bytes(source.weight.detach())


def test_buffers_without_a_dtype_are_bytes(path):
    expected = load_file(path)
    out = {
        "bfloat16": bytearray(2 * 360),
        "float64": mmap.mmap(-1, 8 * 360),
        "int8": memoryview(bytearray(360)),
        "float8_e5m2": np.zeros(360, np.uint8),
        "float32": array.array("d", bytes(8 * 360)),
        "scalar": np.zeros((), np.float16),
        "empty": np.zeros((0, 3), np.float32),
    }
    loadstone.load(path, out=out)
    for name in ("bfloat16", "float64", "int8", "float8_e5m2"):
        assert bytes(out[name]) == torch_bytes(expected[name]), name
    assert out["float32"].tobytes() == torch_bytes(expected["float32"].double())
    assert out["scalar"] == 2.5


def test_letters_of_buffers_are_dtypes(path):
    expected = load_file(path)
    out = {
        "bfloat16": (ctypes.c_double * 360)(),  # its letter says the byte order, too
        "int16": array.array("h", bytes(2 * 360)),
        "int64": array.array("l", bytes(8 * 360)),
        "uint32": memoryview(np.zeros(SHAPE, np.uint32)),
        "complex64": memoryview(np.zeros(SHAPE, np.complex64)),
        "bool": memoryview(bytearray(360)).cast("?"),
        "int8": (ctypes.c_char * 360)(),
    }
    loadstone.load(path, out=out)
    assert bytes(out["bfloat16"]) == torch_bytes(expected["bfloat16"].double())
    for name in ("int16", "int64", "uint32", "complex64", "bool", "int8"):
        assert bytes(out[name]) == torch_bytes(expected[name]), name


def test_a_tensor_of_ours_is_memory_too(path):
    first = loadstone.load(path, io="read")
    second = loadstone.load(path, out={name: first[name] for name in first})
    assert all(second[name].data_ptr == first[name].data_ptr for name in first if first[name].nbytes)


def test_memory_lives_as_long_as_its_tensors(path):
    out = {"float32": torch.zeros(SHAPE), "int8": np.zeros(SHAPE, np.int8)}
    weights = loadstone.load(path, out=out)
    tensors = [weights["float32"], weights["int8"]]
    del weights, out
    gc.collect()
    for tensor in tensors:
        assert bytes(tensor.raw) == torch_bytes(load_file(path)[tensor.dtype.name])


def test_memory_is_let_go_of_when_a_parameter_leaves_it(path):
    network = loadstone.Network.from_checkpoint(loadstone.open(path))
    arrays = []
    for _ in range(4):
        array = np.zeros(SHAPE, np.float32)
        arrays.append(weakref.ref(array))
        loadstone.load(path, network=network, out={"float32": array})
        del array
    assert [array() is None for array in arrays] == [True, True, True, False]
    loadstone.load(path, network=network)  # the same memory
    assert arrays[-1]() is not None
    tensor = network["float32"].tensor
    network["float32"].set_dtype("float16")
    assert arrays[-1]() is not None
    del tensor
    assert arrays[-1]() is None
    mine = [np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32)]
    loadstone.load(path, network=network, out={"float32": mine[0], "bfloat16": mine[1]})
    arrays = [weakref.ref(mine.pop()), weakref.ref(mine.pop())]
    network.half()
    assert arrays[0]() is arrays[1]() is None


def test_a_network_that_lies_in_its_own_tensors_is_freed(path):
    class Mine(loadstone.Network):
        pass

    network = Mine.from_checkpoint(loadstone.open(path))
    for _ in range(2):
        weights = loadstone.load(path, network=network)
        loadstone.load(path, network=network, out={"float32": weights["float32"]})
    tensor, network = weights["float32"], weakref.ref(network)
    del weights
    assert network() is None
    assert bytes(tensor.raw) == torch_bytes(load_file(path)["float32"])


def values_of(network, name):
    parameter = network[name]
    values = None if parameter.tensor is None else bytes(parameter.tensor.raw)
    return parameter.dtype, parameter.data_ptr, values


@pytest.fixture
def two(tmp_path):
    """A file of two tensors, a network of the first alone, and one of both."""
    path = tmp_path / "two.safetensors"
    save_file({"a": torch.full((8, 8), 3.0), "b": torch.ones(64)}, path)
    part, both = loadstone.Network(), loadstone.Network()
    for network in (part, both):
        network.add("a", (8, 8))
    both.add("b", (64,))
    return path, part, both


def test_a_value_that_does_not_fit_moves_no_parameter(two):
    path, _, network = two
    for bad in (b"123", bytearray(3), np.zeros(64, np.uint16)):
        with pytest.raises(loadstone.ArgumentError, match="b: expected"):
            loadstone.load(path, network=network, out={"a": np.full((8, 8), 7.0), "b": bad})
        assert values_of(network, "a") == values_of(network, "b") == (dtypes.float32, None, None)


@pytest.mark.parametrize("has_values", [False, True])
def test_a_load_that_fails_moves_no_parameter(two, has_values):
    path, network, _ = two
    if has_values:
        network.load_into(path, strict=False)
        network["a"].tensor.numpy()[:] = 5
    before = values_of(network, "a")
    mine = np.full((8, 8), 7.0)
    with pytest.raises(loadstone.MismatchError):
        loadstone.load(path, network=network, out={"a": mine})
    assert values_of(network, "a") == before
    assert (mine == 7).all()

    def stop(*numbers):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loadstone.load(path, network=network, strict=False, out={"a": mine}, progress=stop)
    assert values_of(network, "a") == before


def test_a_load_after_one_that_failed_takes_new_memory(two):
    """Arrays of the values before stay as they were, as if nobody had tried."""
    path, network, _ = two
    network.load_into(path, strict=False)
    before = network["a"].tensor.numpy()
    before[:] = 5
    for _ in range(2):
        with pytest.raises(loadstone.MismatchError):
            network.load_into(path, out={"a": np.zeros((8, 8))})
    assert network["a"].data_ptr == before.ctypes.data
    network.load_into(path, strict=False)
    assert (before == 5).all()
    assert (network["a"].tensor.numpy() == 3).all()


def test_a_load_that_fails_in_memory_of_ones_own_leaves_no_old_values(two):
    path, network, _ = two
    mine = np.zeros((8, 8), np.float32)
    network.load_into(path, strict=False, out={"a": mine})

    def stop(*numbers):
        raise ZeroDivisionError

    with pytest.raises(loadstone.MismatchError):
        network.load_into(path, out={"a": mine})
    assert values_of(network, "a") == (dtypes.float32, mine.ctypes.data, mine.tobytes())
    with pytest.raises(ZeroDivisionError):
        network.load_into(path, strict=False, out={"a": mine}, progress=stop)
    assert values_of(network, "a") == (dtypes.float32, None, None)


def test_memory_that_overlaps_is_refused(two):
    path, _, network = two
    both = np.zeros(127, np.float32)
    with pytest.raises(
        loadstone.ArgumentError, match="out: b: expected memory of its own, found memory that a has some of"
    ):
        loadstone.load(path, network=network, out={"b": both[63:], "a": both[:64].reshape(8, 8)})
    both = np.zeros(128, np.float32)
    loadstone.load(path, network=network, out={"b": both[64:], "a": both[:64].reshape(8, 8)})
    assert both.tolist() == [3] * 64 + [1] * 64


def test_tied_parameters_have_one_memory(two):
    path, network, _ = two
    network.tie("head", "a")
    mine, other = np.zeros((8, 8)), np.zeros((8, 8))
    network.load_into(path, strict=False, out={"head": mine, "a": mine})
    assert (mine == 3).all()
    message = "out: a: expected the memory of head, which it is tied to, found other memory"
    with pytest.raises(loadstone.ArgumentError, match=message):
        network.load_into(path, strict=False, out={"head": mine, "a": other})


def no_writing():
    values = np.zeros(SHAPE, np.float32)
    values.flags.writeable = False
    return values


@pytest.mark.parametrize(
    ("name", "memory", "message"),
    [
        ("float32", bytearray(4), "float32: expected 1440 bytes of memory, found 4"),
        ("float32", bytes(1440), "out: float32: expected writable, C-contiguous memory, found bytes: "),
        ("float32", no_writing(), "out: float32: expected writable memory, found a read-only array"),
        ("float32", 7, "out: float32: expected an array or a writable buffer, found int"),
        ("float32", None, "out: float32: expected an array or a writable buffer, found NoneType"),
        ("float32", np.zeros(360, np.float32), r"expected shape \[3, 4, 5, 6\], found \[360\]"),
        (
            "float32",
            torch.zeros(3, 4, 30),
            r"expected shape \[3, 4, 5, 6\], found \[3, 4, 30\]",
        ),
        (
            "float32",
            torch.zeros(6, 5, 4, 3).permute(3, 2, 1, 0),
            r"expected C-contiguous memory, found strides \(1, 3, 12, 60\)",
        ),
        (
            "float32",
            np.zeros((3, 4, 5, 12), np.float32)[..., ::2],
            r"out: float32: expected C-contiguous memory, found strides \(960, 240, 48, 8\)",
        ),
        ("float32", torch.zeros(SHAPE, device="meta"), "expected memory of the CPU, found a tensor on meta"),
        (
            "float32",
            np.zeros(SHAPE, np.int32),
            "expected float32 or another float, found int32",
        ),
        ("int64", torch.zeros(SHAPE), "out: int64: expected int64, found float32"),
        (
            "int64",
            np.zeros(SHAPE, "U4"),
            "expected an array of one of loadstone.dtypes, found <U4",
        ),
        ("float32", np.zeros(SHAPE, ">f4"), "expected an array of one of loadstone.dtypes, found >f4"),
        (
            "float32",
            memoryview(np.zeros(SHAPE, ">f4")),
            "expected bytes or elements of one of loadstone.dtypes, found a buffer of '>f'",
        ),
        ("float32", array.array("i", bytes(1440)), "expected float32 or another float, found int32"),
        ("int32", array.array("I", bytes(1440)), "out: int32: expected int32, found uint32"),
        ("float32", array.array("w" if sys.version_info >= (3, 13) else "u", "x" * 360), "a buffer of '"),
        ("uint16", np.zeros(SHAPE, ml_dtypes.bfloat16), "out: uint16: expected uint16, found bfloat16"),
        (
            "float32",
            np.zeros(1441, np.uint8)[1:],
            "float32: expected memory aligned to 4 bytes, found it at 0x",
        ),
    ],
)
def test_what_does_not_fit_is_refused(path, name, memory, message):
    with pytest.raises(loadstone.ArgumentError, match=message):
        loadstone.load(path, out={name: memory})


def test_memory_that_would_not_be_filled_is_refused(two):
    path, _, network = two
    mine = {"a": np.zeros((8, 8), np.float32), "b": np.zeros(64, np.float32)}
    with pytest.raises(
        loadstone.ArgumentError, match=r"^out: b: expected a name that names= has, too, found none$"
    ):
        loadstone.load(path, names=["a"], out=mine)
    loadstone.load(path, names=["[ab]"], out=mine)
    assert mine["b"].tolist() == [1] * 64
    network.tie("head", "a")
    mine["a"][:] = 0
    network.load_into(path, names=["head"], strict=False, out={"a": mine["a"]})
    assert network["a"].data_ptr == mine["a"].ctypes.data


@pytest.mark.parametrize(
    ("name", "glob"), [("layers[0].w", "layers[0].w"), ("x", "[b-a!x]"), ("été", "?t?"), ("a.b", "[ab].[!a]")]
)
def test_names_are_selected_as_loads_do(tmp_path, name, glob):
    path, mine = tmp_path / "one.safetensors", np.zeros(3, np.float32)
    save_file({name: torch.ones(3), "other": torch.ones(3)}, path)
    assert list(loadstone.load(path, names=[glob])) == [name]
    loadstone.load(path, names=[glob], out={name: mine})
    assert mine.tolist() == [1] * 3
    with pytest.raises(loadstone.ArgumentError, match="out: other: expected a name that names= has, too"):
        loadstone.load(path, names=[glob], out={"other": mine})


def test_names_that_are_not_there(path):
    with pytest.raises(TypeError, match="out: expected a mapping from names to memory, found list"):
        loadstone.load(path, out=[bytearray(4)])
    with pytest.raises(KeyError, match="out: c: no such parameter"):
        loadstone.load(path, out={"c": bytearray(4)})
    assert loadstone.load(path, out={})["scalar"].nbytes == 4
