"""What the package is called and has in it: importing, its names, its dtypes, its command."""

import pickle

import loadstone
import pytest
import torch
from loadstone import dtypes
from plain import run
from support import TORCH


def test_import_takes_nothing_along():
    modules = {"numpy", "torch", "typing", "json", "inspect", "collections.abc"}
    done = run("-c", f"import sys; import loadstone; print({modules} & set(sys.modules))")
    assert done.stdout.strip() == "set()", done.stderr


def test_all_names_are_listed_and_nothing_else():
    done = run("-c", "import loadstone; print({n for n in dir(loadstone) if n[0] != '_'})")
    assert eval(done.stdout) == set(loadstone.__all__), done.stderr
    assert "__version__" in dir(loadstone)
    with pytest.raises(AttributeError, match="module 'loadstone' has no attribute 'lod'"):
        loadstone.lod  # noqa: B018


WITHOUT_NUMPY = """
import sys
sys.modules["numpy"] = None
from loadstone import *
import loadstone
print(all(hasattr(loadstone, name) for name in loadstone.__all__))
convert_dtype([1.0], "bfloat16")
"""


def test_all_names_are_there_without_numpy():
    done = run("-c", WITHOUT_NUMPY)
    assert done.stdout == "True\n", done.stderr
    assert done.stderr.splitlines()[-1].startswith(("ImportError", "ModuleNotFoundError"))


def test_the_command_line(small):
    done = run("-m", "loadstone", "inspect", small)
    assert done.returncode == 0, done.stderr
    assert "bf16" in done.stdout
    assert run("-m", "loadstone", "nonsense").returncode == 2


def test_dtypes_are_found_by_every_name():
    for dtype in dtypes.all:
        assert loadstone._core.dtype(dtype.name) is dtype
        assert loadstone._core.dtype(dtype.safetensors_name) is dtype
        assert getattr(dtypes, dtype.name) is dtype
        assert pickle.loads(pickle.dumps(dtype)) is dtype
        if dtype.bits % 8 == 0:
            assert loadstone._core.dtype(dtype.numpy) is dtype
    for name, dtype in TORCH.items():
        assert loadstone._core.dtype(dtype).name == name


def test_dtypes_equal_their_names():
    assert dtypes.bfloat16 == "bfloat16"
    assert dtypes.bfloat16 != "float16"
    assert dtypes.bfloat16 != dtypes.float16
    assert dtypes.bfloat16 != torch.bfloat16
    assert {dtypes.bfloat16: 1}["bfloat16"] == 1
    assert loadstone._core.dtype(float) is dtypes.float32


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("variant", lambda path, text: loadstone.open(path, variant=text)),
        ("revision", lambda path, text: loadstone.open(path, revision=text)),
        ("names", lambda path, text: loadstone.load(path, names=[text])),
        ("keep_in_fp32", lambda path, text: loadstone.load(path, keep_in_fp32=[text])),
        ("name", lambda path, text: loadstone.Network().add(text, [3])),
        ("name", lambda path, text: loadstone.Network().tie(text, "a")),
        ("target", lambda path, text: loadstone.Network().tie("a", text)),
        ("scope", lambda path, text: loadstone.Network().scope(text).__enter__()),
    ],
)
def test_texts_are_taken_whole(small, argument, call):
    with pytest.raises(TypeError, match=rf"^{argument}: expected a str, found 3$"):
        call(small, 3)
    with pytest.raises(ValueError, match=rf"^{argument}: expected a text without NUL, found 'a\\x00b'$"):
        call(small, "a\0b")
    with pytest.raises(UnicodeEncodeError):
        call(small, "\ud800")
