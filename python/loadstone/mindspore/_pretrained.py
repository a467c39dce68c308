"""from_pretrained of mindone's models, through Loadstone.

mindone's own from_pretrained runs, so that arguments, files, warnings, results and exceptions are its own.
Replaced are the few functions in it that cost the time, and only in calls of ours, each with a state of its
own (_Load):

    where the model is built      parameters are born in their dtype and without memory (_empty)
    load_state_dict               opens the checkpoint: a dict of names, dtypes and shapes, no weights
    _load_state_dict_into_model   looks at the shapes, and notes which tensor leads to which parameter
    _load_pretrained_model        when all is noted: initial values for what no tensor leads to, and for the
                                  rest one pass over each file, or none

What is not covered shows itself before any weight is read. It raises _NotCovered, and the call begins again
with nothing replaced.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading

import mindspore as ms
from mindspore import nn

import loadstone

from . import _compat, _empty, _initial, _keymap, _param
from ._patch import Patch, call, in_call, in_calls, require_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from ._patch import Replacement

logger = logging.getLogger("loadstone.mindspore")


class _NotCovered(Exception):
    """mindone has to do this alone; the text says why."""


class _Entry:
    """A tensor of a checkpoint, as far as mindone looks at one."""

    __slots__ = ("checkpoint", "dtype", "key", "shape")

    def __init__(self, checkpoint: loadstone.Checkpoint, key: str):
        tensor = checkpoint[key]
        self.checkpoint = checkpoint
        self.key = key
        self.dtype = _compat.mindspore_dtype(tensor.dtype)
        self.shape = tensor.shape

    def numel(self) -> int:
        n = 1
        for size in self.shape:
            n *= size
        return n

    def is_floating_point(self) -> bool:
        return self.dtype in _compat.FLOATS


class _Load:
    """One call of from_pretrained."""

    def __init__(self, dtype: Any, io: str):
        self.dtype = dtype if isinstance(dtype, ms.Type) else None
        self.io = io
        self.building = contextlib.ExitStack()
        self.model: nn.Cell
        self._layout: _keymap.Layout | None = None
        self._mappings: dict[str, tuple[str | None, Callable[[_Entry], _Entry]]] | None = None
        self._open: dict[str, loadstone.Checkpoint] = {}
        self._targets: dict[int, tuple[Any, _Entry]] = {}

    def open(self, path: str | os.PathLike[str]) -> loadstone.Checkpoint:
        """An open checkpoint. Each header is read once."""
        path = str(path)
        if not path.endswith(".safetensors"):
            raise _NotCovered(f"{path} is no safetensors file")
        if path not in self._open:
            self._open[path] = loadstone.open(path)
        return self._open[path]

    def entries(self, path: str | os.PathLike[str]) -> dict[str, _Entry]:
        with _as_os_error():
            checkpoint = self.open(path)
            return {key: _Entry(checkpoint, key) for key in checkpoint}

    def built(self, model: nn.Cell) -> None:
        """The network is there, and complete but for its values."""
        self.building.close()
        self.model = model
        config = model.config
        quantized = (
            config.get("quantization_config")
            if hasattr(config, "get")
            else getattr(config, "quantization_config", None)
        )
        if quantized:
            raise _NotCovered("it is quantised")

    def layout(self, model: nn.Cell) -> _keymap.Layout:
        if self._layout is None:
            self._layout = _keymap.Layout(model)
        return self._layout

    def mappings(self, model: nn.Cell, original: Callable[[nn.Cell], Mapping[str, Any]]) -> dict[str, Any]:
        """mindone's table from PyTorch's names to MindSpore's, and of how a tensor changes: for entries."""
        if self._mappings is None:
            conv_1d = self.layout(model).conv_1d
            self._mappings = {
                key: (name, _with_dimension if name in conv_1d else _unchanged)
                for key, (name, _) in original(model).items()
            }
        return self._mappings

    def convert(self, entries: Mapping[str, _Entry]) -> dict[str, _Entry]:
        """Names and shapes of PyTorch made those of the network."""
        converted = {}
        for key, entry in entries.items():
            name, change = self._mappings.get(key, (key, _unchanged))
            if name is not None:
                converted[name] = change(entry)
        return converted

    def assign(self, entries: Mapping[str, _Entry]) -> list[str]:
        """Note which tensor leads to which parameter. Returns what does not fit, one line each.

        Of several that lead to one, by its names, mindone lets the last in the order of the network have it.
        """
        errors = []
        for name, parameter in self.layout(self.model).params.items():
            entry = entries.get(name)
            if entry is None:
                continue
            shape = tuple(parameter.shape)
            if entry.shape == shape or {entry.shape, shape} == {(), (1,)}:
                self._targets[id(parameter)] = (parameter, entry)
            else:
                errors.append(
                    f"size mismatch for {name}: copying a param with shape {entry.shape} from "
                    f"{entry.checkpoint[entry.key].file}, the shape in current model is {shape}."
                )
        return errors

    def finish(self) -> None:
        """Give the network its values: first what no tensor leads to, while nothing can be written over."""
        layout = self.layout(self.model)
        missing = [name for key, name in layout.first.items() if key not in self._targets]
        _initial.make_missing(self.model, layout, missing)
        files: dict[int, list[tuple[Any, _Entry]]] = {}
        for target in self._targets.values():
            files.setdefault(id(target[1].checkpoint), []).append(target)
        for targets in files.values():
            with _as_os_error():
                report = _fill(targets, self.io)
            logger.info("%s: %s", type(self.model).__name__, str(report).partition("\n")[0])


