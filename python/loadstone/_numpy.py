"""What needs NumPy: imported when it is first asked for, also where there is no NumPy."""

from __future__ import annotations

from . import _core
from ._errors import UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import numpy as np

    from .dtypes import DType
else:
    try:
        import numpy as np
    except ImportError:

        class _Missing:
            """Raises what importing NumPy raised, once something of it is used."""

            def __getattr__(self, name: str) -> object:
                import numpy

                return getattr(numpy, name)

        np = _Missing()


_NUMPY: dict[DType, np.dtype[Any]] = {}
_OURS: dict[np.dtype[Any], DType | None] = {}


def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """The NumPy dtype of a DType."""
    found = _NUMPY.get(dtype)
    if found is None:
        found = _NUMPY[dtype] = _find_numpy_dtype(dtype)
    return found


def _find_numpy_dtype(dtype: DType) -> np.dtype[Any]:
    if dtype.bits % 8:
        raise UnsupportedError(f"{dtype.name} is packed, which NumPy cannot say; use .raw for the bytes")
    if dtype.name == "bool" or hasattr(np, dtype.name):
        return np.dtype(dtype.name)
    try:
        import ml_dtypes
    except ImportError as error:
        raise ImportError(f"NumPy has no {dtype.name}; install ml_dtypes, which has") from error
    return np.dtype(getattr(ml_dtypes, dtype.name))


def _our_dtype(dtype: Any) -> DType | None:
    """The DType that anything means; kept, since NumPy takes longer to print a dtype than many calls take."""
    if not isinstance(dtype, np.dtype):
        return _core.dtype(dtype)
    found = _OURS.get(dtype)
    if found is None:
        found = _OURS[dtype] = _core.dtype(dtype)
    return found


def as_array(tensor: _core.Tensor) -> np.ndarray[Any, Any]:
    """An array of the tensor's memory, which it keeps."""
    return np.ndarray(tensor.shape, tensor.dtype.numpy, tensor.raw)


def array_protocol(tensor: _core.Tensor, dtype: Any, copy: bool | None) -> np.ndarray[Any, Any]:
    """What numpy.array and numpy.asarray ask of a tensor."""
    array = as_array(tensor)
    if dtype is not None and array.dtype != dtype:
        if copy is False:
            raise ValueError(f"cannot be {np.dtype(dtype)} without a copy")
        return array.astype(dtype)
    return array.copy() if copy else array


def convert_dtype(
    array: Any, dtype: Any, *, out: Any = None, threads: int | None = None
) -> np.ndarray[Any, Any]:
    """Convert an array to another float dtype, as loads do: to nearest, ties to even, as PyTorch does.

    array is a NumPy array, a Tensor, or what numpy.asarray takes; it is copied first if it is not
    C-contiguous or in another byte order. dtype is any float of loadstone.dtypes. out, if given, is written
    to and returned: a C-contiguous array of the shape and dtype of the result; memory that was used before is
    much faster than new memory. threads is 1 to 1024; None: as many as this process may use and the array is
    worth.

    Raises ImportError without NumPy, UnsupportedError unless both dtypes are floats of loadstone.dtypes or
    the same, ArgumentError for threads out of range, and ValueError for an out of another shape or dtype, one
    that cannot be written to, or one that overlaps array.
    """
    source = np.asarray(array, order="C")
    if not source.dtype.isnative:
        source = source.astype(source.dtype.newbyteorder("="))
    try:
        given = _our_dtype(source.dtype)
    except TypeError:
        raise TypeError(f"array: expected one of loadstone.dtypes, found {source.dtype}") from None
    target = _our_dtype(dtype)
    if target is None:
        raise TypeError("expected a dtype, found None")
    wanted = numpy_dtype(target)
    if out is None:
        out = np.empty(source.shape, wanted)
    elif not isinstance(out, np.ndarray):
        raise TypeError(f"out: expected a NumPy array, found {type(out).__name__}")
    elif not out.flags.writeable:
        raise ValueError("out: expected a writable array, found one that is read-only")
    elif out.dtype != wanted or out.shape != source.shape:
        raise ValueError(f"out: expected {target} {source.shape}, found {out.dtype} {out.shape}")
    elif not out.flags.c_contiguous:
        raise ValueError(f"out: expected a C-contiguous array, found strides {out.strides}")
    _core.convert(out, target, source, given, threads)
    return out
