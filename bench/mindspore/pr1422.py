"""The strategy of mindone's pull request 1422, for its diffusers models, as a scope.

Layers are made in the wanted dtype, weights are converted one by one by MindSpore, and the network takes them
over without a check of each. Written anew from what the pull request describes, on mindone 0.5.0.
"""

import contextlib
import functools
import inspect

import mindspore as ms
from mindone.diffusers.models import model_loading_utils, modeling_utils
from mindspore import mint, nn


def _cast(param, dtype):
    if param.dtype != dtype:
        param.set_dtype(dtype)
        param._data = param.to(device="CPU", dtype=dtype)


def _load(model, state, keep_in_fp32_modules=None, dtype=None, is_sharded=False):
    own = dict(model.parameters_and_names())
    for name, value in state.items():
        if name in own:
            _cast(value, own[name].dtype)
    ms.load_param_into_net(model, state, strict_load=True)
    return []


def _to(self, dtype=None):
    for param in self.get_parameters():
        _cast(param, dtype)
    return self


def _born_in(original, dtype):
    @functools.wraps(original)
    def init(self, *args, **kwargs):
        original(self, *args, **{**kwargs, "dtype": dtype})

    return init


def _layers():
    for module in (nn, mint.nn):
        for layer in set(filter(inspect.isclass, vars(module).values())):
            takes = issubclass(layer, nn.Cell) and "dtype" in inspect.signature(layer.__init__).parameters
            if takes and layer is not nn.Dropout:
                yield layer


@contextlib.contextmanager
def strategy(dtype):
    replaced = [
        (model_loading_utils, "_load_state_dict_into_model", _load),
        (modeling_utils.ModelMixin, "to", _to),
        *((layer, "__init__", _born_in(layer.__init__, dtype)) for layer in set(_layers())),
    ]
    ms.Parameter._data = ms.Tensor.data
    saved = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    try:
        for entry in replaced:
            setattr(*entry)
        yield
    finally:
        for entry in saved:
            setattr(*entry)
