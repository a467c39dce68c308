"""load_into() and what stands on it, against arrays that NumPy and safetensors wrote."""

import json
from pathlib import Path

import loadstone
import mindspore as ms
import numpy as np
import pytest
from conftest import BFLOAT16, NAMES, Net, assert_loaded, params_of, random_weights, values
from mindspore import Parameter, Tensor, mint, nn
from safetensors.numpy import load_file, save_file

lm = loadstone.mindspore


@pytest.mark.parametrize("to", [ms.float32, ms.float16, ms.bfloat16], ids=str)
@pytest.mark.parametrize("stored", [np.dtype(np.float32), np.dtype(np.float16), BFLOAT16], ids=str)
def test_every_layer_in_every_dtype(write, stored, to):
    weights = random_weights(stored)
    path = write(weights)
    with lm.empty(to):
        net = Net()
    info = lm.load_into(net, path, dtype=to, strict=True)
    assert (info.missing_keys, info.unexpected_keys, info.mismatched_keys) == ([], [], [])
    assert_loaded(net, weights, dtype=to)


def test_parameters_stay_the_same_objects_in_their_places(write):
    with lm.empty():
        net = Net()
    before = {name: (param, param.name) for name, param in params_of(net).items()}
    lm.load_into(net, write(random_weights(np.float16)), dtype=ms.bfloat16)
    for name, (param, own_name) in before.items():
        assert params_of(net)[name] is param
        assert param.name == own_name
        assert not param.has_init and param.init_mode is None
    assert net.fc.weight is before["fc.weight"][0]
    assert net.fc.weight.requires_grad


def test_same_dtype_is_the_mapped_file(write):
    path = write(random_weights())
    with lm.empty():
        net = Net()
    info = lm.load_into(net, path, io="map")
    assert info.report.mapped_nbytes == sum(array.nbytes for array in random_weights().values())
    assert info.report.read_nbytes == 0
    if ms.__version__ == "2.7.0":
        return  # it copies at the first use
    address = lm.data_ptr(net.fc.weight)
    maps = Path("/proc/self/maps").read_text().splitlines()
    ranges = [line.split() for line in maps if str(path) in line]
    assert any(int(r[0].split("-")[0], 16) <= address < int(r[0].split("-")[1], 16) for r in ranges)
    assert all(r[1].startswith("rw-p") for r in ranges)


def test_training_changes_the_weights_and_not_the_file(write, indices):
    path = write(random_weights())
    before = path.read_bytes()
    with lm.empty():
        net = Net()
    lm.load_into(net, path)
    optimizer = nn.SGD(net.trainable_params(), learning_rate=1e-6)
    step = ms.value_and_grad(lambda x: net(x).square().mean(), None, optimizer.parameters)
    first, gradients = step(indices)
    optimizer(gradients)
    second, _ = step(indices)
    assert second < first
    assert not np.array_equal(values(net.fc.weight), random_weights()["fc.weight"])
    assert path.read_bytes() == before


def test_runs_as_if_loaded_by_mindspore(write, indices):
    weights = random_weights()
    with lm.empty():
        net = Net()
    lm.load_into(net, write(weights))
    other = Net()
    state = {
        ours: Parameter(Tensor(weights[name].reshape(params_of(other)[ours].shape)), name=ours)
        for name, (_, ours) in NAMES.items()
    }
    assert ms.load_param_into_net(other, state, strict_load=True) == ([], [])
    np.testing.assert_array_equal(net(indices).asnumpy(), other(indices).asnumpy())


def test_memory_lives_as_long_as_the_parameter(write):
    path = write(random_weights(np.float16))
    with lm.empty():
        net = Net()
    lm.load_into(net, path, dtype=ms.float32)
    param = net.fc.weight
    del net
    path.unlink()
    np.testing.assert_array_equal(values(param), random_weights(np.float16)["fc.weight"].astype(np.float32))


