"""A rank's parts of a network, against what mindone's ZeRO stage 3 leaves of one that was loaded whole."""

from __future__ import annotations

import gc
import importlib
from pathlib import Path

import loadstone
import mindspore as ms
import numpy as np
import pytest
from conftest import NUMPY, Net, params_of, random_weights, values
from mindspore import Parameter, mint, nn, ops
from mindspore.context import ParallelMode

lm = loadstone.mindspore
WORLD = 4


class Experts(nn.Cell):
    """mindone cuts two parameters of any cell that has them."""

    def __init__(self):
        super().__init__()
        self.gate_up_proj = Parameter(mint.ones((4, 8, 6)), name="gate_up_proj")
        self.down_proj = Parameter(mint.ones((4, 3, 8)), name="down_proj")
        self.other = Parameter(mint.ones((4, 8)), name="other")


class Large(Net):
    """Layers of every kind that mindone cuts, and of kinds that it does not; some do not divide by four."""

    def __init__(self, n=16):
        super().__init__(n)
        self.odd = nn.Dense(n, 6)
        self.video = nn.Conv3d(3, n, 3, has_bias=True)
        self.mint_image = mint.nn.Conv2d(3, n, 3)
        self.mint_video = mint.nn.Conv3d(3, n, 3)
        self.experts = Experts()
        self.blocks = nn.CellList([nn.Dense(n, n, has_bias=False), nn.LayerNorm((n,))])
        self.own = Parameter(mint.ones((n, 2)), name="own")


class Collective:
    def __init__(self, *args, **kwargs):
        pass


class Operators:
    """MindSpore's, but those that need a group of processes."""

    def __getattr__(self, name):
        return Collective if name in ("AllGather", "ReduceScatter", "AllReduce") else getattr(ops, name)


@pytest.fixture
def wrap(monkeypatch):
    """wrap(net, rank): mindone's own wrappers, as if there were WORLD ranks."""
    zero = importlib.import_module("mindone.trainers.zero")
    names = ("dense", "conv", "param_wrapper", "moe_text_experts")
    parallel = [importlib.import_module(f"mindone.models.modules.parallel.{name}") for name in names]
    rank_now = [0]
    fakes = {
        "_get_parallel_mode": lambda: ParallelMode.DATA_PARALLEL,
        "get_group_size": lambda group=None: WORLD,
        "get_rank": lambda group=None: rank_now[0],
    }
    for module in (zero, ms.communication, *parallel):
        for name, fake in fakes.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, fake)
    monkeypatch.setattr(parallel[2], "ops", Operators())

    def wrap(net, rank):
        rank_now[0] = rank
        return zero.prepare_network(net, 3, "group")

    return wrap


PYTORCH = {"gamma": "weight", "beta": "bias", "embedding_table": "weight"}
PYTORCH.update({"moving_mean": "running_mean", "moving_variance": "running_var"})


def weights_of(net, dtype=np.float32):
    """Random ones by PyTorch's names, with PyTorch's shapes."""
    names = {}
    for name, param in params_of(net).items():
        path, _, last = name.rpartition(".")
        shape = tuple(param.shape)
        if path in ("conv", "up") and last == "weight":
            shape = (*shape[:2], shape[3])
        names[f"{path}.{PYTORCH.get(last, last)}".lstrip(".")] = (shape, name)
    return random_weights(dtype, names)


def assert_same_part(expected, net, dtype=ms.float32):
    expected, found = params_of(expected), params_of(net)
    assert list(found) == list(expected)
    for name, param in found.items():
        assert (param.shape, param.dtype, param.name) == (expected[name].shape, dtype, expected[name].name)
        converted = expected[name].asnumpy().astype(NUMPY[dtype]).astype(np.float32)
        np.testing.assert_array_equal(values(param), converted, name)
        assert not param.has_init


