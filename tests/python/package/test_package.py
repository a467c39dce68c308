"""The Python package against safetensors, torch, NumPy and ml_dtypes."""

import gc
import hashlib
import importlib.util
import json
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path

import loadstone
import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from loadstone import dtypes
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import load_file, save_file
from support import FLOATS, SAVED, TORCH, save_every, torch_bytes


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("package") / "every.safetensors"
    save_every(path)
    return path


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.safetensors"
    save_file({"a": torch.arange(64.0).reshape(8, 8), "b": torch.ones(300, dtype=torch.bfloat16)}, path)
    return path


# ---- opening ----


def test_checkpoint_is_a_mapping_in_file_order(path):
    checkpoint = loadstone.open(path)
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    header.pop("__metadata__")
    assert isinstance(checkpoint, Mapping)
    assert (
        list(checkpoint) == list(checkpoint.keys()) == sorted(header, key=lambda n: header[n]["data_offsets"])
    )
    assert len(checkpoint) == len(header)
    assert checkpoint.metadata == {"format": "pt", "key": "välue"}
    assert checkpoint.files == (str(path),)
    assert "größe ✓" in checkpoint
    for name in ("nothing", 3, "\0", "\ud800", None):
        assert name not in checkpoint
        with pytest.raises(KeyError):
            checkpoint[name]
    for name, tensor in checkpoint.items():
        assert tensor.name == name
        assert list(tensor.shape) == header[name]["shape"]
        assert tensor.dtype.safetensors_name == header[name]["dtype"]
        begin, end = header[name]["data_offsets"]
        assert tensor.nbytes == end - begin
        assert tensor.file == str(path)
        assert path.read_bytes()[tensor.offset : tensor.offset + tensor.nbytes] == bytes(tensor.read().raw)
    assert [(name, tensor.name) for name, tensor in checkpoint.items()] == [(n, n) for n in checkpoint]
    assert [tensor.name for tensor in checkpoint.values()] == list(checkpoint)
    assert len(checkpoint.items()) == len(checkpoint.values()) == len(checkpoint)
    assert ("nothing", None) not in checkpoint.items()
    assert "every.safetensors" in repr(checkpoint)
    assert "<table>" in checkpoint._repr_html_()


def test_every_dtype_reads_as_torch_and_ml_dtypes_have_it(path):
    checkpoint, expected = loadstone.open(path), load_file(path)
    for name, tensor in checkpoint.items():
        array = tensor.numpy()
        assert array.dtype == tensor.dtype.numpy
        assert array.shape == tuple(expected[name].shape)
        assert array.tobytes() == torch_bytes(expected[name])
        assert np.asarray(tensor).dtype == array.dtype
        assert np.asarray(tensor.read()).dtype == array.dtype


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        hnp.arrays(
            st.sampled_from([np.uint8, np.int16, np.float16, np.float32, np.float64, np.int64]),
            hnp.array_shapes(min_dims=0, max_dims=8, min_side=0, max_side=3),
        ),
        max_size=6,
    ).filter(lambda tensors: "__metadata__" not in tensors)
)
def test_random_files(tmp_path, tensors):
    path = tmp_path / "random.safetensors"
    path.unlink(missing_ok=True)  # a mapped file is not to be written to
    save_numpy(tensors, path)
    checkpoint, weights = loadstone.open(path), loadstone.load(path)
    assert set(checkpoint) == set(weights) == set(tensors)
    for name, expected in tensors.items():
        for found in (checkpoint[name].numpy(), weights[name].numpy()):
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            assert found.tobytes() == expected.tobytes()


def test_a_name_may_be_empty(tmp_path):
    path = tmp_path / "empty.safetensors"
    save_numpy({"": np.arange(3)}, path)
    assert list(loadstone.open(path)) == [""]
    assert loadstone.load(path)[""].numpy().tolist() == [0, 1, 2]


@pytest.mark.parametrize(("name", "metadata"), [("a\0b", None), ("a", {"k\0": "v"}), ("a", {"k": "\0"})])
def test_nul_is_in_no_name(tmp_path, name, metadata):
    path = tmp_path / "nul.safetensors"
    save_numpy({name: np.arange(3)}, path, metadata=metadata)
    with pytest.raises(loadstone.UnsupportedError, match=r"NUL|U\+0000"):
        loadstone.open(path)


