"""What a checkpoint lacks in models of mindone's transformers, beside what the model itself makes."""

import loadstone
import mindone.transformers as models
import mindspore as ms
import numpy as np
import pytest
import transformers as configs
from conftest import params_of, values

lm = loadstone.mindspore

SMALL = {"vocab_size": 500, "attn_implementation": "eager"}
MODELS = {
    "BertForSequenceClassification": configs.BertConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, **SMALL
    ),
    "T5ForConditionalGeneration": configs.T5Config(
        d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, **SMALL
    ),
    "CLIPTextModel": configs.CLIPTextConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, **SMALL
    ),
}


def halves(weights):
    """Two parts of a model's weights, each with some of nearly every layer."""
    names = list(weights)
    return [{name: weights[name] for name in names[first::2]} for first in (0, 1)]


@pytest.mark.parametrize("dtype", [ms.float32, ms.bfloat16], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_values_are_spread_as_the_models_own(write, name, dtype):
    own = params_of(getattr(models, name)(MODELS[name]))
    weights = {key: values(param) for key, param in own.items()}
    for part in halves(weights):
        with lm.empty():
            net = getattr(models, name)(MODELS[name])
        assert any(param.has_init for param in net.get_parameters())
        info = lm.load_into(net, write(part), dtype=dtype)
        assert {*info.loaded, *info.missing_keys} == own.keys()
        for key, param in params_of(net).items():
            assert (param.has_init, param.name, param.dtype) == (False, key, dtype)
            found, expected = values(param), weights[key]
            if key in part:
                stored = lm.set_dtype(ms.Parameter(ms.Tensor(expected)), dtype)
                np.testing.assert_array_equal(found, values(stored))
            elif expected.std() == 0:
                np.testing.assert_array_equal(found, expected)
            else:
                # Six standard errors of what two samples of one distribution may differ by.
                error = 6 / np.sqrt(found.size)
                assert abs(found.mean() - expected.mean()) < np.sqrt(2) * error * expected.std()
                assert abs(np.log(found.std() / expected.std())) < error


def test_weight_norm(write, monkeypatch):
    from mindone.utils import weight_norm

    def norm(v, power, dim):
        """On a CPU MindSpore has no kernel for it."""
        return ms.Tensor(np.linalg.norm(v.asnumpy().reshape(len(v), -1), power, 1).reshape(-1, 1, 1, 1))

    monkeypatch.setattr(weight_norm, "norm_except_dim", norm)

    def made():
        return weight_norm.WeightNorm(ms.nn.Conv1d(4, 6, 3, has_bias=True), dim=0)

    own = made()
    with lm.empty():
        net = made()
    rng = np.random.default_rng(3)
    arrays = {
        "weight_g": rng.standard_normal((6, 1, 1)).astype(np.float32),
        "weight_v": rng.standard_normal((6, 4, 3)).astype(np.float32),
        "bias": rng.standard_normal(6).astype(np.float32),
    }
    info = lm.load_into(net, write(arrays))
    assert info.missing_keys == ["weight_norm_cell.weight"]
    assert not info.unexpected_keys
    for name, param in params_of(own).items():
        key = name.rpartition(".")[2]
        if key in arrays:
            assert params_of(net)[name].shape == param.shape
            np.testing.assert_array_equal(values(params_of(net)[name]).ravel(), arrays[key].ravel())


def test_rows_for_padding_stay_zero(write):
    with lm.empty(ms.bfloat16):
        net = models.BertForSequenceClassification(MODELS["BertForSequenceClassification"])
    lm.load_into(net, write({"classifier.bias": np.ones(2, np.float32)}))
    rows = values(params_of(net)["bert.embeddings.word_embeddings.weight"])
    assert [i for i, row in enumerate(rows) if not row.any()] == [0]


def test_what_has_values_keeps_them(write):
    name = "BertForSequenceClassification"
    first, second = halves(
        {key: values(p) for key, p in params_of(models.CLIPTextModel(MODELS["CLIPTextModel"])).items()}
    )
    for build in (models.CLIPTextModel, lm.empty()(models.CLIPTextModel)):
        net = build(MODELS["CLIPTextModel"])
        lm.load_into(net, write(first))
        before = {key: values(param).copy() for key, param in params_of(net).items()}
        lm.load_into(net, write(second))
        for key, param in params_of(net).items():
            np.testing.assert_array_equal(values(param), second.get(key, before[key]))
    net = getattr(models, name)(MODELS[name])
    before = {key: values(param).copy() for key, param in params_of(net).items()}
    lm.load_into(net, write({"classifier.bias": np.ones(2, np.float32)}))
    assert values(net.classifier.bias).tolist() == [1, 1]
    for key, param in params_of(net).items():
        assert key == "classifier.bias" or np.array_equal(values(param), before[key])
