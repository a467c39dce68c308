"""convert_dtype() against torch and ml_dtypes."""

import loadstone
import ml_dtypes
import numpy as np
import pytest
import torch
from support import FLOATS, TORCH, torch_bytes


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
    with pytest.raises(ValueError, match=r"^out: expected float16 \(4, 4\), found float16 \(16,\)$"):
        loadstone.convert_dtype(array, "float16", out=np.zeros(16, np.float16))
    with pytest.raises(ValueError, match=r"^out: expected a C-contiguous array, found strides \(2, 8\)$"):
        loadstone.convert_dtype(array, "float16", out=np.zeros((4, 4), np.float16).T)
    memory = np.zeros(100, np.uint8)
    with pytest.raises(ValueError, match="do not overlap"):
        loadstone.convert_dtype(memory[:64].view(np.float32), "float16", out=memory[2:34].view(np.float16))
    with pytest.raises(TypeError, match=r"^expected a dtype, found None$"):
        loadstone.convert_dtype(array, None)
    with pytest.raises(TypeError, match=r"^array: expected one of loadstone.dtypes, found <U3$"):
        loadstone.convert_dtype(["one"], "float16")
    with pytest.raises(TypeError, match=r"^threads: expected an integer, found '4'$"):
        loadstone.convert_dtype(array, "float16", threads="4")
    with pytest.raises(loadstone.ArgumentError, match=r"^threads: expected 1 to 1024, found 0$"):
        loadstone.convert_dtype(array, "float16", threads=0)
    with pytest.raises(TypeError, match=r"^out: expected a NumPy array, found bytearray$"):
        loadstone.convert_dtype(array, "float16", out=bytearray(32))
    fixed = np.zeros((4, 4), np.float16)
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match=r"^out: expected a writable array, found one that is read-only$"):
        loadstone.convert_dtype(array, "float16", out=fixed)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_convert_dtype_of_the_other_byte_order(dtype):
    values = np.arange(6, dtype=dtype).reshape(2, 3)
    swapped = values.astype(values.dtype.newbyteorder())
    assert np.array_equal(loadstone.convert_dtype(swapped, "float32"), values)
