"""
Checkpoints against the safetensors package: what it accepts is accepted, with the same tensors; what it
refuses is refused. Where it accepts more than its own specification allows, or than C strings can hold, we
do not: see refused_by_rule().
"""

import ctypes
import json
import random
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lds_error import Error
from safetensors import SafetensorError, deserialize, safe_open

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "checkpoint"
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64, "F16": 16,
    "BF16": 16, "F32": 32, "F64": 64, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
EXPECTED_BAD = {
    "empty": "LDS_ERR_TRUNCATED",
    "short_length": "LDS_ERR_TRUNCATED",
    "short_header": "LDS_ERR_TRUNCATED",
    "short_data": "LDS_ERR_TRUNCATED",
    "dtype_unknown": "LDS_ERR_UNSUPPORTED",
    "git_lfs": "LDS_ERR_NOT_WEIGHTS",
    "web_page": "LDS_ERR_NOT_WEIGHTS",
    "server_error": "LDS_ERR_NOT_WEIGHTS",
    "gguf": "LDS_ERR_NOT_WEIGHTS",
    "zip": "LDS_ERR_NOT_WEIGHTS",
    "pickle": "LDS_ERR_NOT_WEIGHTS",
}  # the others are LDS_ERR_MALFORMED


class Refused(Exception):
    def __init__(self, status, message, offset):
        super().__init__(f"{status}: {message}")
        self.status, self.message, self.offset = status, message, offset


RESULTS = {
    ctypes.c_char_p: ["status_name", "dtype_name", "checkpoint_metadata_key", "checkpoint_metadata_value",
                      "tensor_name"],
    ctypes.c_void_p: ["checkpoint_tensor"],
    ctypes.c_size_t: ["checkpoint_n_tensors", "checkpoint_n_metadata"],
    ctypes.c_uint32: ["tensor_n_dims"],
    ctypes.c_uint64: ["tensor_offset", "tensor_nbytes"],
    ctypes.POINTER(ctypes.c_uint64): ["tensor_shape"],
}  # fmt: skip


class Checkpoints:
    """The part of the library that opens checkpoints."""

    def __init__(self, path):
        self.lib = ctypes.CDLL(str(path))
        for result, names in RESULTS.items():
            for name in names:
                getattr(self.lib, f"lds_{name}").restype = result

    def open(self, path):
        """({name: (dtype, shape, offset, nbytes)}, {key: value}) or Refused."""
        lib, err, handle = self.lib, Error(), ctypes.c_void_p()
        status = lib.lds_checkpoint_open(ctypes.byref(handle), str(path).encode(), None, ctypes.byref(err))
        if status:
            raise Refused(lib.lds_status_name(status).decode(), err.message.decode(), err.offset)
        try:
            tensors = [self.tensor(handle, i) for i in range(lib.lds_checkpoint_n_tensors(handle))]
            metadata = {
                lib.lds_checkpoint_metadata_key(handle, ctypes.c_size_t(i)).decode():
                lib.lds_checkpoint_metadata_value(handle, ctypes.c_size_t(i)).decode()
                for i in range(lib.lds_checkpoint_n_metadata(handle))
            }  # fmt: skip
            assert [t[3] for t in tensors] == sorted(t[3] for t in tensors)
            return {name: rest for name, *rest in tensors}, metadata
        finally:
            lib.lds_checkpoint_close(handle)

    def tensor(self, handle, i):
        lib = self.lib
        tensor = ctypes.c_void_p(lib.lds_checkpoint_tensor(handle, ctypes.c_size_t(i)))
        shape = lib.lds_tensor_shape(tensor)[: lib.lds_tensor_n_dims(tensor)]
        dtype = lib.lds_dtype_name(lib.lds_tensor_dtype(tensor)).decode()
        return (
            lib.lds_tensor_name(tensor).decode(),
            dtype,
            shape,
            lib.lds_tensor_offset(tensor),
            lib.lds_tensor_nbytes(tensor),
        )


