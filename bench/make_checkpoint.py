"""Write checkpoints with made-up weights, of the shapes that real models have.

    make_checkpoint.py --loadstone build/loadstone transformer OUT bf16|f16|f32 [--layers N]
    make_checkpoint.py --loadstone build/loadstone pipeline OUT
    make_checkpoint.py many OUT.safetensors N

The first two ask `loadstone manifest` which parameters a config.json stands for, so no framework is needed.
Weights are one block of normal noise over and over: loading does not look at them, only its checks do. What
is there already, made the same way, is kept.
"""

import argparse
import array
import json
import random
import struct
import subprocess
import sys
from pathlib import Path

BLOCK_ELEMENTS = 1 << 20
VERSION = 1  # of what is written: raise it when that changes

NBYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "F8_E4M3": 1}

TRANSFORMER = {
    "_class_name": "CogVideoXTransformer3DModel",
    "_diffusers_version": "0.30.0.dev0",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_head_dim": 64,
    "dropout": 0.0,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 16,
    "max_text_seq_length": 226,
    "norm_elementwise_affine": True,
    "norm_eps": 1e-05,
    "num_attention_heads": 30,
    "num_layers": 30,
    "out_channels": 16,
    "patch_size": 2,
    "sample_frames": 49,
    "sample_height": 60,
    "sample_width": 90,
    "spatial_interpolation_scale": 1.875,
    "temporal_compression_ratio": 4,
    "temporal_interpolation_scale": 1.0,
    "text_embed_dim": 4096,
    "time_embed_dim": 512,
    "timestep_activation_fn": "silu",
    "use_rotary_positional_embeddings": True,
}

VAE = {
    "_class_name": "AutoencoderKLCogVideoX",
    "_diffusers_version": "0.30.0.dev0",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 256, 512],
    "down_block_types": ["CogVideoXDownBlock3D"] * 4,
    "force_upcast": True,
    "in_channels": 3,
    "latent_channels": 16,
    "latents_mean": None,
    "latents_std": None,
    "layers_per_block": 3,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_height": 480,
    "sample_width": 720,
    "scaling_factor": 1.15258426,
    "shift_factor": None,
    "temporal_compression_ratio": 4,
    "up_block_types": ["CogVideoXUpBlock3D"] * 4,
    "use_post_quant_conv": False,
    "use_quant_conv": False,
}

TEXT_ENCODER = {
    "architectures": ["T5EncoderModel"],
    "classifier_dropout": 0.0,
    "d_ff": 10240,
    "d_kv": 64,
    "d_model": 4096,
    "decoder_start_token_id": 0,
    "dense_act_fn": "gelu_new",
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "feed_forward_proj": "gated-gelu",
    "initializer_factor": 1.0,
    "is_encoder_decoder": True,
    "is_gated_act": True,
    "layer_norm_epsilon": 1e-06,
    "model_type": "t5",
    "num_decoder_layers": 24,
    "num_heads": 64,
    "num_layers": 24,
    "output_past": True,
    "pad_token_id": 0,
    "relative_attention_max_distance": 128,
    "relative_attention_num_buckets": 32,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.42.3",
    "use_cache": True,
    "vocab_size": 32128,
}

PIPELINE = {
    "_class_name": "CogVideoXPipeline",
    "_diffusers_version": "0.30.0.dev0",
    "scheduler": ["diffusers", "CogVideoXDPMScheduler"],
    "text_encoder": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "T5Tokenizer"],
    "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
    "vae": ["diffusers", "AutoencoderKLCogVideoX"],
}

SCHEDULER = {
    "_class_name": "CogVideoXDPMScheduler",
    "_diffusers_version": "0.30.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "set_alpha_to_one": True,
    "snr_shift_scale": 3.0,
    "timestep_spacing": "trailing",
}

# One layer's worth of names, so that the whole stays at about 1 GB.
SMALL = {
    "transformer": TRANSFORMER | {"num_layers": 2},
    "text_encoder": TEXT_ENCODER | {"num_layers": 1},
    "vae": VAE | {"block_out_channels": [64, 128, 128, 256]},
}


