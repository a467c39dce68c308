"""Networks built without parameters, and MindSpore left as it was."""

import inspect
import sys
import threading

import loadstone
import mindspore as ms
import numpy as np
import pytest
from conftest import Net
from mindspore import Parameter, Tensor, mint, nn, ops
from mindspore._extends import utils
from mindspore.common.initializer import Normal, initializer
from mindspore.ops import primitive

lm = loadstone.mindspore


def snapshot():
    """Every attribute of the classes that a scope might touch."""
    classes = {Parameter, Tensor, nn.Cell}
    for module in (nn, mint.nn):
        classes.update(c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, nn.Cell))
    models = sys.modules.get("mindone.transformers.modeling_utils")
    if models is not None:
        classes.update((models.PreTrainedModel, models.ModuleUtilsMixin))
    known = {(c, name): value for c in {*classes, mint, primitive, utils} for name, value in vars(c).items()}
    counters = ("total_instance_count", "_abc_impl")
    return {key: value for key, value in known.items() if key[1] not in counters}


@pytest.fixture(autouse=True)
def nothing_stays_patched():
    before = snapshot()
    yield
    after = snapshot()
    assert before.keys() == after.keys()
    assert [key for key, value in before.items() if after[key] is not value] == []


def dtypes(net):
    return {name: param.dtype for name, param in net.parameters_and_names()}


def test_layers_are_born_in_the_dtype_without_memory():
    with lm.empty(ms.bfloat16):
        net = Net()
    own = dtypes(net)
    # Not of a layer: what code computes keeps its dtype.
    assert own.pop("scale") == ms.float32
    assert set(own.values()) == {ms.bfloat16}
    without = [name for name, param in net.parameters_and_names() if param.has_init]
    assert {"fc.weight", "proj.weight", "embed.embedding_table", "conv.weight", "batch.gamma"} <= set(without)
    assert all(lm.data_ptr(param) == 0 for param in net.get_parameters() if param.has_init)
    assert set(dtypes(Net()).values()) == {ms.float32}


def test_no_memory_is_used():
    def resident():
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * 4096

    before = resident()
    with lm.empty(ms.float16):
        layers = [nn.Dense(8192, 8192), mint.nn.Linear(8192, 8192), nn.Embedding(20000, 4096)]
    lm.to(nn.CellList(layers), ms.bfloat16)
    assert resident() - before < 50 << 20


@pytest.mark.parametrize("kind", [nn.Embedding, mint.nn.Embedding], ids=["nn", "mint"])
def test_embeddings_with_padding(kind, write):
    def table(layer):
        return next(iter(layer.get_parameters()))

    for dtype in (None, ms.float16):
        with lm.empty(dtype):
            layer = kind(20, 6, padding_idx=3)
        assert layer.padding_idx == kind(20, 6, padding_idx=3).padding_idx == 3
        assert table(layer).has_init
        assert table(layer).dtype == (dtype or ms.float32)
        layer.init_parameters_data()
        rows = table(layer).asnumpy().astype(np.float32)
        assert [i for i, row in enumerate(rows) if not row.any()] == [3]
        with lm.empty(dtype):
            assert kind(20, 6).padding_idx is None
            with pytest.raises(ValueError, match="padding_idx"):
                kind(20, 6, padding_idx=20)
    with lm.empty():
        layer = kind(20, 6, padding_idx=3)
    lm.load_into(layer, write({"weight": np.ones((20, 6), np.float32)}), strict=True)
    assert table(layer).asnumpy().tolist() == [[1] * 6] * 20


def test_what_is_made_empty_is_zero():
    with lm.empty():
        for size in (((3, 4),), (3, 4), ([3, 4],)):
            assert not mint.empty(*size).asnumpy().any()
            assert mint.empty(*size, dtype=ms.float16).dtype == ms.float16
        param = Parameter(mint.empty(5, dtype=ms.bfloat16))
    assert (param.shape, param.dtype) == ((5,), ms.bfloat16)


def test_the_rest_of_a_cell_is_as_always():
    def build():
        layer = nn.Dense(4, 3, activation=ops.Softmax(axis=1), dtype=ms.float16)
        conv = nn.Conv2d(3, 4, 2, pad_mode="valid")
        return nn.SequentialCell(layer, conv)

    def known(net):
        cells = [cell for _, cell in net.cells_and_names()]
        primitives = [p for cell in cells for p in cell._primitives.values()]
        return (
            [(type(cell), sorted(vars(cell)), vars(cell).get("cell_init_args")) for cell in cells],
            [(p.name, p.attrs, p.init_attrs) for p in primitives],
        )

    outside = build()
    with lm.empty():
        inside = build()
    assert known(inside) == known(outside)
    assert known(outside)[1]


def test_cells_are_counted():
    before = nn.Cell.total_instance_count
    with lm.empty():
        layers = [nn.Dense(2, 2) for _ in range(3)]
        with lm.empty():
            layers += [nn.Dense(2, 2)]
    assert nn.Cell.total_instance_count == before + 4
    del layers
    assert nn.Cell.total_instance_count == before


def test_a_dtype_that_code_passes_is_respected():
    class Chosen(nn.Cell):
        def __init__(self):
            super().__init__()
            self.word = nn.Dense(2, 2, dtype=ms.float32)
            self.second = nn.LayerNorm((2,), -1, -1, "ones", "zeros", 1e-7, ms.float32)
            self.none = mint.nn.Linear(2, 2, dtype=None)
            self.drop = nn.Dropout(p=0.5)

    drop = nn.Dropout(p=0.5)
    with lm.empty(ms.float16):
        net = Chosen()
    assert [p.dtype for p in net.get_parameters()] == [ms.float32] * 4 + [ms.float16] * 2
    assert vars(net.drop).get("dtype") == vars(drop).get("dtype")
    with lm.empty("float16", force=True):
        net = Chosen()
    assert {p.dtype for p in net.get_parameters()} == {ms.float16}


