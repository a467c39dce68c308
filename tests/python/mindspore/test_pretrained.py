"""from_pretrained of mindone's models, with Loadstone and without: the same of everything."""

from __future__ import annotations

import json
import logging
import shutil

import loadstone.mindspore
import mindspore as ms
import numpy as np
import pytest
from pretrained_support import (
    ARCHITECTURES,
    DIFFUSERS,
    TRANSFORMERS,
    bits,
    cpu_operators,
    differences,
    dtype_argument,
    model_class,
    models,
)
from safetensors.numpy import load_file, save_file

__all__ = ["cpu_operators", "models"]  # fixtures

DTYPES = [None, ms.float16, ms.bfloat16]
LAYOUTS = [f"{dtype}-{how}" for dtype in ("float32", "float16", "bfloat16") for how in ("whole", "sharded")]
# The whole matrix on one version, a part of it on the others.
ALL = ms.__version__.startswith("2.7.1")


def both(cls, path, **kwargs):
    """mindone's model and loading_info, and ours."""
    theirs = cls.from_pretrained(path, output_loading_info=True, **kwargs)
    with loadstone.mindspore.accelerated():
        ours = cls.from_pretrained(path, output_loading_info=True, **kwargs)
    return theirs, ours


def assert_same(theirs, ours, but=()):
    assert theirs[1] == ours[1]
    assert differences(theirs[0], ours[0], but) == []


def same_info(theirs, ours):
    """loading_info, whose lists diffusers' models have in no order."""
    return {k: sorted(v) for k, v in theirs.items()} == {k: sorted(v) for k, v in ours.items()}


@pytest.fixture
def copy(models, tmp_path):
    """A function that copies a saved model, for a test to change."""

    def make(name, layout="float32-whole"):
        return shutil.copytree(models / name / layout, tmp_path / name)

    return make


def weights_file(directory):
    (path,) = directory.glob("*.safetensors")
    return path


def weights_of(directory):
    return {k: v for path in directory.glob("*.safetensors") for k, v in load_file(path).items()}


def change(directory, do):
    """Rewrite a model's weights: do() changes the dict of arrays. What is new goes to the last shard."""
    shards = {path: list(load_file(path)) for path in sorted(directory.glob("*.safetensors"))}
    weights = weights_of(directory)
    do(weights)
    known = {key for keys in shards.values() for key in keys}
    shards[max(shards)] += [key for key in weights if key not in known]
    for path, keys in shards.items():
        part = {key: weights[key] for key in keys if key in weights}
        save_file(part, path, metadata={"format": "pt"})
    for path in directory.glob("*.index.json"):
        index = json.loads(path.read_text())
        index["weight_map"] = {k: p.name for p, keys in shards.items() for k in keys if k in weights}
        path.write_text(json.dumps(index))


def some_dtypes(name, layout):
    """All three, or of each case one."""
    return DTYPES if ALL else [DTYPES[(ARCHITECTURES.index(name) + len(layout)) % 3]]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_same_as_mindone(models, caplog, name, layout):
    caplog.set_level(logging.INFO, "loadstone.mindspore")
    for dtype in some_dtypes(name, layout):
        caplog.clear()
        theirs, ours = both(model_class(name), models / name / layout, **dtype_argument(name, dtype))
        assert_same(theirs, ours)
        records = [r for r in caplog.records if r.name == "loadstone.mindspore"]
        n_files = len(list((models / name / layout).glob("*.safetensors")))
        assert len(records) == n_files and {r.levelno for r in records} == {logging.INFO}


def weight_names(directory, ending):
    return sorted(name for name in weights_of(directory) if name.endswith(ending))


