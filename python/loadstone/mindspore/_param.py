"""Parameters and their dtypes, in place: the object, its name and its place in the cell stay."""

from __future__ import annotations

import numpy as np

from .. import _core
from . import _compat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from mindspore import Parameter, nn

    Net = TypeVar("Net", bound=nn.Cell)


def set_dtype(param: Parameter, dtype: Any) -> Parameter:
    """Change a parameter's dtype in place, and return it.

    It remains the same object, under its name and in its place. Values are converted as MindSpore does, in
    one pass, into new memory; a parameter that has the dtype is not touched, and one without memory gets
    none. dtype is MindSpore's, or a name.
    """
    dtype = _compat.mindspore_dtype(dtype)
    if param.dtype == dtype:
        return param
    if _compat.is_deferred(param):
        _compat.defer(param, dtype)
    elif param.dtype in _compat.FLOATS and dtype in _compat.FLOATS:
        _compat.adopt(param, converted(_compat.host_array(param), dtype))
    else:
        _compat.cast(param, dtype)
    return param


def converted(array: np.ndarray[Any, Any], dtype: Any, threads: int | None = None) -> np.ndarray[Any, Any]:
    """An array's values in new memory, of a float dtype of MindSpore; threads is None for all."""
    name = _compat.dtype_name(dtype)
    out = np.empty(array.shape, _compat.numpy_dtype(name))
    source = np.ascontiguousarray(array).reshape(-1)
    _core.convert(out.reshape(-1).view(np.uint8), name, source.view(np.uint8), array.dtype.name, threads)
    return out


def to(net: Net, dtype: Any) -> Net:
    """set_dtype() for every parameter of a network; returns the network. As mindone's own, this includes
    integers.
    """
    dtype = _compat.mindspore_dtype(dtype)
    for param in net.get_parameters():
        if param.dtype != dtype:
            set_dtype(param, dtype)
    return net


def half(net: Net) -> Net:
    """to(net, mindspore.float16)"""
    return to(net, "float16")


def float(net: Net) -> Net:
    """to(net, mindspore.float32)"""
    return to(net, "float32")


def data_ptr(param: Parameter) -> int:
    """The address of a parameter's memory: in the host until the parameter was first used on a device. 0
    while it has none.
    """
    return _compat.data_ptr(param)
