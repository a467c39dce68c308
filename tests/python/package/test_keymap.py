"""Key maps: names and shapes on their way from a checkpoint to a network."""

import re

import loadstone
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from support import torch_bytes

NAME = st.text("ab.01_é", min_size=1, max_size=8)
TENSORS = st.dictionaries(
    NAME,
    st.tuples(st.lists(st.integers(0, 3), max_size=3), st.sampled_from(["float32", "bfloat16", "int64"])),
    max_size=8,
)


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.safetensors"
    save_file(
        {"model.a": torch.arange(64.0).reshape(8, 8), "model.b": torch.ones(3), "step": torch.tensor(7)}, path
    )
    return path


def test_names_of_weights_come_from_the_key_map(small):
    rules = [{"prefix": "model.", "to": ""}, {"exact": "step", "drop": True}]
    weights = loadstone.load(small, key_map=rules, dtype="bfloat16")
    assert {name: str(tensor.dtype) for name, tensor in weights.items()} == {"a": "bfloat16", "b": "bfloat16"}
    assert weights["a"].numpy()[7, 7] == 63
    assert weights.report.unexpected == ()
    same = loadstone.load(small, key_map=loadstone.KeyMap(rules), names="b")
    assert list(same) == ["b"]
    array = np.zeros((4, 16))
    loadstone.load(
        small, key_map=[*rules, {"exact": "model.a", "to": "w", "reshape": [4, -1]}], out={"w": array}
    )
    assert array[3, 15] == 63


def test_what_key_maps_look_like(tmp_path):
    assert repr(loadstone.KeyMap()) == "<loadstone.KeyMap: 0 rules>"
    assert repr(loadstone.KeyMap([{"prefix": "a", "to": ""}])) == "<loadstone.KeyMap: 1 rule>"
    path = tmp_path / "keymap.json"
    path.write_text('{"rules": []}')
    assert repr(loadstone.KeyMap.from_file(path)) == f"<loadstone.KeyMap: {str(path)!r}>"


def test_a_network_of_a_checkpoint_and_a_key_map(small):
    network = loadstone.Network.from_checkpoint(
        loadstone.open(small), "float16", key_map=[{"exact": "step", "to": "n", "add_dim": 0}]
    )
    assert {name: (str(p.dtype), p.shape) for name, p in network.items()} == {
        "model.a": ("float16", (8, 8)),
        "model.b": ("float16", (3,)),
        "n": ("int64", (1,)),
    }


@pytest.mark.parametrize(
    ("rules", "error", "message"),
    [
        (
            [{"regex": "^model.*", "to": "x"}],
            KeyError,
            "b: leads to parameter x, and so does tensor model.a",
        ),
        (
            [{"exact": "model.b", "reshape": [2]}],
            loadstone.MismatchError,
            r"b: expected a shape that the key map",
        ),
        ([{"regex": "("}], loadstone.MalformedError, "missing closing parenthesis, at byte 1 of the pattern"),
        ([{"prefix": "a", "too": "b"}], loadstone.MalformedError, "expected one of exact, prefix, regex"),
        ([7], loadstone.MalformedError, "KeyMap: rules"),
        (
            "keymap.json",
            TypeError,
            r"^KeyMap: expected rules, found 'keymap.json'; KeyMap.from_file\(\) reads a file$",
        ),
        ({"rules": []}, TypeError, r"^KeyMap: expected a list of rules, found \{'rules': \[\]\}$"),
        (7, TypeError, "^KeyMap: expected a list of rules, found 7$"),
    ],
)
def test_rules_that_do_not_work(small, rules, error, message):
    with pytest.raises(error, match=message):
        loadstone.load(small, key_map=rules)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tensors=TENSORS,
    prefix=st.text("ab.", max_size=2),
    to=st.text("xé.$", max_size=3),
    drop=st.sampled_from(["", "1", "é"]),
)
def test_key_maps_against_python(tmp_path, tensors, prefix, to, drop):
    path = tmp_path / "random.safetensors"
    path.unlink(missing_ok=True)
    values = {n: (torch.randn(shape) * 9).to(getattr(torch, dtype)) for n, (shape, dtype) in tensors.items()}
    save_file(values, path)
    rules = [{"prefix": prefix, "to": to}]
    if drop:
        rules.append({"regex": re.escape(drop), "drop": True})
    expected = {}
    for name in values:
        new = to + name[len(prefix) :] if name.startswith(prefix) else name
        if not drop or drop not in new:
            expected.setdefault(new, []).append(values[name])
    if any(len(sources) > 1 for sources in expected.values()):
        with pytest.raises(loadstone.NameNotFoundError):
            loadstone.load(path, key_map=rules)
        return
    weights = loadstone.load(path, key_map=rules)
    assert set(weights) == set(expected)
    for name, (source,) in expected.items():
        assert bytes(weights[name].raw) == torch_bytes(source)
        assert weights[name].shape == tuple(source.shape)