@pytest.fixture(scope="module")
def checkpoints(library_path):
    return Checkpoints(library_path)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoint") / "x.safetensors"


def by_safetensors(content, path):
    """As Checkpoints.open, with the bytes of each tensor in place of its extent; None if it is refused."""
    try:
        tensors = {name: (t["dtype"], list(t["shape"]), bytes(t["data"])) for name, t in deserialize(content)}
        with safe_open(path, framework="numpy") as file:
            return tensors, file.metadata() or {}
    except SafetensorError:
        return None


def repeats(pairs):
    """Stands for an object that has a key twice."""
    return {"\0repeated": True} if len({key for key, _ in pairs}) < len(pairs) else dict(pairs)


def refused_by_rule(content):
    """Is this one of the files that only the safetensors package accepts?"""
    text = content[8 : 8 + struct.unpack("<Q", content[:8])[0]]
    if not text.startswith(b"{"):
        return True
    header = json.loads(text, object_pairs_hook=repeats)
    metadata = header.get("__metadata__") or {}
    strings = [*header, *metadata, *metadata.values()]
    entries = [entry for name, entry in header.items() if name != "__metadata__"]
    return any("\0" in s for s in strings) or any(
        not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str) or len(entry["shape"]) > 64
        for entry in entries
    )


def compare(checkpoints, path, content):
    """True if both accept it."""
    path.write_bytes(content)
    wanted = by_safetensors(content, path)
    try:
        tensors, metadata = checkpoints.open(path)
    except Refused as refusal:
        assert refusal.message.startswith(str(path)) and refusal.status != "LDS_ERR_IO"
        assert wanted is None or refused_by_rule(content), refusal.message
        return False
    assert wanted is not None
    found = {name: (dtype, shape, content[at : at + n]) for name, (dtype, shape, at, n) in tensors.items()}
    assert (found, metadata) == wanted
    return True


# ---- files that are right ----

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
names = names.filter(lambda name: name != "__metadata__")
shapes = st.lists(st.sampled_from([0, 1, 1, 2, 2, 3, 4, 7]), max_size=8)


@st.composite
def files(draw):
    """The bytes of a valid file, its entries in any order and its JSON in any style."""
    header, end = [], 0
    for name in draw(st.lists(names, max_size=6, unique=True)):
        dtype, shape = draw(st.sampled_from(list(BITS))), draw(shapes)
        numel = 1
        for dim in shape:
            numel *= dim
        if numel * BITS[dtype] % 8:
            shape = [*shape, 4]
            numel *= 4
        nbytes = numel * BITS[dtype] // 8
        fields = [("dtype", dtype), ("shape", shape), ("data_offsets", [end, end + nbytes])]
        if draw(st.booleans()):
            fields.append(("x", draw(st.sampled_from([None, 1.5, "y", [[{}]], {"dtype": 0}]))))
        header.append((name, dict(draw(st.permutations(fields)))))
        end += nbytes
    header = draw(st.permutations(header))
    if draw(st.booleans()):
        header.insert(0, ("__metadata__", draw(st.dictionaries(names, names, max_size=3))))
    separators = draw(st.sampled_from([(",", ":"), (" ,\n", ": ")]))
    text = json.dumps(dict(header), separators=separators, ensure_ascii=draw(st.booleans()))
    text = text.encode() + b" " * draw(st.integers(0, 9))
    return struct.pack("<Q", len(text)) + text + random.Random(end).randbytes(end)


quietly = settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@quietly
@given(files())
def test_valid_files_open_as_in_safetensors(checkpoints, path, content):
    assert compare(checkpoints, path, content)


# ---- files that are nearly right ----

PIECES = [
    b"", b"{", b"}", b"[", b"]", b",", b":", b'"', b" ", b"0", b"1", b"-", b".5", b"e1", b"null", b"true",
    b"\\", b"\\u0000", b"\xc3", b"\x00", b'"a":', b'"dtype":', b'"shape":', b'"data_offsets":', b'"U8"',
    b'"F4"', b"[0,0]", b"[0]", b"[]", b"18446744073709551616", b"9223372036854775807",
    b'"__metadata__":{},', b'"z":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},',
]  # fmt: skip


