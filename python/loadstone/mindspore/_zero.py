"""Parts of weights, as mindone's ZeRO stage 3 cuts them: a rank has some rows of a layer's weights, and its
wrapper around the layer gathers those of all ranks when the layer runs.

mindone wraps a network whose weights are there, and cuts them then. In a scope of empty() nothing is there:
the wrappers get zeros to cut, which cost no memory, and what they leave is deferred again, with an
initializer that makes the whole weight and keeps the rank's rows.

A network without wrappers may have been given parts, too. mindone would take them for whole weights and cut
them again: while there is such a network, its wrapper asks.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from mindspore import communication, mint, nn
from mindspore.common.initializer import Initializer

from .._errors import ArgumentError
from .._progress import make_bar
from . import _compat, _param
from ._patch import Patch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .. import _core
    from .._load import Progress
    from .._report import Report
    from ._patch import Replacement

    Array = np.ndarray[Any, Any]
    # A tensor, its rows from the first to before the second, and the dtype that is wanted.
    Part = tuple[_core.CheckpointTensor, int, int, Any]

_WRAPPERS = "mindone.models.modules.parallel"
_CUT = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Dense, mint.nn.Conv2d, mint.nn.Conv3d, mint.nn.Linear)
_CUT_OF_EXPERTS = ("gate_up_proj", "down_proj")


def is_wrapper(cell: nn.Cell) -> bool:
    """Whether mindone has put this cell around a layer, which it calls net."""
    return "net" in cell._cells and any(c.__module__.startswith(_WRAPPERS + ".") for c in type(cell).__mro__)


def names_to_cut(cell: nn.Cell) -> tuple[str, ...]:
    """Which of a cell's own parameters mindone cuts."""
    if type(cell) in _CUT:
        return tuple(cell._params)
    return _CUT_OF_EXPERTS if "gate_up_proj" in cell._params else ()


def checked(zero3: tuple[int, int] | None, io: str) -> tuple[int, int] | None:
    """zero3 as load_into() takes it, with the io that it is to go with."""
    if zero3 is not None:
        rank, world = zero3
        if not 0 <= rank < world:
            raise ArgumentError(f"zero3: expected a rank below the number of ranks, found {rank} of {world}")
        if io not in ("auto", "read"):
            raise ArgumentError(f"io: expected auto or read, as zero3 reads parts, found {io!r}")
    return zero3


# ----------------------------------------------------------------------------------------------------------
#                                            Wrapping what is deferred
# ----------------------------------------------------------------------------------------------------------


def wrapper_classes() -> Iterator[type]:
    """mindone's classes that cut, if they have been imported."""
    package = sys.modules.get(_WRAPPERS)
    for module in filter(inspect.ismodule, vars(package).values() if package else ()):
        for found in filter(inspect.isclass, vars(module).values()):
            if found.__module__ == module.__name__ and "set_param_wrapper" in vars(found):
                yield found


def cut_deferred(in_scope: Callable[[], bool], original: Callable[..., None]) -> Callable[..., None]:
    """A wrapper's set_param_wrapper, which in a scope leaves deferred what is deferred."""

    @functools.wraps(original)
    def set_param_wrapper(self: nn.Cell, zero_stage: int, group: str, *args: Any, **kwargs: Any) -> None:
        params = [p for p in self.net._params.values() if p is not None and _compat.is_deferred(p)]
        kept = [(param, param.dtype, param.init, tuple(param.shape)) for param in params if in_scope()]
        for param, dtype, _, shape in kept:
            _compat.adopt(param, np.zeros(shape, _compat.numpy_dtype(_compat.dtype_name(dtype))))
        original(self, zero_stage, group, *args, **kwargs)
        for param, dtype, init, shape in kept:
            if tuple(param.shape) != shape:
                init = _Rows(init, shape, communication.get_rank(group))
            _compat.defer(param, dtype, init)

    return set_param_wrapper


class _Rows(Initializer):
    """The values of another initializer for a whole weight, of which a rank's rows are kept."""

    def __init__(self, rest: Initializer, shape: tuple[int, ...], rank: int):
        super().__init__()
        self._rest = rest
        self._shape = shape
        self._rank = rank

    def _initialize(self, arr: Any) -> None:
        whole = np.empty(self._shape, arr.dtype)
        self._rest(whole)
        arr[:] = whole[self._rank * len(arr) : (self._rank + 1) * len(arr)]