def test_scopes_nest():
    with lm.empty(ms.float16):
        with lm.empty(ms.bfloat16):
            inner = nn.Dense(2, 2)
            with lm.empty():
                plain = nn.Dense(2, 2)
        outer = nn.Dense(2, 2)
    after = nn.Dense(2, 2)
    layers = (inner, plain, outer, after)
    assert [layer.weight.dtype for layer in layers] == [ms.bfloat16, ms.float32, ms.float16, ms.float32]
    assert [layer.weight.has_init for layer in layers] == [True, True, True, False]


def test_one_scope_may_be_used_again_and_within_itself():
    scope = lm.empty(ms.float16)
    with scope, scope:
        pass
    with scope:
        assert nn.Dense(2, 2).weight.dtype == ms.float16
    assert nn.Dense(2, 2).weight.dtype == ms.float32


def test_exceptions_close_it():
    with pytest.raises(ZeroDivisionError), lm.empty(ms.float16), lm.empty(ms.bfloat16):
        1 / 0  # noqa: B018
    assert not nn.Dense(2, 2).weight.has_init


def test_as_a_decorator():
    @lm.empty(ms.bfloat16)
    def build(n):
        """Build it."""
        return nn.Dense(n, 2)

    assert (build.__name__, build.__doc__) == ("build", "Build it.")
    assert build(3).weight.dtype == ms.bfloat16
    assert nn.Dense(2, 2).weight.dtype == ms.float32


def test_threads_do_not_notice_each_other():
    barrier = threading.Barrier(3, timeout=60)
    found = {}

    def build(dtype):
        barrier.wait()
        if dtype is None:
            layers = [nn.Dense(4, 4) for _ in range(20)]
        else:
            with lm.empty(dtype):
                barrier_inside.wait()
                layers = [nn.Dense(4, 4) for _ in range(20)]
        found[dtype] = {(layer.weight.dtype, bool(layer.weight.has_init)) for layer in layers}

    barrier_inside = threading.Barrier(2, timeout=60)
    threads = [threading.Thread(target=build, args=(dtype,)) for dtype in (ms.float16, ms.bfloat16, None)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {
        ms.float16: {(ms.float16, True)},
        ms.bfloat16: {(ms.bfloat16, True)},
        None: {(ms.float32, False)},
    }


def test_one_scope_in_two_threads():
    """Each of them leaves it first once."""
    scope = lm.empty(ms.float16)
    found = []

    def build():
        with scope:
            entered.set()
            assert left.wait(60)
            found.append(nn.Dense(2, 2).weight.dtype)

    for _ in range(2):
        entered, left = threading.Event(), threading.Event()
        thread = threading.Thread(target=build)
        with scope:
            thread.start()
            assert entered.wait(60)
        found.append(nn.Dense(2, 2).weight.dtype)
        left.set()
        thread.join()
    assert found == [ms.float32, ms.float16] * 2


def test_scopes_that_do_not_close_in_turn():
    def layers(dtype):
        with lm.empty(dtype):
            while True:
                yield nn.Dense(2, 2).weight.dtype

    first = layers(ms.float16)
    assert next(first) == ms.float16
    second = layers(ms.bfloat16)
    assert next(second) == ms.bfloat16
    first.close()
    assert nn.Dense(2, 2).weight.dtype == ms.bfloat16
    second.close()
    with lm.empty():
        assert nn.Dense(2, 2).weight.dtype == ms.float32
    assert not nn.Dense(2, 2).weight.has_init


def test_a_thread_made_within_is_outside():
    found = []
    with lm.empty(ms.float16):
        thread = threading.Thread(target=lambda: found.append(nn.Dense(2, 2).weight))
        thread.start()
        thread.join()
    assert (found[0].dtype, found[0].has_init) == (ms.float32, False)


def test_initial_values_that_are_set_again_stay_deferred():
    with lm.empty(ms.float16):
        layer = nn.Dense(200, 200)
        layer.weight.set_data(initializer(Normal(0.5, 2.0), layer.weight.shape, ms.float32))
        layer.bias.set_data(initializer("ones", layer.bias.shape, layer.bias.dtype))
    assert layer.weight.has_init and layer.bias.has_init
    assert layer.weight.dtype == ms.float16
    layer.init_parameters_data()
    assert layer.weight.dtype == ms.float16
    assert abs(layer.weight.asnumpy().astype(np.float32).mean() - 2) < 0.05
    assert layer.bias.asnumpy().tolist() == [1] * 200


def test_other_data_may_be_set():
    with lm.empty():
        layer = nn.Dense(2, 2)
        layer.weight.set_data(Tensor([[1.0, 2], [3, 4]]))
    assert layer.weight.asnumpy().tolist() == [[1, 2], [3, 4]]


def test_functions_whose_body_runs_later_are_refused():
    def generator():
        yield

    async def coroutine():
        pass

    async def both():
        yield

    for scope in (lm.empty(), lm.accelerated()):
        for function in (generator, coroutine, both):
            with pytest.raises(TypeError) as caught:
                scope(function)
            name = f"test_functions_whose_body_runs_later_are_refused.<locals>.{function.__name__}"
            assert str(caught.value) == (
                f"{name}: expected a plain function, found one whose body runs later; use with inside it"
            )