@st.composite
def damaged_files(draw):
    """A valid file with a few bytes of its header, or its ends, changed; the length mostly corrected."""
    content = draw(files())
    n = struct.unpack("<Q", content[:8])[0]
    text, data = content[8 : 8 + n], content[8 + n :]
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(PIECES)) + text[at + draw(st.integers(0, 4)) :]
    n = draw(st.sampled_from([len(text)] * 8 + [0, len(text) - 1, len(text) + 1, 2**40, 2**63]))
    data += draw(st.sampled_from([b""] * 8 + [b"x"]))
    return struct.pack("<Q", max(n, 0)) + text + data


def file_of(text, data=b""):
    return struct.pack("<Q", len(text)) + text + data


ENTRY = b'{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'


@quietly
@given(damaged_files())
@example(file_of(b'{"a":["U8",[1],[0,1]]}', b"x"))
@example(file_of(b'{"a":{"dtype":{"U8":null},"shape":[1],"data_offsets":[0,1]}}', b"x"))
@example(file_of(b'{"a":' + ENTRY + b',"a":' + ENTRY + b"}", b"x"))
@example(file_of(b'{"__metadata__":{"a":"1","a":"2"}}'))
@example(file_of(b'{"__metadata__":null}'))
@example(file_of(b'{"__metadata__":{},"__metadata__":{}}'))
@example(file_of(b' {"a":' + ENTRY + b"}", b"x"))
@example(file_of(b'{"a":' + ENTRY + b"}\n\t\r ", b"x"))
@example(file_of(b'{"a":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}'))
@example(file_of(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"shape":[0]}}'))
@example(file_of(b'{"a":{"dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}}'))
@example(file_of(b'{"a":{"dtype":"U8","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}}'))
@example(
    file_of(b'{"a":{"dtype":"U8","shape":[' + b",".join([b"1"] * 65) + b'],"data_offsets":[0,1]}}', b"x")
)
@example(file_of(b'{"\\u0000":' + ENTRY + b"}", b"x"))
@example(file_of(b'{"\\ud800":' + ENTRY + b"}", b"x"))
def test_damaged_files_are_refused_as_in_safetensors(checkpoints, path, content):
    compare(checkpoints, path, content)


# ---- golden files, and what they say ----


@pytest.mark.parametrize("name", sorted(p.stem for p in (GOLDEN / "good").iterdir()))
def test_good_files_open(checkpoints, path, name):
    assert compare(checkpoints, path, (GOLDEN / "good" / f"{name}.safetensors").read_bytes())


@pytest.mark.parametrize("name", sorted(p.stem for p in (GOLDEN / "bad").iterdir()))
def test_bad_files_are_refused(checkpoints, name):
    file = GOLDEN / "bad" / f"{name}.safetensors"
    with pytest.raises(Refused) as refusal:
        checkpoints.open(file)
    assert refusal.value.status == EXPECTED_BAD.get(name, "LDS_ERR_MALFORMED")
    assert refusal.value.message.startswith(f"{file}: ")
    assert refusal.value.offset <= max(file.stat().st_size, 8) or refusal.value.offset == 2**64 - 1


def test_many_tensors_open_in_any_order(checkpoints, path):
    """As many tensors as a large mixture of experts has layers' worth of, over a sparse file."""
    n, nbytes = 20_000, 14_680_064
    order = random.Random(1).sample(range(n), n)
    header = {
        f"model.layers.{i}.weight": {
            "dtype": "F8_E4M3",
            "shape": [2048, 7168],
            "data_offsets": [i * nbytes, (i + 1) * nbytes],
        }
        for i in order
    }
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + n * nbytes)
    tensors, _ = checkpoints.open(path)
    path.unlink()
    assert list(tensors) == [f"model.layers.{i}.weight" for i in range(n)]
    assert [t[2] for t in tensors.values()] == [8 + len(text) + i * nbytes for i in range(n)]
