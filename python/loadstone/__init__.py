"""Loadstone brings the weights of a checkpoint into a network, each in the network's own dtype.

    checkpoint = loadstone.open("model.safetensors")   # headers only
    part = checkpoint["wte.weight"][:, :64].numpy()    # reads these columns
    weights = loadstone.load("model.safetensors", dtype="bfloat16")
    array = weights["wte.weight"].numpy()              # or torch.from_dlpack(weights["wte.weight"])

Nothing but Python is needed; NumPy, ml_dtypes and tqdm are used where they are installed.
"""

from __future__ import annotations

from . import _core, dtypes
from ._core import CheckpointTensor, Parameter, Pool, Tensor
from ._errors import (
    ArgumentError,
    CancelledError,
    ChangedError,
    FileError,
    LoadstoneError,
    MalformedError,
    MismatchError,
    NameNotFoundError,
    NotFoundError,
    NotWeightsError,
    OutOfMemoryError,
    TruncatedError,
    UnsupportedError,
)
from ._load import Checkpoint, Weights, load, open

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import mindspore as mindspore
    from ._network import KeyMap, Network
    from ._numpy import convert_dtype
    from ._report import Report

__version__: str = _core.version

__all__ = [
    "ArgumentError",
    "CancelledError",
    "ChangedError",
    "Checkpoint",
    "CheckpointTensor",
    "FileError",
    "KeyMap",
    "LoadstoneError",
    "MalformedError",
    "MismatchError",
    "NameNotFoundError",
    "Network",
    "NotFoundError",
    "NotWeightsError",
    "OutOfMemoryError",
    "Parameter",
    "Pool",
    "Report",
    "Tensor",
    "TruncatedError",
    "UnsupportedError",
    "Weights",
    "convert_dtype",
    "dtypes",
    "load",
    "open",
]

# What is not needed to open and load is imported when it is first asked for.
_LATER = {"KeyMap": "_network", "Network": "_network", "Report": "_report", "convert_dtype": "_numpy"}


# Those who check types know all names, and take a module that has this function to have any other, too.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name == "mindspore":
            return import_module(".mindspore", __name__)
        if name not in _LATER:
            raise AttributeError(f"module 'loadstone' has no attribute {name!r}")
        value = getattr(import_module(f".{_LATER[name]}", __name__), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        shown = [name for name in globals() if name.startswith("__") or name == "mindspore"]
        return sorted(__all__ + shown)
