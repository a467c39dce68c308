"""Opening and loading."""

from __future__ import annotations

# collections.abc under the name by which every interpreter has it loaded: half the time of our import.
from _collections_abc import ItemsView, Mapping, ValuesView

from . import _core
from ._errors import LoadstoneError, name_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Union

    from ._network import KeyMap, Network
    from ._report import Report

    Progress = Union[bool, Callable[[int, int, float], object], None]
    _Pairs = ItemsView[str, _core.CheckpointTensor]
    _Tensors = ValuesView[_core.CheckpointTensor]
    _Checkpoint = Mapping[str, _core.CheckpointTensor]
    _Weights = Mapping[str, _core.Tensor]
else:
    _Pairs, _Tensors, _Checkpoint, _Weights = ItemsView, ValuesView, Mapping, Mapping


class _Items(_Pairs):
    """Those of a checkpoint, without looking up each name."""

    __slots__ = ()
    _mapping: Checkpoint

    def __iter__(self) -> Iterator[tuple[str, _core.CheckpointTensor]]:
        return zip(self._mapping, self._mapping._tensors())


class _Values(_Tensors):
    """Those of a checkpoint, without looking up each name."""

    __slots__ = ()
    _mapping: Checkpoint

    def __iter__(self) -> Iterator[_core.CheckpointTensor]:
        return iter(self._mapping._tensors())


class Checkpoint(_core.Checkpoint, _Checkpoint):
    """An open checkpoint: a mapping from names to tensors, in the order of their bytes in the files.

    Only headers have been read. Files are closed by close(), at the end of a with statement, or when the
    last reference to it and to its tensors has gone. What was read or loaded does not need them.
    """

    __slots__ = ()

    @property
    def components(self) -> dict[str, Checkpoint]:
        """The parts of a pipeline, each a checkpoint of its own; empty for any other checkpoint."""
        return dict(self._components(Checkpoint))

    def items(self) -> ItemsView[str, _core.CheckpointTensor]:
        """Names and tensors, in the order of their bytes in the files."""
        return _Items(self)

    def values(self) -> ValuesView[_core.CheckpointTensor]:
        """Tensors, in the order of their bytes in the files."""
        return _Values(self)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        from ._show import count, summary

        if self.closed:
            return "<loadstone.Checkpoint: closed>"
        parts = self.components
        what = count(len(parts), "component") if parts else summary(self)
        return f"<loadstone.Checkpoint {self.path!r}: {what}>"

    def _repr_html_(self) -> str:
        from ._show import paragraph, table

        if self.closed:
            return paragraph(self)
        return "".join(map(table, self.components.values())) or table(self)

    __hash__ = object.__hash__
    __eq__ = object.__eq__


class Weights(_Weights):
    """Loaded weights: a mapping from names to tensors, those of .network that have values.

    Each tensor owns a share of the memory, so that it outlives this mapping, and even the file. A name
    without values is a KeyError. While another thread loads into the network, calls raise RuntimeError.
    """

    __slots__ = {
        "network": "The Network that they are in.",
        "report": "The Report of the load.",
    }

    def __init__(self, network: Network, report: Report):
        self.network = network
        self.report = report

    def __getitem__(self, name: str) -> _core.Tensor:
        return self.network.tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.network._names(True))

    def __len__(self) -> int:
        return len(self.network._names(True))

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
    try:
        return _core.open(Checkpoint, path, variant, revision)
    except LoadstoneError as error:
        name_file(error, [path])
        raise


def load(
    path: Checkpoint | str | os.PathLike[str],
    *,
    dtype: Any = None,
    keep_in_fp32: Iterable[str] | None = (),
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
    pool: _core.Pool | None = None,
    hugetlb: bool = False,
    overcommit: bool = False,
    cache: bool | str | os.PathLike[str] = False,
    cache_nbytes: int = 0,
    trace: str | os.PathLike[str] | None = None,
    keep_cache: bool = False,
    prefetch: bool = False,
    window_nbytes: int = 0,
) -> Weights:
    """Load a checkpoint: every weight, each in its dtype, in one pass over the file or in none.

    Args:
        path: what open() takes, or a checkpoint that is open.
        dtype: of all float weights; None: as the network, or without one the checkpoint, has them.
        keep_in_fp32: globs of names of float weights that become float32 whatever dtype says; None: none.
        names: globs of the weights to load, at least one; None: all.
        network: what to load into. None: the checkpoint itself says what there is.
        key_map: rules from the checkpoint's names to the network's, as KeyMap takes them. Without a network,
            the weights are called and shaped as the rules say.
        strict: missing or unexpected names are an error.
        ignore_mismatched: a tensor of another shape counts as missing.
        io: "map" maps what needs no conversion; "read", "uring" (io_uring) and "direct" (past the page cache)
            read everything; "auto" maps on local file systems, and reads the rest as suits the file.
        threads: 1 to 1024; None: as many as this process may use.
        lazy: leave mapped pages to be read on first use.
        progress: True for a bar, or a callable that gets the bytes done, the bytes in all and the seconds so
            far, about 20 times a second; what it raises cancels the load.
        out: memory of yours for some or all weights, by name: NumPy arrays, PyTorch tensors on the CPU, or
            any buffer, writable and C-contiguous. An array has the weight's shape, and one of floats decides
            the weight's dtype. A buffer of bytes, or a row of uint8, is taken as it is; one of numbers as an
            array.
        pool: a Pool, for memory that weights of earlier loads no longer use.
        hugetlb: put weights into huge pages that the administrator has reserved.
        overcommit: begin also what free memory, or the control group's limit, has no room for, and would
            otherwise be an OutOfMemoryError.
        cache: True, or a folder: keep what was converted there, and map it when the same is loaded again.
            .report.cache says what came of it. True is loadstone/ in your cache folder.
        cache_nbytes: most that its entries may have, 0 for 64 GiB; what was used least recently goes.
        trace: a file to write to when each thread did what, for chrome://tracing and ui.perfetto.dev: a new
            one, an earlier trace, which is replaced when this one is whole, or a pipe. It is written also if
            the load fails or is interrupted.
        keep_cache: leave in the page cache what is read. Otherwise what was not there before is let go of.
        prefetch: first have everything read into the page cache, unless it is larger than free memory.
        window_nbytes: most memory, beside the weights', for what is being read and converted, at least 65536
            a thread; 0: a quarter of what is read, at least 64 MiB, or 6 MiB a thread for direct reads from a
            disk; and at most 128 MiB.

    Raises MismatchError (its .report says how the two do not fit), ArgumentError for memory in out that does
    not fit, ChangedError if a file was changed since it was opened, and what open() raises. A network is then
    what it was before, except that memory in out may have been written to: a parameter that lay in it already
    has no values then.
    """
    options = {name: value for name, value in locals().items() if name not in ("path", "network")}
    from ._network import Network, as_key_map

    checkpoint = path if isinstance(path, _core.Checkpoint) else open(path)
    options["key_map"] = as_key_map(key_map)
    if network is None:
        network = Network.from_checkpoint(checkpoint, dtype, key_map=options["key_map"])
        options["dtype"] = None
    elif not isinstance(network, Network):
        raise TypeError(f"network: expected a Network, found {type(network).__name__}")
    return Weights(network, network.load_into(checkpoint, **options))
