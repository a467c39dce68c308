"""Networks from configs equal those of diffusers and transformers on the meta device."""

import contextlib
import ctypes
import json
import random
from pathlib import Path

import diffusers
import pytest
import torch
import transformers
from lds_error import Error

CONFIGS = Path(__file__).resolve().parents[1] / "golden" / "configs"
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, None: None}
# Fifty for each family; twelve of them will do in a hurry.
SEEDS = [*range(12), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(12, 50))]

ARGUMENT, NOT_FOUND, MALFORMED, UNSUPPORTED, ARCHITECTURE, MISMATCH = -10, -21, -30, -40, -41, -50


class Failure(Exception):
    def __init__(self, error):
        message = error.message.decode()
        super().__init__(message)
        self.code, self.message = error.code, message
        self.file = message[: error.file_nbytes]
        start = error.file_nbytes + 2
        self.field = message[start : start + error.tensor_nbytes]
        self.offset = error.offset


class Library:
    """The few functions of the public header that are needed to look at a network."""

    def __init__(self, path):
        self.lib = lib = ctypes.CDLL(str(path))
        pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
        for name, result, arguments in (
            ("network_from_config", ctypes.c_int, (pointer, text, ctypes.c_int, pointer)),
            ("network_n_params", size, (pointer,)),
            ("network_param", pointer, (pointer, size)),
            ("network_architecture", text, (pointer,)),
            ("network_init", ctypes.c_int, (pointer, ctypes.c_uint64, pointer, pointer)),
            ("network_free", None, (pointer,)),
            ("param_name", text, (pointer,)),
            ("param_dtype", ctypes.c_int, (pointer,)),
            ("param_n_dims", ctypes.c_uint32, (pointer,)),
            ("param_shape", ctypes.POINTER(ctypes.c_uint64), (pointer,)),
            ("param_tied_to", pointer, (pointer,)),
            ("param_data", pointer, (pointer,)),
            ("param_numel", ctypes.c_uint64, (pointer,)),
            ("dtype_parse", ctypes.c_int, (text,)),
            ("dtype_name", text, (ctypes.c_int,)),
        ):
            function = getattr(lib, f"lds_{name}")
            function.restype, function.argtypes = result, arguments

    @contextlib.contextmanager
    def network(self, directory, dtype=None):
        network, error = ctypes.c_void_p(), Error()
        code = self.lib.lds_dtype_parse(dtype.encode()) if dtype else 0
        status = self.lib.lds_network_from_config(
            ctypes.byref(network), str(directory).encode(), code, ctypes.byref(error)
        )
        if status:
            assert not network and error.code == status
            raise Failure(error)
        yield network
        self.lib.lds_network_free(network)

    def params(self, network):
        return [self.lib.lds_network_param(network, i) for i in range(self.lib.lds_network_n_params(network))]

    def name(self, param):
        return self.lib.lds_param_name(param).decode()

    def describe(self, directory, dtype=None):
        """The class of the network, and for each parameter its name, shape, dtype, and what it is tied to."""
        lib, params = self.lib, []
        with self.network(directory, dtype) as network:
            for param in self.params(network):
                shape = tuple(lib.lds_param_shape(param)[: lib.lds_param_n_dims(param)])
                dtype_name = lib.lds_dtype_name(lib.lds_param_dtype(param)).decode()
                tied_to = lib.lds_param_tied_to(param)
                params.append((self.name(param), shape, dtype_name, self.name(tied_to) if tied_to else None))
            return lib.lds_network_architecture(network).decode(), params

    def initialised(self, directory, seed=0):
        """The values that the parameters of an F32 network start with, and whether all have such values."""
        lib, values = self.lib, {}
        with self.network(directory, "F32") as network:
            status = lib.lds_network_init(network, seed, None, None)
            for param in self.params(network):
                data = lib.lds_param_data(param)
                if data:
                    flat = (ctypes.c_float * lib.lds_param_numel(param)).from_address(data)
                    values[self.name(param)] = torch.frombuffer(flat, dtype=torch.float32).clone()
        return status, values