@pytest.mark.parametrize("how", ["whole", "sharded"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_missing_and_unexpected(copy, name, how):
    directory = copy(name, f"float32-{how}")
    gone = [
        weight_names(directory, ".weight")[3],
        weight_names(directory, "norm.weight" if name == "llama" else "weight")[-1],
    ]

    def do(weights):
        for key in gone:
            del weights[key]
        weights["never.heard.of"] = np.ones(3, np.float32)

    change(directory, do)
    for dtype in some_dtypes(name, how):
        theirs, ours = both(model_class(name), directory, **dtype_argument(name, dtype))
        assert same_info(theirs[1], ours[1])
        assert len(ours[1]["missing_keys"]) >= 2
        assert ours[1]["unexpected_keys"] == ["never.heard.of"]
        assert differences(theirs[0], ours[0], but=set(ours[1]["missing_keys"])) == []
        for key, parameter in ours[0].parameters_and_names():
            if key in ours[1]["missing_keys"]:
                values = parameter.asnumpy().astype(np.float64)
                assert np.isfinite(values).all() and np.abs(values).max() < 20, key


def test_missing_values_are_the_networks_own(copy):
    directory = copy("cogvideox")
    change(directory, lambda weights: [weights.pop("norm_final.weight"), weights.pop("norm_final.bias")])
    with loadstone.mindspore.accelerated():
        model = model_class("cogvideox").from_pretrained(directory, mindspore_dtype=ms.float16)
    assert (model.norm_final.weight.asnumpy() == 1).all() and (model.norm_final.bias.asnumpy() == 0).all()
    directory = copy("llama")
    change(directory, lambda weights: weights.pop("model.layers.0.mlp.down_proj.weight"))
    with loadstone.mindspore.accelerated():
        model = model_class("llama").from_pretrained(directory, dtype=ms.float16)
    values = model.model.layers[0].mlp.down_proj.weight.asnumpy().astype(np.float32)
    assert 0.01 < values.std() < 0.03  # the config's initializer_range is 0.02


def double(directory, keys):
    def do(weights):
        for key in keys:
            weights[key] = np.concatenate([weights[key], weights[key]])

    change(directory, do)


@pytest.mark.parametrize("name", ["clip_text", "gpt2"])
def test_mismatched_where_mindspore_has_another_name(copy, name):
    """mindone's models of transformers do not ignore these, whatever they are told."""
    directory = copy(name)
    double(
        directory,
        [key for key in weight_names(directory, ".weight") if "layer_norm1" in key or "ln_1" in key],
    )
    cls = model_class(name)
    for ignore in (False, True):
        with pytest.raises(RuntimeError):
            cls.from_pretrained(directory, ignore_mismatched_sizes=ignore)
        with loadstone.mindspore.accelerated(), pytest.raises(RuntimeError) as caught:
            cls.from_pretrained(directory, ignore_mismatched_sizes=ignore)
        assert str(caught.value).count("size mismatch for") == 2


@pytest.mark.parametrize("how", ["whole", "sharded"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_mismatched(copy, name, how):
    directory = copy(name, f"float32-{how}")
    weights = weights_of(directory)
    keys = [key for key in weight_names(directory, ".weight") if weights[key].ndim > 1][2:4]
    double(directory, keys)
    cls = model_class(name)
    with pytest.raises(RuntimeError):
        cls.from_pretrained(directory)
    with loadstone.mindspore.accelerated(), pytest.raises(RuntimeError) as caught:
        cls.from_pretrained(directory)
    message = str(caught.value)
    assert message.startswith(f"Error(s) in loading state_dict for {cls.__name__}:")
    assert message.count("size mismatch for") == message.count("the shape in current model is") == 2
    assert "ignore_mismatched_sizes=True" in message
    shapes = {key: value.shape for key, value in weights_of(directory).items()}
    for key in keys:
        assert str(shapes[key][0]) in message and str(shapes[key][0] // 2) in message
    for dtype in some_dtypes(name, how):
        theirs, ours = both(cls, directory, ignore_mismatched_sizes=True, **dtype_argument(name, dtype))
        assert same_info(theirs[1], ours[1])
        assert len(ours[1]["mismatched_keys"]) == 2
        assert differences(theirs[0], ours[0], but={key for key, _, _ in ours[1]["mismatched_keys"]}) == []


def test_base_model_and_model_with_a_head(models, copy):
    import mindone.transformers as transformers

    base = copy("bert")
    change(base, lambda weights: [weights.pop(key) for key in list(weights) if not key.startswith("bert.")])

    def strip(weights):
        for key in list(weights):
            weights[key.removeprefix("bert.")] = weights.pop(key)

    for cls, directory in [
        (transformers.BertModel, models / "bert/float32-whole"),
        (transformers.BertForMaskedLM, base),
        (transformers.LlamaModel, models / "llama/float16-whole"),
        (transformers.GPT2Model, models / "gpt2/float32-sharded"),
    ]:
        theirs, ours = both(cls, directory, dtype=ms.float16)
        assert same_info(theirs[1], ours[1])
        assert differences(theirs[0], ours[0], but=set(ours[1]["missing_keys"])) == []
    change(base, strip)
    theirs, ours = both(transformers.BertForMaskedLM, base)
    assert same_info(theirs[1], ours[1])
    assert differences(theirs[0], ours[0], but=set(ours[1]["missing_keys"])) == []


@pytest.mark.parametrize("name", ["vae", "clip_text"])
def test_subfolder_and_variant(models, tmp_path, name):
    shutil.copytree(models / name / "float16-whole", tmp_path / "part")
    path = weights_file(tmp_path / "part")
    path.rename(path.with_name(f"{path.stem}.fp16.safetensors"))
    theirs, ours = both(model_class(name), tmp_path, subfolder="part", variant="fp16")
    assert_same(theirs, ours)


def test_without_mapping(models, caplog):
    caplog.set_level(logging.INFO, "loadstone.mindspore")
    theirs, ours = both(model_class("vae"), models / "vae/float32-whole", disable_mmap=True)
    assert_same(theirs, ours)
    assert "mapped" not in caplog.text


def test_auto_classes_and_pipelines(models, caplog):
    import mindone.diffusers
    import mindone.transformers

    caplog.set_level(logging.INFO, "loadstone.mindspore")
    theirs, ours = both(
        mindone.transformers.AutoModelForCausalLM, models / "llama/float32-whole", dtype=ms.bfloat16
    )
    assert type(ours[0]) is mindone.transformers.LlamaForCausalLM
    assert_same(theirs, ours)
    caplog.clear()
    pipelines = [
        mindone.diffusers.DDPMPipeline.from_pretrained(models / "pipeline", mindspore_dtype=ms.float16)
    ]
    assert not caplog.records
    with loadstone.mindspore.accelerated():
        load = mindone.diffusers.DDPMPipeline.from_pretrained
        pipelines.append(load(models / "pipeline", mindspore_dtype=ms.float16))
    assert differences(pipelines[0].unet, pipelines[1].unet) == []
    assert "UNet2DModel" in caplog.text


@pytest.mark.parametrize("dtype", [ms.bfloat16, ms.float16])
def test_a_whole_pipeline(models, caplog, dtype):
    from mindone.diffusers import CogVideoXPipeline

    def load():
        return CogVideoXPipeline.from_pretrained(
            models / "cogvideox_pipeline", mindspore_dtype=dtype, tokenizer=None
        )

    caplog.set_level(logging.INFO, "loadstone.mindspore")
    theirs = load()
    assert not caplog.records
    with loadstone.mindspore.accelerated():
        ours = load()
    for part in ("transformer", "vae", "text_encoder"):
        model = getattr(ours, part)
        assert {parameter.dtype for parameter in model.get_parameters()} <= {dtype, ms.float32}
        assert differences(getattr(theirs, part), model) == []
        assert type(model).__name__ in caplog.text
    assert str(theirs.scheduler.config) == str(ours.scheduler.config)
    assert theirs.components.keys() == ours.components.keys()


def test_from_pretrained_function(models):
    cls = model_class("clip_text")
    ours = loadstone.mindspore.from_pretrained(cls, models / "clip_text/float16-whole", dtype=ms.float16)
    assert differences(cls.from_pretrained(models / "clip_text/float16-whole", dtype=ms.float16), ours) == []


def test_tied_weights(models):
    with loadstone.mindspore.accelerated():
        t5 = model_class("t5").from_pretrained(models / "t5/float32-whole")
        qwen = model_class("qwen2").from_pretrained(models / "qwen2/float32-whole", dtype=ms.float16)
    assert t5.shared.weight is t5.encoder.embed_tokens.weight is t5.decoder.embed_tokens.weight
    assert t5.lm_head.weight is t5.shared.weight
    assert qwen.lm_head.weight is qwen.model.embed_tokens.embedding_table


TIED = {"gpt2": "transformer.wte.weight", "qwen2": "model.embed_tokens.weight", "t5": "shared.weight"}


@pytest.mark.parametrize("how", ["whole", "sharded"])
@pytest.mark.parametrize("name", TIED)
def test_tied_weights_that_a_checkpoint_has_twice(copy, name, how):
    """With other values: as in mindone, the same one wins. Or by the second name alone."""
    directory = copy(name, f"float32-{how}")
    first = weights_of(directory)[TIED[name]]
    for value in (0.25, 0.5):

        def do(weights, value=value):
            weights["lm_head.weight"] = np.full_like(first, value)
            if value == 0.5:
                del weights[TIED[name]]

        change(directory, do)
        theirs, ours = both(model_class(name), directory)
        assert same_info(theirs[1], ours[1])
        assert differences(theirs[0], ours[0]) == []
        assert not ours[0].lm_head.weight.has_init


# ----------------------------------------------------------------------------------------------------------
#                                              Using what was loaded
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [None, ms.float16])
def test_networks_run(models, dtype):
    theirs, ours = both(model_class("clip_text"), models / "clip_text/float32-whole", dtype=dtype)
    tokens = ms.Tensor(np.arange(8).reshape(1, 8) % 7, ms.int64)
    assert bits(theirs[0](input_ids=tokens)[0]) == bits(ours[0](input_ids=tokens)[0])


def test_training_leaves_the_file_alone(copy):
    directory = copy("vae")
    before = weights_file(directory).read_bytes()
    with loadstone.mindspore.accelerated():
        model = model_class("vae").from_pretrained(directory)
    parameters = model.trainable_params()
    old = [parameter.asnumpy().copy() for parameter in parameters]
    optimizer = ms.nn.SGD(parameters, learning_rate=0.5)
    optimizer(tuple(ms.Tensor(np.ones(p.shape, np.float32)) for p in parameters))
    for parameter, value in zip(parameters, old, strict=True):
        np.testing.assert_allclose(parameter.asnumpy(), value - 0.5, rtol=1e-6)
    assert weights_file(directory).read_bytes() == before


@pytest.mark.parametrize("name", ["vae", "llama"])
def test_saved_where_it_was_loaded_from(copy, name):
    """The parameters keep the mapping of the file that was there before."""
    directory = copy(name)
    with loadstone.mindspore.accelerated():
        model = model_class(name).from_pretrained(directory)
    first = next(iter(model.get_parameters()))
    first.set_data(first + 1)
    before = {key: bits(param) for key, param in model.parameters_and_names()}
    model.save_pretrained(directory)
    assert {key: bits(param) for key, param in model.parameters_and_names()} == before
    again = model_class(name).from_pretrained(directory)
    assert {key: bits(param) for key, param in again.parameters_and_names()} == before


# ----------------------------------------------------------------------------------------------------------
#                                        What cannot be loaded, or not by us
# ----------------------------------------------------------------------------------------------------------


def truncated(path):
    path.write_bytes(path.read_bytes()[:-8])


def garbage(path):
    path.write_bytes(bytes(range(256)) * 8)


def lfs_pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n")


def bad_header(path):
    data = path.read_bytes()
    path.write_bytes(data[:8] + data[8:].replace(b'"dtype"', b'"dtipe"', 1))


@pytest.mark.parametrize("harm", [truncated, garbage, lfs_pointer, bad_header])
@pytest.mark.parametrize(
    "name, layout", [("vae", "whole"), ("vae", "sharded"), ("llama", "whole"), ("llama", "sharded")]
)
def test_broken_checkpoints(copy, name, layout, harm):
    directory = copy(name, f"float32-{layout}")
    harm(sorted(directory.glob("*.safetensors"))[-1])
    cls = model_class(name)
    with pytest.raises(Exception) as theirs:
        cls.from_pretrained(directory)
    with loadstone.mindspore.accelerated(), pytest.raises(theirs.type) as ours:
        cls.from_pretrained(directory)
    reason = ours.value.__cause__
    assert isinstance(reason, loadstone.LoadstoneError) and str(reason) == str(ours.value)


def test_missing_files(copy):
    for name, layout in [("vae", "whole"), ("vae", "sharded"), ("llama", "whole"), ("llama", "sharded")]:
        directory = copy(name, f"float32-{layout}")
        sorted(directory.glob("*.safetensors"))[-1].unlink()
        cls = model_class(name)
        with pytest.raises(OSError) as theirs:
            cls.from_pretrained(directory)
        with loadstone.mindspore.accelerated(), pytest.raises(theirs.type):
            cls.from_pretrained(directory)
        shutil.rmtree(directory)


def only_record(caplog):
    (record,) = (r for r in caplog.records if r.name == "loadstone.mindspore")
    return record.getMessage()


def test_quantised_models_are_mindones(copy, caplog):
    for name in ("vae", "llama"):
        directory = copy(name)
        config = json.loads((directory / "config.json").read_text())
        config["quantization_config"] = {"quant_method": "none of ours"}
        (directory / "config.json").write_text(json.dumps(config))
        caplog.clear()
        theirs, ours = both(model_class(name), directory)
        assert_same(theirs, ours)
        assert (
            only_record(caplog) == f"{model_class(name).__name__} is loaded by mindone alone: it is quantised"
        )


def test_state_dicts_are_mindones(models, caplog):
    cls = model_class("clip_text")
    path = models / "clip_text/float32-whole"
    weights = {k: ms.Parameter(v, name=k) for k, v in load_file(weights_file(path)).items()}
    with loadstone.mindspore.accelerated():
        ours = cls.from_pretrained(path, state_dict=weights)
    assert differences(cls.from_pretrained(path), ours) == []
    assert only_record(caplog) == "CLIPTextModel is loaded by mindone alone: state_dict"


@pytest.mark.parametrize("name", ["vae", "clip_text"])
def test_flax_is_refused_as_by_mindone(models, name):
    cls = model_class(name)
    with loadstone.mindspore.accelerated(), pytest.raises((NotImplementedError, OSError)) as ours:
        cls.from_pretrained(models / name / "float32-whole", from_flax=True)
    with pytest.raises(ours.type):
        cls.from_pretrained(models / name / "float32-whole", from_flax=True)


def test_architectures_of_both_libraries():
    assert len(ARCHITECTURES) >= 12 and len(DIFFUSERS) >= 5 and len(TRANSFORMERS) >= 5