def _fill(targets: list[tuple[Any, _Entry]], io: str) -> loadstone.Report:
    """One pass over a checkpoint: every tensor in its parameter, and in the parameter's dtype."""
    checkpoint = targets[0][1].checkpoint
    network = loadstone.Network()
    dtypes = {}
    for parameter, entry in targets:
        both_float = entry.dtype in _compat.FLOATS and parameter.dtype in _compat.FLOATS
        dtypes.setdefault(entry.key, parameter.dtype if both_float else entry.dtype)
    for key, dtype in dtypes.items():
        network.add(key, checkpoint[key].shape, _compat.dtype_name(dtype))
    report = network.load_into(checkpoint, strict=False, io=io)
    used = set()
    for parameter, entry in targets:
        array = _compat.as_array(network.tensor(entry.key), tuple(parameter.shape))
        dtype = parameter.dtype
        _compat.adopt(parameter, array.copy() if entry.key in used else array)
        if parameter.dtype != dtype:
            _compat.cast(parameter, dtype)
        used.add(entry.key)
    return report


def _unchanged(entry: _Entry) -> _Entry:
    return entry


def _with_dimension(entry: _Entry) -> _Entry:
    """As 1-d convolutions have it in MindSpore."""
    entry.shape = (*entry.shape[:-1], 1, *entry.shape[-1:])
    return entry


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Files that cannot be used are an OSError to callers of mindone."""
    try:
        yield
    except (OSError, MemoryError, loadstone.UnsupportedError):
        raise
    except loadstone.LoadstoneError as error:
        raise OSError(str(error)) from error


# ----------------------------------------------------------------------------------------------------------
#                                            What is replaced, and by what
# ----------------------------------------------------------------------------------------------------------


def _from_pretrained(dtype_argument: str, uncovered: tuple[str, ...]) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        function = original.__func__

        @functools.wraps(function)
        def from_pretrained(cls: type, *args: Any, **kwargs: Any) -> Any:
            why = next((name for name in uncovered if kwargs.get(name)), None)
            # What is replaced while this runs stays so until it has ended.
            with _patch:
                if why is None:
                    load = _Load(kwargs.get(dtype_argument), "read" if kwargs.get("disable_mmap") else "auto")
                    try:
                        with load.building, call(load):
                            return function(cls, *args, **kwargs)
                    except (_NotCovered, loadstone.UnsupportedError) as reason:
                        why = str(reason)
                logger.warning("%s is loaded by mindone alone: %s", cls.__name__, why)
                with call(None):
                    return function(cls, *args, **kwargs)

        return classmethod(from_pretrained)

    return make


def _from_config(original: Any) -> Any:
    """A model without weights: mindone makes most values twice, in float32, and converts them then."""
    function = original.__func__

    @functools.wraps(function)
    def from_config(cls: type, config: Any, **kwargs: Any) -> Any:
        if in_call():  # it is a part of what is being loaded or built
            return function(cls, config, **kwargs)
        is_part = _empty.is_open()
        with _patch:
            with contextlib.nullcontext() if is_part else _empty.empty(), call(_Load(None, "auto")):
                model = function(cls, config, **kwargs)
            if not is_part:
                _initial.make_all(model)
        return model

    return classmethod(from_config)


def _no_init_parameters(load: _Load, original: Any) -> Any:
    return _empty.empty(load.dtype)


def _get_dtype(load: _Load, original: Any, *args: Any) -> Any:
    config, dtype = original(*args)
    if dtype is not None and not isinstance(dtype, ms.Type):
        raise _NotCovered(f"the dtype is {dtype!r}")
    load.dtype = dtype
    load.building.enter_context(_empty.empty(dtype))
    return config, dtype


def _tie_or_clone_weights(
    load: _Load, original: Any, model: Any, output: nn.Cell, embeddings: nn.Cell
) -> Any:
    """mindone pads the bias, which has no values yet. Where there is nothing to pad, this is left out."""
    parameters = dict(output._params)
    bias = parameters.get("bias")
    table = next(iter(embeddings._params.values()), None)
    if bias is None or table is None or bias.shape[:1] != table.shape[:1]:
        return original(model, output, embeddings)
    del output._params["bias"]
    try:
        return original(model, output, embeddings)
    finally:
        parameters.update(output._params)
        output._params.clear()
        output._params.update(parameters)


class _Header:
    """What mindone looks at in an open safetensors file."""

    def __init__(self, checkpoint: loadstone.Checkpoint):
        self._checkpoint = checkpoint

    def metadata(self) -> dict[str, str] | None:
        return self._checkpoint.metadata or None

    def __enter__(self) -> _Header:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


def _safe_open(load: _Load, original: Any, path: Any, **kwargs: Any) -> _Header:
    from safetensors import SafetensorError

    try:
        return _Header(load.open(path))
    except (OSError, MemoryError, loadstone.UnsupportedError):
        raise
    except loadstone.LoadstoneError as error:
        raise SafetensorError(str(error)) from error


def _load_state_dict(load: _Load, original: Any, file: Any, **kwargs: Any) -> Any:
    return load.entries(file)


def _load_state_dict_of_shard(load: _Load, original: Any, file: Any, **kwargs: Any) -> Any:
    """mindone keeps PyTorch's names in the shards of diffusers' models; here they are MindSpore's."""
    return file if isinstance(file, dict) else load.convert(load.entries(file))