def test_reading_in_another_dtype(path):
    expected = load_file(path)["bfloat16"]
    tensor = loadstone.open(path)["bfloat16"]
    assert bytes(tensor.read("float32").raw) == torch_bytes(expected.to(torch.float32))
    assert bytes(tensor.read(torch.float16).raw) == torch_bytes(expected.to(torch.float16))
    assert bytes(tensor.read(np.float64).raw) == torch_bytes(expected.to(torch.float64))
    with pytest.raises(loadstone.UnsupportedError, match="cannot be converted from BF16 to I32"):
        tensor.read("int32")
    with pytest.raises(ValueError, match="expected a dtype"):
        tensor.read("float7")
    with pytest.raises(TypeError, match="expected a dtype"):
        tensor.read(7)


# ---- loading ----


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


def test_weights_are_not_listed_while_they_change(small):
    weights, busy = loadstone.load(small), []
    later = loadstone.Weights(weights.network, weights.report)

    def look(*numbers):
        for use in (lambda: list(later), lambda: len(later), lambda: later["a"], lambda: "a" in later):
            with pytest.raises(RuntimeError, match="being changed by another call"):
                use()
            busy.append(use)

    weights.network.load_into(small, progress=look)
    assert busy
    assert list(later) == list(weights) == ["a", "b"]
    assert list(weights.network) == ["a", "b"]


# ---- tensors ----


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


def test_many_threads_on_one_checkpoint(path):
    checkpoint, expected, failures = loadstone.open(path), load_file(path), []

    def read(seed):
        names = SAVED
        for i in range(40):
            name = names[(seed + i) % len(names)]
            if bytes(checkpoint[name][:, 1:3].raw) != torch_bytes(expected[name][:, 1:3]):
                failures.append(name)
        if bytes(loadstone.load(checkpoint, dtype="float32")["float16"].raw) != torch_bytes(
            expected["float16"].float()
        ):
            failures.append("load")

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


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


# ---- errors ----


@pytest.mark.parametrize(
    ("content", "expected", "builtin"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", loadstone.NotWeightsError, ValueError),
        (b"\x08\0\0\0\0\0\0\0[1, 2, 3", loadstone.MalformedError, ValueError),
        (None, loadstone.NotFoundError, FileNotFoundError),
    ],
)
def test_exceptions(tmp_path, content, expected, builtin):
    path = tmp_path / "bad.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(builtin) as caught:
        loadstone.open(path)
    error = caught.value
    assert type(error) is expected
    assert isinstance(error, loadstone.LoadstoneError)
    assert error.file == str(path)
    assert str(error).startswith(str(path))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert (again.code, again.file, again.tensor, again.offset) == (
        error.code,
        error.file,
        error.tensor,
        error.offset,
    )
    if isinstance(error, OSError):
        assert again.errno == error.errno == 2
        assert again.strerror == error.strerror == "No such file or directory"
        assert again.filename == error.filename == str(path)


@pytest.mark.parametrize("make", [loadstone.KeyMap.from_file, loadstone.Network.from_manifest])
def test_files_of_json_that_cannot_be_used(tmp_path, make):
    missing = tmp_path / "none.json"
    with pytest.raises(loadstone.NotFoundError) as caught:
        make(missing)
    assert str(caught.value) == f"{missing}: cannot be opened: No such file or directory"
    assert (caught.value.code, caught.value.errno, caught.value.file) == (-21, 2, str(missing))
    with pytest.raises(loadstone.FileError, match="cannot be opened: Is a directory") as caught:
        make(tmp_path)
    assert not isinstance(caught.value, loadstone.NotFoundError)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.json"))
    odd.write_text("{")
    with pytest.raises(loadstone.MalformedError) as caught:
        make(odd)
    assert caught.value.file == str(odd)
    with pytest.raises(loadstone.NotFoundError, match=r"\ufffd\.json2") as caught:
        make(f"{odd}2")
    assert caught.value.filename == f"{odd}2"


