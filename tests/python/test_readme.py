"""
The README's code runs as printed: its shell blocks in one session, in order, with its C program beside; and
so does what it says of installing.
"""

import os
import re
import shutil
import subprocess

import pytest
import torch
from models import write_pipeline
from safetensors.torch import load_file, save_file
from tree import ROOT

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


def tree_without_builds(path):
    """A directory in which the tree can be built without touching the tree."""
    path.mkdir()
    for entry in ROOT.iterdir():
        if not entry.name.startswith(("build", ".")):
            (path / entry.name).symlink_to(entry)
    return path


@pytest.mark.slow
def test_installing_works_as_printed(tmp_path):
    """But for where it ends up: DESTDIR goes before /usr/local, and ldconfig only says that it was called."""
    (script,) = [block for block in code_blocks("console") if "meson install" in block]
    stage, programs = tmp_path / "stage", tmp_path / "programs"
    programs.mkdir()
    (programs / "ldconfig").write_text("#!/bin/sh\necho called > ../called\n")
    (programs / "ldconfig").chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", "set -e\n" + re.sub(r"^\$ ", "", script, flags=re.MULTILINE)],
        cwd=tree_without_builds(tmp_path / "tree"),
        env=os.environ | {"DESTDIR": str(stage), "PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "called").exists()
    prefix = stage / "usr/local"
    for name in (
        "include/loadstone.h",
        "lib/libloadstone.so",
        "lib/pkgconfig/loadstone.pc",
        "share/man/man1/loadstone.1",
        "share/bash-completion/completions/loadstone",
    ):
        assert (prefix / name).exists(), name
    environment = os.environ | {"LD_LIBRARY_PATH": str(prefix / "lib")}
    subprocess.run([prefix / "bin/loadstone", "--version"], env=environment, check=True)