@pytest.fixture(scope="module")
def library(library_path):
    return Library(library_path)


def class_of(config):
    name = config["_class_name"] if "_class_name" in config else config["architectures"][0]
    return getattr(diffusers if "_class_name" in config else transformers, name)


def on_meta(config):
    """The framework's own model, without storage."""
    cls = class_of(config)
    with torch.device("meta"):
        if "_class_name" in config:
            return cls.from_config(config)
        return cls(transformers.T5Config(**config))


NAMES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64"}


def described(model):
    first, params = {}, []
    for name, tensor in model.state_dict(keep_vars=True).items():
        tied_to = first.setdefault(id(tensor), name)
        params.append((name, tuple(tensor.shape), NAMES[tensor.dtype], tied_to if tied_to != name else None))
    return type(model).__name__, params


def write(directory, config):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(
        config if isinstance(config, str) else json.dumps(config, indent=2)
    )
    return directory


def published(name):
    return json.loads((CONFIGS / f"{name}.json").read_text())


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.json")))
def test_published_config(library, tmp_path, name):
    config = published(name)
    assert library.describe(write(tmp_path, config)) == described(on_meta(config))


@pytest.mark.parametrize("architecture", ["T5EncoderModel", "T5Model", "T5ForConditionalGeneration"])
@pytest.mark.parametrize("name", ["t5-small", "flan-t5-base"])
def test_each_t5_class(library, tmp_path, name, architecture):
    config = {**published(name), "architectures": [architecture]}
    assert library.describe(write(tmp_path, config)) == described(on_meta(config))


def some_of(rng, config, always=()):
    """Leave fields out now and then, so that their defaults count; in any order."""
    names = [name for name in config if name in always or rng.random() < 0.85]
    rng.shuffle(names)
    return {name: config[name] for name in names}


def random_transformer(rng):
    rotary = rng.random() < 0.7
    config = {
        "_class_name": "CogVideoXTransformer3DModel",
        "num_attention_heads": rng.randint(1, 6),
        "attention_head_dim": 16 * rng.randint(1, 8),
        "in_channels": rng.randint(1, 33),
        "out_channels": rng.randint(1, 33),
        "flip_sin_to_cos": rng.random() < 0.5,
        "freq_shift": rng.randint(0, 1),
        "time_embed_dim": rng.randint(1, 600),
        "ofs_embed_dim": rng.choice([None, 0, rng.randint(1, 600)]),
        "text_embed_dim": rng.randint(1, 5000),
        "num_layers": rng.randint(0, 5),
        "dropout": rng.random(),
        "attention_bias": rng.random() < 0.5,
        "sample_width": rng.randint(8, 50),
        "sample_height": rng.randint(8, 50),
        "sample_frames": rng.randint(1, 60),
        "patch_size": rng.randint(1, 5),
        "patch_size_t": rng.choice([None, None, rng.randint(1, 4)]),
        "temporal_compression_ratio": rng.randint(1, 8),
        "max_text_seq_length": rng.randint(0, 300),
        "activation_fn": rng.choice(
            ["gelu", "gelu-approximate", "geglu", "geglu-approximate", "swiglu", "linear-silu"]
        ),
        "timestep_activation_fn": rng.choice(["silu", "swish", "mish", "gelu", "relu"]),
        "norm_elementwise_affine": rng.random() < 0.7,
        "norm_eps": 1e-5,
        "spatial_interpolation_scale": rng.random() + 0.5,
        "temporal_interpolation_scale": rng.random() + 0.5,
        "use_rotary_positional_embeddings": rotary,
        "use_learned_positional_embeddings": rotary and rng.random() < 0.6,
        "patch_bias": rng.random() < 0.5,
    }
    always = ["_class_name"] + (["use_rotary_positional_embeddings"] if rotary else [])
    return some_of(rng, config, always)


