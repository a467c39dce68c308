"""Dtypes changed in place, against what MindSpore's own set_dtype gives."""

import loadstone
import mindspore as ms
import numpy as np
import pytest
from conftest import NUMPY, Net, params_of, random_weights, values
from mindspore import Parameter, Tensor, nn

lm = loadstone.mindspore
FLOATS = [ms.float16, ms.bfloat16, ms.float32, ms.float64]


def boundary_values():
    """Every float16, and float32 values around what the narrow types can hold; no NaN."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    narrow = halves[~np.isnan(halves)].astype(np.float32)
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 1 << 32, 50000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    return np.concatenate([narrow, bits[~np.isnan(bits)], np.float32([65504, 65519.99, 65520, 3.4e38, 6e-8])])


@pytest.mark.parametrize("to", FLOATS, ids=str)
@pytest.mark.parametrize("own", FLOATS, ids=str)
def test_values_are_those_of_mindspore(own, to):
    # No operator of MindSpore touches them: some of these flush subnormals to zero.
    with np.errstate(over="ignore"):
        start = boundary_values().astype(NUMPY.get(own, np.float64))
    param = Parameter(Tensor.from_numpy(start), name="p")
    other = Parameter(Tensor.from_numpy(start), name="q")
    other.set_dtype(to)
    assert lm.set_dtype(param, to) is param
    assert param.dtype == other.dtype == to
    assert (param.name, param.shape) == ("p", other.shape)
    theirs = other.asnumpy().astype(np.float64)
    np.testing.assert_array_equal(param.asnumpy().astype(np.float64), theirs)


def test_integers_are_changed_as_mindspore_does():
    param = Parameter(Tensor(np.arange(5), ms.int64), name="p")
    lm.set_dtype(param, "float16")
    assert param.dtype == ms.float16
    assert values(param).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("deferred", [False, True])
def test_networks(deferred, indices):
    net = Net()
    if deferred:
        with lm.empty():
            net = Net()
    before = params_of(net)
    start = None if deferred else {name: values(param) for name, param in before.items()}
    for function, dtype in (
        (lm.half, ms.float16),
        (lm.float, ms.float32),
        (lambda n: lm.to(n, "bfloat16"), ms.bfloat16),
    ):
        assert function(net) is net
        assert {param.dtype for param in net.get_parameters()} == {dtype}
    assert all(params_of(net)[name] is param for name, param in before.items())
    if deferred:
        assert net.fc.weight.has_init and lm.data_ptr(net.fc.weight) == 0
        assert net.fc.weight.init_mode.dtype == ms.bfloat16
    else:
        for name, param in before.items():
            expected = start[name].astype(np.float16).astype(NUMPY[ms.bfloat16]).astype(np.float32)
            np.testing.assert_array_equal(values(param), expected)


def test_what_has_the_dtype_is_not_touched(tmp_path):
    net = Net()
    address = lm.data_ptr(net.fc.weight)
    assert address
    lm.float(net)
    assert lm.data_ptr(net.fc.weight) == address
    lm.half(net)
    assert lm.data_ptr(net.fc.weight) != address


def test_networks_that_were_changed_run(indices):
    net = Net()
    first = net(indices).asnumpy()
    lm.to(lm.to(net, ms.float64), ms.float32)
    np.testing.assert_array_equal(net(indices).asnumpy(), first)


def test_deferred_networks_run_without_a_load(indices):
    with lm.empty():
        net = Net()
    lm.half(net)
    lm.float(net)
    assert np.isfinite(net(indices).asnumpy()).all()
    assert not net.fc.weight.has_init


def test_training_after_a_change(indices):
    net = lm.float(lm.half(Net()))
    optimizer = nn.SGD(net.trainable_params(), learning_rate=1e-2)
    step = ms.value_and_grad(lambda x: net(x).square().mean(), None, optimizer.parameters)
    before = values(net.fc.weight).copy()
    optimizer(step(indices)[1])
    assert not np.array_equal(values(net.fc.weight), before)


@pytest.mark.parametrize("dtype", ["bfloat16", "BF16", np.float16, ms.float32], ids=str)
def test_ways_to_name_a_dtype(dtype):
    param = lm.set_dtype(Parameter(Tensor(random_weights()["fc.bias"]), name="p"), dtype)
    assert param.dtype in FLOATS


def test_other_dtypes_are_refused():
    param = Parameter(Tensor(np.zeros(2, np.float32)), name="p")
    with pytest.raises(loadstone.UnsupportedError, match="MindSpore has no float6_e2m3fn"):
        lm.set_dtype(param, "float6_e2m3fn")
    with pytest.raises(TypeError, match="expected a dtype, found None"):
        lm.set_dtype(param, None)
    with pytest.raises(ValueError, match="expected a dtype, found 'no such thing'"):
        lm.set_dtype(param, "no such thing")
