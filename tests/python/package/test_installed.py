"""The package with nothing beside it but Python: what every environment has, the emptiest wheel's, too."""

import os
import re
import subprocess
import sys
import sysconfig
from importlib import metadata
from io import StringIO
from pathlib import Path

import loadstone
import pytest
from loadstone import dtypes
from plain import write_every_kind

FOLDER = Path(loadstone.__file__).parent
installed_only = pytest.mark.skipif("LDS_INSTALLED" not in os.environ, reason="what a wheel is asked")


def run(*command, **variables):
    """Run without what this process has in its environment, but for what sanitizers need."""
    kept = {name: value for name, value in os.environ.items() if name in ("LD_PRELOAD", "ASAN_OPTIONS")}
    environment = {"PYTHONPATH": str(FOLDER.parent), "PATH": os.defpath, **kept, **variables}
    return subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    write_every_kind(path)
    return path


def test_values(tmp_path):
    path = tmp_path / "model.safetensors"
    floats = write_every_kind(path)
    checkpoint = loadstone.open(path)
    assert list(checkpoint) == ["block.weight", "block.bias", "größe", "empty", "bytes"]
    assert memoryview(checkpoint["block.weight"][1:3, ::2]).tolist() == [
        [row[0], row[2], row[4]] for row in (floats["block.weight"][6:12], floats["block.weight"][12:18])
    ]
    for io in ("map", "read"):
        weights = loadstone.load(path, io=io)
        assert weights.report.n_tensors == 5
        flat = [value for row in memoryview(weights["block.weight"]).tolist() for value in row]
        assert flat == floats["block.weight"]
        assert memoryview(weights["größe"]).tolist() == floats["größe"][0]
        assert bytes(weights["bytes"].raw) == bytes(range(7))
        assert weights["empty"].shape == (0, 3)
    wide = loadstone.load(path, dtype="float64")
    assert memoryview(wide["block.bias"]).tolist() == floats["block.bias"]
    assert wide["block.bias"].dtype is dtypes.float64
    mine = bytearray(24)
    loadstone.load(path, out={"block.bias": memoryview(mine).cast("B").cast("f")})
    assert memoryview(mine).cast("f").tolist() == floats["block.bias"]


def test_everything_else(path):
    network = loadstone.Network("bfloat16")
    with network.scope("block"):
        network.add("weight", (4, 6))
        network.add("bias", (6,), "float32")
        network.add("scale", (6,), init="ones")
    report = network.load_into(path, strict=False)
    assert report.missing == ("block.scale",)
    assert "block.scale" in str(report)
    network.float()
    assert memoryview(network["block.scale"].tensor).tolist() == [1.0] * 6
    mapped = loadstone.load(
        path,
        network=loadstone.Network.from_checkpoint(loadstone.open(path)),
        key_map=[{"regex": "", "to": ""}],
    )
    assert "5 tensors" in repr(loadstone.open(path))
    assert "<table>" in mapped._repr_html_()
    with pytest.raises(loadstone.NotFoundError):
        loadstone.open(path.with_name("nothing.safetensors"))
    mapped["block.weight"].__dlpack__()


def test_what_is_said_of_bad_indices(path):
    tensor = loadstone.open(path)["block.weight"]
    with pytest.raises(IndexError, match=r"^expected at most 2 indices, found 3$"):
        tensor[0, 0, 0]
    with pytest.raises(IndexError, match=r"^expected one ellipsis, found 2$"):
        tensor[..., ...]
    with pytest.raises(IndexError, match=r"^index 4 is out of range for dimension 0 of 4 elements$"):
        tensor[4]


def test_nothing_else_is_imported(path):
    """-S: no site-packages, so no NumPy either."""
    code = f"""
import sys
sys.path.insert(0, {str(FOLDER.parent)!r})
sys.modules["numpy"] = sys.modules["ml_dtypes"] = sys.modules["tqdm"] = None
import loadstone
weights = loadstone.load({str(path)!r}, dtype="bfloat16", progress=True)
print(bytes(weights["block.bias"].raw).hex())
try:
    weights["block.bias"].numpy()
except ImportError as error:
    print(error)
"""
    done = run(sys.executable, "-I", "-S", "-c", code)
    assert done.returncode == 0, done.stderr
    values, error = done.stdout.splitlines()
    assert values == "0080" + "80bf" + "00c0" + "40c0" + "80c0" + "a0c0"
    assert "numpy" in error


class Terminal(StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal, StringIO])
def test_the_plain_bar(path, monkeypatch, stream):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "stderr", stream())
    loadstone.load(path, io="map", lazy=True, progress=True)
    assert sys.stderr.getvalue() == ""
    loadstone.load(path, io="read", progress=True)
    line = rf"\r\[{'#' * 30}\] 0\.00 of 0\.00 GB, \d+\.\d s"
    shown = sys.stderr.getvalue()
    assert re.fullmatch(rf"(\r[^\r\n]*)*{line}\n", shown) if stream is Terminal else not shown


def test_the_command(path):
    done = run(sys.executable, "-m", "loadstone", "inspect", path)
    assert done.returncode == 0, done.stderr
    assert "block.weight" in done.stdout
    assert run(sys.executable, "-m", "loadstone", "--version").stdout.split()[-1] == loadstone.__version__
    missing = run(sys.executable, "-m", "loadstone", "inspect", path.with_name("nothing"))
    assert missing.returncode not in (0, 2)
    assert "nothing" in missing.stderr


def test_type_information_is_there():
    assert (FOLDER / "py.typed").exists()
    assert (FOLDER / "_core.pyi").exists()


@installed_only
def test_what_the_wheel_says_of_itself():
    about = metadata.metadata("loadstone")
    assert about["Version"] == loadstone.__version__
    assert about["License-Expression"] == "Apache-2.0"
    assert metadata.requires("loadstone") is None
    names = {file.name for file in metadata.files("loadstone")}
    assert {"LICENSE", "THIRD-PARTY", "py.typed", "_command"} <= names
    extension = f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    assert {n for n in names if n.endswith(".so")} == {extension}


@installed_only
def test_the_script(path):
    script = Path(sysconfig.get_path("scripts")) / "loadstone"
    done = run(script, "inspect", path)
    assert done.returncode == 0, done.stderr
    assert "block.weight" in done.stdout
