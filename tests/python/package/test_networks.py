"""Networks: built by hand, from a path or a manifest, and their initial values."""

import gc
import json
import pickle
import weakref

import loadstone
import numpy as np
import pytest
import torch
from loadstone import dtypes


def test_a_network_built_by_hand(small):
    network = loadstone.Network("bfloat16")
    with network.scope("model"), network.scope("layer"):
        network.add("a", (8, 8))
        with network.default_dtype("float32"):
            network.add("scale", [4], init="constant", a=2.0)
        network.add("b", [300])
    network.tie("head", "model.layer.a")
    assert list(network) == ["model.layer.a", "model.layer.scale", "model.layer.b", "head"]
    assert network["head"].tied_to == "model.layer.a"
    assert network["model.layer.scale"].init["kind"] == "constant"
    with pytest.raises(ValueError, match="the network is complete"):
        network.add("late", [1])
    with pytest.raises(loadstone.MismatchError) as caught:
        network.load_into(small, key_map=[{"prefix": "", "to": "model.layer."}])
    assert caught.value.report.missing == ("model.layer.scale",)
    assert pickle.loads(pickle.dumps(caught.value)).report.missing == ("model.layer.scale",)
    report = network.load_into(small, key_map=[{"prefix": "", "to": "model.layer."}], strict=False)
    assert report.initialised == ("model.layer.scale",)
    assert report.tied == {"head": "model.layer.a"}
    assert json.loads(json.dumps(report.to_dict()))["missing"] == ["model.layer.scale"]
    assert str(report).strip()
    assert pickle.loads(pickle.dumps(report)).to_dict() == report.to_dict()
    parameter = network["model.layer.a"]
    assert (parameter.dtype, parameter.shape, parameter.ndim) == (dtypes.bfloat16, (8, 8), 2)
    assert network["model.layer.scale"].init == {"kind": "constant", "a": 2.0, "b": 0.0, "lo": 0.0, "hi": 0.0}
    assert parameter.data_ptr == network["head"].data_ptr
    before = parameter.tensor
    parameter.set_dtype("float32")
    assert before.dtype is dtypes.bfloat16
    assert torch.equal(torch.from_dlpack(parameter.tensor), torch.from_dlpack(before).float())
    assert np.all(network.tensor("model.layer.scale").numpy() == 2)
    network.half()
    assert {p.dtype for p in network.values()} == {dtypes.float16}
    assert network.float()["head"].dtype is dtypes.float32
    assert "4 parameters" in repr(network)


def test_showing_a_network_does_not_complete_it():
    network = loadstone.Network()
    network.add("a", [2])
    assert repr(network) == "<loadstone.Network: being built>"
    assert network._repr_html_() == "<p>loadstone.Network: being built</p>"
    assert network.architecture is None
    assert dir(network)
    network.add("b", [2])
    assert len(network) == 2
    assert repr(network) == "<loadstone.Network: 2 parameters>"
    assert network._repr_html_().startswith("<p>loadstone.Network: 2 parameters</p><table>")


def test_scopes_begin_with_their_with_statement():
    network = loadstone.Network()
    scope, wide = network.scope("a"), network.default_dtype("float64")
    network.add("x", [1])
    with scope, wide:
        network.add("y", [1])
        with scope:
            network.add("y", [1])
    with scope:
        network.add("z", [1])
    assert [(name, str(p.dtype)) for name, p in network.items()] == [
        ("x", "float32"),
        ("a.y", "float64"),
        ("a.a.y", "float64"),
        ("a.z", "float32"),
    ]
    with pytest.raises(TypeError, match="scope: expected a str, found 3"):
        loadstone.Network().scope(3)
    message = "expected a dtype, found 'float7'; loadstone.dtypes.all lists them"
    with pytest.raises(ValueError, match=message):
        loadstone.Network().default_dtype("float7")


def test_a_network_that_has_its_own_parameters_is_freed():
    class Mine(loadstone.Network):
        def __init__(self):
            self.add("a", [2])
            self.weight = self["a"]

    network = weakref.ref(Mine())
    gc.collect()
    assert network() is None


def test_errors_while_building():
    network = loadstone.Network()
    network.add("a", [2])
    with pytest.raises(loadstone.NameNotFoundError):
        network.add("a", [2])
    for init in ("nonsense", ["ones"]):
        with pytest.raises(loadstone.ArgumentError) as caught:
            loadstone.Network().add("a", [2], init=init)
        assert str(caught.value).startswith("init: expected one of zeros, ones, constant, normal, ")
        assert str(caught.value).endswith(f", kaiming_normal, found {init!r}")
    with pytest.raises(loadstone.ArgumentError, match=r"^shape: expected 0 to \d+, found -2$"):
        loadstone.Network().add("a", [-2])
    with pytest.raises(TypeError):
        loadstone.Network().add("a", [2.5])


def test_a_shape_that_changes_while_it_is_looked_at():
    class Extent:
        def __index__(self):
            shape.clear()
            return 2

    shape = [Extent(), *[1] * 50]
    network = loadstone.Network()
    network.add("a", shape)
    assert network["a"].shape == (2, *[1] * 50)
    with pytest.raises(TypeError, match="expected a shape: a sequence of integers, found 7"):
        loadstone.Network().add("a", 7)


def test_networks_of_a_path(small):
    assert list(loadstone.Network.from_checkpoint(str(small))) == ["a", "b"]
    assert list(loadstone.Network.from_checkpoint(loadstone.open(small))) == ["a", "b"]
    with pytest.raises(loadstone.NotFoundError):
        loadstone.Network.from_checkpoint(small.with_name("nothing"))


def test_initial_values_depend_on_the_seed():
    def make(seed):
        network = loadstone.Network()
        network.add("w", [100, 10], init="normal", b=1.0)
        network.init_missing(seed)
        return network.tensor("w").numpy()

    assert np.array_equal(make(1), make(1))
    assert not np.array_equal(make(1), make(2))


def test_network_from_manifest_and_key_map_from_file(small, tmp_path):
    manifest, key_map = tmp_path / "network.json", tmp_path / "keymap.json"
    manifest.write_text('[{"name": "x", "dtype": "F16", "shape": [8, 8]}]')
    key_map.write_text('{"rules": [{"exact": "a", "to": "x"}, {"exact": "b", "drop": true}]}')
    network = loadstone.Network.from_manifest(manifest)
    weights = loadstone.load(small, network=network, key_map=loadstone.KeyMap.from_file(key_map))
    assert weights["x"].dtype is dtypes.float16
    assert weights["x"].numpy()[7, 7] == 63
    with pytest.raises(loadstone.LoadstoneError):
        loadstone.KeyMap([{"regex": "("}])