def noise(dtype):
    """A block of normal noise of standard deviation 0.02, as the bytes of dtype."""
    source = random.Random(0)
    values = array.array("f", [source.gauss(0, 0.02) for _ in range(BLOCK_ELEMENTS)])
    if sys.byteorder == "big":
        values.byteswap()
    raw = values.tobytes()
    if dtype == "F32":
        return raw
    if dtype == "BF16":  # cut, not rounded: noise is noise
        halves = bytearray(len(raw) // 2)
        halves[0::2], halves[1::2] = raw[2::4], raw[3::4]
        return bytes(halves)
    if dtype == "F16":
        return struct.pack(f"<{BLOCK_ELEMENTS}e", *values)
    raise ValueError(f"no noise of dtype {dtype}")


def part(path):
    """Where a file is written before it takes its name: what has the name is whole."""
    return path.with_name(path.name + ".part")


def write_json(path, value):
    part(path).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    part(path).replace(path)


def header_of(tensors):
    """A safetensors header for tensors, (name, dtype, shape) each, and the number of bytes that follow."""
    header, offset = {}, 0
    for name, dtype, shape in tensors:
        nbytes = NBYTES[dtype]
        for dim in shape:
            nbytes *= dim
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + nbytes]}
        offset += nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, offset


def write_weights(path, tensors):
    """A safetensors file full of noise; all tensors of one dtype. The blocks go on from tensor to tensor."""
    header, nbytes = header_of(tensors)
    block = memoryview(noise(tensors[0][1]))
    with part(path).open("wb") as out:
        out.write(header)
        out.writelines(block[: nbytes - done] for done in range(0, nbytes, len(block)))
    part(path).replace(path)
    return nbytes


def parameters(loadstone, directory, dtype):
    """(name, dtype, shape) of each parameter that a checkpoint of this model directory holds, in order."""
    command = [loadstone, "manifest", directory, "--dtype", dtype, "--json"]
    run = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    manifest = json.loads(run.stdout)
    return [(p["name"], p["dtype"].upper(), p["shape"]) for p in manifest if not p.get("tied_to")]


def split(tensors, n_shards):
    """Cut a list of tensors into n_shards runs of about the same number of bytes."""
    total, done = header_of(tensors)[1], 0
    shards = [[] for _ in range(n_shards)]
    for tensor in tensors:
        shards[min(n_shards - 1, done * n_shards // total)].append(tensor)
        done += header_of([tensor])[1]
    return [shard for shard in shards if shard]


def write_shards(directory, stem, tensors, n_shards, write=write_weights):
    shards = split(tensors, n_shards)
    weight_map, total = {}, 0
    for i, shard in enumerate(shards):
        name = f"{stem}-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        total += write(directory / name, shard)
        weight_map |= dict.fromkeys((tensor[0] for tensor in shard), name)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(directory / f"{stem}.safetensors.index.json", index)
    return total


def is_done(directory, spec):
    try:
        return json.loads((directory / ".made").read_text(encoding="utf-8")) == spec
    except (OSError, ValueError):
        return False


def make_model(loadstone, directory, config, dtype, n_shards=1):
    """A model directory: config.json and weights. True if it had to be written."""
    spec = {"version": VERSION, "config": config, "dtype": dtype, "shards": n_shards}
    if is_done(directory, spec):
        return False
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "config.json", config)
    tensors = parameters(loadstone, directory, dtype)
    stem = "diffusion_pytorch_model" if "_class_name" in config else "model"
    if n_shards > 1:
        write_shards(directory, stem, tensors, n_shards)
    else:
        write_weights(directory / f"{stem}.safetensors", tensors)
    write_json(directory / ".made", spec)
    return True


def make_transformer(loadstone, directory, dtype, n_layers=30):
    return make_model(loadstone, directory, TRANSFORMER | {"num_layers": n_layers}, dtype)


def make_pipeline(loadstone, directory, dtype="bf16"):
    """A pipeline directory of about 1 GB. True if anything had to be written."""
    wrote = False
    for name, config in SMALL.items():
        n_shards = 3 if name == "text_encoder" else 1
        wrote |= make_model(loadstone, directory / name, config, dtype, n_shards)
    for name, file, config in [
        ("scheduler", "scheduler_config.json", SCHEDULER),
        ("tokenizer", "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer"}),
    ]:
        (directory / name).mkdir(parents=True, exist_ok=True)
        write_json(directory / name / file, config)
    write_json(directory / "model_index.json", PIPELINE)
    return wrote


