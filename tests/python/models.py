"""Small checkpoints of real classes, written by the frameworks themselves."""

import json
from pathlib import Path

import torch


def write_perceptron(path: Path, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """A file with the weights that examples/own_network.c describes; returns them."""
    from safetensors.torch import save_file

    torch.manual_seed(1)
    weights = {
        "hidden.weight": torch.randn(8, 4),
        "hidden.bias": torch.randn(8),
        "output.weight": torch.randn(2, 8),
        "output.bias": torch.randn(2),
    }
    weights = {name: weight.to(dtype) for name, weight in weights.items()}
    save_file(weights, path)
    return weights


def write_transformer(directory: Path) -> None:
    """A CogVideoX transformer of two narrow layers, in bfloat16."""
    from diffusers import CogVideoXTransformer3DModel

    torch.manual_seed(2)
    model = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=32,
        num_layers=2,
        sample_width=8,
        sample_height=8,
        sample_frames=5,
        use_rotary_positional_embeddings=True,
    )
    model.to(torch.bfloat16).save_pretrained(directory)


def write_autoencoder(directory: Path) -> None:
    from diffusers import AutoencoderKLCogVideoX

    torch.manual_seed(3)
    blocks = 4
    model = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * blocks,
        up_block_types=("CogVideoXUpBlock3D",) * blocks,
        block_out_channels=(8,) * blocks,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )
    model.to(torch.bfloat16).save_pretrained(directory)


def write_text_encoder(directory: Path) -> None:
    """Sharded, as large ones are."""
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(4)
    config = T5Config(
        vocab_size=64, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
    )
    T5EncoderModel(config).to(torch.bfloat16).save_pretrained(directory, max_shard_size="20KB")


def write_pipeline(directory: Path) -> None:
    """A pipeline directory with three components that have weights and one that has none."""
    write_transformer(directory / "transformer")
    write_autoencoder(directory / "vae")
    write_text_encoder(directory / "text_encoder")
    (directory / "scheduler").mkdir()
    (directory / "scheduler" / "scheduler_config.json").write_text("{}")
    index = {
        "_class_name": "CogVideoXPipeline",
        "_diffusers_version": "0.39.0",
        "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5Tokenizer"],
        "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLCogVideoX"],
    }
    (directory / "model_index.json").write_text(json.dumps(index, indent=2))