def test_long_paths_are_whole_in_errors(tmp_path):
    folder = tmp_path / ("x" * 200) / ("y" * 200)
    folder.mkdir(parents=True)
    file, index = folder / "m.safetensors", folder / "model.safetensors.index.json"
    for path in (file, str(file) + "/", f"{folder}//m.safetensors"):
        with pytest.raises(loadstone.NotFoundError) as caught:
            loadstone.open(path)
        assert caught.value.file == caught.value.filename == str(path)
        assert str(caught.value).startswith("...")
    index.write_text('{"weight_map": {"a": "m.safetensors"}}')
    for path in (folder, index):
        with pytest.raises(loadstone.NotFoundError) as caught:
            loadstone.open(path)
        assert caught.value.file == str(index)
    file.write_text("x")
    for path in (folder, index):
        with pytest.raises(loadstone.TruncatedError) as caught:
            loadstone.open(path)
        assert caught.value.file == str(file)
    with pytest.raises(loadstone.NotFoundError) as caught:
        loadstone.Network.from_config(folder)
    assert caught.value.file == f"{folder}/config.json"
    save_file({"a": torch.ones(3)}, file)
    checkpoint = loadstone.open(folder)
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(loadstone.ChangedError) as caught:
        loadstone.load(checkpoint)
    assert caught.value.file == str(file)
    manifest = folder / "manifest.json"
    manifest.write_text("[7]")
    with pytest.raises(loadstone.MalformedError) as caught:
        loadstone.Network.from_manifest(manifest)
    assert caught.value.file == str(manifest)
    assert loadstone._errors.make_error(-30, "m", "...z/c", None, None, 0, None).file == "...z/c"


def test_every_code_has_its_class():
    classes = {
        -10: ValueError,
        -11: KeyError,
        -20: OSError,
        -21: FileNotFoundError,
        -22: OSError,
        -30: ValueError,
        -31: ValueError,
        -32: ValueError,
        -40: ValueError,
        -50: ValueError,
        -60: MemoryError,
        -70: loadstone.CancelledError,
    }
    for code, builtin in classes.items():
        error = loadstone._errors.make_error(code, "message", "file", "tensor", 7, 0, None)
        assert isinstance(error, builtin)
        assert type(error) is not loadstone.LoadstoneError
        assert (str(error), error.code, error.tensor, error.offset) == ("message", code, "tensor", 7)
        assert pickle.loads(pickle.dumps(error)).__dict__ == error.__dict__


def test_a_changed_file_is_seen(small):
    checkpoint = loadstone.open(small)
    with small.open("ab") as file:
        file.write(b"x")
    with pytest.raises(loadstone.ChangedError):
        checkpoint["a"][0]
    with pytest.raises(OSError, match="changed since it was opened"):
        loadstone.load(checkpoint)


def test_nothing_can_be_made_by_calling_its_type():
    for name in ("Checkpoint", "CheckpointTensor", "Tensor", "Network", "Parameter", "KeyMap"):
        with pytest.raises(TypeError):
            getattr(loadstone._core, name)()
    with pytest.raises(TypeError):
        loadstone.Checkpoint()


# ---- networks, reports, key maps ----


def test_a_network_built_by_hand(small):
    network = loadstone.Network("bfloat16")
    with network.scope("model"), network.scope("layer"):
        network.add("a", (8, 8))
        with network.default_dtype("float32"):
            network.add("scale", [4], init="constant", a=2.0)
        network.add("b", [300])
    network.tie("head", "model.layer.a")
    assert list(network) == ["model.layer.a", "model.layer.scale", "model.layer.b", "head"]
    assert network["head"].tied_to == "model.layer.a"
    assert network["model.layer.scale"].init["kind"] == "constant"
    with pytest.raises(ValueError, match="the network is complete"):
        network.add("late", [1])
    with pytest.raises(loadstone.MismatchError) as caught:
        network.load_into(small, key_map=[{"prefix": "", "to": "model.layer."}])
    assert caught.value.report.missing == ("model.layer.scale",)
    assert pickle.loads(pickle.dumps(caught.value)).report.missing == ("model.layer.scale",)
    report = network.load_into(small, key_map=[{"prefix": "", "to": "model.layer."}], strict=False)
    assert report.initialised == ("model.layer.scale",)
    assert report.tied == {"head": "model.layer.a"}
    assert json.loads(json.dumps(report.to_dict()))["missing"] == ["model.layer.scale"]
    assert str(report).strip()
    assert pickle.loads(pickle.dumps(report)).to_dict() == report.to_dict()
    parameter = network["model.layer.a"]
    assert (parameter.dtype, parameter.shape) == (dtypes.bfloat16, (8, 8))
    assert parameter.data_ptr == network["head"].data_ptr
    before = parameter.tensor
    parameter.set_dtype("float32")
    assert before.dtype is dtypes.bfloat16
    assert torch.equal(torch.from_dlpack(parameter.tensor), torch.from_dlpack(before).float())
    assert np.all(network.tensor("model.layer.scale").numpy() == 2)
    network.half()
    assert {p.dtype for p in network.values()} == {dtypes.float16}
    assert network.float()["head"].dtype is dtypes.float32
    assert "4 parameters" in repr(network)