def random_vae(rng):
    groups = rng.choice([1, 2, 4, 8])
    channels = [groups * rng.randint(1, 12) for _ in range(rng.randint(1, 5))]
    n_blocks = len(channels) if rng.random() < 0.8 else rng.randint(0, len(channels))
    config = {
        "_class_name": "AutoencoderKLCogVideoX",
        "in_channels": rng.randint(1, 4),
        "out_channels": rng.randint(1, 4),
        "down_block_types": ["CogVideoXDownBlock3D"] * n_blocks,
        "up_block_types": ["CogVideoXUpBlock3D"] * n_blocks,
        "block_out_channels": channels,
        "latent_channels": rng.randint(1, 20),
        "layers_per_block": rng.randint(0, 4),
        "act_fn": rng.choice(["silu", "swish", "mish", "gelu", "relu"]),
        "norm_eps": 1e-6,
        "norm_num_groups": groups,
        "temporal_compression_ratio": rng.choice([1, 2, 4, 8, 4.0]),
        "sample_height": rng.randint(16, 500),
        "sample_width": rng.randint(16, 500),
        "scaling_factor": rng.random(),
        "shift_factor": rng.choice([None, 0.5]),
        "latents_mean": rng.choice([None, [0.0, 0.5]]),
        "latents_std": rng.choice([None, [1.0, 0.5]]),
        "force_upcast": rng.choice([True, False, 1.0]),
        "use_quant_conv": rng.random() < 0.3,
        "use_post_quant_conv": rng.random() < 0.3,
        "invert_scale_latents": rng.random() < 0.5,
    }
    always = ["_class_name", "down_block_types", "up_block_types", "block_out_channels", "norm_num_groups"]
    return some_of(rng, config, always)


def random_t5(rng):
    activation = rng.choice(["relu", "gelu", "gelu_new", "silu", "tanh", "quick_gelu", "relu6"])
    config = {
        "architectures": [rng.choice(["T5EncoderModel", "T5Model", "T5ForConditionalGeneration"])],
        "model_type": "t5",
        "vocab_size": rng.randint(1, 40000),
        "d_model": rng.randint(1, 700),
        "d_kv": rng.randint(1, 100),
        "d_ff": rng.randint(1, 3000),
        "num_layers": rng.randint(1, 6),
        "num_decoder_layers": rng.choice([None, rng.randint(1, 6)]),
        "num_heads": rng.randint(1, 16),
        "relative_attention_num_buckets": rng.randint(2, 64),
        "relative_attention_max_distance": rng.randint(65, 256),
        "dropout_rate": rng.random(),
        "classifier_dropout": 0.0,
        "layer_norm_epsilon": 1e-6,
        "initializer_factor": rng.random() + 0.1,
        "feed_forward_proj": rng.choice(["relu", "gated-gelu", activation, f"gated-{activation}"]),
        "is_encoder_decoder": rng.random() < 0.5,
        "use_cache": rng.random() < 0.5,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "tie_word_embeddings": rng.random() < 0.5,
        "torch_dtype": rng.choice(["float16", "bfloat16", "float32"]),
        "task_specific_params": rng.choice([None, {"a": {"prefix": "b"}}]),
    }
    if rng.random() < 0.3:
        config["is_gated_act"] = rng.random() < 0.5
    if rng.random() < 0.3:
        config["dense_act_fn"] = activation
    return some_of(rng, config, ["architectures"])


RANDOM = {"transformer": random_transformer, "vae": random_vae, "t5": random_t5}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", RANDOM)
def test_random_config(library, tmp_path, kind, seed):
    config = RANDOM[kind](random.Random(f"{kind} {seed}"))
    assert library.describe(write(tmp_path, config)) == described(on_meta(config)), config


