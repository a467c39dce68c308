"""What the tests of the package share: dtypes as torch has them, bytes of tensors, and files."""

import torch
from loadstone import dtypes
from safetensors.torch import save_file

TORCH = {
    dtype.name: getattr(torch, dtype.name)
    for dtype in dtypes.all
    if dtype.bits % 8 == 0 and dtype.name != "float8_e8m0fnu" and hasattr(torch, dtype.name)
}
SAVED = [name for name in TORCH if not name.endswith("fnuz")]  # what safetensors' torch side writes
FLOATS = [dtype for dtype in dtypes.all if dtype.is_float]


def torch_bytes(tensor: torch.Tensor) -> bytes:
    """The elements of a tensor, row by row."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def save_every(path) -> None:
    """A file with a tensor of every dtype that torch has, of four dimensions, of one element, and of none."""
    torch.manual_seed(1)
    tensors = {name: (torch.randn(3, 4, 5, 6) * 50).to(TORCH[name]) for name in SAVED}
    tensors |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "größe ✓": torch.arange(7)}
    save_file(tensors, path, metadata={"format": "pt", "key": "välue"})


def save_small(path) -> None:
    """A file with two tensors, a matrix and a vector."""
    save_file({"a": torch.arange(64.0).reshape(8, 8), "b": torch.ones(300, dtype=torch.bfloat16)}, path)