def test_scopes_begin_with_their_with_statement():
    network = loadstone.Network()
    scope, wide = network.scope("a"), network.default_dtype("float64")
    network.add("x", [1])
    with scope, wide:
        network.add("y", [1])
        with scope:
            network.add("y", [1])
    with scope:
        network.add("z", [1])
    assert [(name, str(p.dtype)) for name, p in network.items()] == [
        ("x", "float32"),
        ("a.y", "float64"),
        ("a.a.y", "float64"),
        ("a.z", "float32"),
    ]
    with pytest.raises(TypeError, match="scope: expected a str, found 3"):
        loadstone.Network().scope(3)
    with pytest.raises(ValueError, match="expected a dtype, found 'float7'"):
        loadstone.Network().default_dtype("float7")


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": [1]}, "names: expected a str, found 1"),
        ({"keep_in_fp32": [b"a"]}, "keep_in_fp32: expected a str, found b'a'"),
        ({"network": 3}, "network: expected a Network, found 3"),
        ({"progress": 5}, "progress: expected True or a callable, found 5"),
        ({"progress": "yes"}, "progress: expected True or a callable, found 'yes'"),
        ({"pool": 7}, "expected a Pool, found 7"),
    ],
)
def test_arguments_of_the_wrong_type(small, arguments, message):
    with pytest.raises(TypeError, match=f"^{message}$"):
        loadstone.load(small, **arguments)


@pytest.mark.parametrize("io", [[1], "mmap", None])
def test_sources_that_there_are_not(small, io):
    with pytest.raises(loadstone.ArgumentError, match="io: expected auto, map, read, uring or direct, found"):
        loadstone.load(small, io=io)


def test_numbers_are_integers(small):
    with pytest.raises(TypeError, match=r"^threads: expected an integer, found '4'$"):
        loadstone.load(small, threads="4")
    with pytest.raises(TypeError, match=r"^max_nbytes: expected an integer, found None$"):
        loadstone.Pool(None)
    assert loadstone.load(small, threads=np.int64(1024), dtype="float64").report.n_threads


def test_errors_while_building():
    network = loadstone.Network()
    network.add("a", [2])
    with pytest.raises(loadstone.NameNotFoundError):
        network.add("a", [2])
    with pytest.raises(loadstone.ArgumentError):
        loadstone.Network().add("a", [2], init="nonsense")
    with pytest.raises(loadstone.ArgumentError, match=r"^shape: expected 0 to \d+, found -2$"):
        loadstone.Network().add("a", [-2])
    with pytest.raises(TypeError):
        loadstone.Network().add("a", [2.5])


def test_a_shape_that_changes_while_it_is_looked_at():
    class Extent:
        def __index__(self):
            shape.clear()
            return 2

    shape = [Extent(), *[1] * 50]
    network = loadstone.Network()
    network.add("a", shape)
    assert network["a"].shape == (2, *[1] * 50)
    with pytest.raises(TypeError, match="expected a shape: a sequence of integers, found 7"):
        loadstone.Network().add("a", 7)


def test_networks_of_a_path(small):
    assert list(loadstone.Network.from_checkpoint(str(small))) == ["a", "b"]
    assert list(loadstone.Network.from_checkpoint(loadstone.open(small))) == ["a", "b"]
    with pytest.raises(loadstone.NotFoundError):
        loadstone.Network.from_checkpoint(small.with_name("nothing"))


def test_initial_values_depend_on_the_seed():
    def make(seed):
        network = loadstone.Network()
        network.add("w", [100, 10], init="normal", b=1.0)
        network.init_missing(seed)
        return network.tensor("w").numpy()

    assert np.array_equal(make(1), make(1))
    assert not np.array_equal(make(1), make(2))