TINY = {
    "transformer": {
        "_class_name": "CogVideoXTransformer3DModel",
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 2,
        "text_embed_dim": 8,
        "time_embed_dim": 8,
        "sample_width": 8,
        "sample_height": 8,
        "sample_frames": 9,
        "use_rotary_positional_embeddings": True,
        "use_learned_positional_embeddings": True,
    },
    "vae": {
        "_class_name": "AutoencoderKLCogVideoX",
        "block_out_channels": [4, 8],
        "down_block_types": ["CogVideoXDownBlock3D"] * 2,
        "up_block_types": ["CogVideoXUpBlock3D"] * 2,
        "norm_num_groups": 2,
        "layers_per_block": 1,
    },
    "t5 encoder": {
        "architectures": ["T5EncoderModel"],
        "model_type": "t5",
        "vocab_size": 32,
        "d_model": 8,
        "d_kv": 4,
        "d_ff": 16,
        "num_layers": 2,
        "num_heads": 2,
    },
}
TINY["t5 gated"] = {
    **TINY["t5 encoder"],
    "architectures": ["T5ForConditionalGeneration"],
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TINY)
def test_dtypes_are_those_of_from_pretrained(library, tmp_path, name, dtype):
    """Modules that stay in float32 included."""
    config = TINY[name]
    cls = class_of(config)
    if "_class_name" in config:
        model = cls.from_config(config)
        kwargs = {"torch_dtype": DTYPES[dtype]}
    else:
        model = cls(transformers.T5Config(**config))
        kwargs = {"dtype": DTYPES[dtype]}
    model.save_pretrained(tmp_path)
    expected = described(cls.from_pretrained(tmp_path, **kwargs))
    assert library.describe(tmp_path, dtype) == expected
    if name.startswith("t5"):
        kept = {param[2] for param in expected[1] if param[0].endswith(".wo.weight")}
        assert kept == {"F32" if dtype in ("F16", None) else dtype}


def test_dtype_must_be_a_float(library, tmp_path):
    with pytest.raises(Failure) as failure:
        library.describe(write(tmp_path, TINY["vae"]), "I32")
    assert failure.value.code == ARGUMENT


WIDER = {
    "transformer": {
        **TINY["transformer"],
        "num_attention_heads": 4,
        "text_embed_dim": 64,
        "time_embed_dim": 96,
        "use_learned_positional_embeddings": False,
    },
    "vae": {**TINY["vae"], "block_out_channels": [16, 32], "layers_per_block": 0},
    "t5": {
        **TINY["t5 encoder"],
        "architectures": ["T5ForConditionalGeneration"],
        "vocab_size": 256,
        "d_model": 48,
        "d_kv": 12,
        "d_ff": 96,
        "num_heads": 8,
        "relative_attention_num_buckets": 256,
        "initializer_factor": 0.5,
        "tie_word_embeddings": False,
    },
}


@pytest.mark.parametrize("kind", WIDER)
def test_initial_values_are_distributed_as_the_frameworks(library, tmp_path, kind):
    config = WIDER[kind]
    torch.manual_seed(0)
    cls = class_of(config)
    model = cls.from_config(config) if "_class_name" in config else cls(transformers.T5Config(**config))
    status, values = library.initialised(write(tmp_path, config))
    assert status == 0
    n_compared = 0
    for name, theirs in model.state_dict().items():
        ours, theirs = values[name], theirs.flatten()
        most = ours.abs().max().item(), theirs.abs().max().item()
        if theirs.min() == theirs.max():
            assert torch.equal(ours, theirs), name
        elif len(theirs) >= 1000:
            n_compared += 1
            deviation = ours.std().item(), theirs.std().item()
            assert deviation[0] == pytest.approx(deviation[1], rel=0.1), name
            assert abs(ours.mean().item()) < 0.15 * deviation[1], name
            # Uniform values end at 1.73 deviations, normal ones go far beyond.
            assert (most[0] > 2.2 * deviation[0]) == (most[1] > 2.2 * deviation[1]), name
        elif len(theirs) >= 32:
            assert most[0] == pytest.approx(most[1], rel=0.25), name
    assert n_compared >= 10


def test_computed_table_has_no_initial_values(library, tmp_path):
    status, values = library.initialised(write(tmp_path, TINY["transformer"]))
    assert status == MISMATCH
    assert "patch_embed.pos_embedding" not in values and "patch_embed.proj.weight" in values


