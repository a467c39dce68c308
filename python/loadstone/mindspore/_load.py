"""Loading a checkpoint into a network of MindSpore.

What is loaded is decided from names and shapes alone, before anything is read; then one load brings every
weight into memory in its parameter's dtype, a private mapping of the file where nothing is to be converted,
and the parameters take that memory over. What the file lacks gets the values that the network itself would
have given it.
"""

from __future__ import annotations

import os

import numpy as np

from .. import _core
from .._errors import ArgumentError, MismatchError, UnsupportedError
from .._load import open as open_checkpoint
from .._network import Network
from . import _compat, _initial, _keymap, _param, _zero

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TypeVar

    from mindspore import Tensor, nn

    from .._load import Checkpoint, Progress
    from .._report import Report

    Net = TypeVar("Net", bound=nn.Cell)
    Path = str | os.PathLike[str]


class LoadingInfo:
    """How a checkpoint and a network fit, with the names that mindone's loading_info uses.

    .missing_keys are parameters that the checkpoint lacks, .unexpected_keys tensors that the network does not
    know, .mismatched_keys triples of a parameter, the checkpoint's shape and the network's, .error_msgs a
    sentence for each of those, unless they were to be ignored. .loaded maps names of parameters to those of
    tensors. .report is that of the load.
    """

    def __init__(self) -> None:
        self.missing_keys: list[str] = []
        self.unexpected_keys: list[str] = []
        self.mismatched_keys: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
        self.error_msgs: list[str] = []
        self.loaded: dict[str, str] = {}
        self.report: Report | None = None

    def __repr__(self) -> str:
        return (
            f"<loadstone.mindspore.LoadingInfo: {len(self.loaded)} loaded, {len(self.missing_keys)} missing, "
            f"{len(self.unexpected_keys)} unexpected, {len(self.mismatched_keys)} mismatched>"
        )


def load_into(
    net: nn.Cell,
    path: Checkpoint | Path,
    *,
    dtype: Any = None,
    keep_in_fp32: Iterable[str] | None = None,
    subfolder: str | None = None,
    variant: str | None = None,
    prefix: str | None = None,
    rename: _keymap.Rename = None,
    strict: bool = False,
    ignore_mismatched_sizes: bool = False,
    init_missing: bool = True,
    zero3: tuple[int, int] | None = None,
    io: str = "auto",
    threads: int | None = None,
    progress: Progress = None,
) -> LoadingInfo:
    """Load a checkpoint into a network. Each parameter stays the same object, under its name, in its place.

    Args:
        path: a .safetensors file, an index, a model's directory, "org/name" in the hub cache, or an open
        checkpoint.
        dtype: what the network's floats become first; None leaves each as it is. Weights take their
        parameters' dtype.
        keep_in_fp32: parts of dotted names whose parameters become float32 if dtype is given; None asks the
            network's class, as transformers does.
        subfolder, variant: of a directory: subfolder/model.variant.safetensors.
        prefix: what names may have or lack before them; None: the network's base_model_prefix.
        rename: from the checkpoint's names, before all else: a function, or a dict of regular expressions and
            their replacements.
        strict: missing and unexpected names are an error.
        ignore_mismatched_sizes: a tensor of another shape counts as missing; otherwise it is an error.
        init_missing: give what the checkpoint lacks the network's own initial values; False leaves it to
            MindSpore, which does so before the network first runs.
        zero3: (rank, world): what mindone's ZeRO stage 3 cuts gets the rank's part, and no other byte of it
            is read. That is what mindone's wrappers hold in a network that was wrapped, best in a scope of
            empty(); in any other network, which must be whole, it is the weights of those layers that mindone
            would wrap, if their first dimension divides by world.
        io, threads, progress: as loadstone.load() has them; with zero3, io is "auto" or "read", and parts are
            read, one a thread.

    Raises MismatchError, whose .info is the LoadingInfo, before anything has changed; and what
    loadstone.load() raises.
    """
    checkpoint = opened(path, subfolder, variant)
    plan = _Plan(net, checkpoint, prefix, rename, _zero.checked(zero3, io))
    info = plan.info
    if not ignore_mismatched_sizes:
        info.error_msgs = [_size_mismatch(*key) for key in info.mismatched_keys]
    problems = list(info.error_msgs)
    if strict:
        problems += [f"missing: {name}" for name in info.missing_keys]
        problems += [f"unexpected: {name}" for name in info.unexpected_keys]
    if problems:
        raise _does_not_fit(net, info, problems)
    if dtype is not None:
        _prepare_dtypes(plan.layout, _compat.mindspore_dtype(dtype), keep_in_fp32)
    if init_missing:
        _initial.make_missing(net, plan.layout, plan.without_values())
        plan.cut_missing()
    plan.load(io, threads, progress)
    return info


