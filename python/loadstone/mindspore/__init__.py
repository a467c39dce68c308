"""Loading into networks of MindSpore. Needs MindSpore 2.7 or newer; `import loadstone` alone does not import
it.

    with loadstone.mindspore.empty(ms.bfloat16):           # no parameter is made yet
        net = Net()
    loadstone.mindspore.load_into(net, "model.safetensors")

The pieces, one by one: empty() builds a network without making its parameters, load_into() fills it,
set_dtype(), to(), half() and float() change dtypes in place, data_ptr() tells where a parameter is.
"""

from __future__ import annotations

from ._empty import empty
from ._files import load_file, save_file
from ._load import LoadingInfo, load_checkpoint_and_dispatch, load_into
from ._param import data_ptr, float, half, set_dtype, to
from ._pretrained import accelerated, from_pretrained, install, uninstall

__all__ = [
    "LoadingInfo",
    "accelerated",
    "data_ptr",
    "empty",
    "float",
    "from_pretrained",
    "half",
    "install",
    "load_checkpoint_and_dispatch",
    "load_file",
    "load_into",
    "save_file",
    "set_dtype",
    "to",
    "uninstall",
]