TRANSFORMER, VAE, T5 = TINY["transformer"], TINY["vae"], TINY["t5 encoder"]
BAD = [
    # an edit of a config that is good; what field, which status, and what the message says about it
    (TRANSFORMER, {"qk_norm": True}, "qk_norm", UNSUPPORTED, "expected a field that is understood"),
    (TRANSFORMER, {"quantization_config": {"bits": 4}}, "quantization_config", UNSUPPORTED, "structure"),
    (TRANSFORMER, {"activation_fn": "gelu-new"}, "activation_fn", UNSUPPORTED, 'found "gelu-new"'),
    (TRANSFORMER, {"timestep_activation_fn": "tanh"}, "timestep_activation_fn", UNSUPPORTED, "one of silu, "),
    (TRANSFORMER, {"activation_fn": None}, "activation_fn", MALFORMED, "expected a string, found null"),
    (TRANSFORMER, {"num_layers": 10**9}, "num_layers", MALFORMED, "from 0 to 4096, found 1000000000"),
    (TRANSFORMER, {"num_layers": 2**64}, "num_layers", MALFORMED, "found 18446744073709551616"),
    (TRANSFORMER, {"num_layers": -1}, "num_layers", MALFORMED, "found -1"),
    (TRANSFORMER, {"num_layers": 2.5}, "num_layers", MALFORMED, "found 2.5"),
    (TRANSFORMER, {"num_layers": "2"}, "num_layers", MALFORMED, 'found "2"'),
    (TRANSFORMER, {"num_layers": [2]}, "num_layers", MALFORMED, "found an array"),
    (TRANSFORMER, {"patch_size": 0}, "patch_size", MALFORMED, "from 1 to 64, found 0"),
    (TRANSFORMER, {"patch_size": None}, "patch_size", MALFORMED, "found null"),
    (TRANSFORMER, {"patch_size_t": True}, "patch_size_t", MALFORMED, ", or null, found true"),
    (TRANSFORMER, {"attention_bias": 1}, "attention_bias", MALFORMED, "expected true or false, found 1"),
    (
        TRANSFORMER,
        {"num_attention_heads": 2**20, "attention_head_dim": 2**20},
        "num_attention_heads * attention_head_dim",
        MALFORMED,
        "at most 1048576, found 1099511627776",
    ),
    (
        TRANSFORMER,
        {"use_rotary_positional_embeddings": False},
        "use_learned_positional_embeddings",
        MALFORMED,
        "without use_rotary_positional_embeddings",
    ),
    (VAE, {"down_block_types": ["DownBlock3D"] * 2}, "down_block_types", UNSUPPORTED, "CogVideoXDownBlock3D"),
    (VAE, {"up_block_types": "CogVideoXUpBlock3D"}, "up_block_types", MALFORMED, "expected an array"),
    (VAE, {"block_out_channels": [4] * 33}, "block_out_channels", MALFORMED, "at most 32 entries"),
    (VAE, {"block_out_channels": [4]}, "block_out_channels", MALFORMED, "an entry for each block, found 1"),
    (VAE, {"block_out_channels": [4, "8"]}, "block_out_channels", MALFORMED, 'found "8"'),
    (VAE, {"norm_num_groups": 8}, "block_out_channels", MALFORMED, "multiples of norm_num_groups"),
    (VAE, {"_class_name": "AutoencoderKL"}, "_class_name", ARCHITECTURE, "found AutoencoderKL"),
    (
        VAE,
        {"_class_name": None},
        "_class_name or architectures",
        ARCHITECTURE,
        "expected one of CogVideoXTransformer3DModel, AutoencoderKLCogVideoX, T5EncoderModel, T5Model, "
        "T5ForConditionalGeneration, found neither",
    ),
    (
        VAE,
        {"_class_name": "T5EncoderModel"},
        "_class_name",
        ARCHITECTURE,
        "expected one of CogVideoXTransformer3DModel, AutoencoderKLCogVideoX, found T5EncoderModel",
    ),
    (
        T5,
        {"architectures": ["AutoencoderKLCogVideoX"]},
        "architectures",
        ARCHITECTURE,
        "expected one of T5EncoderModel, T5Model, T5ForConditionalGeneration, found AutoencoderKLCogVideoX",
    ),
    (T5, {"architectures": ["UMT5EncoderModel"]}, "architectures", ARCHITECTURE, "found UMT5EncoderModel"),
    (T5, {"model_type": "umt5"}, "model_type", ARCHITECTURE, "expected t5 for the class T5Enc"),
    (T5, {"feed_forward_proj": "gated-prelu"}, "feed_forward_proj", UNSUPPORTED, 'found "gated-prelu"'),
    (
        T5,
        {"feed_forward_proj": "g" * 199 + "é"},
        "feed_forward_proj",
        UNSUPPORTED,
        'found "' + "g" * 199 + '"',
    ),
    (T5, {"dense_act_fn": "prelu"}, "dense_act_fn", UNSUPPORTED, 'found "prelu"'),
    (T5, {"is_decoder": True}, "is_decoder", UNSUPPORTED, "found true"),
    (T5, {"pruned_heads": {"1": [0]}}, "pruned_heads", UNSUPPORTED, "expected nothing in it"),
    (T5, {"initializer_factor": "1"}, "initializer_factor", MALFORMED, "expected a number from 0 to 1000"),
    (T5, {"initializer_factor": float("nan")}, "initializer_factor", MALFORMED, "to 1000, found NaN"),
    (T5, {"initializer_factor": float("inf")}, "initializer_factor", MALFORMED, "found Infinity"),
    (T5, {"num_layers": float("-inf")}, "num_layers", MALFORMED, "found -Infinity"),
    (T5, {"initializer_factor": -1}, "initializer_factor", MALFORMED, "found -1"),
    (T5, {"hidden_size": 8}, "hidden_size", UNSUPPORTED, "structure"),
]


