"""What tests of the MindSpore adapter start from: a network, and PyTorch's names for it."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, mint, nn
from mindspore.common import np_dtype
from safetensors.numpy import save_file

ms.set_device("CPU")
# MindSpore's own, which its arrays have and which safetensors takes for bfloat16 by its name.
BFLOAT16 = np.dtype(np_dtype.bfloat16)
NUMPY = {ms.float32: np.dtype(np.float32), ms.float16: np.dtype(np.float16), ms.bfloat16: BFLOAT16}


class Net(nn.Cell):
    """Dense layers, norms, convolutions, of both of MindSpore's families, and a parameter of its own."""

    def __init__(self, n=8):
        super().__init__()
        self.embed = nn.Embedding(10, n)
        self.fc = nn.Dense(n, n)
        self.norm = nn.LayerNorm((n,))
        self.proj = mint.nn.Linear(n, n)
        self.ext = mint.nn.LayerNorm((n,))
        self.conv = nn.Conv1d(n, n, 3, has_bias=True)
        self.up = nn.Conv1dTranspose(n, 4, 3, has_bias=True)
        self.image = nn.Conv2d(3, n, 3, has_bias=True)
        self.batch = nn.BatchNorm2d(n)
        self.scale = Parameter(mint.ones(n), name="scale")

    def construct(self, index):
        hidden = self.norm(self.fc(self.embed(index)))
        hidden = self.proj(hidden) * self.scale
        return self.up(self.conv(hidden.swapaxes(1, 2)))


# PyTorch's name and shape, and MindSpore's name.
NAMES = {
    "embed.weight": ((10, 8), "embed.embedding_table"),
    "fc.weight": ((8, 8), "fc.weight"),
    "fc.bias": ((8,), "fc.bias"),
    "norm.weight": ((8,), "norm.gamma"),
    "norm.bias": ((8,), "norm.beta"),
    "proj.weight": ((8, 8), "proj.weight"),
    "proj.bias": ((8,), "proj.bias"),
    "ext.weight": ((8,), "ext.weight"),
    "ext.bias": ((8,), "ext.bias"),
    "conv.weight": ((8, 8, 3), "conv.weight"),
    "conv.bias": ((8,), "conv.bias"),
    "up.weight": ((8, 4, 3), "up.weight"),
    "up.bias": ((4,), "up.bias"),
    "image.weight": ((8, 3, 3, 3), "image.weight"),
    "image.bias": ((8,), "image.bias"),
    "batch.weight": ((8,), "batch.gamma"),
    "batch.bias": ((8,), "batch.beta"),
    "batch.running_mean": ((8,), "batch.moving_mean"),
    "batch.running_var": ((8,), "batch.moving_variance"),
    "scale": ((8,), "scale"),
}


def random_weights(dtype=np.float32, names=NAMES, seed=0):
    """Values for every name, small, of either sign."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal(shape).astype(np.float32).astype(dtype)
        for name, (shape, _) in names.items()
    }


def values(param):
    """A parameter's values, in float32 if they are floats."""
    array = param.asnumpy()
    return array if array.dtype.kind in "iub" else array.astype(np.float32)


def params_of(net):
    return dict(net.parameters_and_names())


def assert_loaded(net, weights, names=NAMES, dtype=None):
    """Every weight is in its parameter, bit for bit after the conversion that NumPy does."""
    params = params_of(net)
    for name, (_, ours) in names.items():
        if name not in weights:
            continue
        param = params[ours]
        if dtype is not None:
            assert param.dtype == dtype, ours
        expected = weights[name].astype(NUMPY[param.dtype]).astype(np.float32)
        np.testing.assert_array_equal(values(param).reshape(expected.shape), expected, ours)


@pytest.fixture
def write(tmp_path):
    """write(arrays, name): a safetensors file of them."""

    def write(arrays, name="model.safetensors"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(arrays, path)
        return path

    return write


@pytest.fixture
def indices():
    return Tensor(np.arange(6).reshape(2, 3) % 10, ms.int32)
