"""The arrays of out=: what a user has to load into, as buffers that parameters can lie in."""

from __future__ import annotations

from . import _core
from ._errors import ArgumentError, NameNotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, NoReturn

    from ._network import Network
    from .dtypes import DType

# Letters of buffers in this machine's byte order; with the bits of an item they are names of dtypes.
_KINDS = {
    "?": "bool",
    "Zf": "complex",
    **dict.fromkeys("efd", "float"),
    **dict.fromkeys("hilqn", "int"),
    **dict.fromkeys("HILQN", "uint"),
}


class Binding:
    """Parameters in the caller's memory: for good, unless undo() puts them back.

    All memory is looked at before the first parameter is moved. names are the globs of what is to be loaded,
    none for all.
    """

    def __init__(self, network: Network, out: Mapping[str, Any], names: tuple[str, ...] = ()):
        if not hasattr(out, "items"):
            raise TypeError(f"out: expected a mapping from names to memory, found {type(out).__name__}")
        self._network = network
        self._before: list[tuple[_Buffer, DType, _core.Tensor | None]] = []
        buffers = [_Buffer(network, name, value) for name, value in out.items()]
        _check_apart(buffers)
        if names:
            _check_wanted(network, buffers, names)
        try:
            for buffer in buffers:
                parameter = network[buffer.name]
                self._before.append((buffer, parameter.dtype, parameter.tensor))
                network._bind(buffer.name, buffer.memory, buffer.target)
        except BaseException:
            self._put_back([])
            raise

    def undo(self) -> None:
        """After a load that failed: each parameter has what it had before, or no values if those were lost.

        A load that began to write leaves parameters without values in the memory that it wrote to.
        """
        before = self._before
        self._put_back([b.memory for b, _, _ in before if self._network[b.name].data_ptr is None])

    def _put_back(self, spoilt: list[_core.Tensor]) -> None:
        for buffer, dtype, tensor in reversed(self._before):
            if tensor is not None and any(_overlap(tensor, memory) for memory in spoilt):
                tensor = None
            self._network._bind(buffer.name, tensor, dtype)


def _overlap(a: _core.Tensor, b: _core.Tensor) -> bool:
    return a.data_ptr < b.data_ptr + b.nbytes and b.data_ptr < a.data_ptr + a.nbytes


def _check_apart(buffers: list[_Buffer]) -> None:
    """Refuse memory that two parameters would write to, and two memories for parameters that are tied."""
    roots: dict[str, _Buffer] = {}
    for buffer in buffers:
        first = roots.setdefault(buffer.root, buffer)
        if (buffer.memory.data_ptr, buffer.memory.nbytes) != (first.memory.data_ptr, first.memory.nbytes):
            buffer.refuse(f"the memory of {first.name}, which it is tied to", "other memory")
    last = None
    for buffer in sorted(roots.values(), key=lambda buffer: buffer.memory.data_ptr):
        if last is not None and _overlap(last.memory, buffer.memory):
            buffer.refuse("memory of its own", f"memory that {last.name} has some of")
        if buffer.memory.nbytes:
            last = buffer


def _check_wanted(network: Network, buffers: list[_Buffer], names: tuple[str, ...]) -> None:
    """Refuse memory that would not be filled: what is in it would pass for weights."""
    wanted = [name for glob in names for name in _selected(network, glob)]
    roots = {network[name].tied_to or name for name in wanted}
    for buffer in buffers:
        if buffer.root not in roots:
            buffer.refuse("a name that names= has, too", "none")


def _selected(network: Network, glob: str) -> Iterable[str]:
    """The parameters that loads take one of names= for: a name is that, whatever it is as a glob."""
    return [glob] if glob in network else (name for name in network if _core.glob_match(glob, name))


class _Buffer:
    """One value of out=. dtype and shape are None where it does not say: it is bytes then.

    target is the dtype that its parameter becomes, None if that keeps its own; root is the parameter's name,
    or that of the one which it is tied to.
    """

    memory: _core.Tensor
    dtype: DType | None
    shape: tuple[int, ...] | None

    def __init__(self, network: Network, name: str, value: Any):
        if name not in network:
            raise NameNotFoundError(f"out: {name}: no such parameter", tensor=name)
        self.name = name
        self._look_at(value)
        parameter = network[name]
        self.root = parameter.tied_to or name
        self.target = self._target_for(parameter.dtype, parameter.shape)

    def _look_at(self, value: Any) -> None:
        self.dtype = self.shape = None
        if hasattr(value, "dtype") and hasattr(value, "shape"):
            self._take_array(value)
        else:
            self._take_view(value)
        if callable(getattr(value, "data_ptr", None)):
            self.memory = self._torch_memory(value)
            return
        try:
            self.memory = _core.memory_of(value)
        except (BufferError, TypeError) as error:
            self.refuse("writable, C-contiguous memory", f"{type(value).__name__}: {error}")

    def _take_array(self, array: Any) -> None:
        try:
            self.dtype = _core.dtype(array.dtype)
        except (TypeError, ValueError):
            self.refuse("an array of one of loadstone.dtypes", str(array.dtype))
        self.shape = tuple(array.shape)
        flags = getattr(array, "flags", None)
        if not getattr(flags, "c_contiguous", True):
            self.refuse("C-contiguous memory", f"strides {array.strides}")
        if not getattr(flags, "writeable", True):
            self.refuse("writable memory", "a read-only array")

    def _torch_memory(self, tensor: Any) -> _core.Tensor:
        """The memory of a PyTorch tensor; those that want gradients do not tell it in any other way.

        What keeps it is another tensor of it: a parameter lets go of its memory when its module is converted.
        """
        device = getattr(tensor.device, "type", None)
        if device != "cpu":
            self.refuse("memory of the CPU", f"a tensor on {tensor.device}")
        if not tensor.is_contiguous():
            self.refuse("C-contiguous memory", f"strides {tuple(tensor.stride())}")
        return _core.memory_at(tensor.data_ptr(), tensor.numel() * tensor.element_size(), tensor.detach())

    def _take_view(self, value: Any) -> None:
        try:
            view = memoryview(value)
        except TypeError:
            self.refuse("an array or a writable buffer", type(value).__name__)
        letter = view.format.lstrip("@=<")
        if letter not in ("B", "b", "c"):
            kind = _KINDS.get(letter)
            if kind is None:
                self.refuse("bytes or elements of one of loadstone.dtypes", f"a buffer of {view.format!r}")
            self.dtype = _core.dtype(kind if kind == "bool" else f"{kind}{view.itemsize * 8}")
        if view.ndim > 1:
            self.shape = view.shape

    def _target_for(self, dtype: DType, shape: tuple[int, ...]) -> DType | None:
        if self.dtype is not None and self.dtype.name == "uint8" and len(self.shape or ()) == 1:
            return None  # bytes, whatever they mean
        if self.shape is not None and self.shape != shape:
            self.refuse(f"shape {list(shape)}", str(list(self.shape)))
        if self.dtype is None or self.dtype is dtype:
            return None
        if not (self.dtype.is_float and dtype.is_float):
            self.refuse(f"{dtype} or another float" if dtype.is_float else str(dtype), str(self.dtype))
        return self.dtype

    def refuse(self, expected: str, found: str) -> NoReturn:
        """Raise what says so."""
        raise ArgumentError(f"out: {self.name}: expected {expected}, found {found}", tensor=self.name)