def test_what_does_not_fit_is_named(write):
    weights = random_weights()
    del weights["fc.bias"]
    weights["extra"] = np.zeros(3, np.float32)
    weights["proj.weight"] = np.zeros((8, 4), np.float32)
    path = write(weights)
    net = Net()
    before = {name: values(param) for name, param in params_of(net).items()}
    message = (
        "size mismatch for proj.weight: copying a param with shape (8, 4) from checkpoint, "
        "the shape in current model is (8, 8)."
    )
    with pytest.raises(loadstone.MismatchError) as caught:
        lm.load_into(net, path)
    assert str(caught.value) == f"checkpoint and Net do not fit:\n\t{message}"
    assert caught.value.info.error_msgs == [message]
    with pytest.raises(loadstone.MismatchError, match=r"missing: fc.bias\n\tunexpected: extra$"):
        lm.load_into(net, path, strict=True)
    for name, param in params_of(net).items():
        np.testing.assert_array_equal(values(param), before[name])

    info = lm.load_into(net, path, ignore_mismatched_sizes=True)
    assert info.missing_keys == ["fc.bias"]
    assert info.unexpected_keys == ["extra"]
    assert info.mismatched_keys == [("proj.weight", (8, 4), (8, 8))]
    assert info.error_msgs == []
    np.testing.assert_array_equal(values(net.fc.bias), before["fc.bias"])
    np.testing.assert_array_equal(values(net.fc.weight), weights["fc.weight"])


def test_missing_parameters_get_the_networks_own_values(write):
    class Initialised(nn.Cell):
        def __init__(self):
            super().__init__()
            self.here = nn.Dense(4, 4, weight_init="zeros")
            self.ones = nn.Dense(4, 4, weight_init="ones", bias_init="ones")
            self.normal = nn.Dense(64, 64, weight_init=ms.common.initializer.Normal(0.5, 3.0))
            self.own = Parameter(mint.ones(4) * 7, name="own")

    with lm.empty(ms.bfloat16):
        net = Initialised()
    info = lm.load_into(net, write({"here.weight": np.ones((4, 4), np.float32)}))
    assert "here.weight" not in info.missing_keys and len(info.missing_keys) == 6
    assert all(not param.has_init for param in net.get_parameters())
    assert values(net.ones.weight).tolist() == [[1] * 4] * 4
    assert values(net.ones.bias).tolist() == [1] * 4
    assert values(net.own).tolist() == [7] * 4
    assert abs(values(net.normal.weight).mean() - 3) < 0.1
    assert abs(values(net.normal.weight).std() - 0.5) < 0.1
    assert net.ones.weight.dtype == ms.bfloat16


def test_missing_parameters_may_be_left_to_mindspore(write):
    with lm.empty():
        net = Net()
    lm.load_into(net, write({"scale": np.ones(8, np.float32)}), init_missing=False)
    assert net.fc.weight.has_init
    assert lm.data_ptr(net.fc.weight) == 0


def test_tied_weights(write):
    class Tied(nn.Cell):
        def __init__(self):
            super().__init__()
            self.embed = mint.nn.Embedding(10, 8)
            self.head = mint.nn.Linear(8, 10, bias=False)
            self.head.weight = self.embed.weight

    one, other = random_weights(names={"a": ((10, 8), ""), "b": ((10, 8), "")}).values()
    for weights in ({"embed.weight": one}, {"head.weight": one}, {"embed.weight": one, "head.weight": other}):
        with lm.empty():
            net = Tied()
        info = lm.load_into(net, write(weights), strict=True)
        assert info.loaded.keys() == {"embed.weight"}
        assert net.head.weight is net.embed.weight
        np.testing.assert_array_equal(values(net.head.weight), one)


