"""Networks and key maps."""

from __future__ import annotations

import os

# collections.abc under the name by which every interpreter has it loaded: half the time of our import.
from _collections_abc import Mapping

from . import _core
from ._errors import ArgumentError, LoadstoneError, name_file, system_error
from ._report import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, TypeVar

    from typing_extensions import Self

    from ._load import Checkpoint, Progress

    _Made = TypeVar("_Made")
    _Parameters = Mapping[str, _core.Parameter]
else:
    _Parameters = Mapping

_KINDS = {
    None: 0,
    "zeros": 1,
    "ones": 2,
    "constant": 3,
    "normal": 4,
    "trunc_normal": 5,
    "uniform": 6,
    "arange": 7,
    "xavier_uniform": 10,
    "xavier_normal": 11,
    "kaiming_uniform": 12,
    "kaiming_normal": 13,
}

_IO = {"auto": 0, "map": 1, "read": 2, "uring": 3, "direct": 4}


class KeyMap(_core.KeyMap):
    """Rules that turn the names and shapes of tensors into those of parameters.

    KeyMap([{"prefix": "model.", "to": ""}, ...]) takes rules as dicts with one of "exact", "prefix", "regex"
    and any of "to", "drop", "add_dim", "reshape"; docs/keymap.md says what they mean.

    Raises MalformedError for what is no rule, and for a pattern that does not compile, which says where.
    """

    __slots__ = ("_origin",)
    _origin: str

    def __new__(cls, rules: Iterable[dict[str, Any]] = ()) -> Self:
        import json

        if isinstance(rules, (str, bytes, os.PathLike)):
            raise TypeError(f"KeyMap: expected rules, found {rules!r}; KeyMap.from_file() reads a file")
        if isinstance(rules, dict) or not hasattr(rules, "__iter__"):
            raise TypeError(f"KeyMap: expected a list of rules, found {rules!r}")
        rules = list(rules)
        self = _core.keymap_from_json(cls, json.dumps({"rules": rules}).encode(), b"KeyMap")
        self._origin = f"{len(rules)} rule{'' if len(rules) == 1 else 's'}"
        return self

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """From a key map file, {"rules": [...]} in JSON.

        Raises NotFoundError or FileError if it cannot be read, and what KeyMap() raises.
        """
        self = _from_file(path, lambda json, file: _core.keymap_from_json(cls, json, file))
        self._origin = repr(os.fsdecode(path))
        return self

    def __repr__(self) -> str:
        return f"<loadstone.KeyMap: {self._origin}>"


class _Place:
    """A scope or a default dtype, entered and left by a with statement, as often as there is one."""

    def __init__(self, network: Network, enter: Callable[[Any], int], value: Any):
        self._network = network
        self._enter = enter
        self._value = value
        self._scopes: list[int] = []

    def __enter__(self) -> None:
        self._scopes.append(self._enter(self._value))

    def __exit__(self, *exception: object) -> None:
        self._network._leave(self._scopes.pop())


