"""Small models as their own frameworks save them: make_models.py OUT

Run by a Python that has torch, diffusers and transformers (tests/requirements.txt). Each architecture has the
directories OUT/NAME/DTYPE-whole and OUT/NAME/DTYPE-sharded. OUT/pipeline is a pipeline of one network,
OUT/cogvideox_pipeline one of three, without a tokenizer.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch

# The narrowest last: each is made from the one before.
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def diffusers_models():
    import diffusers

    yield (
        "cogvideox",
        diffusers.CogVideoXTransformer3DModel,
        {
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "in_channels": 4,
            "out_channels": 4,
            "time_embed_dim": 8,
            "text_embed_dim": 16,
            "num_layers": 2,
            "sample_width": 8,
            "sample_height": 8,
            "sample_frames": 9,
            "patch_size": 2,
            "max_text_seq_length": 8,
            "use_rotary_positional_embeddings": True,
        },
    )
    yield (
        "cogvideox_vae",
        diffusers.AutoencoderKLCogVideoX,
        {
            "down_block_types": ("CogVideoXDownBlock3D",) * 2,
            "up_block_types": ("CogVideoXUpBlock3D",) * 2,
            "block_out_channels": (8, 8),
            "latent_channels": 4,
            "layers_per_block": 1,
            "norm_num_groups": 4,
        },
    )
    yield (
        "unet",
        diffusers.UNet2DConditionModel,
        {
            "block_out_channels": (8, 16),
            "layers_per_block": 1,
            "sample_size": 8,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "cross_attention_dim": 16,
            "attention_head_dim": 4,
            "norm_num_groups": 4,
        },
    )
    yield (
        "vae",
        diffusers.AutoencoderKL,
        {
            "block_out_channels": (8, 16),
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "latent_channels": 4,
            "norm_num_groups": 4,
        },
    )
    yield (
        "flux",
        diffusers.FluxTransformer2DModel,
        {
            "patch_size": 1,
            "in_channels": 4,
            "num_layers": 1,
            "num_single_layers": 1,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 16,
            "pooled_projection_dim": 16,
            "axes_dims_rope": (4, 4, 8),
        },
    )


def transformers_models():
    import transformers as hf

    t5 = {
        "d_model": 16,
        "d_ff": 32,
        "d_kv": 8,
        "num_heads": 2,
        "num_layers": 2,
        "vocab_size": 64,
        "decoder_start_token_id": 0,
    }
    yield "t5_encoder", hf.T5EncoderModel, hf.T5Config(**t5, feed_forward_proj="gated-gelu")
    yield "t5", hf.T5ForConditionalGeneration, hf.T5Config(**t5)
    text = {
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    yield "clip_text", hf.CLIPTextModel, hf.CLIPTextConfig(**text, max_position_embeddings=16)
    yield "bert", hf.BertForMaskedLM, hf.BertConfig(**text, max_position_embeddings=16)
    yield "llama", hf.LlamaForCausalLM, hf.LlamaConfig(**text, num_key_value_heads=1)
    yield (
        "qwen2",
        hf.Qwen2ForCausalLM,
        hf.Qwen2Config(**text, num_key_value_heads=1, tie_word_embeddings=True),
    )
    yield (
        "gpt2",
        hf.GPT2LMHeadModel,
        hf.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=64, n_positions=16),
    )
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    yield "vit", hf.ViTModel, hf.ViTConfig(**vision, image_size=8, patch_size=4)
    yield (
        "whisper",
        hf.WhisperForConditionalGeneration,
        hf.WhisperConfig(
            vocab_size=64,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            num_mel_bins=8,
            max_source_positions=16,
            max_target_positions=16,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
            suppress_tokens=None,
            begin_suppress_tokens=None,
        ),
    )


def save(model, out: Path) -> None:
    # Random values everywhere, also where a fresh model has zeros and ones: what is not loaded shows.
    generator = torch.Generator().manual_seed(1)
    for tensor in list(model.parameters()) + list(model.buffers()):
        if tensor.is_floating_point():
            tensor.data.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    for name, dtype in DTYPES.items():
        model.to(dtype).save_pretrained(out / f"{name}-whole")
        nbytes = sum(p.numel() * p.element_size() for p in model.parameters())
        model.save_pretrained(out / f"{name}-sharded", max_shard_size=nbytes // 3)


def save_pipeline(out: Path) -> None:
    import diffusers

    unet = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
    )
    diffusers.DDPMPipeline(unet=unet, scheduler=diffusers.DDPMScheduler()).save_pretrained(out)


def save_cogvideox_pipeline(out: Path) -> None:
    """Of the models that are there; what the pipeline is, says its model_index.json."""
    import diffusers

    parts = {"transformer": "cogvideox", "vae": "cogvideox_vae", "text_encoder": "t5_encoder"}
    for part, name in parts.items():
        layout = "bfloat16-sharded" if part == "text_encoder" else "bfloat16-whole"
        shutil.copytree(out.parent / name / layout, out / part, dirs_exist_ok=True)
    diffusers.CogVideoXDDIMScheduler().save_pretrained(out / "scheduler")
    index = {
        "_class_name": "CogVideoXPipeline",
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5Tokenizer"],
        "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLCogVideoX"],
    }
    (out / "model_index.json").write_text(json.dumps(index, indent=2))


def main() -> None:
    out = Path(sys.argv[1])
    torch.manual_seed(0)
    save_pipeline(out / "pipeline")
    for name, cls, config in diffusers_models():
        save(cls(**config), out / name)
    for name, cls, config in transformers_models():
        save(cls(config), out / name)
    save_cogvideox_pipeline(out / "cogvideox_pipeline")


if __name__ == "__main__":
    main()