def test_weight_norm(write):
    class WeightNorm(nn.Cell):
        def __init__(self):
            super().__init__()
            self.weight_norm_cell = nn.Conv1d(8, 8, 3, has_bias=True)
            self.weight_g = Parameter(mint.ones((1, 1, 1, 3)), name="weight_g")
            self.weight_v = Parameter(mint.ones((8, 8, 1, 3)), name="weight_v")

    class Outer(nn.Cell):
        def __init__(self):
            super().__init__()
            self.conv = WeightNorm()

    shapes = {"g": (1, 1, 3), "v": (8, 8, 3), "bias": (8,)}
    drawn = random_weights(names={name: (shape, "") for name, shape in shapes.items()})
    for g, v in (
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ):
        with lm.empty():
            net = Outer()
        arrays = {f"conv.{g}": drawn["g"], f"conv.{v}": drawn["v"], "conv.bias": drawn["bias"]}
        info = lm.load_into(net, write(arrays))
        assert info.missing_keys == ["conv.weight_norm_cell.weight"]
        np.testing.assert_array_equal(values(net.conv.weight_g).reshape(1, 1, 3), drawn["g"])
        np.testing.assert_array_equal(values(net.conv.weight_v).reshape(8, 8, 3), drawn["v"])
        np.testing.assert_array_equal(values(net.conv.weight_norm_cell.bias), drawn["bias"])


def test_names_with_and_without_the_base_model(write):
    class Base(nn.Cell):
        base_model_prefix = "base"

        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm((8,))

    class WithHead(nn.Cell):
        base_model_prefix = "base"

        def __init__(self):
            super().__init__()
            self.base = Base()
            self.head = nn.Dense(8, 2)

    gamma = np.arange(8, dtype=np.float32)
    beta = -gamma
    base = {"norm.weight": gamma, "norm.bias": beta}
    for net, weights, unexpected in (
        (WithHead(), base, []),
        (
            Base(),
            {f"base.{name}": array for name, array in base.items()} | {"head.bias": beta},
            ["head.bias"],
        ),
    ):
        info = lm.load_into(net, write(weights))
        norm = net.base.norm if hasattr(net, "base") else net.norm
        assert info.unexpected_keys == unexpected
        np.testing.assert_array_equal(values(norm.gamma), gamma)
        np.testing.assert_array_equal(values(norm.beta), beta)


def test_names_that_the_network_has_are_its_own(write):
    weights = random_weights()
    net = Net()
    saved = {ours: weights[name].reshape(params_of(net)[ours].shape) for name, (_, ours) in NAMES.items()}
    lm.load_into(net, write(saved), strict=True)
    assert_loaded(net, weights)


def test_a_name_of_the_networks_own_comes_first(write):
    own, other = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)
    for names in (("fc.weight", "x.fc.weight"), ("a.fc.weight", "fc.weight"), ("x.fc.weight", "fc.weight")):
        net = nn.CellDict({"fc": nn.Dense(2, 2, has_bias=False), "norm": nn.LayerNorm((2,))})
        arrays = {name: own if name == "fc.weight" else other for name in names}
        arrays.update({"norm.weight": other[0], "norm.gamma": own[0], "norm.bias": own[0]})
        info = lm.load_into(net, write(arrays), prefix="x", rename={"^a": "x"})
        assert info.missing_keys == []
        assert sorted(info.unexpected_keys) == sorted({*names, "norm.weight"} - {"fc.weight"})
        assert info.loaded["fc.weight"] == "fc.weight" and info.loaded["norm.gamma"] == "norm.gamma"
        np.testing.assert_array_equal(values(net["fc"].weight), own)
        np.testing.assert_array_equal(values(net["norm"].gamma), own[0])


