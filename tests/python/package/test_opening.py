"""Opening checkpoints: what safetensors reads, and what is in no file."""

import json
import threading
import weakref
from collections.abc import Mapping

import loadstone
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import load_file
from support import SAVED, TORCH, torch_bytes


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
        with pytest.raises(KeyError) as caught:
            checkpoint[name]
        assert caught.value.args == (name,)
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


def test_weak_references_are_refused(path):
    with pytest.raises(TypeError):
        weakref.ref(loadstone.open(path)["scalar"])
