"""The Python of README.md and docs/python.md runs as printed, block after block."""

import inspect
import itertools
import re
import subprocess
import sys

import loadstone
import pytest
import torch
from safetensors.torch import save_file
from tree import ROOT


@pytest.mark.parametrize("document", ["README.md", "docs/python.md"])
def test_examples(document, tmp_path):
    save_file(
        {"encoder.norm.weight": torch.randn(16), "encoder.fc.weight": torch.randn(16, 16)},
        tmp_path / "model.safetensors",
    )
    text = (ROOT / document).read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    assert blocks
    path = str(ROOT / loadstone.__file__).rsplit("/", 2)[0]
    code = f"import sys\nsys.path.insert(0, {path!r})\n" + "".join(blocks)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr


def documented():
    """(name, text) of everything that help() shows of the package."""
    things = {"loadstone": loadstone, "dtypes": loadstone.dtypes, "DType": loadstone.dtypes.DType}
    things |= {name: getattr(loadstone, name) for name in loadstone.__all__}
    for name, thing in things.items():
        yield name, inspect.getdoc(thing)
        if inspect.isclass(thing) and not issubclass(thing, Exception):
            for base in [c for c in thing.__mro__ if c.__module__.startswith("loadstone")]:
                for member, value in vars(base).items():
                    is_ours = callable(value) or inspect.isdatadescriptor(value)
                    if is_ours and not member.startswith("_") and not inspect.ismemberdescriptor(value):
                        yield f"{name}.{member}", inspect.getdoc(getattr(thing, member))


@pytest.mark.parametrize(("name", "text"), documented())
def test_docstrings(name, text):
    """There is one, and its lines are full: the next line's first word would not have fitted."""
    assert text
    for line, following in itertools.pairwise(text.split("\n")):
        is_list = re.match(r"\s+|\w+(, \w+)*: |Args:", following) or line.startswith(" ") or "Args:" in line
        if line and following and not is_list:
            assert len(f"{line} {following.split()[0]}") > 80, f"{name}: {line!r}"


@pytest.mark.parametrize(
    "function",
    [
        loadstone.open,
        loadstone.load,
        loadstone.convert_dtype,
        loadstone.KeyMap,
        loadstone.KeyMap.from_file,
        loadstone.Network.add,
        loadstone.Network.tie,
        loadstone.Network.from_checkpoint,
        loadstone.Network.from_config,
        loadstone.Network.from_manifest,
        loadstone.Network.load_into,
        loadstone.Network.init_missing,
        loadstone.Network.tensor,
        loadstone.Network.to,
        loadstone.Parameter.set_dtype,
        loadstone.CheckpointTensor.read,
        loadstone.CheckpointTensor.numpy,
        loadstone.Tensor.numpy,
    ],
)
def test_docstrings_name_the_errors(function):
    assert "Raises " in function.__doc__


def test_attributes_in_slots_are_described():
    assert all(loadstone.Weights.__slots__[name] for name in ("network", "report"))
    for name in loadstone.dtypes.DType.__slots__:
        assert f".{name} " in loadstone.dtypes.DType.__doc__


def test_reports_are_described_whole(tmp_path):
    save_file({"a": torch.ones(3)}, tmp_path / "a.safetensors")
    report = loadstone.load(tmp_path / "a.safetensors").report
    for name in vars(report):
        assert re.search(rf"\b{name}\b", loadstone.Report.__doc__), name


def test_the_reference_is_whole(tmp_path):
    text = (ROOT / "docs/python.md").read_text().split("## Reference")[1]
    words = set(re.findall(r"`[^`]*`", text))
    words = set(re.findall(r"\w+", " ".join(words)))
    for function in (loadstone.open, loadstone.load, loadstone.Network.load_into, loadstone.Pool):
        assert set(inspect.signature(function).parameters) - {"self"} <= words
    members = {name.partition(".")[2] for name, _ in documented()}
    inherited = {"get", "items", "keys", "values"}
    assert members - inherited - words - {""} == set()
    assert set(loadstone.dtypes.DType.__slots__) <= words
    assert set(loadstone.__all__) - {"dtypes"} <= words
    save_file({"a": torch.ones(3)}, tmp_path / "a.safetensors")
    assert set(vars(loadstone.load(tmp_path / "a.safetensors").report)) <= words


@pytest.mark.parametrize(
    ("function", "documented_by"), [(loadstone.load, []), (loadstone.Network.load_into, [loadstone.load])]
)
def test_every_argument_is_described(function, documented_by):
    text = "".join(f.__doc__ for f in [function, *documented_by])
    for name in inspect.signature(function).parameters:
        assert name in ("self", "checkpoint") or f"        {name}: " in text, name


def test_both_ways_to_load_have_the_same_arguments():
    load, into = (
        {p.name: (p.kind, p.default, p.annotation) for p in inspect.signature(f).parameters.values()}
        for f in (loadstone.load, loadstone.Network.load_into)
    )
    assert load.keys() - into.keys() == {"path", "network"}
    assert into.keys() - load.keys() == {"self", "checkpoint", "init_missing", "seed"}
    shared = load.keys() & into.keys()
    assert {name: load[name] for name in shared} == {name: into[name] for name in shared}