def _get_pt2ms_mappings(load: _Load, original: Any, model: nn.Cell) -> Any:
    return load.mappings(model, original)


def _assign(load: _Load, original: Any, model: nn.Cell, entries: Any, *args: Any, **kwargs: Any) -> Any:
    return load.assign(entries)


def _load_diffusers_model(
    load: _Load,
    original: Any,
    cls: type,
    model: nn.Cell,
    entries: Any,
    files: Any,
    path: Any,
    keys: Any,
    **kwargs: Any,
) -> Any:
    load.built(model)
    if entries is None:
        from mindone.diffusers.models.modeling_utils import _get_pt2ms_mappings

        mappings = _get_pt2ms_mappings(model)
        keys = [name for name in (mappings.get(key, (key,))[0] for key in keys) if name is not None]
    result = original(cls, model, entries, files, path, keys, **kwargs)
    load.finish()
    return result


def _load_transformers_model(
    load: _Load, original: Any, cls: type, model: nn.Cell, *args: Any, **kwargs: Any
) -> Any:
    load.built(model)
    result = original(cls, model, *args, **kwargs)
    load.finish()
    for _, cell in model.cells_and_names():
        # Or a later init_weights() would take the values away again.
        cell.__dict__["_is_hf_initialized"] = True
    return result


class _NoCollection:
    """The gc module, but that calls of ours collect nothing: no shard of theirs leaves weights behind."""

    def __init__(self, original: Any):
        self.collect = in_calls(lambda load, collect, *args: 0)(original.collect)
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def _to(original: Any) -> Any:
    """model.to(), for every call in the process: it gives what it gave, and refuses what it refused."""

    @functools.wraps(original)
    def to(model: nn.Cell, *args: Any, **kwargs: Any) -> Any:
        dtype = args[0] if args else kwargs.get("dtype")
        if len(args) + len(kwargs) != 1 or not isinstance(dtype, ms.Type) or dtype not in _compat.FLOATS:
            return original(model, *args, **kwargs)
        return _param.to(model, dtype)

    return to


def _half(original: Any) -> Any:
    return functools.wraps(original)(lambda model: _param.half(model))


def _float(original: Any) -> Any:
    return functools.wraps(original)(lambda model: _param.float(model))


