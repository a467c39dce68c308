"""Parts of tensors: what an index means, and what it costs."""

import json
import os
import struct
from pathlib import Path

import loadstone
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import SAVED

ANY_BOUND = st.one_of(st.none(), st.integers(-9, 9), st.just(2**62), st.just(-(2**70)))
ANY_SLICE = st.builds(slice, ANY_BOUND, ANY_BOUND, ANY_BOUND.filter(lambda step: step != 0))
PAGE = 4096


@st.composite
def indices(draw, n_dims):
    """An index as NumPy takes it, right or wrong: too many items and integers out of range are among them."""
    items = draw(st.lists(st.one_of(ANY_SLICE, st.integers(-7, 7), st.none()), max_size=n_dims + 1))
    if draw(st.booleans()):
        items.insert(draw(st.integers(0, len(items))), ...)
    return items[0] if len(items) == 1 and draw(st.booleans()) else tuple(items)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from([*SAVED, "scalar", "empty"]))
def test_an_index_means_what_it_means_to_numpy(path, data, name):
    tensor = loadstone.open(path)[name]
    index = data.draw(indices(tensor.ndim))
    try:
        expected = tensor.numpy()[index]
    except IndexError:
        with pytest.raises(IndexError):
            tensor[index]
        return
    part = tensor[index]
    assert part.shape == expected.shape
    assert part.dtype is tensor.dtype
    assert bytes(part.raw) == expected.tobytes()


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (3, IndexError, "index 3 is out of range for dimension 0 of 3 elements"),
        ((0, 0, 0, -7), IndexError, "index -7 is out of range for dimension 3 of 6 elements"),
        ((0, 0, 0, 0, 0), IndexError, "expected at most 4 indices, found 5"),
        ((..., ...), IndexError, "expected one ellipsis, found 2"),
        (1.5, TypeError, "expected an integer, a slice, None or an ellipsis, found 1.5"),
        (True, TypeError, "expected an integer, a slice, None or an ellipsis, found True"),
        ([0, 1], TypeError, r"found \[0, 1\]; what .numpy\(\) gives takes any index"),
        (np.array([1]), TypeError, r"found array\(\[1\]\); what"),
        (torch.tensor([1]), TypeError, r"found tensor\(\[1\]\); what"),
        (list(range(1000)), TypeError, r"^.{0,200}$"),
        (slice(None, None, 0), ValueError, "slice step cannot be zero"),
        ((None,) * 70, IndexError, "expected at most 64 dimensions, found 74"),
    ],
)
def test_what_is_no_index_is_refused(path, index, error, message):
    with pytest.raises(error, match=message):
        loadstone.open(path)["float32"][index]


def test_numpy_integers_are_integers(path):
    tensor = loadstone.open(path)["int64"]
    assert tensor[np.int8(1), np.uint64(2)].shape == (5, 6)
    assert tensor[np.array(1), torch.tensor(2)].shape == (5, 6)


# ---- what it costs ----


def write_matrix(path, dtype, size, n_rows, n_columns):
    """A file whose data begins with a page."""
    extents = [0, n_rows * n_columns * size]
    header = {"w": {"dtype": dtype, "shape": [n_rows, n_columns], "data_offsets": extents}}
    text = json.dumps(header).encode().ljust(PAGE - 8)
    row = np.arange(n_columns * size, dtype=np.uint8).tobytes()
    path.write_bytes(struct.pack("<Q", len(text)) + text + row * n_rows)


def storage_nbytes():
    """Bytes that this process has had read from storage, by the kernel's count."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["read_bytes"])


def nbytes_when_cold(path, index):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    tensor = loadstone.open(path)["w"]
    before = storage_nbytes()
    part = tensor[index]
    return part.nbytes, storage_nbytes() - before


@pytest.mark.parametrize(("dtype", "size"), [("F32", 4), ("BF16", 2)])
@pytest.mark.parametrize(("begin", "end"), [(0, 1), (100, 164), (4000, 4096), (1000, 2024), (0, 4000)])
def test_a_column_slice_reads_little_more_than_itself(tmp_path, dtype, size, begin, end):
    """Twice the slice and a page a row, or the tensor where what is left out of a row is too little."""
    n = 4096
    path = tmp_path / "matrix.safetensors"
    write_matrix(path, dtype, size, n, n)
    try:
        _, whole = nbytes_when_cold(path, ...)
    except OSError as error:
        pytest.skip(f"the kernel keeps no account: {error}")
    if whole < n * n * size // 2:
        pytest.skip("the file system keeps no account of what it reads, or what it has in memory")
    part, found = nbytes_when_cold(path, (slice(None), slice(begin, end)))
    row_gap = (n - (end - begin)) * size
    limit = 2 * part + n * PAGE if row_gap >= 3 * PAGE else n * n * size
    assert found <= limit + 16 * PAGE  # the file system's own


def test_rows_read_no_more_than_themselves(tmp_path):
    path = tmp_path / "matrix.safetensors"
    write_matrix(path, "F32", 4, 2048, 4096)
    if nbytes_when_cold(path, ...)[1] < 2048 * 4096 * 2:
        pytest.skip("the file system keeps no account of what it reads, or what it has in memory")
    part, found = nbytes_when_cold(path, slice(5, 1000, 7))
    assert found <= part + (142 * 2 + 64) * PAGE