# ----------------------------------------------------------------------------------------------------------
#                                         Not wrapping what is cut already
# ----------------------------------------------------------------------------------------------------------

# Of a parameter, in a network without wrappers: it is a rank's part.
_IS_PART = "_is_part_by_loadstone"


def mark_parts(net: nn.Cell, params: list[Any]) -> None:
    """Let mindone refuse to wrap a network that has parts of weights, as long as there is the network."""
    for param in params:
        setattr(param, _IS_PART, True)
    if params:
        _refusal.acquire()
        weakref.finalize(net, _refusal.release).atexit = False


def _refusing(original: Callable[..., None]) -> Callable[..., None]:
    """The __init__ of mindone's wrapper of a parameter."""

    @functools.wraps(original)
    def init(self: nn.Cell, param: Any, *args: Any, **kwargs: Any) -> None:
        if hasattr(param, _IS_PART):
            raise ArgumentError(
                f"{param.name}: expected a whole weight to cut, found a rank's part of one, from "
                "load_into(zero3=...): wrap the network first, then load"
            )
        original(self, param, *args, **kwargs)

    return init


def _replacements() -> Iterator[Replacement]:
    module = sys.modules.get(f"{_WRAPPERS}.param_wrapper")
    if module is not None:
        yield module.ZeroParamWrapper, "__init__", _refusing


_refusal = Patch(_replacements)


# ----------------------------------------------------------------------------------------------------------
#                                                  Reading
# ----------------------------------------------------------------------------------------------------------


class Progress:
    """The caller's progress function, told of the load of what is whole and then of the parts as of one."""

    def __init__(self, progress: Any, parts: list[Part]):
        self._bar = make_bar() if progress is True else None
        self._tell = self._bar or progress or None
        self._parts_nbytes = sum(map(nbytes, parts))
        self._whole_nbytes = 0
        self._begin = time.perf_counter()

    def whole(self, done: int, total: int, seconds: float) -> None:
        self._whole_nbytes = total
        if self._tell:
            self._tell(done, total + self._parts_nbytes, seconds)

    def parts(self, done: int) -> None:
        if self._tell:
            total = self._whole_nbytes + self._parts_nbytes
            self._tell(self._whole_nbytes + done, total, time.perf_counter() - self._begin)

    def close(self) -> None:
        if self._bar:
            self._bar.close()


def nbytes(part: Part) -> int:
    """The bytes of a part in its file."""
    tensor, first, last, _ = part
    return tensor.nbytes // tensor.shape[0] * (last - first)


def read(parts: list[Part], threads: int | None, progress: Progress, report: Report) -> list[Array]:
    """The parts, in their dtypes, and nothing else of the files; as many at once as there are threads.

    The report, of the load of what is whole, includes them then; its text leaves what does not fit to
    LoadingInfo.
    """
    begin = time.perf_counter()
    n_threads = min(threads or len(os.sched_getaffinity(0)), len(parts))
    arrays: list[Array] = []
    n_read = 0
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            for part, array in zip(parts, pool.map(_read_part, parts)):
                arrays.append(array)
                n_read += nbytes(part)
                progress.parts(n_read)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    seconds = time.perf_counter() - begin
    report.n_tensors += len(parts)
    report.read_nbytes += n_read
    report.written_nbytes += sum(array.nbytes for array in arrays)
    report.n_threads = max(report.n_threads, n_threads)
    report.seconds += seconds
    report.transfer_seconds += seconds
    names = {tensor.name for tensor, *_ in parts}
    report.unexpected = tuple(name for name in report.unexpected if name not in names)
    report.text = report.text.partition("unexpected in the checkpoint")[0]
    report.text += f"zero3: parts of {len(parts)} tensors in {seconds:.3f} s, {n_read} bytes read\n"
    return arrays


def _read_part(part: Part) -> Array:
    tensor, first, last, dtype = part
    array = _compat.as_array(tensor[first:last])
    if tensor.dtype == dtype:
        return array
    return _param.converted(array, _compat.mindspore_dtype(dtype), threads=1)
