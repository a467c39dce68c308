"""lds_convert against torch.Tensor.to and ml_dtypes, bit for bit on every value that is not NaN."""

import ctypes
import itertools

import ml_dtypes
import numpy as np
import pytest
import torch

# name: lds_dtype, bits, torch, numpy
FLOATS = {
    "F16": (16, 16, torch.float16, np.float16),
    "BF16": (17, 16, torch.bfloat16, ml_dtypes.bfloat16),
    "F32": (18, 32, torch.float32, np.float32),
    "F64": (19, 64, torch.float64, np.float64),
    "F8_E4M3": (24, 8, torch.float8_e4m3fn, ml_dtypes.float8_e4m3fn),
    "F8_E5M2": (25, 8, torch.float8_e5m2, ml_dtypes.float8_e5m2),
    "F8_E4M3FNUZ": (26, 8, torch.float8_e4m3fnuz, ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2FNUZ": (27, 8, torch.float8_e5m2fnuz, ml_dtypes.float8_e5m2fnuz),
}
UINT = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
PAIRS = list(itertools.product(FLOATS, FLOATS))


@pytest.fixture(scope="module")
def lib(library_path):
    return ctypes.CDLL(str(library_path))


def uint_of(name):
    return UINT[FLOATS[name][1]]


def convert(lib, bits, src, dst):
    """Bits in, bits out, through lds_convert."""
    out = np.empty(bits.shape, uint_of(dst))
    status = lib.lds_convert(
        ctypes.c_void_p(out.ctypes.data),
        FLOATS[dst][0],
        ctypes.c_void_p(bits.ctypes.data),
        FLOATS[src][0],
        ctypes.c_size_t(bits.size),
        None,
    )
    assert status == 0
    return out


def by_torch(bits, src, dst):
    int_of = {8: torch.int8, 16: torch.int16, 32: torch.int32, 64: torch.int64}
    tensor = torch.from_numpy(bits.view(f"int{FLOATS[src][1]}")).view(FLOATS[src][2]).to(FLOATS[dst][2])
    return tensor.view(int_of[FLOATS[dst][1]]).numpy().view(uint_of(dst))


def by_ml_dtypes(bits, src, dst):
    with np.errstate(all="ignore"):
        values = bits.view(FLOATS[src][3])
        if src == "F64" and FLOATS[dst][1] < 32:
            values = values.astype(np.float32)
        return values.astype(FLOATS[dst][3]).view(uint_of(dst))


def is_nan(bits, name):
    with np.errstate(all="ignore"):
        return np.isnan(bits.view(FLOATS[name][3]).astype(np.float64))


def all_of(name):
    """Every bit pattern of a narrow type."""
    return np.arange(1 << FLOATS[name][1], dtype=np.uint64).astype(uint_of(name))


def boundaries(wide, narrow):
    """
    In a wide type: every value of the narrow type, every midpoint between two of them, the overflow
    threshold, and each one's neighbours, near and a little farther off.
    """
    with np.errstate(all="ignore"):
        values = all_of(narrow).view(FLOATS[narrow][3]).astype(np.float64)
        values = np.unique(values[np.isfinite(values)])
        step = values[-1] - values[-2]
        values = np.concatenate([[values[0] - step], values, [values[-1] + step, values[-1] + 2 * step]])
        points = np.concatenate([values, (values[1:] + values[:-1]) / 2, (3 * values[1:] + values[:-1]) / 4])
        bits = points.astype(FLOATS[wide][3]).view(uint_of(wide))
    offsets = [0, 1, 2, 3, 7]
    if FLOATS[wide][1] == 64:
        offsets += [1 << 28, (1 << 28) + 1, (1 << 29) - 1, 1 << 29]
    offsets = np.array(offsets, dtype=uint_of(wide))
    return np.concatenate([(bits[:, None] + offsets).ravel(), (bits[:, None] - offsets).ravel()])


def specials(name):
    """Zero, subnormals, infinity and NaN of both signs, each exponent's first and last values."""
    bits = FLOATS[name][1]
    mantissa = {32: 23, 64: 52}[bits]
    exponents = np.arange(1 << (bits - mantissa), dtype=np.uint64) << np.uint64(mantissa)
    near = np.array(
        [0, 1, 2, 3, (1 << mantissa) - 1, (1 << mantissa) - 2, 1 << (mantissa - 1)], dtype=np.uint64
    )
    return (exponents[:, None] + near).ravel().astype(uint_of(name))


def inputs(src, dst):
    if FLOATS[src][1] <= 16:
        return all_of(src)
    random = np.random.default_rng(1).integers(0, 1 << FLOATS[src][1], 1 << 20, dtype=uint_of(src))
    # Numbers of the size that weights have: random bits rarely are.
    weights = np.random.default_rng(2).normal(0, 0.05, 1 << 18).astype(FLOATS[src][3]).view(uint_of(src))
    parts = [random, weights, specials(src)]
    if FLOATS[dst][1] <= 16:
        parts.append(boundaries(src, dst))
    if FLOATS[src][1] == 64:
        # Numbers that F32 can hold, and their neighbours: most random F64 are far outside its range.
        f32 = random.astype(np.uint32).view(np.float32)
        f32 = np.concatenate([f32, specials("F32").view(np.float32)])
        with np.errstate(all="ignore"):
            near = f32.astype(np.float64).view(np.uint64)
        parts += [near + np.uint64(o) for o in (0, 1, (1 << 28) - 1, 1 << 28, (1 << 28) + 1)]
    return np.concatenate(parts)


def assert_equal(bits, found, expected, src, dst):
    """Equal bits, but that NaN need only be NaN."""
    wrong = found != expected
    wrong &= ~(is_nan(found, dst) & is_nan(expected, dst))
    at = np.flatnonzero(wrong)[:8]
    assert not at.size, [(hex(bits[i]), hex(found[i]), hex(expected[i])) for i in at]


@pytest.mark.parametrize("src,dst", PAIRS)
def test_equals_ml_dtypes(lib, src, dst):
    bits = inputs(src, dst)
    assert_equal(bits, convert(lib, bits, src, dst), by_ml_dtypes(bits, src, dst), src, dst)


@pytest.mark.parametrize("src,dst", PAIRS)
def test_equals_torch(lib, src, dst):
    bits = inputs(src, dst)
    found, expected = convert(lib, bits, src, dst), by_torch(bits, src, dst)
    if dst == "F8_E4M3":
        # torch from 2.12 on saturates; ml_dtypes, older torch and the OCP's other mode give NaN, as we do.
        saturated = is_nan(found, dst) & ((expected & 0x7F) == 0x7E)
        expected = np.where(saturated, found, expected)
    assert_equal(bits, found, expected, src, dst)


def test_e4m3_overflow_is_nan(lib):
    """Half a step above the largest value, 448, still rounds to it; above that, and for infinity, NaN."""
    values = np.array(
        [448, 464, np.nextafter(np.float32(464), np.float32(465)), 480, 1e30, np.inf], np.float32
    )
    found = convert(lib, np.concatenate([values, -values]).view(np.uint32), "F32", "F8_E4M3")
    assert found.tolist() == [0x7E] * 2 + [0x7F] * 4 + [0xFE] * 2 + [0xFF] * 4


@pytest.mark.parametrize(
    ("src", "nan", "expected"),
    [
        # signalling and with a payload; torch's own negative one
        ("F32", 0xFF812345, {"F16": 0xFE09, "BF16": 0xFFC1, "F64": 0xFFF82468A0000000, "F8_E4M3": 0xFF}),
        ("F32", 0x7FC00000, {"F16": 0x7E00, "BF16": 0x7FC0, "F8_E5M2": 0x7E, "F8_E5M2FNUZ": 0x80}),
        ("F64", 0x7FF0000000000001, {"F32": 0x7FC00000, "F16": 0x7E00, "BF16": 0x7FC0}),
        ("F16", 0xFC01, {"F32": 0xFFC02000, "BF16": 0xFFC0, "F8_E4M3": 0xFF, "F8_E4M3FNUZ": 0x80}),
        ("BF16", 0xFF81, {"F32": 0xFF810000, "F16": 0xFE08, "F64": 0xFFF8200000000000}),
        ("F8_E4M3", 0xFF, {"F32": 0xFFC00000, "F16": 0xFE00, "BF16": 0xFFC0, "F8_E5M2": 0xFE}),
        ("F8_E5M2", 0xFD, {"F32": 0xFFC00000, "F16": 0xFE00, "BF16": 0xFFC0, "F8_E4M3": 0xFF}),
        ("F8_E5M2FNUZ", 0x80, {"F32": 0x7FC00000, "F16": 0x7E00, "BF16": 0x7FC0, "F8_E4M3": 0x7F}),
    ],
)
def test_nan_is_as_documented(lib, src, nan, expected):
    for n in (1, 3000):
        bits = np.full(n, nan, uint_of(src))
        for dst, value in expected.items():
            assert set(convert(lib, bits, src, dst).tolist()) == {value}, dst


def test_flush_denormal_changes_nothing(lib):
    bits = specials("F64")
    expected = convert(lib, bits, "F64", "F32")
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no such mode")
    try:
        assert (convert(lib, bits, "F64", "F32") == expected).all()
    finally:
        torch.set_flush_denormal(False)
