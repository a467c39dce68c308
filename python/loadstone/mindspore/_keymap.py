"""From the names of a checkpoint to those of a network.

Which tensor belongs to which parameter is worked out from the network itself: from what kind of cell each is.
MindSpore calls some parameters otherwise than PyTorch, and keeps the weights of one-dimensional convolutions
with one dimension more. A name that the network has itself is always its own: checkpoints that mindone saved
load as they are.
"""

from __future__ import annotations

import functools
import re

from mindspore import nn

from . import _zero

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, Union

    from mindspore import Tensor

    Shape = tuple[int, ...]
    Rename = Union[Mapping[str, str], Callable[[str], str], None]

_BATCH_NORM = {"running_mean": "moving_mean", "running_var": "moving_variance"}

# By kind of cell: what PyTorch calls a parameter, and what MindSpore does.
_RENAMED: tuple[tuple[tuple[type, ...], dict[str, str]], ...] = (
    ((nn.Embedding,), {"weight": "embedding_table"}),
    (
        (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm),
        {"weight": "gamma", "bias": "beta", **_BATCH_NORM},
    ),
    (
        (nn.BatchNorm3d,),
        {
            "weight": "bn2d.gamma",
            "bias": "bn2d.beta",
            **{theirs: f"bn2d.{ours}" for theirs, ours in _BATCH_NORM.items()},
        },
    ),
    (
        (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
        {"weight": "gamma", "bias": "beta"},
    ),
)
_CONV_1D = (nn.Conv1d, nn.Conv1dTranspose)
_COUNTED = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_WEIGHT_NORM = ".weight_norm_cell"


@functools.cache
def _names_of(kind: type) -> dict[str, str | None]:
    """What PyTorch calls the parameters of a kind of cell, and what MindSpore does: None has no use there."""
    names: dict[str, str | None] = {}
    for kinds, renamed in _RENAMED:
        if issubclass(kind, kinds):
            names.update(renamed)
    if issubclass(kind, _COUNTED):
        names["num_batches_tracked"] = None
    return names


class Layout:
    """What a network has, by every name.

    .params maps each name to its parameter or buffer, those that share one to the same; .first maps the id of
    each to the name that parameters_and_names() gives; .renamed maps PyTorch's names to the network's, None
    for what the network has no use for; .conv_1d are names whose PyTorch shape lacks the dimension before the
    last; .cut are the ids of those that ZeRO stage 3 cuts, or may have cut where .wrapped says that mindone
    has been at the network.
    """

    def __init__(self, net: nn.Cell):
        self.net = net
        self.params: dict[str, Tensor] = {}
        self.buffers: set[str] = set()
        self.first: dict[int, str] = {}
        self.renamed: dict[str, str | None] = {}
        self.conv_1d: set[str] = set()
        places = list(cells(net))
        self._wrappers = [f"{path}." if path else "" for path, cell in places if _zero.is_wrapper(cell)]
        self.wrapped = bool(self._wrappers)
        self.cut: set[int] = set()
        whole: set[int] = set()
        for path, cell in places:
            self._add(f"{path}." if path else "", cell, whole)
        self.cut -= whole
        self.renamed = {
            theirs: ours
            for theirs, ours in self.renamed.items()
            if theirs not in self.params and (ours is None or ours in self.params)
        }

    def _add(self, path: str, cell: nn.Cell, whole: set[int]) -> None:
        outer = self._without_wrappers(path)
        self._add_params(path, cell, outer, whole)
        buffers = getattr(cell, "_buffers", None)
        transient = cell._non_persistent_buffers_set if buffers else ()
        for name, buffer in (buffers or {}).items():
            if buffer is not None and name not in transient:
                self.params[path + name] = buffer
                self.first.setdefault(id(buffer), path + name)
                self.buffers.add(path + name)
        for theirs, ours in _names_of(type(cell)).items():
            self.renamed[outer + theirs] = ours and path + ours
        if isinstance(cell, _CONV_1D):
            self.conv_1d.add(f"{path}weight")
        if _WEIGHT_NORM + "." in "." + outer:
            self._add_weight_norm(outer.replace(_WEIGHT_NORM[1:] + ".", ""), path)

    def _add_params(self, path: str, cell: nn.Cell, outer: str, whole: set[int]) -> None:
        to_cut = _zero.names_to_cut(cell)
        for name, param in cell._params.items():
            if param is None:
                continue
            self.params[path + name] = param
            self.first.setdefault(id(param), path + name)
            if outer != path:
                self.renamed[outer + name] = path + name
            is_cut = outer != path if self.wrapped else name in to_cut and param.parallel_optimizer
            (self.cut if is_cut else whole).add(id(param))

    def _without_wrappers(self, path: str) -> str:
        """A path as it would be without the cells that mindone has put around layers."""
        for wrapper in reversed(self._wrappers):
            if path.startswith(f"{wrapper}net."):
                path = wrapper + path[len(wrapper) + len("net.") :]
        return path

    def _add_weight_norm(self, outer: str, inner: str) -> None:
        """A cell whose weight is worked out from a norm and a direction, which the cell around it has."""
        self.renamed[f"{outer}bias"] = f"{inner}bias"
        for ours, theirs in (("weight_g", "original0"), ("weight_v", "original1")):
            self.renamed[f"{outer}parametrizations.weight.{theirs}"] = f"{outer}{ours}"
            if f"{inner}weight" in self.conv_1d:
                self.conv_1d.add(f"{outer}{ours}")

    def find(self, name: str, prefix: str = "") -> str | None:
        """The network's name for a checkpoint's: as it is, without the prefix, or with it. "" if the network
        has no use for it, None if the network does not know it.
        """
        inner = name[len(prefix) :] if prefix and name.startswith(prefix) else name
        for candidate in (name, inner, prefix + name):
            if candidate in self.params:
                return candidate
            if candidate in self.renamed:
                return self.renamed[candidate] or ""
        return None

    def fits(self, shape: Shape, name: str, expected: Shape) -> bool:
        """Whether a tensor of this shape fills the parameter: MindSpore's shape is as expected."""
        if shape == expected or {shape, expected} == {(), (1,)}:
            return True
        return name in self.conv_1d and (*shape[:-1], 1, *shape[-1:]) == expected

    def names(self) -> Iterator[str]:
        """The first names, in order."""
        return iter(self.first.values())


def cells(net: nn.Cell) -> Iterator[tuple[str, nn.Cell]]:
    """Every place of every cell, in the order of cells_and_names(); a cell in two places comes twice, which
    tells the other names of its parameters.
    """
    waiting: list[tuple[str, nn.Cell, frozenset[int]]] = [("", net, frozenset())]
    while waiting:
        path, cell, above = waiting.pop()
        yield path, cell
        inside = above | {id(cell)}
        children = [
            (f"{path}.{name}" if path else name, child, inside)
            for name, child in cell._cells.items()
            if child is not None and id(child) not in inside
        ]
        waiting.extend(reversed(children))


def renamer(net: nn.Cell, names: Iterable[str], rename: Rename) -> dict[str, str]:
    """The checkpoint's names, each with the one to look for: what the network's own rules for old checkpoints
    say, then the caller's: a function, or regular expressions of which the first that is found replaces.
    """
    result = {name: name for name in names}
    fix_all = getattr(net, "_fix_state_dict_keys_on_load", None)
    if fix_all is not None:
        # It moves the values of a dict to other keys: let the values be the names.
        by_new = dict(result)
        fix_all(by_new)
        result = {}
        for new, original in by_new.items():
            result.setdefault(original, new)
    fix_one = getattr(net, "_fix_state_dict_key_on_load", None)
    for name, new in result.items():
        if fix_one is not None:
            fixed = fix_one(new)
            new = fixed[0] if isinstance(fixed, tuple) else fixed
        if callable(rename):
            new = rename(new)
        elif rename is not None:
            new = _substitute(new, rename)
        result[name] = new
    return result


def _substitute(name: str, patterns: Mapping[str, str]) -> str:
    for pattern, replacement in patterns.items():
        name, n_found = re.subn(pattern, replacement, name)
        if n_found:
            break
    return name


def ignored(net: nn.Cell, what: str) -> Callable[[str], object]:
    """Whether the network's class does not want to hear of a name as "missing" or "unexpected"."""
    patterns = list(getattr(net, f"_keys_to_ignore_on_load_{what}", None) or ())
    if what == "unexpected" and any(name.endswith("rotary_emb.inv_freq") for name, _ in net.named_buffers()):
        patterns.append(r"rotary_emb\.inv_freq")  # as mindone: each layer had one once
    return re.compile("|".join(f"({pattern})" for pattern in patterns) or "(?!)").search


def kept_in_fp32(net: nn.Cell, dtype: Any) -> list[str]:
    """The parts of names that the network's class wants in float32 if dtype is asked for."""
    from mindspore import bfloat16, float16

    kept: list[str] = []
    if dtype == float16:
        kept.extend(getattr(net, "_keep_in_fp32_modules", None) or ())
    if dtype in (float16, bfloat16):
        kept.extend(getattr(net, "_keep_in_fp32_modules_strict", None) or ())
    return kept