@pytest.mark.parametrize(("good", "edit", "field", "code", "words"), BAD)
def test_bad_field(library, tmp_path, good, edit, field, code, words):
    directory = write(tmp_path, {**good, **edit})
    with pytest.raises(Failure) as failure:
        library.describe(directory)
    error = failure.value
    assert (error.code, error.field, error.file) == (code, field, str(directory / "config.json"))
    assert words in error.message
    if error.offset != 2**64 - 1:
        text = (directory / "config.json").read_text()
        begin = text.index(json.dumps(field))
        assert begin <= error.offset < begin + len(json.dumps({field: edit[field]}, indent=2))
        assert f"(at byte {error.offset})" in error.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"_class_name": "AutoencoderKLCogVideoX", "in_channels": 3, "in_channels": 3}', "found twice"),
        ('{"_class_name": "AutoencoderKLCogVideoX", "norm_eps": 1, "norm_eps": 1}', "found twice"),
        ('{"_class_name": "AutoencoderKLCogVideoX",', "at byte 41"),
        ('{"_class_name": "AutoencoderKLCogVideoX"} 1', "at byte 42"),
        ('["_class_name"]', "expected a JSON object"),
        ("", "at byte 0"),
    ],
)
def test_bad_text(library, tmp_path, text, words):
    with pytest.raises(Failure, match=words) as failure:
        library.describe(write(tmp_path, text))
    assert failure.value.code == MALFORMED


def test_empty_values_of_what_is_not_supported(library, tmp_path):
    edits = {"pruned_heads": {}, "is_decoder": False, "tie_encoder_decoder": None}
    assert library.describe(write(tmp_path, {**T5, **edits})) == described(on_meta(T5))


def test_no_config(library, tmp_path):
    with pytest.raises(Failure) as failure:
        library.describe(tmp_path)
    assert failure.value.code == NOT_FOUND


def test_encoder_loads_from_a_checkpoint_of_the_whole(loadstone, tmp_path):
    """Strictly: what belongs to the decoder and the head is not unexpected."""
    whole = class_of(TINY["t5 gated"])(transformers.T5Config(**TINY["t5 gated"]))
    whole.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    write(tmp_path, {**saved, "architectures": ["T5EncoderModel"]})
    report = loadstone.json("load", tmp_path, "--dtype", "bf16")
    assert (report["missing"], report["unexpected"], report["mismatched"]) == ([], [], [])
    assert report["tensors"] == len(list(whole.encoder.parameters()))
