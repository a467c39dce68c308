"""What the tests of from_pretrained share: the models, mindone's classes, and comparing two of them."""

from __future__ import annotations

import gc
import inspect
import os
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from loadstone.mindspore import _initial, _pretrained
from mindspore import Parameter, mint, nn
from mindspore.nn.utils import no_init_parameters

TREE = Path(__file__).parents[3]

DIFFUSERS = {
    "cogvideox": "CogVideoXTransformer3DModel",
    "cogvideox_vae": "AutoencoderKLCogVideoX",
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "flux": "FluxTransformer2DModel",
}
TRANSFORMERS = {
    "t5_encoder": "T5EncoderModel",
    "t5": "T5ForConditionalGeneration",
    "clip_text": "CLIPTextModel",
    "bert": "BertForMaskedLM",
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "vit": "ViTModel",
    "whisper": "WhisperForConditionalGeneration",
}
if not ms.__version__.startswith("2.7"):
    del TRANSFORMERS["vit"]  # mindone 0.5.0 itself cannot build it there
ARCHITECTURES = [*DIFFUSERS, *TRANSFORMERS]


def model_class(name):
    import mindone.diffusers
    import mindone.transformers

    if name in DIFFUSERS:
        return getattr(mindone.diffusers, DIFFUSERS[name])
    return getattr(mindone.transformers, TRANSFORMERS[name])


def dtype_argument(name, dtype):
    """As mindone's users give it."""
    return {"mindspore_dtype" if name in DIFFUSERS else "dtype": dtype}


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """The directory that make_models.py fills, with a Python that has torch."""
    if "LDS_MINDSPORE_MODELS" in os.environ:
        return Path(os.environ["LDS_MINDSPORE_MODELS"])
    out = tmp_path_factory.mktemp("models")
    python = os.environ.get("LDS_TORCH_PYTHON", TREE / ".venv/bin/python")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    script = Path(__file__).with_name("make_models.py")
    subprocess.run([python, script, out], check=True, env=environment, stdout=sys.stderr)
    return out


# ----------------------------------------------------------------------------------------------------------
#                        Operators that mindone's models need to be built, and MindSpore lacks on CPUs
# ----------------------------------------------------------------------------------------------------------


def _arange(start, end=None, step=1, *, dtype=None):
    values = np.arange(*((0, start) if end is None else (start, end)), step)
    tensor = ms.Tensor(values.astype(np.int64 if values.dtype.kind == "i" else np.float32))
    return tensor if dtype is None else tensor.astype(dtype)


def _randn(*size, dtype=None):
    size = size[0] if isinstance(size[0], (tuple, list)) else size
    return ms.Tensor(np.random.randn(*size).astype(np.float32)).astype(dtype or ms.float32)


def _pad(tensor, pad, mode="constant", value=0):
    widths = [(0, 0)] * tensor.ndim
    for i in range(len(pad) // 2):
        widths[-1 - i] = (pad[2 * i], pad[2 * i + 1])
    return ms.Tensor(np.pad(tensor.asnumpy(), widths))


def _in_place(values):
    def fill(self, *args, **kwargs):
        tensor = ms.Tensor(values(self.shape, *args, **kwargs).astype(np.float32)).astype(self.dtype)
        ms.Tensor.assign_value(self, tensor)
        return self

    return fill


@pytest.fixture(scope="module", autouse=True)
def cpu_operators():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mint, "arange", _arange)
        patch.setattr(mint, "randn", _randn)
        patch.setattr(mint.nn.functional, "pad", _pad)
        normal = _in_place(lambda shape, mean=0, std=1, generator=None: np.random.normal(mean, std, shape))
        patch.setattr(ms.Tensor, "normal_", normal)
        patch.setattr(ms.Tensor, "zero_", _in_place(np.zeros))
        patch.setattr(ms.Tensor, "fill_", _in_place(np.full))
        # mindone collects garbage after each shard, which takes a second with all that it imports.
        model_class("unet"), model_class("bert")
        gc.collect()
        gc.freeze()
        yield
        gc.unfreeze()


# ----------------------------------------------------------------------------------------------------------
#                                                  Comparing
# ----------------------------------------------------------------------------------------------------------


def bits(tensor):
    array = np.ascontiguousarray(tensor.asnumpy())
    return array.reshape(-1).view(np.uint8).tobytes()


def differences(theirs, ours, but=()):
    """What is not the same in two models, a line each. Values of the names in but are not compared."""
    left, right = dict(theirs.parameters_and_names()), dict(ours.parameters_and_names())
    found = []
    if list(left) != list(right):
        found.append(f"names: {set(left) ^ set(right)}")
    for name in left.keys() & right.keys():
        a, b = left[name], right[name]
        for what in ("name", "dtype", "shape", "requires_grad"):
            if getattr(a, what) != getattr(b, what):
                found.append(f"{name}: {what}: {getattr(a, what)}, {getattr(b, what)}")
        if name not in but and bits(a) != bits(b):
            found.append(f"{name}: values")
    left, right = dict(theirs.named_buffers()), dict(ours.named_buffers())
    for name in left.keys() | right.keys():
        if name not in left or name not in right or bits(left[name]) != bits(right[name]):
            found.append(f"{name}: buffer")
    if theirs.training != ours.training:
        found.append("training")
    if str(theirs.config) != str(ours.config):
        found.append("config")
    return found


# ----------------------------------------------------------------------------------------------------------
#                                            What could be left behind
# ----------------------------------------------------------------------------------------------------------


def touched():
    """Everything that could be replaced, as it is now."""
    owners = {}
    for module in (_pretrained, _initial):
        owners.update((id(owner), owner) for owner, _, _ in module._replacements())
    for module in (nn, mint.nn):
        owners.update((id(c), c) for c in vars(module).values() if inspect.isclass(c))
    for owner in (Parameter, ms.Tensor, nn.Cell):
        owners[id(owner)] = owner
    return {(owner, name): value for owner in owners.values() for name, value in vars(owner).items()}


@pytest.fixture(autouse=True)
def nothing_left():
    with no_init_parameters():
        pass  # it leaves an attribute behind, which mindone alone would in some of these tests
    before = touched()
    yield
    after = touched()
    assert before.keys() ^ after.keys() == set()
    assert [key for key in before if before[key] is not after[key]] == []