class Network(_core.Network, _Parameters):
    """What is to be filled: a mapping from names to parameters, in order.

    Network(dtype) is one to be built by hand, with add(), tie(), scope() and default_dtype(), until its
    parameters are first asked for or it is loaded into; the other ways to make one are the class methods.
    What is wrong with a name or a shape is raised where it is added.

    While one thread loads into a network or changes it, other calls on it raise RuntimeError.
    """

    __slots__ = ()

    def __new__(cls, dtype: Any = "float32") -> Self:
        return _core.network_new(cls, dtype)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint | str | os.PathLike[str],
        dtype: Any = None,
        *,
        key_map: KeyMap | Iterable[dict[str, Any]] | None = None,
    ) -> Self:
        """One parameter for each tensor. Floats become dtype; None keeps each one's own.

        With a key map, the names and shapes are what it makes of the tensors'. A path is opened as open()
        does.

        Raises NameNotFoundError if two tensors lead to one name, MismatchError if a shape cannot become what
        a rule says, UnsupportedError for a pipeline, and what open() and KeyMap() raise.
        """
        return _core.network_from_checkpoint(cls, _opened(checkpoint), as_key_map(key_map), dtype)

    @classmethod
    def from_config(cls, path: str | os.PathLike[str], dtype: Any = None) -> Self:
        """From the config.json of a model's directory; docs/architectures.md lists what is known.

        dtype is that of all floats but those that the class keeps in float32; None: as the class makes them.

        Raises UnsupportedError for a class or a field that is not known, MalformedError, NotFoundError and
        FileError.
        """
        try:
            return _core.network_from_config(cls, path, dtype)
        except LoadstoneError as error:
            name_file(error, [path])
            raise

    @classmethod
    def from_manifest(cls, path: str | os.PathLike[str]) -> Self:
        """From a manifest file (docs/manifest.md).

        Raises NotFoundError or FileError if it cannot be read, and MalformedError, which says where.
        """
        return _from_file(path, lambda json, file: _core.network_from_manifest(cls, json, file))

    def add(
        self,
        name: str,
        shape: Sequence[int],
        dtype: Any = None,
        *,
        init: str | None = None,
        a: float = 0.0,
        b: float = 0.0,
        lo: float = 0.0,
        hi: float = 0.0,
    ) -> None:
        """Add a parameter, of the default dtype unless one is given. name is relative to the scope.

        shape has the extents in elements, outermost dimension first; () is a scalar.

        init says how it gets values that a checkpoint lacks: "zeros", "ones", "constant" (a), "normal" (mean
        a, standard deviation b), "trunc_normal" (also cut at lo and hi), "uniform" (lo to hi), "arange" (a, a
        + b, ...), "xavier_uniform" and "xavier_normal" (gain a), "kaiming_uniform" and "kaiming_normal"
        (slope a).

        Raises NameNotFoundError for a name that is there already, ArgumentError for a shape or an init rule
        that cannot be, and ValueError once the network is complete.
        """
        kind = _KINDS.get(init) if init is None or isinstance(init, str) else None
        if kind is None:
            raise ArgumentError(f"init: expected one of {', '.join(filter(None, _KINDS))}, found {init!r}")
        self._add(name, shape, dtype, kind, a, b, lo, hi)

    def scope(self, name: str) -> _Place:
        """For a with statement in which "<name>." goes before every name; with statements nest."""
        if not isinstance(name, str):
            raise TypeError(f"scope: expected a str, found {name!r}")
        return _Place(self, self._enter, name)

    def default_dtype(self, dtype: Any) -> _Place:
        """For a with statement in which parameters have this dtype by default."""
        return _Place(self, self._push_dtype, _core.dtype(dtype))

    def load_into(
        self,
        checkpoint: Checkpoint | str | os.PathLike[str],
        *,
        dtype: Any = None,
        keep_in_fp32: Iterable[str] | None = (),
        names: Iterable[str] | None = None,
        key_map: KeyMap | Iterable[dict[str, Any]] | None = None,
        strict: bool = True,
        ignore_mismatched: bool = False,
        init_missing: bool = True,
        seed: int = 0,
        io: str = "auto",
        threads: int | None = None,
        lazy: bool = False,
        progress: Progress = None,
        out: Mapping[str, Any] | None = None,
        pool: _core.Pool | None = None,
        hugetlb: bool = False,
        overcommit: bool = False,
        cache: bool | str | os.PathLike[str] = False,
        cache_nbytes: int = 0,
        trace: str | os.PathLike[str] | None = None,
        keep_cache: bool = False,
        prefetch: bool = False,
        window_nbytes: int = 0,
    ) -> Report:
        """Load a checkpoint, or what open() takes, into this network.

        The arguments are those of loadstone.load(), and two more:

        Args:
            init_missing: with strict=False, what the checkpoint lacks gets its initial values; if False, it
                is left without any.
            seed: of these, 0 to 2^64 - 1. Values depend on it, the parameter's name and the index alone.

        Returns the Report. Raises what load() raises; each parameter is then as it was before, except that
        one which lay in memory of yours may have lost its values.
        """
        checkpoint = _opened(checkpoint)
        files = checkpoint.files  # another thread may close it before there is an error to name them in
        if not isinstance(io, str) or io not in _IO:
            raise ArgumentError(f"io: expected auto, map, read, uring or direct, found {io!r}")
        only = () if names is None else _texts("names", names)
        if names is not None and not only:
            raise ArgumentError("names: expected a name or a glob, found none")
        if not (progress is None or isinstance(progress, bool) or callable(progress)):
            raise TypeError(f"progress: expected True or a callable, found {progress!r}")
        if isinstance(cache, (str, bytes)) and not cache:
            raise ArgumentError(
                f"cache: expected a folder, found {cache!r}; True is the one in your cache folder"
            )
        binding = bar = None
        if out is not None:
            from ._out import Binding

            binding = Binding(self, out, only)
        if progress is True:
            from ._progress import make_bar

            bar = make_bar()
        try:
            values = self._load(
                checkpoint,
                dtype,
                _texts("keep_in_fp32", () if keep_in_fp32 is None else keep_in_fp32),
                only,
                as_key_map(key_map),
                strict,
                ignore_mismatched,
                init_missing,
                lazy,
                seed,
                _IO[io],
                threads,
                bar or progress or None,
                pool,
                hugetlb,
                overcommit,
                None if cache is False else "" if cache is True else cache,
                cache_nbytes,
                trace,
                keep_cache,
                prefetch,
                window_nbytes,
            )
        except BaseException as error:
            if binding:
                binding.undo()
            if isinstance(error, LoadstoneError):
                name_file(error, files)
            raise
        finally:
            if bar:
                bar.close()
        return Report(values)

    def to(self, dtype: Any) -> Self:
        """Make every float parameter dtype, in place; all or none. Returns the network.

        Tensors asked for before keep the old values. Raises UnsupportedError if dtype is no float, and
        OutOfMemoryError; nothing has changed then.
        """
        self._to(dtype)
        return self

    def half(self) -> Self:
        """to("float16")"""
        return self.to("float16")

    def float(self) -> Self:
        """to("float32")"""
        return self.to("float32")

    def __iter__(self) -> Iterator[str]:
        return iter(self._names(False))

    def __repr__(self) -> str:
        from ._show import count

        name = f" {self.architecture}" if self.architecture else ""
        what = count(len(self), "parameter") if self._is_built else "being built"
        return f"<loadstone.Network{name}: {what}>"

    def _repr_html_(self) -> str:
        from ._show import paragraph, table

        return table(self) if self._is_built else paragraph(self)

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def _from_file(path: str | os.PathLike[str], make: Callable[[bytes, bytes], _Made]) -> _Made:
    """What make() makes of a file's contents and name."""
    name = os.fsencode(path)  # not a descriptor, which open() would take, too
    try:
        with open(path, "rb") as file:
            json = file.read()
    except OSError as error:
        raise system_error(error, path) from None
    try:
        return make(json, name)
    except LoadstoneError as error:
        name_file(error, [path])
        raise


def as_key_map(rules: KeyMap | Iterable[dict[str, Any]] | None) -> KeyMap | None:
    """A key map of what key_map= may be."""
    return rules if rules is None or isinstance(rules, KeyMap) else KeyMap(rules)


def _opened(checkpoint: Checkpoint | str | os.PathLike[str]) -> Checkpoint:
    from ._load import open

    return checkpoint if isinstance(checkpoint, _core.Checkpoint) else open(checkpoint)


def _texts(argument: str, globs: Iterable[str]) -> tuple[str, ...]:
    try:
        texts = (globs,) if isinstance(globs, (str, bytes)) else tuple(globs)
    except TypeError:
        raise TypeError(f"{argument}: expected names or globs, found {globs!r}") from None
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{argument}: expected a str, found {text!r}")
    return texts