@pytest.mark.parametrize("dtype", [ms.float32, ms.bfloat16], ids=str)
@pytest.mark.parametrize("rank", [0, 1, 3])
def test_wrapped_and_then_loaded(write, wrap, rank, dtype):
    path = write(weights_of(Large()))
    expected = Large()
    lm.load_into(expected, path, strict=True)
    wrap(expected, rank)
    with lm.empty(dtype):
        net = wrap(Large(), rank)
    assert net.fc.weight.has_init and net.fc.weight.shape == (4, 16)
    for _ in range(2):
        info = lm.load_into(net, path, dtype=dtype, zero3=(rank, WORLD), strict=True)
        assert info.loaded["fc.net.weight"] == "fc.weight"
        assert_same_part(expected, net, dtype)
    # One that had its values when it was wrapped.
    net = wrap(Large(), rank)
    lm.load_into(net, path, zero3=(rank, WORLD), strict=True)
    assert_same_part(expected, net)


def test_cut_are_the_parts_that_mindone_cuts(write, wrap):
    """Without wrappers, too; names stay those of a network without wrappers."""
    path = write(weights_of(Large()))
    expected = Large()
    lm.load_into(expected, path)
    wrap(expected, 2)
    with lm.empty():
        net = Large()
    lm.load_into(net, path, zero3=(2, WORLD), strict=True)
    parts = {name.replace(".net.", "."): param for name, param in params_of(expected).items()}
    assert list(params_of(net)) == list(parts)
    for name, param in params_of(net).items():
        assert param.shape == parts[name].shape, name
        np.testing.assert_array_equal(values(param), values(parts[name]))
    shapes = {name: params_of(net)[name].shape for name in ("fc.weight", "embed.embedding_table", "odd.bias")}
    assert shapes == {"fc.weight": (4, 16), "embed.embedding_table": (10, 16), "odd.bias": (6,)}


def test_loaded_and_then_wrapped(write, wrap):
    """What mindone cuts of a mapped file still is the mapped file."""
    path = write(weights_of(Large()))
    with lm.empty():
        net = Large()
    lm.load_into(net, path, io="map")
    first = lm.data_ptr(net.fc.weight)
    expected = values(net.fc.weight)[4:8]
    net = wrap(net, 1)
    np.testing.assert_array_equal(values(net.fc.weight), expected)
    if ms.__version__ != "2.7.0":
        assert lm.data_ptr(net.fc.weight) == first + expected.nbytes


@pytest.mark.parametrize("n", [16, 8], ids=["divides again", "does not"])
def test_parts_are_not_wrapped(write, wrap, n):
    """They would be cut again, or be taken for whole weights. Nothing stays replaced."""
    param_wrapper = importlib.import_module("mindone.models.modules.parallel.param_wrapper").ZeroParamWrapper
    before = param_wrapper.__init__
    other = nn.CellList([nn.Dense(n, n)])
    weights = random_weights(np.float32, {"0.weight": ((n, n), "")})
    for _ in range(2):
        with lm.empty():
            net = nn.CellList([nn.Dense(n, n)])
            lm.load_into(net, write(weights), zero3=(1, WORLD))
        with pytest.raises(loadstone.ArgumentError) as caught:
            wrap(net, 1)
        assert str(caught.value) == (
            "0.weight: expected a whole weight to cut, found a rank's part of one, from "
            "load_into(zero3=...): wrap the network first, then load"
        )
    wrap(other, 1)
    del net, caught
    gc.collect()
    assert param_wrapper.__init__ is before


def test_tied_weights_stay_whole(write, wrap):
    class Tied(nn.Cell):
        def __init__(self):
            super().__init__()
            self.embed = mint.nn.Embedding(8, 4)
            self.head = mint.nn.Linear(4, 8, bias=False)
            self.head.weight = self.embed.weight

    path = write({"embed.weight": np.arange(32, dtype=np.float32).reshape(8, 4)})
    with lm.empty():
        nets = [Tied(), wrap(Tied(), 1)]
    for net in nets:
        lm.load_into(net, path, zero3=(1, WORLD), strict=True)
        assert net.head.weight is net.embed.weight and net.embed.weight.shape == (8, 4)


