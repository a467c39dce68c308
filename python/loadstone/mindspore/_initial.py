"""Initial values for what a checkpoint lacks: those that the network itself would have given.

MindSpore's layers leave an initializer, which makes them. Models of mindone's transformers have a rule
besides, which writes to the parameters of a cell and of those below it; a scope of empty() has kept it from
running. It knows nothing of checkpoints, so it runs here on the cells around what is missing, as it would
have then: in float32, inner cells first. Everything else lends it zeros meanwhile, which cost no memory until
they are written to.

A whole network is made likewise, but first with zeros in all parameters: most rules only say which
initializer a parameter is to have, and then each value is made once. A rule that works on values is found out
by what it leaves in the zeros, and runs again on values that were made before.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor
from mindspore.common.initializer import Constant, One, Zero

from . import _compat, _keymap, _param
from ._patch import Patch, call, in_calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from mindspore import nn
    from mindspore.common.initializer import Initializer

    from ._patch import Replacement

    Rule = Callable[[nn.Cell], object]

# What mindone notes of a cell that its rule has been at.
_DONE = "_is_hf_initialized"


def make_missing(net: nn.Cell, layout: _keymap.Layout, names: Iterable[str]) -> None:
    """Give the named parameters values, before others are loaded: what has values already keeps them, unless
    the rule for it has never run.
    """
    missing = {name: layout.params[name] for name in names if name not in layout.buffers}
    cells = list(_keymap.cells(net))
    rules = _rules(cells)
    around = {path for name in missing for path in _paths_around(name)}
    # Inner cells come after the outer ones.
    to_run = [
        (rules[path], cell)
        for path, cell in reversed(cells)
        if path in around and path in rules and not getattr(cell, _DONE, False)
    ]
    dtypes = [(param, param.dtype) for param in missing.values()]
    for param, dtype in dtypes:
        if dtype in (ms.float16, ms.bfloat16) and (to_run or _compat.is_deferred(param)):
            _param.set_dtype(param, "float32")
        _settle(param)
    if to_run:
        ours = {id(param) for param in missing.values()}
        with _Aside([layout.params[name] for key, name in layout.first.items() if key not in ours]):
            for rule, cell in to_run:
                rule(cell)
    for param, dtype in dtypes:
        _settle(param)
        _param.set_dtype(param, dtype)
    if rules:
        for _, cell in cells:
            cell.__dict__[_DONE] = True


def make_all(net: nn.Cell) -> None:
    """Give every parameter of a network that was just built its initial values."""
    layout = _keymap.Layout(net)
    cells = list(_keymap.cells(net))
    rules = _rules(cells)
    to_run = [
        (rules[path], cell)
        for path, cell in reversed(cells)
        if path in rules and not getattr(cell, _DONE, False)
    ]
    params = [layout.params[name] for name in layout.names() if name not in layout.buffers]
    if to_run and not _run_on_zeros(to_run, params):
        make_missing(net, layout, list(layout.names()))
        return
    for param in params:
        _make(param)
    for _, cell in cells if rules else ():
        cell.__dict__[_DONE] = True


def _make(param: Parameter) -> None:
    """A deferred parameter's values. Random ones are drawn in float32."""
    dtype = param.dtype
    if not _compat.is_deferred(param):
        return
    if dtype in (ms.float16, ms.bfloat16) and not isinstance(param.init, (Zero, One, Constant)):
        _param.set_dtype(param, "float32")
    _compat.make_values(param)
    _param.set_dtype(param, dtype)


def _settle(param: Parameter) -> None:
    if _compat.is_deferred(param):
        _compat.make_values(param)


def _rules(cells: list[tuple[str, nn.Cell]]) -> dict[str, Rule]:
    """By path of a cell, the rule of the innermost model around it."""
    rules: dict[str, Rule] = {}
    for path, cell in cells:
        # To ask a cell for what it lacks takes long.
        rule = cell._init_weights if hasattr(type(cell), "_init_weights") else None
        rule = rule or (rules.get(path.rpartition(".")[0]) if path else None)
        if callable(rule):
            rules[path] = rule
    return rules


