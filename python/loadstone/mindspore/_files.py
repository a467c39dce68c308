"""Files of tensors of MindSpore, without a network."""

from __future__ import annotations

import json
import os
import tempfile

import numpy as np

from .._load import load
from . import _compat
from ._load import opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mindspore import Tensor


def load_file(path: str | os.PathLike[str], dtype: Any = None) -> dict[str, Tensor]:
    """All tensors of a checkpoint, by name: the mapped file itself where no dtype is to be changed. Floats
    become dtype; None keeps each one's own. The tensors may be written to; the file does not change.
    """
    wanted = None if dtype is None else _compat.dtype_name(_compat.mindspore_dtype(dtype))
    weights = load(opened(path), dtype=wanted)
    return {name: _compat.as_tensor(_compat.as_array(weights[name])) for name in weights}


def save_file(
    tensors: Mapping[str, Tensor], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors, or a network's parameters_dict(), as a safetensors file.

    The file appears complete or not at all: a load of what was there before keeps its mapping.
    """
    arrays = {name: np.ascontiguousarray(_compat.host_array(tensor)) for name, tensor in tensors.items()}
    header, order = _header(tensors, arrays, metadata)
    directory, base = os.path.split(os.fspath(path))
    handle, temporary = tempfile.mkstemp(dir=directory or ".", prefix=f".{base}.")
    try:
        with open(handle, "wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for name in order:
                file.write(arrays[name].reshape(-1).view(np.uint8).data)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _header(
    tensors: Mapping[str, Tensor], arrays: dict[str, np.ndarray[Any, Any]], metadata: Mapping[str, str] | None
) -> tuple[bytes, list[str]]:
    """The JSON before the data, padded to whole words, and the order of the data: wide elements first, so
    that each is aligned.
    """
    entries: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    offset = 0
    for name in order:
        array = arrays[name]
        dtype = _compat.own_dtype(_compat.dtype_name(tensors[name].dtype))
        entries[name] = {
            "dtype": dtype.safetensors_name,
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8), order
