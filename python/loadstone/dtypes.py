"""The element types, named as PyTorch, NumPy and ml_dtypes name them.

Wherever a dtype is asked for, any of these will do: one of these objects, a name ("bfloat16", "BF16"), or a
dtype of NumPy, ml_dtypes or PyTorch. Python's float is float32, as a name, where NumPy has float64.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class DType:
    """An element type; there is one object of each, which equals its name.

    .name is "bfloat16", .safetensors_name "BF16", .bits those of an element (4 and 6 for packed types),
    .is_float true for the types that can be converted into one another, .code the library's number.
    """

    __slots__ = ("bits", "code", "is_float", "name", "safetensors_name")

    def __init__(self, code: int, name: str, safetensors_name: str, bits: int, is_float: bool = False):
        self.code = code
        self.name = name
        self.safetensors_name = safetensors_name
        self.bits = bits
        self.is_float = is_float

    @property
    def numpy(self) -> Any:
        """The NumPy dtype, from ml_dtypes where NumPy has none; packed types are refused."""
        from ._numpy import numpy_dtype

        return numpy_dtype(self)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, str) and other == self.name)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"loadstone.dtypes.{self.name}"

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> Any:
        return _by_code, (self.code,)


_TABLE = (
    (1, "bool", "BOOL", 8),
    (2, "uint8", "U8", 8),
    (3, "int8", "I8", 8),
    (4, "uint16", "U16", 16),
    (5, "int16", "I16", 16),
    (6, "uint32", "U32", 32),
    (7, "int32", "I32", 32),
    (8, "uint64", "U64", 64),
    (9, "int64", "I64", 64),
    (16, "float16", "F16", 16, True),
    (17, "bfloat16", "BF16", 16, True),
    (18, "float32", "F32", 32, True),
    (19, "float64", "F64", 64, True),
    (20, "complex64", "C64", 64),
    (24, "float8_e4m3fn", "F8_E4M3", 8, True),
    (25, "float8_e5m2", "F8_E5M2", 8, True),
    (26, "float8_e4m3fnuz", "F8_E4M3FNUZ", 8, True),
    (27, "float8_e5m2fnuz", "F8_E5M2FNUZ", 8, True),
    (28, "float8_e8m0fnu", "F8_E8M0", 8),
    (29, "float6_e2m3fn", "F6_E2M3", 6),
    (30, "float6_e3m2fn", "F6_E3M2", 6),
    (31, "float4_e2m1fn", "F4", 4),
)

all: tuple[DType, ...] = tuple(DType(*row) for row in _TABLE)
_codes = {dtype.code: dtype for dtype in all}
globals().update({dtype.name: dtype for dtype in all})


def _by_code(code: int) -> DType:
    return _codes[code]
