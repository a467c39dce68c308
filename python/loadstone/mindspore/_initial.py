"""Initial values for what a checkpoint lacks: those that the network itself would have given.

MindSpore's layers leave an initializer, which makes them. Models of mindone's transformers have a rule
besides, which writes to the parameters of a cell and of those below it; a scope of empty() has kept it from
running. It knows nothing of checkpoints, so it runs here on the cells around what is missing, as it would
have then: in float32, inner cells first. Everything else lends it zeros meanwhile, which cost no memory until
they are written to.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np

from . import _compat, _keymap, _param

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from mindspore import Parameter, nn

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


def _settle(param: Parameter) -> None:
    if _compat.is_deferred(param):
        _compat.make_values(param)


def _rules(cells: list[tuple[str, nn.Cell]]) -> dict[str, Rule]:
    """By path of a cell, the rule of the innermost model around it."""
    rules: dict[str, Rule] = {}
    for path, cell in cells:
        rule = getattr(cell, "_init_weights", None) or (rules.get(path.rpartition(".")[0]) if path else None)
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
            _compat.adopt(param, np.zeros(param.shape, _compat.numpy_dtype(name)))

    def __exit__(self, *exception: object) -> None:
        for param, dtype, values in self._kept:
            if isinstance(values, np.ndarray):
                _compat.adopt(param, values)
            else:
                _compat.defer(param, dtype, values)
