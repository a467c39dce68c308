"""Writes the files in good/ and bad/."""

import json
import struct
from pathlib import Path

import numpy
from safetensors.numpy import save

HERE = Path(__file__).parent
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64, "F16": 16,
    "BF16": 16, "F32": 32, "F64": 64, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
NUMPY_DTYPES = ["bool", "uint8", "int16", "uint32", "int64", "float16", "float32", "float64", "complex64"]


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def file_of(header, data=b""):
    """The bytes of a file; header is text, or what json.dumps takes."""
    if not isinstance(header, bytes):
        header = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return struct.pack("<Q", len(header)) + header + data


def good():
    data = bytes(range(32))
    arrays = {f"layer.{name}": numpy.arange(4).astype(name).reshape(2, 2) for name in NUMPY_DTYPES}
    yield "by_safetensors", save(arrays, {"format": "np", "note": "größer"})
    header, end = {}, 0
    for name, bits in BITS.items():
        header[name] = entry(name, [4], end, end + bits // 2)
        end += bits // 2
    yield "every_dtype", file_of(header, bytes(end))
    yield "no_tensors", file_of({})
    yield "only_metadata", file_of({"__metadata__": {"format": "pt"}})
    yield (
        "scalar_and_empty",
        file_of({"s": entry("F32", [], 0, 4), "z": entry("F32", [3, 0, 2], 4, 4)}, data[:4]),
    )
    unsorted = {"b": entry("I16", [2], 4, 8), "z": entry("U8", [0], 4, 4), "a": entry("F32", [1], 0, 4)}
    yield "unsorted", file_of(unsorted, data[:8])
    yield "padded", file_of(json.dumps({"a": entry("U8", [1], 0, 1)}).encode() + b" " * 13, data[:1])
    yield "names", file_of({"": entry("U8", [], 0, 1), 'ключ/鍵 🔑\n"': entry("U8", [], 1, 2)}, data[:2])
    yield "unknown_field", file_of({"a": {"new": {"x": [None]}, **entry("U8", [1], 0, 1)}}, data[:1])
    yield "eight_dimensions", file_of({"a": entry("U8", [1, 2, 1, 2, 1, 2, 1, 1], 0, 8)}, data[:8])


def bad():
    data = bytes(range(32))
    whole = file_of({"a": entry("F32", [2], 0, 8)}, data[:8])
    yield "empty", b""
    yield "short_length", whole[:5]
    yield "short_header", whole[:30]
    yield "short_data", whole[:-1]
    yield "long_data", whole + b"x"
    yield "header_over_cap", struct.pack("<Q", 100_000_001) + whole[8:]
    yield "header_of_zero", struct.pack("<Q", 0) + whole[8:]
    yield "header_not_json", file_of(b"{'a': 1}")
    yield "header_not_utf8", file_of(b'{"\xff\xfe":0}')
    yield "header_not_object", file_of(b"[]")
    yield "space_first", file_of(b" " + whole[8:-8], data[:8])
    one = json.dumps(entry("U8", [1], 0, 1))
    yield "name_twice", file_of(f'{{"a":{one},"a":{one}}}'.encode(), data[:1])
    yield (
        "dtype_twice",
        file_of(b'{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', data[:1]),
    )
    yield "metadata_number", file_of({"__metadata__": {"step": 1}})
    yield "dtype_unknown", file_of({"a": entry("F12", [2], 0, 3)}, data[:3])
    yield "dtype_missing", file_of({"a": {"shape": [1], "data_offsets": [0, 1]}}, data[:1])
    yield "shape_negative", file_of({"a": entry("U8", [-1], 0, 1)}, data[:1])
    yield "shape_overflow", file_of({"a": entry("U8", [2**33, 2**33], 0, 1)}, data[:1])
    yield "offsets_backwards", file_of({"a": entry("U8", [1], 1, 0)}, data[:1])
    yield "extent_too_small", file_of({"a": entry("F32", [2], 0, 4)}, data[:4])
    yield "half_a_byte", file_of({"a": entry("F4", [3], 0, 1)}, data[:1])
    yield "hole", file_of({"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 2, 3)}, data[:3])
    yield "overlap", file_of({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, data[:3])
    yield "git_lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 90868376\n"
    yield "web_page", b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"
    yield "server_error", b'{"error":"Repository not found"}'
    yield "gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
    yield "zip", b"PK\x03\x04" + bytes(26)
    yield "pickle", b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s."


if __name__ == "__main__":
    for folder, files in (("good", good()), ("bad", bad())):
        for name, content in files:
            (HERE / folder / f"{name}.safetensors").write_bytes(content)
