"""What differs between MindSpore's versions, and what reaches below its interface: all of it is here.

A parameter's memory is exchanged by Tensor.assign_value, which every version has, and which takes the dtype
of the new memory along, where set_data would convert and copy. From 2.7.1 on a tensor made by from_numpy is
the array's memory; 2.7.0 has it copied when the tensor is first used on a device, and knows no address until
then.

A parameter that has no memory yet is "deferred": it has an initializer (.init), and in .init_mode a tensor
that makes the values when they are asked for. MindSpore makes them before a network first runs.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor
from mindspore.common import np_dtype

from .. import _core
from .._errors import UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mindspore.common.initializer import Initializer

    from ..dtypes import DType

    Type = Any

_NAMES = {
    ms.bool_: "bool",
    ms.uint8: "uint8",
    ms.int8: "int8",
    ms.uint16: "uint16",
    ms.int16: "int16",
    ms.uint32: "uint32",
    ms.int32: "int32",
    ms.uint64: "uint64",
    ms.int64: "int64",
    ms.float16: "float16",
    ms.bfloat16: "bfloat16",
    ms.float32: "float32",
    ms.float64: "float64",
    ms.complex64: "complex64",
}
_TYPES = {name: dtype for dtype, name in _NAMES.items()}

FLOATS = (ms.float16, ms.bfloat16, ms.float32, ms.float64)


def dtype_name(dtype: Type) -> str:
    """Loadstone's name of a dtype of MindSpore."""
    try:
        return _NAMES[dtype]
    except (KeyError, TypeError):
        raise UnsupportedError(f"expected a dtype of MindSpore that a file can hold, found {dtype}") from None


def mindspore_dtype(dtype: Any) -> Type:
    """MindSpore's dtype for one of its own, a name, or any dtype that Loadstone takes."""
    try:
        if dtype in _NAMES:
            return dtype
    except TypeError:
        pass
    name = own_dtype(dtype).name
    if name not in _TYPES:
        raise UnsupportedError(f"MindSpore has no {name}")
    return _TYPES[name]


def own_dtype(dtype: Any) -> DType:
    """Loadstone's dtype for anything that it takes."""
    found = _core.dtype(dtype)
    if found is None:
        raise TypeError("expected a dtype, found None")
    return found


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype that MindSpore takes for one of Loadstone's names."""
    if name != "bfloat16":
        return np.dtype(name)
    # MindSpore has one of its own, built for some versions of NumPy only.
    found = getattr(np_dtype, "bfloat16", None)
    if found is None:
        from ml_dtypes import bfloat16 as found
    return np.dtype(found)


def as_array(source: _core.Tensor, shape: tuple[int, ...] | None = None) -> np.ndarray[Any, Any]:
    """An array of the memory of one of Loadstone's tensors, which it keeps."""
    return np.ndarray(source.shape if shape is None else shape, numpy_dtype(source.dtype.name), source.raw)


def as_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor of an array's memory, which it keeps."""
    return Tensor.from_numpy(array)


def adopt(param: Tensor, array: np.ndarray[Any, Any]) -> None:
    """Make an array's memory that of a parameter, in place, with the array's shape and dtype."""
    Tensor.assign_value(param, as_tensor(array))
    param.init = None
    if isinstance(param, Parameter):
        param.init_mode = None


def is_deferred(param: Tensor) -> bool:
    """Whether a parameter has no memory yet."""
    return bool(param.has_init)


def defer(param: Parameter, dtype: Type, init: Initializer | None = None) -> None:
    """Leave a parameter without memory, of this dtype, and with this initializer or its own."""
    values = Tensor(shape=param.shape, dtype=dtype, init=param.init if init is None else init)
    Tensor.assign_value(param, values)
    param.init = values.init
    param.init_mode = values


def make_values(param: Parameter) -> None:
    """Give a deferred parameter the values of its initializer."""
    param.init_data()
    param.init = None


def cast(param: Tensor, dtype: Type) -> None:
    """Change a dtype in place by MindSpore's own conversion."""
    Tensor.set_dtype(param, dtype)


def host_array(param: Tensor) -> np.ndarray[Any, Any]:
    """A parameter's values in host memory: its own memory, if that is where it is."""
    return param.asnumpy()


def data_ptr(param: Tensor) -> int:
    """The address of a parameter's memory; 0 while it has none."""
    if is_deferred(param):
        return 0
    if ms.__version__ == "2.7.0":
        return host_array(param).ctypes.data
    return param.data_ptr()