@pytest.mark.parametrize("wrapped", [False, True])
def test_missing_parts_are_parts(write, wrap, wrapped):
    class Constant(nn.Cell):
        def __init__(self):
            super().__init__()
            self.here = nn.Dense(8, 8)
            self.ones = nn.Dense(8, 8, weight_init="ones", bias_init="ones")
            self.drawn = nn.Dense(64, 64, weight_init="xavier_uniform")

    path = write(weights_of(nn.CellList([nn.Dense(8, 8)])))
    with lm.empty(ms.bfloat16):
        net = Constant()
        net = wrap(net, 1) if wrapped else net
    lm.load_into(net, path, zero3=(1, WORLD), rename={r"^0\.": "here."})
    assert [param.shape for param in net.get_parameters()] == [(2, 8), (2,), (2, 8), (2,), (16, 64), (16,)]
    assert not any(param.has_init for param in net.get_parameters())
    assert (values(net.ones.weight) == 1).all() and (values(net.ones.bias) == 1).all()
    # Drawn for the whole weight: sqrt(6 / 128) is its bound, and that of the part alone 0.27.
    assert 0.2 < np.abs(values(net.drawn.weight)).max() < 0.218


def test_mismatched_parts(write, wrap):
    weights = weights_of(Large())
    weights["fc.weight"] = weights["fc.weight"][:8]
    net = wrap(Large(), 0)
    with pytest.raises(loadstone.MismatchError) as caught:
        lm.load_into(net, write(weights), zero3=(0, WORLD))
    assert caught.value.info.mismatched_keys == [("fc.net.weight", (8, 16), (4, 16))]
    # A network for four ranks is not one for two.
    with pytest.raises(loadstone.MismatchError, match=r"proj\.net\.weight: .* \(16, 16\) .* is \(4, 16\)"):
        lm.load_into(net, write(weights), zero3=(0, 2))


def read_nbytes():
    """The bytes that this process has asked files for."""
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


@pytest.mark.parametrize("threads", [None, 1])
def test_no_other_byte_is_read(write, wrap, threads):
    weights = weights_of(Large(256))
    checkpoint = loadstone.open(write(weights))
    with lm.empty():
        net = wrap(Large(256), 3)
    told = []
    before = read_nbytes()
    info = lm.load_into(
        net,
        checkpoint,
        zero3=(3, WORLD),
        strict=True,
        io="read",
        threads=threads,
        progress=lambda *args: told.append(args),
    )
    n_read = read_nbytes() - before
    expected = sum(values(param).nbytes for param in net.get_parameters())
    assert expected <= n_read < expected + 16384
    assert sum(array.nbytes for array in weights.values()) > expected + 1000000
    report = info.report
    assert (report.read_nbytes, report.n_tensors) == (expected, len(weights))
    assert (
        report.n_threads >= 1 and report.unexpected == () and "zero3: parts of 17 tensors in " in str(report)
    )
    assert all(total == expected for _, total, _ in told)
    assert told[-1][0] == expected and [done for done, _, _ in told] == sorted(done for done, _, _ in told)


def test_a_report_of_parts_alone(write, wrap):
    dense = nn.CellList([nn.Dense(8, 8)])
    path = write(weights_of(dense))
    with lm.empty(ms.float16):
        net = wrap(nn.CellList([nn.Dense(8, 8)]), 0)
    report = lm.load_into(net, path, zero3=(0, WORLD), strict=True).report
    assert (report.n_tensors, report.read_nbytes, report.written_nbytes) == (2, 72, 36)


def test_progress_may_stop_it(write, wrap):
    def stop(done, total, seconds):
        if done == total:
            raise KeyboardInterrupt

    net = wrap(Large(), 0)
    before = {name: values(param).copy() for name, param in params_of(net).items()}
    path = write(weights_of(Large()))
    with pytest.raises(KeyboardInterrupt):
        lm.load_into(net, path, zero3=(0, WORLD), progress=stop)
    for name, param in params_of(net).items():
        np.testing.assert_array_equal(values(param), before[name])


def test_arguments(write):
    path = write(random_weights())
    with pytest.raises(loadstone.ArgumentError, match="below the number of ranks, found 4 of 4"):
        lm.load_into(Net(), path, zero3=(4, 4))
    for io in ("map", "uring", "direct"):
        with pytest.raises(loadstone.ArgumentError) as caught:
            lm.load_into(Net(), path, zero3=(0, 4), io=io)
        assert str(caught.value) == f"io: expected auto or read, as zero3 reads parts, found '{io}'"