def test_network_from_manifest_and_key_map_from_file(small, tmp_path):
    manifest, key_map = tmp_path / "network.json", tmp_path / "keymap.json"
    manifest.write_text('[{"name": "x", "dtype": "F16", "shape": [8, 8]}]')
    key_map.write_text('{"rules": [{"exact": "a", "to": "x"}, {"exact": "b", "drop": true}]}')
    network = loadstone.Network.from_manifest(manifest)
    weights = loadstone.load(small, network=network, key_map=loadstone.KeyMap.from_file(key_map))
    assert weights["x"].dtype is dtypes.float16
    assert weights["x"].numpy()[7, 7] == 63
    with pytest.raises(loadstone.LoadstoneError):
        loadstone.KeyMap([{"regex": "("}])


# ---- conversion ----


@pytest.mark.parametrize("target", FLOATS)
@pytest.mark.parametrize("source", FLOATS)
def test_convert_dtype(source, target):
    values = np.random.default_rng(5).standard_normal(1000).astype(np.float32) * 3
    array = loadstone.convert_dtype(values.reshape(10, 100), source)
    converted = loadstone.convert_dtype(array, target)
    assert converted.dtype == target.numpy
    assert converted.shape == (10, 100)
    if source.name in TORCH and target.name in TORCH:
        want = torch.from_numpy(values).to(TORCH[source.name]).to(TORCH[target.name])
        assert converted.tobytes() == torch_bytes(want)
    out = np.empty((10, 100), target.numpy)
    assert loadstone.convert_dtype(array, target, out=out) is out
    assert out.tobytes() == converted.tobytes()


@pytest.mark.parametrize("threads", [None, 1, 2, 7])
def test_convert_dtype_of_large_arrays(threads):
    values = np.random.default_rng(3).standard_normal(7_000_003).astype(np.float32)
    half = loadstone.convert_dtype(values, "bfloat16", threads=threads)
    assert np.array_equal(half.view(np.uint16), values.astype(ml_dtypes.bfloat16).view(np.uint16))
    out = np.ones_like(values)
    assert np.array_equal(
        loadstone.convert_dtype(half, "float32", out=out, threads=threads), half.astype("f4")
    )
    with pytest.raises(loadstone.ArgumentError, match="threads: expected 1 to 1024, found 1025"):
        loadstone.convert_dtype(values, "bfloat16", threads=1025)


def test_convert_dtype_refuses():
    array = np.zeros((4, 4), np.float32)
    assert loadstone.convert_dtype(array.T[::2], "bf16").shape == (2, 4)
    assert loadstone.convert_dtype(np.float32(1.5), "bf16").shape == ()
    with pytest.raises(loadstone.UnsupportedError):
        loadstone.convert_dtype(array, "int32")
    with pytest.raises(ValueError, match="out: expected"):
        loadstone.convert_dtype(array, "float16", out=np.zeros(16, np.float16))
    memory = np.zeros(100, np.uint8)
    with pytest.raises(ValueError, match="do not overlap"):
        loadstone.convert_dtype(memory[:64].view(np.float32), "float16", out=memory[2:34].view(np.float16))
    with pytest.raises(TypeError):
        loadstone.convert_dtype(array, None)
    with pytest.raises(TypeError, match=r"^out: expected a NumPy array, found bytearray$"):
        loadstone.convert_dtype(array, "float16", out=bytearray(32))
    fixed = np.zeros((4, 4), np.float16)
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match=r"^out: expected a writable array, found one that is read-only$"):
        loadstone.convert_dtype(array, "float16", out=fixed)


# ---- the package itself ----


