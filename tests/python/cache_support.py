"""What the tests of the cache begin with: a model, a folder, and what is in it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

MIB = 1 << 20


def save_model(path: Path, n: int = 8, seed: int = 0) -> Path:
    generator = torch.Generator().manual_seed(seed)
    tensors = {f'w"{i}\n\\é': torch.randn(64, 65 + i, generator=generator).bfloat16() for i in range(n)}
    tensors |= {"count": torch.arange(5), "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3)}
    save_file(tensors, path)
    return path


@pytest.fixture
def model(tmp_path):
    return save_model(tmp_path / "model.safetensors")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def entries(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.safetensors"))
