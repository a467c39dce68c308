"""What those who check types see of the package."""

import os
import re
import subprocess
import sys
from pathlib import Path

import loadstone
import pytest

pytest.importorskip("mypy")

CODE = """\
import loadstone

checkpoint = loadstone.open("model.safetensors")
weights = loadstone.load(checkpoint)
network = weights.network
tensor = weights["a"]

reveal_type(checkpoint["a"])  # loadstone._core.CheckpointTensor
reveal_type(checkpoint.get("a"))  # loadstone._core.CheckpointTensor | None
reveal_type(checkpoint.items())  # typing.ItemsView[str, loadstone._core.CheckpointTensor]
reveal_type(checkpoint.values())  # typing.ValuesView[loadstone._core.CheckpointTensor]
reveal_type(list(weights))  # list[str]
reveal_type(weights.get("a"))  # loadstone._core.Tensor | None
reveal_type(weights.items())  # typing.ItemsView[str, loadstone._core.Tensor]
reveal_type(weights.values())  # typing.ValuesView[loadstone._core.Tensor]
reveal_type(network.get("a"))  # loadstone._core.Parameter | None
reveal_type(network.values())  # typing.ValuesView[loadstone._core.Parameter]
reveal_type(weights.report.missing)  # tuple[str, ...]
reveal_type(memoryview(tensor))  # memoryview[int]
reveal_type(bytes(tensor))  # bytes
reveal_type(loadstone.Network("bfloat16"))  # loadstone._network.Network
reveal_type(loadstone.dtypes.bfloat16)  # loadstone.dtypes.DType
class Mine(loadstone.Network): ...
reveal_type(Mine("float16").half())  # use.Mine
reveal_type(Mine.from_checkpoint(checkpoint))  # use.Mine
loadstone.lod  # error: Module has no attribute "lod"
"""


def environment():
    """mypy looks into the interpreter's own packages by itself, and refuses to be told of them."""
    where = Path(loadstone.__file__).parents[1]
    return dict(os.environ) if where.name == "site-packages" else {**os.environ, "MYPYPATH": str(where)}


def test_types_are_known(tmp_path):
    path = tmp_path / "use.py"
    path.write_text(CODE)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--config-file",
            "",
            "--cache-dir",
            str(tmp_path / "cache"),
            str(path),
        ],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = {}
    for number, text in re.findall(r"^use\.py:(\d+): (.*)$", done.stdout, flags=re.MULTILINE):
        text = re.sub(r'^note: Revealed type is "(.*)"$', r"\1", text)
        found[int(number)] = re.sub(r";.*|  \[.*", "", text.replace("builtins.", ""))
    lines = enumerate(CODE.splitlines(), 1)
    expected = {number: line.split("  # ")[1] for number, line in lines if "  # " in line}
    assert found == expected, done.stdout + done.stderr
