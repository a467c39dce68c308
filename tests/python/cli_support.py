"""Checkpoints for the tests of the command line, and what independent code says about them."""

import json
import struct
from pathlib import Path

import numpy as np
import torch
import xxhash
from safetensors.torch import save_file

TORCH_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
FLOATS = [name for name in TORCH_DTYPES if name.startswith(("F", "BF"))]

T5_CONFIG = {
    "architectures": ["T5EncoderModel"],
    "model_type": "t5",
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "vocab_size": 100,
}


def random_tensor(shape, dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Values of many sizes. None is NaN or too large for float8, about which versions of torch differ."""
    generator = torch.Generator().manual_seed(seed)
    if not dtype.is_floating_point:
        return torch.randint(0, 2, shape, generator=generator).to(dtype)
    exponents = torch.randint(-12, 6, shape, generator=generator)
    return (torch.randn(shape, generator=generator) * 2.0**exponents).to(dtype)


def mixed_tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """One tensor of each dtype, and some odd shapes and names."""
    tensors = {
        f"block.{i}.{name.lower()}": random_tensor((5, 3 + i), dtype, seed + i)
        for i, (name, dtype) in enumerate(TORCH_DTYPES.items())
    }
    tensors["scalar"] = random_tensor((), torch.float32, seed)
    tensors["empty"] = torch.zeros(0, 7)
    tensors["naïve.重み.🙂"] = random_tensor((2, 2), torch.bfloat16, seed)
    return tensors


def raw_bytes(tensor: torch.Tensor) -> bytes:
    flat = tensor.contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def digest(tensor: torch.Tensor) -> str:
    return xxhash.xxh3_128_hexdigest(raw_bytes(tensor))


def digests(tensors: dict[str, torch.Tensor], dtype: torch.dtype | None = None) -> dict[str, str]:
    """Of the tensors, or of their conversion by torch."""
    return {
        name: digest(t.to(dtype) if dtype and t.is_floating_point() else t) for name, t in tensors.items()
    }


def write_raw(path: Path, header: dict | bytes, data: bytes = b"") -> Path:
    """A safetensors file, right or wrong, from its parts."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def write_many(path: Path, n: int) -> Path:
    """A file of n tensors of four bytes each."""
    header = {
        f"layers.{i // 100}.experts.{i % 100}.w": {
            "dtype": "BF16",
            "shape": [2],
            "data_offsets": [4 * i, 4 * i + 4],
        }
        for i in range(n)
    }
    return write_raw(path, header, np.arange(n, dtype=np.uint32).tobytes())


def write_t5(directory: Path, dtype: torch.dtype = torch.bfloat16, **changes) -> dict[str, torch.Tensor]:
    """A small T5 encoder as transformers saves it; its parameters by name, ties included."""
    import transformers

    torch.manual_seed(0)
    config = transformers.T5Config(**{k: v for k, v in T5_CONFIG.items() if k not in {"architectures"}})
    model = transformers.T5EncoderModel(config).to(dtype)
    model.save_pretrained(directory)
    if changes:
        path = directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return dict(model.named_parameters(remove_duplicate=False))


def write_pipeline(directory: Path) -> dict[str, dict[str, torch.Tensor]]:
    """A pipeline of a T5 encoder and two components of no known class, one of them in shards."""
    directory.mkdir()
    index = {
        "_class_name": "Pipeline",
        "text_encoder": ["transformers", "T5EncoderModel"],
        "transformer": ["diffusers", "Transformer"],
        "vae": ["diffusers", "Autoencoder"],
        "scheduler": ["diffusers", "Scheduler"],
    }
    (directory / "model_index.json").write_text(json.dumps(index))
    parts = {"text_encoder": write_t5(directory / "text_encoder")}
    (directory / "scheduler").mkdir()
    (directory / "scheduler" / "scheduler_config.json").write_text("{}")

    parts["transformer"] = {f"blocks.{i}.w": random_tensor((4, 3), torch.bfloat16, i) for i in range(6)}
    write_shards(directory / "transformer", "diffusion_pytorch_model", parts["transformer"], 2)

    parts["vae"] = {"conv.weight": random_tensor((2, 3, 3), torch.float32, 1)}
    (directory / "vae").mkdir()
    save_file(parts["vae"], directory / "vae/diffusion_pytorch_model.safetensors", {"made": "by a test"})
    return parts


def write_shards(directory: Path, stem: str, tensors: dict[str, torch.Tensor], n: int) -> None:
    directory.mkdir()
    weight_map = {}
    for i in range(n):
        name = f"{stem}-{i + 1:05}-of-{n:05}.safetensors"
        shard = {key: tensors[key] for key in sorted(tensors)[i::n]}
        save_file(shard, directory / name, {"format": "pt"})
        weight_map |= dict.fromkeys(shard, name)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (directory / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
