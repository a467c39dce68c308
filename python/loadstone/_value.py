"""What is in a tensor, for Python: the value of one element, and a pickle of all."""

from __future__ import annotations

from . import _core
from ._errors import UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def item(tensor: _core.Tensor) -> complex:
    """The value of a tensor of one element."""
    if any(extent != 1 for extent in tensor.shape):
        raise ValueError(f"expected a tensor of one element, found shape {list(tensor.shape)}")
    if tensor.dtype.is_float:
        value = bytearray(8)
        _core.convert(value, "float64", tensor.raw, tensor.dtype, 1)
        return memoryview(value).cast("d")[0]
    if tensor.dtype.name == "complex64":
        return complex(*tensor.raw.cast("f"))
    try:
        letter = memoryview(tensor).format
    except BufferError:
        raise UnsupportedError(f"{tensor.dtype.name} is only carried, its values are not known") from None
    return tensor.raw.cast(letter)[0]  # type: ignore[call-overload, no-any-return]


def reduced(arguments: tuple[_core.Tensor, int]) -> tuple[Any, ...]:
    """How to make the tensor again; from protocol 5 on its bytes can be sent beside the pickle."""
    from pickle import PickleBuffer

    tensor, protocol = arguments
    data = PickleBuffer(tensor.raw) if protocol >= 5 else bytes(tensor.raw)
    return _core.tensor_of, (tensor.dtype, tensor.shape, data)