def test_names_that_the_class_ignores(write):
    class Ignoring(nn.Cell):
        _keys_to_ignore_on_load_missing = ("final_bias", r"\.bias$")
        _keys_to_ignore_on_load_unexpected = (r"^old\.",)

        def __init__(self):
            super().__init__()
            self.fc = nn.Dense(2, 2, bias_init="ones")
            self.final_bias = Parameter(mint.zeros((1, 2)), name="final_bias")

    weight = np.ones((2, 2), np.float32)
    with lm.empty():
        net = Ignoring()
    info = lm.load_into(net, write({"fc.weight": weight, "old.x": weight}), strict=True)
    assert (info.missing_keys, info.unexpected_keys, list(info.loaded)) == ([], [], ["fc.weight"])
    assert values(net.fc.bias).tolist() == [1, 1]
    with pytest.raises(loadstone.MismatchError, match=r"do not fit:\n\tunexpected: older\.x$"):
        lm.load_into(net, write({"fc.weight": weight, "older.x": weight}), strict=True)


def test_numbers_and_arrays_of_one_number(write):
    class Scale(nn.Cell):
        def __init__(self, *shape):
            super().__init__()
            self.scale = Parameter(Tensor(np.zeros(shape, np.float32)), name="scale")

    for stored, own in (((), (1,)), ((1,), ())):
        net = Scale(*own)
        lm.load_into(net, write({"scale": np.full(stored, 3, np.float32)}), strict=True)
        assert net.scale.shape == own and values(net.scale).item() == 3


def test_old_names(write):
    class Old(nn.Cell):
        def __init__(self):
            super().__init__()
            self.to_q = nn.Dense(4, 4, has_bias=False)
            self.LayerNorm = nn.LayerNorm((4,))

        def _fix_state_dict_keys_on_load(self, state_dict):
            if "query.weight" in state_dict:
                state_dict["to_q.weight"] = state_dict.pop("query.weight")

        @staticmethod
        def _fix_state_dict_key_on_load(key):
            return key.replace("LayerNorm.weigth", "LayerNorm.weight"), "weigth" in key

    weight = np.arange(16, dtype=np.float32).reshape(4, 4)
    arrays = {"old.query.weight": weight, "LayerNorm.weigth": weight[0], "LayerNorm.bias": weight[1]}
    path = write(arrays)
    net = Old()
    info = lm.load_into(net, path, rename={r"^old\.query": "to_q"}, strict=True)
    assert info.loaded["to_q.weight"] == "old.query.weight"
    info = lm.load_into(net, path, rename=lambda name: name.replace("old.query", "to_q"), strict=True)
    arrays["query.weight"] = arrays.pop("old.query.weight")
    info = lm.load_into(net, write(arrays), strict=True)
    assert info.loaded["to_q.weight"] == "query.weight"
    np.testing.assert_array_equal(values(net.to_q.weight), weight)
    np.testing.assert_array_equal(values(net.LayerNorm.gamma), weight[0])


def test_kept_in_float32(write):
    class Kept(nn.Cell):
        _keep_in_fp32_modules = ("wo",)
        _keep_in_fp32_modules_strict = ("strict",)

        def __init__(self):
            super().__init__()
            self.wi = nn.Dense(4, 4)
            self.wo = nn.Dense(4, 4)
            self.strict = nn.Dense(4, 4)

    path = write({f"{n}.weight": np.full((4, 4), 1 / 3, np.float32) for n in ("wi", "wo", "strict")})

    def dtypes(**options):
        with lm.empty():
            net = Kept()
        lm.load_into(net, path, **options)
        return [getattr(net, name).weight.dtype for name in ("wi", "wo", "strict")]

    assert dtypes(dtype=ms.float16) == [ms.float16, ms.float32, ms.float32]
    assert dtypes(dtype="bfloat16") == [ms.bfloat16, ms.bfloat16, ms.float32]
    assert dtypes(dtype=ms.float16, keep_in_fp32=()) == [ms.float16] * 3
    assert dtypes(dtype=ms.float16, keep_in_fp32=["wi"]) == [ms.float32, ms.float16, ms.float16]


