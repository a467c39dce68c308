"""The Python of README.md and docs/python.md runs as printed, block after block."""

import re
import subprocess
import sys

import loadstone
import pytest
import torch
from conftest import ROOT
from safetensors.torch import save_file


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
