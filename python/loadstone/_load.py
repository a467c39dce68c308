"""Opening and loading."""

from __future__ import annotations

# collections.abc under the name by which every interpreter has it loaded: half the time of our import.
from _collections_abc import Mapping

from . import _core
from ._errors import ArgumentError, NameNotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Union

    from ._network import KeyMap, Network
    from ._report import Report

    Progress = Union[bool, Callable[[int, int, float], object], None]


class Checkpoint(_core.Checkpoint, Mapping):  # type: ignore[type-arg]
    """An open checkpoint: a mapping from names to tensors, in the order of their bytes in the files.

    Only headers have been read. Files are closed when the last reference to it, or to one of its tensors,
    has gone.
    """

    __slots__ = ()

    @property
    def components(self) -> dict[str, Checkpoint]:
        """The parts of a pipeline, each a checkpoint of its own; empty for any other checkpoint."""
        return dict(self._components(Checkpoint))

    def __repr__(self) -> str:
        from ._show import count, summary

        parts = self.components
        what = count(len(parts), "component") if parts else summary(self)
        return f"<loadstone.Checkpoint {self.path!r}: {what}>"

    def _repr_html_(self) -> str:
        from ._show import table

        return "".join(map(table, self.components.values())) or table(self)

    __hash__ = object.__hash__
    __eq__ = object.__eq__


class Weights(Mapping):  # type: ignore[type-arg]
    """Loaded weights: a mapping from names to tensors, with the .network they are in and the .report of the
    load.

    Each tensor owns a share of the memory, so that it outlives this mapping, and even the file.
    """

    __slots__ = ("_with_values", "network", "report")

    def __init__(self, network: Network, report: Report):
        self.network = network
        self.report = report
        self._with_values: list[str] | None = None

    def _names(self) -> list[str]:
        if self._with_values is None:
            self._with_values = self.network._names(True)
        return self._with_values

    def __getitem__(self, name: str) -> _core.Tensor:
        return self.network.tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __repr__(self) -> str:
        from ._show import summary

        return f"<loadstone.Weights: {summary(self)}>"

    def _repr_html_(self) -> str:
        from ._show import table

        return table(self)

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def open(
    path: str | os.PathLike[str], *, variant: str | None = None, revision: str | None = None
) -> Checkpoint:
    """Open a checkpoint; only headers are read.

    path is a .safetensors file, an index of shards, a model's directory, a pipeline's directory, or
    "org/name" in the local hub cache; nothing is downloaded. variant="fp16" opens model.fp16.safetensors;
    revision is a branch, tag or commit of a hub model.

    Raises NotFoundError or FileError if it is not there or cannot be read, MalformedError, TruncatedError or
    NotWeightsError, whose message says what is wrong, where, and what to do, and UnsupportedError.
    """
    return _core.open(Checkpoint, path, variant, revision)


def load(
    path: Checkpoint | str | os.PathLike[str],
    *,
    dtype: Any = None,
    keep_in_fp32: Iterable[str] = (),
    names: Iterable[str] | None = None,
    network: Network | None = None,
    key_map: KeyMap | Iterable[dict[str, Any]] | None = None,
    strict: bool = True,
    ignore_mismatched: bool = False,
    io: str = "auto",
    threads: int | None = None,
    lazy: bool = False,
    progress: Progress = None,
    out: Mapping[str, Any] | None = None,
) -> Weights:
    """Load a checkpoint: every weight, each in its dtype, in one pass over the file or in none.

    Args:
        path: what open() takes, or a checkpoint that is open.
        dtype: of all float weights; None: as the network, or without one the checkpoint, has them.
        keep_in_fp32: globs of names of float weights that become float32 whatever dtype says.
        names: globs of the weights to load; None: all.
        network: what to load into. None: the checkpoint itself says what there is.
        key_map: from the checkpoint's names to the network's, as KeyMap takes it. Needs a network.
        strict: missing or unexpected names are an error.
        ignore_mismatched: a tensor of another shape counts as missing.
        io: "map" maps what needs no conversion, "read" reads everything, "auto" maps on local file systems.
        threads: 1 to 1024; None: as many as this process may use.
        lazy: leave mapped pages to be read on first use.
        progress: True for a bar, or a callable that gets the bytes done, the bytes in all and the seconds so
        far, about
            20 times a second; what it raises cancels the load.
        out: memory of yours for some or all weights, by name: writable, C-contiguous buffers. An array of
        floats also
            decides the dtype of its weight; others are taken as bytes.

    Raises MismatchError (its .report says how the two do not fit), ChangedError if a file was changed since
    it was opened,
    and what open() raises. Nothing is half loaded then, except that buffers in out may have been written to.
    """
    from ._network import Network

    checkpoint = path if isinstance(path, _core.Checkpoint) else open(path)
    if network is None:
        if key_map is not None:
            raise ArgumentError("key_map: names the parameters of a network, and needs one")
        network = Network.from_checkpoint(checkpoint, dtype)
        dtype = None
    for name, buffer in (out or {}).items():
        if name not in network:
            raise NameNotFoundError(f"out: {name}: no such parameter", tensor=name)
        network._bind(name, buffer, _float_dtype(buffer))
    report = network.load_into(
        checkpoint,
        dtype=dtype,
        keep_in_fp32=keep_in_fp32,
        names=names,
        key_map=key_map,
        strict=strict,
        ignore_mismatched=ignore_mismatched,
        io=io,
        threads=threads,
        lazy=lazy,
        progress=progress,
    )
    return Weights(network, report)


def _float_dtype(buffer: Any) -> Any:
    """The dtype of an array of floats; None for bytes and integers."""
    declared = getattr(buffer, "dtype", None)
    if declared is None:
        declared = {"f": "float32", "d": "float64", "e": "float16"}.get(memoryview(buffer).format)
    dtype = _core.dtype(declared)
    return dtype if dtype is not None and dtype.is_float else None
