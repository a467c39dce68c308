"""from_config of mindone's models, with Loadstone and without: the same of everything but random values."""

from __future__ import annotations

import loadstone
import mindspore as ms
import numpy as np
import pytest
from conftest import params_of, values
from loadstone.mindspore import _compat, _initial
from mindspore import Parameter, Tensor, mint, nn, ops
from mindspore.common import initializer as initializers
from mindspore.common.initializer import Normal, One, Zero, initializer
from pretrained_support import TRANSFORMERS, cpu_operators, model_class, models, nothing_left

__all__ = ["cpu_operators", "models", "nothing_left"]  # fixtures

ALL = ms.__version__.startswith("2.7.1")
DTYPES = [None, ms.float16, "bfloat16"]


def built(cls, config, dtype):
    return cls._from_config(config, **({} if dtype is None else {"dtype": dtype}))


def assert_alike(theirs, ours):
    left, right = params_of(theirs), params_of(ours)
    assert list(left) == list(right)
    for name, own in left.items():
        param = right[name]
        for what in ("name", "dtype", "shape", "requires_grad"):
            assert getattr(param, what) == getattr(own, what), (name, what)
        assert not param.has_init
        found, expected = values(param), values(own)
        if expected.std() == 0:
            np.testing.assert_array_equal(found, expected, name)
        elif found.size > 100:
            # Six standard errors of what two samples of one distribution may differ by.
            error = 6 / np.sqrt(found.size)
            assert abs(found.mean() - expected.mean()) < np.sqrt(2) * error * expected.std(), name
            assert abs(np.log(found.std() / expected.std())) < error, name
    assert dict(theirs.named_buffers()).keys() == dict(ours.named_buffers()).keys()
    for name, buffer in theirs.named_buffers():
        other = dict(ours.named_buffers())[name]
        assert buffer.dtype == other.dtype
        np.testing.assert_array_equal(values(buffer), values(other), name)
    assert (theirs.training, str(theirs.config)) == (ours.training, str(ours.config))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_same_as_mindone(models, name):
    cls = model_class(name)
    config = cls.config_class.from_pretrained(models / name / "float32-whole")
    for dtype in DTYPES if ALL else [DTYPES[len(name) % 3]]:
        theirs = built(cls, config, dtype)
        with loadstone.mindspore.accelerated():
            ours = built(cls, config, dtype)
        assert_alike(theirs, ours)


def test_auto_classes(models):
    from mindone.transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(models / "llama/float32-whole")
    theirs = AutoModelForCausalLM.from_config(config)
    with loadstone.mindspore.accelerated():
        ours = AutoModelForCausalLM.from_config(config)
    assert type(ours) is type(theirs)
    assert_alike(theirs, ours)


def test_each_value_is_made_once(models, monkeypatch):
    made = []
    make_values = _compat.make_values

    def count(param):
        made.append(param)
        make_values(param)

    monkeypatch.setattr(_compat, "make_values", count)
    cls = model_class("qwen2")
    config = cls.config_class.from_pretrained(models / "qwen2/float32-whole")
    with loadstone.mindspore.accelerated():
        net = built(cls, config, ms.float16)
    drawn = [param for param in net.get_parameters() if param.ndim == 2]
    assert {id(param) for param in drawn} <= {id(param) for param in made}
    assert len(made) == len({id(param) for param in made})
    # Part of something that is deferred: it stays so.
    with loadstone.mindspore.accelerated(), loadstone.mindspore.empty():
        net = built(cls, config, ms.float16)
    assert all(param.has_init for param in net.get_parameters() if param.ndim == 2)
    assert {param.dtype for param in net.get_parameters()} == {ms.float16}


KINDS = ["Normal", "Uniform", "TruncatedNormal", "HeUniform", "HeNormal", "XavierUniform", "XavierNormal"]
KINDS += ["Orthogonal", "Identity", "VarianceScaling", "One"]


@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_a_parameter_born_in_the_dtype(kind, dtype):
    """MindSpore draws in float32 whatever the dtype is."""
    how = getattr(initializers, kind)()

    def drawn(dtype):
        np.random.seed(3)
        return Parameter(initializer(how, (40, 30), dtype))

    with loadstone.mindspore.empty():
        late = drawn(dtype)
    assert late.has_init
    np.random.seed(3)
    _initial._make(late)
    born, converted = drawn(dtype), drawn(ms.float32)
    converted.set_dtype(dtype)
    assert late.dtype == born.dtype == dtype
    np.testing.assert_array_equal(values(late), values(born))
    np.testing.assert_array_equal(values(late), values(converted))


def full(param, value):
    return Tensor(np.full(param.shape, value, np.float32)).astype(param.dtype)


def zero_row(weight):
    weight.set_data(initializer(One(), weight.shape, weight.dtype))
    weight[1] = 0


def twice(weight):
    weight.set_data(initializer(Normal(), weight.shape, weight.dtype))
    weight.set_data(initializer(Zero(), weight.shape, weight.dtype))


RULES = {
    "initializer": (True, lambda weight: weight.set_data(initializer(One(), weight.shape, weight.dtype))),
    "twice": (True, twice),
    "nothing": (True, lambda weight: None),
    "values": (False, lambda weight: weight.set_data(full(weight, 5))),
    "row": (False, zero_row),
    "in place": (False, lambda weight: ops.assign(weight, full(weight, 3))),
    "zeros in place": (False, lambda weight: ops.assign(weight, full(weight, 0))),
    "scaled": (False, lambda weight: ops.assign(weight, Tensor(2 * weight.asnumpy()))),
}


@pytest.mark.parametrize("kind", RULES)
def test_rules_that_work_on_values(monkeypatch, kind):
    """They run on values that were made before."""
    from mindone.transformers import PreTrainedModel
    from transformers import PretrainedConfig

    only_initializers, rule = RULES[kind]
    results = []
    run = _initial._run_on_zeros
    monkeypatch.setattr(_initial, "_run_on_zeros", lambda *args: results.append(run(*args)) or results[-1])

    class Model(PreTrainedModel):
        config_class = PretrainedConfig

        def __init__(self, config):
            super().__init__(config)
            self.fc = nn.Dense(4, 4, weight_init="ones", bias_init="ones")
            self.scale = Parameter(mint.ones((4, 4)) * 3, name="scale")
            self.post_init()

        def _init_weights(self, cell):
            if isinstance(cell, nn.Dense):
                rule(cell.weight)
            elif isinstance(cell, Model) and kind == "scaled":
                rule(cell.scale)

    for dtype in (ms.float32, ms.float16):
        theirs = Model._from_config(PretrainedConfig(), dtype=dtype)
        with loadstone.mindspore.accelerated():
            ours = Model._from_config(PretrainedConfig(), dtype=dtype)
        assert_alike(theirs, ours)
        assert results.pop() is only_initializers


def test_errors_are_the_models_own(models):
    cls = model_class("llama")
    with loadstone.mindspore.accelerated(), pytest.raises(AttributeError) as ours:
        cls._from_config(None)
    with pytest.raises(AttributeError) as theirs:
        cls._from_config(None)
    assert str(ours.value) == str(theirs.value)
