import builtins
from typing import Any

class DType:
    __slots__ = ("bits", "code", "is_float", "name", "safetensors_name")
    code: int
    name: str
    safetensors_name: str
    bits: int
    is_float: builtins.bool
    def __init__(
        self, code: int, name: str, safetensors_name: str, bits: int, is_float: builtins.bool = False
    ) -> None: ...
    @property
    def numpy(self) -> Any: ...
    def __eq__(self, other: object) -> builtins.bool: ...
    def __hash__(self) -> int: ...

bool: DType
uint8: DType
int8: DType
uint16: DType
int16: DType
uint32: DType
int32: DType
uint64: DType
int64: DType
float16: DType
bfloat16: DType
float32: DType
float64: DType
complex64: DType
float8_e4m3fn: DType
float8_e5m2: DType
float8_e4m3fnuz: DType
float8_e5m2fnuz: DType
float8_e8m0fnu: DType
float6_e2m3fn: DType
float6_e3m2fn: DType
float4_e2m1fn: DType

all: tuple[DType, ...]