def opened(path: Checkpoint | Path, subfolder: str | None = None, variant: str | None = None) -> Checkpoint:
    """The open checkpoint of what load_into() takes."""
    if isinstance(path, _core.Checkpoint):
        if subfolder or variant:
            raise ArgumentError("subfolder and variant: the checkpoint is open already")
        return path  # type: ignore[return-value]
    name = os.fspath(path)
    if name.endswith(".ckpt"):
        raise UnsupportedError(
            f"{name}: expected a safetensors checkpoint, found MindSpore's .ckpt format, which is not read; "
            "mindspore.ckpt_to_safetensors() converts it"
        )
    if subfolder:
        name = os.path.join(name, subfolder)
    return open_checkpoint(name, variant=variant)


def _size_mismatch(name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> str:
    return (
        f"size mismatch for {name}: copying a param with shape {found} from checkpoint, "
        f"the shape in current model is {expected}."
    )


def _does_not_fit(net: nn.Cell, info: LoadingInfo, problems: list[str]) -> MismatchError:
    error = MismatchError(f"checkpoint and {type(net).__name__} do not fit:\n\t" + "\n\t".join(problems))
    error.info = info  # type: ignore[attr-defined]
    return error


def _prepare_dtypes(layout: _keymap.Layout, dtype: Any, keep_in_fp32: Iterable[str] | None) -> None:
    """Give every float its dtype, without conversion where there is no memory yet."""
    if keep_in_fp32 is None:
        keep_in_fp32 = _keymap.kept_in_fp32(layout.net, dtype)
    kept = set(keep_in_fp32)
    for name in layout.names():
        param = layout.params[name]
        if name not in layout.buffers and param.dtype in _compat.FLOATS:
            _param.set_dtype(param, "float32" if kept.intersection(name.split(".")) else dtype)


class _Plan:
    """Which tensor fills which parameter."""

    def __init__(
        self,
        net: nn.Cell,
        checkpoint: Checkpoint,
        prefix: str | None,
        rename: _keymap.Rename,
        zero3: tuple[int, int] | None,
    ):
        self.layout = _keymap.Layout(net)
        self.checkpoint = checkpoint
        self.zero3 = zero3
        self.info = LoadingInfo()
        self.cut: list[Tensor] = []
        self._match(_keymap.renamer(net, checkpoint, rename), _prefix_of(net, prefix))

    def _match(self, renamed: dict[str, str], prefix: str) -> None:
        layout, info = self.layout, self.info
        source_of: dict[int, str] = {}
        mismatched: set[int] = set()
        for found, tensor in self._find(renamed, prefix).items():
            param = layout.params[found]
            shape = self.checkpoint[tensor].shape
            if not self._fits(shape, found, param):
                info.mismatched_keys.append((found, shape, tuple(param.shape)))
                mismatched.add(id(param))
            # Of several names of one parameter the network's first one decides.
            elif id(param) not in source_of or found == layout.first[id(param)]:
                source_of[id(param)] = tensor
        is_ignored = _keymap.ignored(layout.net, "missing")
        for key, name in layout.first.items():
            if key in source_of:
                info.loaded[name] = source_of[key]
            elif key not in mismatched and not is_ignored(name):
                info.missing_keys.append(name)

    def _find(self, renamed: dict[str, str], prefix: str) -> dict[str, str]:
        """The network's names that the checkpoint has, each with its tensor: of several, the one whose name
        is nearest, and the others are unexpected.
        """
        is_ignored = _keymap.ignored(self.layout.net, "unexpected")
        nearest: dict[str, tuple[tuple[bool, bool], str]] = {}
        for tensor, name in renamed.items():
            found = self.layout.find(name, prefix)
            rest: str | None = tensor
            if found:
                distance = (name != found, name not in self.layout.renamed)
                other = nearest.get(found)
                if other is None or distance < other[0]:
                    nearest[found] = (distance, tensor)
                    rest = other and other[1]
            if rest and found != "" and not is_ignored(renamed[rest]):
                self.info.unexpected_keys.append(rest)
        return {found: tensor for found, (_, tensor) in nearest.items()}

    def _fits(self, shape: tuple[int, ...], name: str, param: Tensor) -> bool:
        expected = tuple(param.shape)
        if self.layout.wrapped and self._is_cut(shape, name):
            shape = (shape[0] // self.zero3[1], *shape[1:])  # type: ignore[index]
        return self.layout.fits(shape, name, expected)

    def _is_cut(self, shape: tuple[int, ...], name: str) -> bool:
        """Whether the rank has a part of a parameter whose tensor has this shape."""
        param = self.layout.params[name]
        if not self.zero3 or id(param) not in self.layout.cut:
            return False
        world = self.zero3[1]
        if self.layout.wrapped and self.layout.fits(shape, name, tuple(param.shape)):
            return False
        return bool(shape) and shape[0] >= world and shape[0] % world == 0

    def _rows(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The rank's first row, and the one after its last."""
        rank, world = self.zero3  # type: ignore[misc]
        n_rows = shape[0] // world
        return rank * n_rows, (rank + 1) * n_rows

    def cut_missing(self) -> None:
        """Leave the rank's part of what the checkpoint lacks. mindone's wrappers have cut it."""
        for name in [] if self.layout.wrapped else self.without_values():
            param = self.layout.params[name]
            if self._is_cut(tuple(param.shape), name):
                first, last = self._rows(tuple(param.shape))
                _compat.adopt(param, _compat.host_array(param)[first:last].copy())
                self.cut.append(param)

    def without_values(self) -> list[str]:
        """The parameters that nothing was loaded into."""
        return [name for name in self.layout.names() if name not in self.info.loaded]

    def load(self, io: str, threads: int | None, progress: Progress) -> None:
        """Read what was decided on, and hand it over."""
        whole: list[tuple[str, _core.CheckpointTensor]] = []
        cut: dict[str, _zero.Part] = {}
        for name, source in self.info.loaded.items():
            tensor = self.checkpoint[source]
            if self._is_cut(tensor.shape, name):
                cut[name] = (tensor, *self._rows(tensor.shape), self._wanted(name, tensor))
            else:
                whole.append((name, tensor))
        network = Network()
        for name, tensor in whole:
            network.add(tensor.name, tensor.shape, self._wanted(name, tensor).name)
        if cut:
            arrays = self._load_parts(network, cut, io, threads, progress)
        else:
            arrays = {}
            self.info.report = network.load_into(
                self.checkpoint, strict=False, init_missing=False, io=io, threads=threads, progress=progress
            )
        for name, tensor in whole:
            self._hand_over(name, _compat.as_array(network.tensor(tensor.name)))
        for name, array in arrays.items():
            self._hand_over(name, array)
            self.cut.append(self.layout.params[name])
        if not self.layout.wrapped:
            _zero.mark_parts(self.layout.net, self.cut)

    def _load_parts(
        self, network: Network, cut: dict[str, _zero.Part], io: str, threads: int | None, progress: Progress
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Load what is whole into the network; then the parts, which are returned."""
        parts = list(cut.values())
        told = _zero.Progress(progress, parts)
        try:
            self.info.report = network.load_into(
                self.checkpoint, strict=False, init_missing=False, io=io, threads=threads, progress=told.whole
            )
            arrays = _zero.read(parts, threads, told, self.info.report)
        finally:
            told.close()
        return dict(zip(cut, arrays))

    def _wanted(self, name: str, tensor: _core.CheckpointTensor) -> Any:
        """The dtype to load a tensor in: the parameter's if both are floats, else the tensor's own."""
        dtype = _compat.own_dtype(_compat.dtype_name(self.layout.params[name].dtype))
        return dtype if dtype.is_float and tensor.dtype.is_float else tensor.dtype

    def _hand_over(self, name: str, array: np.ndarray[Any, Any]) -> None:
        param = self.layout.params[name]
        dtype = _compat.numpy_dtype(_compat.dtype_name(param.dtype))
        if array.dtype != dtype:
            array = _converted(array, param.dtype, dtype)
        if array.ndim + 1 == len(param.shape):
            array = array.reshape((*array.shape[:-1], 1, *array.shape[-1:]))
        elif array.ndim > len(param.shape):
            array = array.reshape(())
        _compat.adopt(param, array)


def _converted(array: np.ndarray[Any, Any], dtype: Any, numpy_dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    if _compat.own_dtype(array.dtype).is_float and dtype in _compat.FLOATS:
        return _param.converted(array, dtype)
    return array.astype(numpy_dtype)


def _prefix_of(net: nn.Cell, prefix: str | None) -> str:
    if prefix is None:
        prefix = getattr(net, "base_model_prefix", "") or ""
    return prefix if not prefix or prefix.endswith(".") else f"{prefix}."


def load_checkpoint_and_dispatch(
    model: Net,
    checkpoint: Checkpoint | Path,
    dtype: Any = None,
    keep_in_fp32_modules: Iterable[str] | None = None,
    strict: bool = False,
) -> Net:
    """load_into() with the arguments of mindone's function of this name; returns the network.

    mindone's only loads, and leaves dtypes and strict aside in part. Here dtype becomes that of every float,
    but for what keep_in_fp32_modules or the network's class keep in float32, and strict=True makes missing
    and unexpected names an error.
    """
    load_into(model, checkpoint, dtype=dtype, keep_in_fp32=keep_in_fp32_modules, strict=strict)
    return model