def test_integers_and_floats(write):
    class Mixed(nn.Cell):
        def __init__(self):
            super().__init__()
            self.ids = Parameter(Tensor(np.zeros(4), ms.int32), name="ids", requires_grad=False)
            self.count = Parameter(Tensor(0, ms.int64), name="count", requires_grad=False)
            self.mask = Parameter(Tensor(np.zeros(4), ms.bool_), name="mask", requires_grad=False)
            self.scale = Parameter(Tensor(np.zeros(4), ms.float32), name="scale")

    net = Mixed()
    arrays = {
        "ids": np.arange(4),
        "count": np.array(7),
        "mask": np.array([True, False, True, False]),
        "scale": np.arange(4, dtype=np.int8),
    }
    lm.load_into(net, write(arrays), strict=True)
    for name, array in arrays.items():
        assert values(getattr(net, name)).tolist() == array.tolist()
    assert [net.ids.dtype, net.count.dtype, net.mask.dtype] == [ms.int32, ms.int64, ms.bool_]
    assert net.scale.dtype == ms.float32


def test_shards_variants_and_subfolders(write, tmp_path):
    weights = random_weights(np.float16)
    names = list(weights)
    shards = {"a-1.safetensors": names[::2], "a-2.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: weights[name] for name in part}, tmp_path / file)
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    write(random_weights(seed=2), "sub/model.fp16.safetensors")

    net = Net()
    lm.load_into(net, tmp_path, strict=True)
    assert_loaded(net, weights)
    lm.load_into(net, tmp_path, subfolder="sub", variant="fp16", strict=True)
    assert_loaded(net, random_weights(seed=2))
    lm.load_into(net, loadstone.open(tmp_path), strict=True)
    assert_loaded(net, weights)
    assert lm.load_checkpoint_and_dispatch(net, tmp_path, dtype=ms.bfloat16) is net
    assert_loaded(net, weights, dtype=ms.bfloat16)


def test_mindspore_checkpoints_are_refused(tmp_path):
    path = tmp_path / "net.ckpt"
    ms.save_checkpoint(Net(), str(path))
    message = f"{path}: expected a safetensors checkpoint, found MindSpore's .ckpt format, which is not read"
    with pytest.raises(loadstone.UnsupportedError) as caught:
        lm.load_into(Net(), path)
    assert str(caught.value).startswith(message)


def test_files(write, tmp_path):
    weights = random_weights(BFLOAT16) | {"ids": np.arange(5), "none": np.zeros((0, 3), np.float32)}
    loaded = lm.load_file(write(weights))
    assert loaded.keys() == weights.keys()
    for name, tensor in loaded.items():
        assert isinstance(tensor, Tensor)
        assert tensor.shape == weights[name].shape
        np.testing.assert_array_equal(values(tensor), weights[name].astype(np.float32))
    wide = lm.load_file(write(weights), ms.float32)
    assert {str(tensor.dtype) for tensor in wide.values()} == {"Float32", "Int64"}

    path = tmp_path / "saved.safetensors"
    lm.save_file(loaded, path, {"format": "np"})
    assert loadstone.open(path).metadata == {"format": "np"}
    for name, array in load_file(path).items():
        np.testing.assert_array_equal(array.astype(np.float32), weights[name].astype(np.float32))
    # Over the file that is mapped.
    lm.save_file(lm.load_file(path), path)
    assert loadstone.open(path).keys() == weights.keys()
    with pytest.raises(FileNotFoundError):
        lm.save_file(loaded, tmp_path / "nowhere" / "x.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "saved.safetensors"]


def test_errors_are_loadstones(tmp_path, write):
    net = Net()
    with pytest.raises(loadstone.NotFoundError):
        lm.load_into(net, tmp_path / "absent.safetensors")
    path = write(random_weights())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(loadstone.TruncatedError):
        lm.load_into(net, path)
    with pytest.raises(loadstone.ArgumentError, match="is open already"):
        lm.load_into(net, loadstone.open(write(random_weights())), subfolder="x")