def run(*args):
    folder = str(Path(loadstone.__file__).parents[1])
    return subprocess.run(
        [sys.executable, *args],
        env=os.environ | {"PYTHONPATH": folder},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_import_takes_nothing_along():
    modules = {"numpy", "torch", "typing", "json", "inspect", "collections.abc"}
    done = run("-c", f"import sys; import loadstone; print({modules} & set(sys.modules))")
    assert done.stdout.strip() == "set()", done.stderr


def test_all_names_are_listed():
    done = run("-c", "import loadstone; print(set(loadstone.__all__) - set(dir(loadstone)))")
    assert done.stdout.strip() == "set()", done.stderr
    with pytest.raises(AttributeError, match="module 'loadstone' has no attribute 'lod'"):
        loadstone.lod  # noqa: B018


def test_the_command_line(small):
    done = run("-m", "loadstone", "inspect", str(small))
    assert done.returncode == 0, done.stderr
    assert "bf16" in done.stdout
    assert run("-m", "loadstone", "nonsense").returncode == 2


def test_dtypes_are_found_by_every_name():
    for dtype in dtypes.all:
        assert loadstone._core.dtype(dtype.name) is dtype
        assert loadstone._core.dtype(dtype.safetensors_name) is dtype
        assert getattr(dtypes, dtype.name) is dtype
        assert pickle.loads(pickle.dumps(dtype)) is dtype
        if dtype.bits % 8 == 0:
            assert loadstone._core.dtype(dtype.numpy) is dtype
    for name, dtype in TORCH.items():
        assert loadstone._core.dtype(dtype).name == name


def test_dtypes_equal_their_names():
    assert dtypes.bfloat16 == "bfloat16"
    assert dtypes.bfloat16 != "float16"
    assert dtypes.bfloat16 != dtypes.float16
    assert dtypes.bfloat16 != torch.bfloat16
    assert {dtypes.bfloat16: 1}["bfloat16"] == 1
    assert loadstone._core.dtype(float) is dtypes.float32


def test_weak_references_are_refused(path):
    with pytest.raises(TypeError):
        weakref.ref(loadstone.open(path)["scalar"])


# ---- headers of every form, and other readers ----


@st.composite
def headers(draw):
    """(header, data): entries in any order, in any layout, padded, with and without metadata."""
    shapes = draw(st.lists(st.lists(st.integers(0, 3), max_size=8), max_size=5))
    entries, at = [], 0
    for i, shape in enumerate(shapes):
        nbytes = int(np.prod(shape, dtype=np.int64)) * 2
        dtype = draw(st.sampled_from(["BF16", "F16", "I16", "U16"]))
        entries.append((f"{i}é", {"dtype": dtype, "shape": shape, "data_offsets": [at, at + nbytes]}))
        at += nbytes
    if draw(st.booleans()):
        entries.append(("__metadata__", {"a": "ü", "": "\n"}))
    layout = draw(st.sampled_from([None, 2]))
    text = json.dumps(dict(draw(st.permutations(entries))), ensure_ascii=draw(st.booleans()), indent=layout)
    return text.encode() + b" " * draw(st.integers(0, 9)), bytes(i * 7 % 256 for i in range(at))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(headers())
def test_headers_of_every_form_read_as_by_safetensors(tmp_path, made):
    header, data = made
    path = tmp_path / "made.safetensors"
    path.unlink(missing_ok=True)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    expected = load_file(path)
    checkpoint, weights = loadstone.open(path), loadstone.load(path)
    assert set(checkpoint) == set(weights) == set(expected)
    for name, want in expected.items():
        assert checkpoint[name].shape == weights[name].shape == tuple(want.shape)
        assert TORCH[str(weights[name].dtype)] is want.dtype
        assert bytes(checkpoint[name].read().raw) == bytes(weights[name].raw) == torch_bytes(want)
        assert torch.from_dlpack(weights[name]).shape == want.shape


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
    done = run("-c", JAX, str(path), *names)
    expected = [f"{name} {name} {torch_bytes(load_file(path)[name]).hex()}" for name in names]
    assert done.stdout.splitlines() == 2 * expected, done.stderr


def test_packed_types_are_bytes(tmp_path):
    header = {"w": {"dtype": "F4", "shape": [2, 3], "data_offsets": [0, 3]}}
    text = json.dumps(header).encode().ljust(64)
    path = tmp_path / "packed.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\x21\x43\x65")
    tensor = loadstone.load(path)["w"]
    assert (str(tensor.dtype), tensor.shape, tensor.nbytes) == ("float4_e2m1fn", (2, 3), 3)
    assert bytes(tensor.raw) == bytes(loadstone.open(path)["w"].read().raw) == b"\x21\x43\x65"
    with pytest.raises(loadstone.UnsupportedError, match="float4_e2m1fn is packed, which NumPy cannot say"):
        tensor.numpy()
    with pytest.raises(BufferError, match="F4 is packed, which DLPack cannot say"):
        tensor.__dlpack__()
    with pytest.raises(loadstone.UnsupportedError, match="F4 is packed, and can only be read whole"):
        loadstone.open(path)["w"][0]
    with pytest.raises(loadstone.UnsupportedError, match="cannot be converted from F4 to F32"):
        loadstone.open(path)["w"].read("float32")
