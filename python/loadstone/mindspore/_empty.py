"""Building networks without making their parameters.

MindSpore fills every parameter with initial values when a layer is made, in float32 unless the layer is told
otherwise. In an empty() scope neither happens: what an initializer would fill stays deferred, and layers are
made in the scope's dtype.

Scopes are of one thread (or task): what is replaced in MindSpore's classes, while any scope is open anywhere,
asks which scope the caller is in, and does what MindSpore does if there is none. The last scope to close puts
everything back.

What remains then is making Python objects. Two things that cost a third of that, and change nothing, are left
out too: see _Count and _Inspect.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
import types
from contextvars import ContextVar

import numpy as np
from mindspore import Parameter, Tensor, mint, nn
from mindspore._extends import utils
from mindspore.common.initializer import Initializer
from mindspore.ops import primitive

from . import _compat, _zero
from ._patch import require_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mindspore import Type

# Their dtype is not that of parameters.
_NOT_LAYERS = ("Dropout", "OneHot", "TensorArray")
_open: ContextVar[tuple[empty, ...]] = ContextVar("loadstone.mindspore.empty", default=())


class empty:
    """A with statement in which networks are built without memory for their parameters.

    dtype is what layers are made in, unless their code passes a dtype itself; force=True overrides that, too.
    None leaves dtypes alone. Dropout and what else has no parameters keeps its dtype. Parameters get memory
    when they are loaded into, or, as MindSpore does it, before the network first runs. Scopes nest; the
    innermost decides. Other threads are not affected. One that code computes by itself,
    Parameter(mint.ones(n)), has its memory and dtype.

    It may also be used to decorate a function, and again and again; a generator or a coroutine function is
    refused, since its body runs later.
    """

    def __init__(self, dtype: Type | str | None = None, *, force: bool = False):
        self.dtype = None if dtype is None else _compat.mindspore_dtype(dtype)
        self.force = force

    def __enter__(self) -> empty:
        _patches.open()
        _open.set((*_open.get(), self))
        return self

    def __exit__(self, *exception: object) -> None:
        scopes = list(reversed(_open.get()))
        # The last to open need not be the first to close, where a generator has one of them.
        if self in scopes:
            scopes.remove(self)
            _open.set(tuple(reversed(scopes)))
        _patches.close()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        require_plain(function)

        @functools.wraps(function)
        def decorated(*args: Any, **kwargs: Any) -> Any:
            with empty(self.dtype, force=self.force):
                return function(*args, **kwargs)

        return decorated


class _Patches:
    """What is replaced while any scope is open: (owner, name, what was in the owner's own dict)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_open = 0
        self._replaced: list[tuple[Any, str, Any]] = []
        self._count = _Count()

    def open(self) -> None:
        with self._lock:
            self._n_open += 1
            if self._n_open == 1:
                try:
                    self._replace_all()
                except BaseException:
                    self._n_open = 0
                    self._restore()
                    raise

    def close(self) -> None:
        with self._lock:
            self._n_open -= 1
            if self._n_open == 0:
                self._restore()

    def _replace_all(self) -> None:
        new_args = staticmethod(_new_args(Parameter._get_parameter_new_args))
        self._replace(Parameter, "_get_parameter_new_args", new_args)
        self._replace(Parameter, "set_data", _set_data(Parameter.set_data))
        self._replace(mint, "empty", _zeros(mint.empty))
        self._replace(nn.Cell, "__init__", self._count.by(nn.Cell.__init__))
        for module in (primitive, utils):
            self._replace(module, "inspect", _inspect)
        for layer, position in _layers().items():
            init = layer.__init__
            if layer in (nn.Embedding, mint.nn.Embedding):
                init = _embedding(init)
            self._replace(layer, "__init__", _born_in(init, position))
        for wrapper in _zero.wrapper_classes():
            method = wrapper.set_param_wrapper
            self._replace(wrapper, "set_param_wrapper", _zero.cut_deferred(is_open, method))
        models = sys.modules.get("mindone.transformers.modeling_utils")
        if models is not None:
            rule = models.PreTrainedModel._initialize_weights
            self._replace(models.PreTrainedModel, "_initialize_weights", _not_in_scope(rule))
            # Some models import it only when they are made.
            from mindone.utils.weight_norm import WeightNorm

            self._replace(WeightNorm, "__init__", _with_weight(WeightNorm.__init__))

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        self._replaced.append((owner, name, owner.__dict__[name]))
        setattr(owner, name, value)

    def _restore(self) -> None:
        while self._replaced:
            setattr(*self._replaced.pop())
        self._count.settle()


class _Count:
    """Counts cells in the place of nn.Cell, which does so in an attribute of the class: to set one makes
    Python forget all that it remembered of the attributes of every class derived from it, and there are
    thousands.
    """

    def __init__(self) -> None:
        self.total_instance_count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(nn.Cell, name)

    def by(self, original: Callable[..., None]) -> Callable[..., None]:
        """nn.Cell.__init__, with its own code, to which in a scope this is what is called Cell."""
        if "total_instance_count" not in original.__code__.co_names:
            return original
        uncounted = types.FunctionType(
            original.__code__,
            {**original.__globals__, "Cell": self},
            original.__name__,
            original.__defaults__,
            original.__closure__,
        )

        @functools.wraps(original)
        def init(self: nn.Cell, *args: Any, **kwargs: Any) -> None:
            (uncounted if is_open() else original)(self, *args, **kwargs)

        return init

    def settle(self) -> None:
        """Let MindSpore know how many there were."""
        n_cells, self.total_instance_count = self.total_instance_count, 0
        if n_cells:
            nn.Cell.total_instance_count += n_cells


class _Inspect:
    """The inspect module, for MindSpore's decorators of constructors, which ask for the same few signatures
    with every object that is made.
    """

    signature = staticmethod(functools.lru_cache(maxsize=1024)(inspect.signature))

    def __getattr__(self, name: str) -> Any:
        return getattr(inspect, name)


_inspect = _Inspect()
_patches = _Patches()


def is_open() -> bool:
    """Whether the caller is in a scope."""
    return bool(_open.get())


def _scope() -> empty | None:
    """The innermost scope that the caller is in."""
    scopes = _open.get()
    return scopes[-1] if scopes else None


def _new_args(original: Callable[..., Any]) -> Callable[..., Any]:
    """What a new parameter is made of: nothing yet, if an initializer is to fill it."""

    def new_args(data: Any, rc: int, init_param: bool = True) -> Any:
        if is_open() and isinstance(data, Tensor) and data.has_init:
            init_param = False
        return original(data, rc, init_param)

    return new_args


def _set_data(original: Callable[..., Any]) -> Callable[..., Any]:
    """An initializer that takes another's place stays one, also where dtypes differ: MindSpore would make and
    convert the values.
    """

    @functools.wraps(original)
    def set_data(self: Parameter, data: Any, slice_shape: bool = False) -> Parameter:
        deferred = is_open() and _compat.is_deferred(self)
        if deferred and isinstance(data, Tensor) and data.has_init and data.shape == self.shape:
            _compat.defer(self, self.dtype, data.init)
            return self
        return original(self, data, slice_shape)

    return set_data


def _not_in_scope(original: Callable[..., Any]) -> Callable[..., Any]:
    """mindone's transformers fill every cell a second time when a model is complete."""

    @functools.wraps(original)
    def initialize(self: Any, module: Any) -> None:
        if not is_open():
            original(self, module)

    return initialize


def _with_weight(original: Callable[..., Any]) -> Callable[..., Any]:
    """mindone's weight normalisation computes with the weight of the cell that it is made around."""

    @functools.wraps(original)
    def init(self: nn.Cell, weight_norm_cell: nn.Cell, *args: Any, **kwargs: Any) -> None:
        weight = weight_norm_cell.weight
        if is_open() and _compat.is_deferred(weight):
            _compat.make_values(weight)
        original(self, weight_norm_cell, *args, **kwargs)

    return init


def _born_in(original: Callable[..., Any], position: int) -> Callable[..., Any]:
    """A layer's __init__, whose dtype is the scope's. position is where dtype stands among positional
    arguments.
    """

    @functools.wraps(original)
    def init(self: nn.Cell, *args: Any, **kwargs: Any) -> None:
        scope = _scope()
        if scope is not None and scope.dtype is not None:
            if len(args) > position:
                if scope.force:
                    args = (*args[:position], scope.dtype, *args[position + 1 :])
            elif scope.force or kwargs.get("dtype") is None:
                kwargs["dtype"] = scope.dtype
        original(self, *args, **kwargs)

    return init


def _embedding(original: Callable[..., Any]) -> Callable[..., Any]:
    """An embedding's __init__. MindSpore makes its values at once if one row is to be zero, and nn.Embedding
    in float32 whatever its dtype is.
    """
    signature = inspect.signature(original)

    @functools.wraps(original)
    def init(self: nn.Cell, *args: Any, **kwargs: Any) -> None:
        scope = _scope()
        if scope is None:
            return original(self, *args, **kwargs)
        bound = signature.bind(self, *args, **kwargs)
        row = bound.arguments.pop("padding_idx", None)
        if row is not None and not _is_row(row, bound.args[1]):
            return original(self, *args, **kwargs)
        original(*bound.args, **bound.kwargs)
        self.padding_idx = row
        (table,) = self._params.values()
        if _compat.is_deferred(table):
            dtype = table.dtype if scope.dtype is None else self.dtype
            _compat.defer(table, dtype, table.init if row is None else _ZeroRow(table.init, row))
        elif row is not None:
            table[row] = 0
        return None

    return init


def _is_row(row: Any, n_rows: Any) -> bool:
    """Whether MindSpore would take this for padding_idx."""
    return type(row) is int and type(n_rows) is int and 0 <= row < n_rows


class _ZeroRow(Initializer):
    """The values of another initializer, but for one row."""

    def __init__(self, rest: Initializer, row: int):
        super().__init__()
        self._rest = rest
        self._row = row

    def _initialize(self, arr: Any) -> None:
        self._rest(arr)
        arr[self._row] = 0


def _zeros(original: Callable[..., Any]) -> Callable[..., Any]:
    """mint.empty: memory that nobody has written to would stay in a parameter that a checkpoint lacks. Fresh
    zeros cost no more.
    """

    @functools.wraps(original)
    def zeros(*size: Any, dtype: Any = None, **options: Any) -> Tensor:
        if not is_open() or options:
            return original(*size, dtype=dtype, **options)
        shape = size[0] if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
        name = "float32" if dtype is None else _compat.dtype_name(dtype)
        return _compat.as_tensor(np.zeros(tuple(shape), _compat.numpy_dtype(name)))

    return zeros


@functools.cache
def _layers() -> dict[type, int]:
    """The classes of MindSpore's layers that take a dtype, each with its place among the arguments after
    self.
    """
    found = {}
    for module in (nn, mint.nn):
        for layer in vars(module).values():
            if not inspect.isclass(layer) or not issubclass(layer, nn.Cell) or layer.__name__ in _NOT_LAYERS:
                continue
            owner = next(c for c in layer.__mro__ if "__init__" in c.__dict__)
            names = list(inspect.signature(owner.__init__).parameters)
            if "dtype" in names:
                found[owner] = names.index("dtype") - 1
    return found