def _paths_around(name: str) -> list[str]:
    """The paths of all cells that a parameter is in, the whole network's too."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(len(parts))]


class _Aside:
    """A with statement in which parameters have zeros instead of their values."""

    def __init__(self, params: list[Any]):
        self._params = params
        self._kept: list[tuple[Any, Any, Any]] = []

    def __enter__(self) -> None:
        for param in self._params:
            deferred = _compat.is_deferred(param)
            self._kept.append((param, param.dtype, param.init if deferred else _compat.host_array(param)))
            name = "float32" if param.dtype in _compat.FLOATS else _compat.dtype_name(param.dtype)
            _compat.adopt(param, self._lent(self._kept[-1][2], tuple(param.shape), _compat.numpy_dtype(name)))

    def _lent(self, values: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        return np.zeros(shape, dtype)

    def __exit__(self, *exception: object) -> None:
        for param, dtype, values in self._kept:
            if isinstance(values, np.ndarray):
                _compat.adopt(param, values)
            else:
                _compat.defer(param, dtype, values)


class _WorksOnValues(Exception):
    """A rule does more than to say which initializer a parameter is to have."""


class _Initializers:
    """What rules have said: by the id of a parameter."""

    def __init__(self) -> None:
        self.of: dict[int, Initializer] = {}


def _run_on_zeros(to_run: list[tuple[Rule, nn.Cell]], params: list[Parameter]) -> bool:
    """Run rules for parameters without values, and note what initializers they give. Returns False, with
    nothing changed, if one of the rules works on values.
    """
    said = _Initializers()
    try:
        with _rules_run, call(said), _Marked(params):
            for rule, cell in to_run:
                rule(cell)
    except Exception:
        # Whatever a rule thinks of zeros. If it is no better with values, the caller hears of it.
        return False
    for param in params:
        if id(param) in said.of:
            _compat.defer(param, param.dtype, said.of[id(param)])
    return True


class _Marked(_Aside):
    """_Aside that raises _WorksOnValues if what it lent was written to. Zeros have marks at both ends, which
    any operation in place would change; what has values lends a copy.
    """

    MARKS = (0.8125, -0.3125)

    def __init__(self, params: list[Any]):
        super().__init__(params)
        self._expected: list[np.ndarray[Any, Any]] = []

    def _lent(self, values: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        if isinstance(values, np.ndarray):
            array = values.astype(dtype)
            self._expected.append(array.copy())
            return array
        array = np.zeros(shape, dtype)
        flat = array.reshape(-1)
        flat[:1], flat[-1:] = self.MARKS
        self._expected.append(self._ends(array))
        return array

    @staticmethod
    def _ends(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return array.reshape(-1)[[0, -1]] if array.size else array

    def __exit__(self, *exception: object) -> None:
        changed = False
        for (param, _, values), expected in zip(self._kept, self._expected):
            array = _compat.host_array(param)
            found = array if isinstance(values, np.ndarray) else self._ends(array)
            changed = changed or found.shape != expected.shape or found.tobytes() != expected.tobytes()
        super().__exit__(*exception)
        if changed:
            raise _WorksOnValues


def _note(said: _Initializers, original: Any, param: Parameter, data: Any, *args: Any, **kwargs: Any) -> Any:
    if not isinstance(data, Tensor) or not data.has_init or data.shape != param.shape:
        raise _WorksOnValues
    said.of[id(param)] = data.init
    return param


def _refuse(said: _Initializers, original: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
    raise _WorksOnValues


def _replacements() -> Iterator[Replacement]:
    yield Parameter, "set_data", in_calls(_note)
    yield Tensor, "__setitem__", in_calls(_refuse)


_rules_run = Patch(_replacements)