_CONVERTERS = {"to": _to, "half": _half, "float": _float}


def _to_of_cell(load: _Load, original: Any, model: nn.Cell, dtype: Any) -> nn.Cell:
    """Newer versions of MindSpore have a to() of their own, which takes parameters without memory amiss."""
    deferred = [
        (cell._params, name, param)
        for _, cell in model.cells_and_names()
        for name, param in cell._params.items()
        if param is not None and _compat.is_deferred(param)
    ]
    try:
        for params, name, _ in deferred:
            params[name] = None
        original(model, dtype)
    finally:
        for params, name, param in deferred:
            params[name] = param
    for _, _, param in deferred:
        if param.dtype in _compat.FLOATS:
            _param.set_dtype(param, dtype)
    return model


def _replacements() -> Iterator[Replacement]:
    from mindone.diffusers.models import model_loading_utils, modeling_utils

    yield modeling_utils, "no_init_parameters", in_calls(_no_init_parameters)
    yield modeling_utils, "load_state_dict", in_calls(_load_state_dict)
    yield modeling_utils, "_get_pt2ms_mappings", in_calls(_get_pt2ms_mappings)
    yield model_loading_utils, "load_state_dict", in_calls(_load_state_dict_of_shard)
    yield model_loading_utils, "_load_state_dict_into_model", in_calls(_assign)
    mixin = modeling_utils.ModelMixin
    yield from ((mixin, name, make) for name, make in _CONVERTERS.items())
    yield mixin, "_load_pretrained_model", in_calls(_load_diffusers_model)
    yield mixin, "from_pretrained", _from_pretrained("mindspore_dtype", ("from_flax", "dduf_entries"))

    import mindone.transformers.modeling_utils as modeling_utils

    yield modeling_utils, "gc", _NoCollection
    yield modeling_utils, "safe_open", in_calls(_safe_open)
    yield modeling_utils, "load_state_dict", in_calls(_load_state_dict)
    yield modeling_utils, "_get_dtype", in_calls(_get_dtype)
    yield modeling_utils, "_get_pt2ms_mappings", in_calls(_get_pt2ms_mappings)
    yield modeling_utils, "_load_state_dict_into_model", in_calls(_assign)
    mixin = modeling_utils.ModuleUtilsMixin
    yield from ((mixin, name, make) for name, make in _CONVERTERS.items())
    base = modeling_utils.PreTrainedModel
    if base.to is not mixin.to:
        yield base, "to", in_calls(_to_of_cell)
    yield base, "_tie_or_clone_weights", in_calls(_tie_or_clone_weights)
    yield base, "_load_pretrained_model", in_calls(_load_transformers_model)
    yield base, "_from_config", _from_config
    yield base, "from_pretrained", _from_pretrained("dtype", ("state_dict", "from_tf", "from_flax"))


_patch = Patch(_replacements)


# ----------------------------------------------------------------------------------------------------------
#                                                 For users
# ----------------------------------------------------------------------------------------------------------


class accelerated(contextlib.ContextDecorator):
    """Inside, models of mindone load through Loadstone.

        with loadstone.mindspore.accelerated():
            pipe = CogVideoXPipeline.from_pretrained(path, mindspore_dtype=ms.bfloat16)

    It is also a decorator, of plain functions. It holds for from_pretrained of all of mindone's diffusers and
    transformers models and from_config of the latter, for the pipelines and Auto classes that call them, and
    for all threads. What Loadstone does not cover (checkpoints that are not safetensors, quantised models,
    state dicts) mindone does as always, and a line in the log of "loadstone.mindspore" says so. Whatever ends
    the block, mindone is as it was.
    """

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        require_plain(function)
        return super().__call__(function)

    def __enter__(self) -> accelerated:
        _patch.acquire()
        return self

    def __exit__(self, *exception: object) -> None:
        _patch.release()


_installed: list[accelerated] = []
_installing = threading.Lock()


def install() -> None:
    """accelerated() for the rest of the program, or until uninstall(). A second call changes nothing."""
    with _installing:
        if not _installed:
            _installed.append(accelerated().__enter__())


def uninstall() -> None:
    """Undo install(). Without one, nothing changes."""
    with _installing:
        if _installed:
            _installed.pop().__exit__()


def from_pretrained(cls: Any, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
    """cls.from_pretrained(path, ...) through Loadstone, whatever the rest of the program does."""
    with accelerated():
        return cls.from_pretrained(path, *args, **kwargs)
