"""The README's code runs as printed: its shell blocks in one session, in order, with its C program beside."""

import os
import re
import shutil
import subprocess

import pytest
import torch
from conftest import ROOT
from models import write_pipeline
from safetensors.torch import load_file, save_file

README = (ROOT / "README.md").read_text()


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A directory with the files that the README names."""
    path = tmp_path_factory.mktemp("readme")
    write_pipeline(path / "pipeline")
    weights = load_file(path / "pipeline" / "transformer" / "diffusion_pytorch_model.safetensors")
    save_file({f"model.{name}": weight for name, weight in weights.items()}, path / "exported.safetensors")
    torch.manual_seed(5)
    save_file(
        {"encoder.norm.weight": torch.randn(16), "encoder.fc.weight": torch.randn(16, 16)},
        path / "model.safetensors",
        metadata={"format": "pt"},
    )
    programs = code_blocks("c")
    assert len(programs) == 1
    (path / "readme.c").write_text(programs[0])
    return path


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pkg-config"), reason="needs pkg-config")
def test_shell_blocks_run_as_printed(directory, build_dir):
    blocks = code_blocks("sh")
    assert len(blocks) >= 5
    environment = os.environ | {
        "PATH": f"{build_dir}:{os.environ['PATH']}",
        # As installed, but where it was built; tests/install/ tries the real thing.
        "PKG_CONFIG_PATH": str(build_dir / "meson-uninstalled"),
        "C_INCLUDE_PATH": str(ROOT / "include"),
        "LD_LIBRARY_PATH": str(build_dir),
    }
    script = "set -euo pipefail\nset -x\n" + "".join(blocks)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "transformer_blocks.0.attn1.to_q.weight is BF16 at 0x" in done.stdout