def expert_tensors(n):
    """n small tensors under the names that a mixture of many experts has, which are long."""
    for i in range(n):
        layer, expert = divmod(i // 3, 384)
        name = ("gate_proj", "up_proj", "down_proj")[i % 3]
        yield f"language_model.model.layers.{layer}.mlp.experts.{expert}.{name}.weight", "BF16", [16, 16]


def write_sparse(path, tensors):
    """A safetensors file that is all header: its weights are zeros that take no room on the disk."""
    header, nbytes = header_of(tensors)
    with part(path).open("wb") as out:
        out.write(header)
        out.truncate(len(header) + nbytes)
    part(path).replace(path)
    return nbytes


def make_many(path, n):
    """A sparse file of n tensors."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sparse(path, expert_tensors(n))
    return True


def make_one(path, shape):
    """A file of one F32 weight."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_weights(path, [("weight", "F32", list(shape))])


def huge_tensors():
    """The 671 billion parameters of a mixture of experts: F8 weights, each with the scales of its blocks."""
    hidden, moe, dense = 7168, 2048, 18432

    def linear(name, rows, columns):
        yield f"{name}.weight", "F8_E4M3", [rows, columns]
        yield f"{name}.weight_scale_inv", "F32", [-(-rows // 128), -(-columns // 128)]

    def gated(name, inner):
        for part, shape in (
            ("gate_proj", (inner, hidden)),
            ("up_proj", (inner, hidden)),
            ("down_proj", (hidden, inner)),
        ):
            yield from linear(f"{name}.{part}", *shape)

    yield "model.embed_tokens.weight", "BF16", [129280, hidden]
    for layer in range(61):
        at = f"model.layers.{layer}"
        yield f"{at}.input_layernorm.weight", "BF16", [hidden]
        yield from linear(f"{at}.self_attn.q_a_proj", 1536, hidden)
        yield f"{at}.self_attn.q_a_layernorm.weight", "BF16", [1536]
        yield from linear(f"{at}.self_attn.q_b_proj", 24576, 1536)
        yield from linear(f"{at}.self_attn.kv_a_proj_with_mqa", 576, hidden)
        yield f"{at}.self_attn.kv_a_layernorm.weight", "BF16", [512]
        yield from linear(f"{at}.self_attn.kv_b_proj", 32768, 512)
        yield from linear(f"{at}.self_attn.o_proj", hidden, 16384)
        yield f"{at}.post_attention_layernorm.weight", "BF16", [hidden]
        if layer < 3:
            yield from gated(f"{at}.mlp", dense)
            continue
        yield f"{at}.mlp.gate.weight", "BF16", [256, hidden]
        yield from gated(f"{at}.mlp.shared_experts", moe)
        for expert in range(256):
            yield from gated(f"{at}.mlp.experts.{expert}", moe)
    yield "model.norm.weight", "BF16", [hidden]
    yield "lm_head.weight", "BF16", [129280, hidden]


def make_huge(directory, n_shards=163):
    """A checkpoint that no test machine could hold, of sparse files: headers, and no weights on disk."""
    index = directory / "model.safetensors.index.json"
    if not index.exists():
        directory.mkdir(parents=True, exist_ok=True)
        write_shards(directory, "model", list(huge_tensors()), n_shards, write_sparse)
    return index


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--loadstone", default="build/loadstone")
    kinds = parser.add_subparsers(dest="kind", required=True)
    transformer = kinds.add_parser("transformer")
    transformer.add_argument("out", type=Path)
    transformer.add_argument("dtype", choices=["bf16", "f16", "f32"])
    transformer.add_argument("--layers", type=int, default=30)
    kinds.add_parser("pipeline").add_argument("out", type=Path)
    many = kinds.add_parser("many")
    many.add_argument("out", type=Path)
    many.add_argument("n", type=int)
    args = parser.parse_args()
    if args.kind == "transformer":
        make_transformer(args.loadstone, args.out, args.dtype, args.layers)
    elif args.kind == "pipeline":
        make_pipeline(args.loadstone, args.out)
    else:
        make_many(args.out, args.n)


if __name__ == "__main__":
    main()
