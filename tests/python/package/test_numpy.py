"""Tensors as NumPy and ml_dtypes have them, where there are no other references."""

import loadstone
import pytest
from loadstone import dtypes
from plain import write

np = pytest.importorskip("numpy")
ml_dtypes = pytest.importorskip("ml_dtypes")

FLOATS = [dtype for dtype in dtypes.all if dtype.is_float]


@pytest.fixture
def arrays():
    values = np.random.default_rng(1).standard_normal((12, 10)).astype(np.float32)
    return {"F32": values, "F16": values.astype(np.float16), "BF16": values.astype(ml_dtypes.bfloat16)}


@pytest.fixture
def path(tmp_path, arrays):
    tensors = {name: (name, array.shape, array.tobytes()) for name, array in arrays.items()}
    return write(tmp_path / "model.safetensors", tensors)


@pytest.mark.parametrize("index", [..., 3, (slice(1, 9, 3), slice(None, None, -2)), (slice(0), 1), (-1, -1)])
def test_reading_parts(path, arrays, index):
    for name, tensor in loadstone.open(path).items():
        part, expected = tensor[index].numpy(), arrays[name][index]
        assert (part.dtype, part.shape) == (expected.dtype, expected.shape)
        assert part.tobytes() == expected.tobytes()


def test_sharing_memory(path, arrays):
    for name, tensor in loadstone.load(path).items():
        views = [tensor.numpy(), np.asarray(tensor)]
        if name != "BF16":
            views += [np.from_dlpack(tensor), np.array(memoryview(tensor), copy=False)]
        for view in views:
            assert view.ctypes.data == tensor.data_ptr
            assert view.dtype == arrays[name].dtype
            assert view.tobytes() == arrays[name].tobytes()
        del tensor, views[1:]
        assert views[0].tobytes() == arrays[name].tobytes()


def test_loading_into_arrays(path, arrays):
    out = {"F32": np.empty((12, 10), ml_dtypes.bfloat16), "BF16": np.empty((12, 10), np.float64)}
    loadstone.load(path, out=out)
    assert out["F32"].tobytes() == arrays["F32"].astype(ml_dtypes.bfloat16).tobytes()
    assert out["BF16"].tobytes() == arrays["BF16"].astype(np.float64).tobytes()


@pytest.mark.parametrize("target", FLOATS)
def test_converting(arrays, target):
    """To the narrow floats without those values that ml_dtypes rounds by another rule: none is too large."""
    values = arrays["F32"]
    assert loadstone.convert_dtype(values, target).tobytes() == values.astype(target.numpy).tobytes()
