"""Networks from manifests, and their initial values, against torch and a generator written from its paper."""

import ctypes
import json
import math
import statistics

import cli_support
import models
import numpy as np
import pytest
import torch

TORCH_DTYPES = cli_support.TORCH_DTYPES | {
    "C64": torch.complex64,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}


class Init(ctypes.Structure):
    """lds_init."""

    _fields_ = [
        ("kind", ctypes.c_int),
        ("a", ctypes.c_double),
        ("b", ctypes.c_double),
        ("lo", ctypes.c_double),
        ("hi", ctypes.c_double),
    ]


class Network:
    """A network of the library, made from a manifest and initialised."""

    def __init__(self, library, manifest, seed=0):
        self.library = library
        text = json.dumps(manifest).encode()
        self.handle = ctypes.c_void_p()
        status = library.lds_network_from_manifest(
            ctypes.byref(self.handle), text, len(text), b"m.json", None
        )
        assert status == 0
        assert library.lds_network_init(self.handle, seed, None, None) == 0
        self.dtypes = {entry["name"]: entry["dtype"] for entry in manifest}

    def __getitem__(self, name):
        """A copy of a parameter's values, flat."""
        param = self.library.lds_network_find(self.handle, name.encode())
        data = self.library.lds_param_data(param)
        raw = ctypes.string_at(data, self.library.lds_param_nbytes(param))
        return torch.frombuffer(bytearray(raw), dtype=TORCH_DTYPES[self.dtypes[name]])

    def close(self):
        self.library.lds_network_free(self.handle)


@pytest.fixture(scope="module")
def library(library_path):
    library = ctypes.CDLL(library_path)
    pointer, size, text, u32, u64 = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_char_p,
        ctypes.c_uint32,
        ctypes.c_uint64,
    )
    functions = {
        "lds_network_from_manifest": (ctypes.c_int, [pointer, text, size, text, pointer]),
        "lds_network_init": (ctypes.c_int, [pointer, u64, pointer, pointer]),
        "lds_network_find": (pointer, [pointer, text]),
        "lds_network_param": (pointer, [pointer, size]),
        "lds_network_n_params": (size, [pointer]),
        "lds_network_free": (None, [pointer]),
        "lds_param_name": (text, [pointer]),
        "lds_param_dtype": (ctypes.c_int, [pointer]),
        "lds_param_n_dims": (u32, [pointer]),
        "lds_param_shape": (ctypes.POINTER(u64), [pointer]),
        "lds_param_tied_to": (pointer, [pointer]),
        "lds_param_init": (Init, [pointer]),
        "lds_param_data": (pointer, [pointer]),
        "lds_param_nbytes": (u64, [pointer]),
        "lds_dtype_name": (text, [ctypes.c_int]),
        "lds_init_kind_name": (text, [ctypes.c_int]),
    }
    for name, (result, arguments) in functions.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


@pytest.fixture
def values(library):
    """values(dtype, shape, init) are those of a parameter "w"."""
    networks = []

    def make(dtype, shape, init, seed=0, name="w"):
        network = Network(library, [{"name": name, "dtype": dtype, "shape": shape, "init": init}], seed)
        networks.append(network)
        return network[name]

    yield make
    for network in networks:
        network.close()


def bits(tensor):
    return tensor.contiguous().view(torch.uint8).tolist() if tensor.numel() else []


def ks_distance(a, b):
    """How far two samples' distributions are apart."""
    both = np.concatenate([a, b])
    below_a = np.searchsorted(np.sort(a), both, side="right") / len(a)
    below_b = np.searchsorted(np.sort(b), both, side="right") / len(b)
    return np.abs(below_a - below_b).max()


@pytest.mark.parametrize("shape", [(96, 64), (32, 16, 3), (16, 8, 3, 5), (8, 16, 3, 3, 3)])
@pytest.mark.parametrize(
    ("kind", "number", "fill"),
    [
        ("xavier_uniform", 1.7, lambda t, a: torch.nn.init.xavier_uniform_(t, gain=a)),
        ("xavier_normal", 0.3, lambda t, a: torch.nn.init.xavier_normal_(t, gain=a)),
        ("kaiming_uniform", math.sqrt(5), lambda t, a: torch.nn.init.kaiming_uniform_(t, a=a)),
        ("kaiming_uniform", 0, lambda t, a: torch.nn.init.kaiming_uniform_(t, a=a)),
        ("kaiming_normal", 0.2, lambda t, a: torch.nn.init.kaiming_normal_(t, a=a)),
    ],
)
def test_fans_and_gains_are_those_of_torch(values, shape, kind, number, fill):
    torch.manual_seed(0)
    found = values("F32", shape, {"kind": kind, "a": number}).numpy()
    expected = torch.cat([fill(torch.empty(shape), number).flatten() for _ in range(8)]).numpy()
    assert ks_distance(found, expected) < 1.95 * math.sqrt(9 / 8 / found.size)
    assert found.std() == pytest.approx(expected.std(), rel=0.05)
    if kind.endswith("uniform"):
        assert np.abs(found).max() == pytest.approx(np.abs(expected).max(), rel=0.01)


@pytest.mark.parametrize(
    ("mean", "std", "lo", "hi"), [(0, 1, -2, 2), (1, 0.5, -1, 1.25), (0, 0.02, -2, 2), (-1, 3, 0, 1)]
)
def test_trunc_normal_is_that_of_torch(values, mean, std, lo, hi):
    torch.manual_seed(0)
    rule = {"kind": "trunc_normal", "a": mean, "b": std, "lo": lo, "hi": hi}
    found = values("F32", [200_000], rule).numpy()
    expected = torch.nn.init.trunc_normal_(torch.empty(200_000), mean, std, lo, hi).numpy()
    assert found.min() >= lo and found.max() <= hi
    assert ks_distance(found, expected) < 1.95 * math.sqrt(2 / found.size)


def philox(counter, key):
    """Philox4x32-10 over columns of counters, from the paper's description."""
    c = [np.asarray(word, dtype=np.uint64) for word in counter]
    k = list(key)
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [
            (b >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]),
            b & low,
            (a >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]),
            a & low,
        ]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(c, axis=1)


def xxh64_of_w():
    """XXH64 of "w" with seed 0, by its specification's steps for one byte."""
    mask, p1, p2, p3, p5 = (
        2**64 - 1,
        11400714785074694791,
        14029467366897019727,
        1609587929392839161,
        2870177450012600261,
    )
    h = (p5 + 1) & mask
    h ^= ord("w") * p5 & mask
    h = ((h << 11 | h >> 53) & mask) * p1 & mask
    h = (h ^ h >> 33) * p2 & mask
    h = (h ^ h >> 29) * p3 & mask
    return h ^ h >> 32


def words_of_w(n, seed):
    blocks, name = np.arange(n // 4), xxh64_of_w()
    counter = [blocks, blocks * 0, blocks * 0 + (name & 0xFFFFFFFF), blocks * 0 + (name >> 32)]
    return philox(counter, [seed & 0xFFFFFFFF, seed >> 32]).reshape(-1)


def test_values_follow_from_seed_name_and_index(values):
    seed, n = 0x123456789ABCDEF, 4096
    words = words_of_w(n, seed)

    uniform = values("F32", [n], {"kind": "uniform", "lo": -1, "hi": 3}, seed).numpy()
    np.testing.assert_array_equal(uniform, (-1 + 4 * ((words >> np.uint64(8)) * 2.0**-24)).astype(np.float32))

    normal = values("F32", [n], {"kind": "normal", "a": 0, "b": 1}, seed).numpy()
    radius = np.sqrt(-2 * np.log(((words[0::2] >> np.uint64(1)) + 0.5) * 2.0**-31))
    angle = words[1::2] * 2.0**-32 * 2 * np.pi
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
    np.testing.assert_allclose(normal, expected, rtol=0, atol=2e-6)

    truncated = values("F32", [n], {"kind": "trunc_normal", "lo": -1, "hi": 2}, seed).numpy()
    z = statistics.NormalDist()
    p = z.cdf(-1) + (z.cdf(2) - z.cdf(-1)) * ((words + 0.5) * 2.0**-32)
    np.testing.assert_allclose(truncated, [z.inv_cdf(x) for x in p], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", sorted(TORCH_DTYPES))
def test_constants_are_those_of_torch(values, dtype):
    made = TORCH_DTYPES[dtype]
    numbers = [0, 1] if dtype in {"BOOL", "U8"} else [0, 1, -3]
    numbers += [0.1, -2.7] if made.is_floating_point else []
    for number in numbers:
        expected = torch.full([5], number, dtype=torch.float64 if made.is_floating_point else made).to(made)
        assert bits(values(dtype, [5], {"kind": "constant", "a": number})) == bits(expected)
    assert bits(values(dtype, [5], "ones")) == bits(torch.ones(5, dtype=torch.float64).to(made))
    assert bits(values(dtype, [5], "zeros")) == bits(torch.zeros(5, dtype=made))


@pytest.mark.parametrize("dtype", ["I8", "I16", "I32", "I64", "F16", "BF16", "F32", "F64"])
def test_arange_is_that_of_torch(values, dtype):
    expected = torch.arange(-7, 93, 3, dtype=torch.float64).to(TORCH_DTYPES[dtype])
    found = values(dtype, [2, len(expected)], {"kind": "arange", "a": -7, "b": 3})
    assert bits(found) == bits(expected) * 2


@pytest.mark.parametrize("write", [models.write_transformer, models.write_text_encoder])
def test_printed_manifest_reads_back(loadstone, library, tmp_path, write):
    """What the command prints of a network is that network: its rules and ties, too."""
    write(tmp_path)
    printed = loadstone.json("manifest", tmp_path)
    network = Network(library, printed)
    assert library.lds_network_n_params(network.handle) == len(printed)
    for i, entry in enumerate(printed):
        param = library.lds_network_param(network.handle, i)
        assert library.lds_param_name(param).decode() == entry["name"]
        assert library.lds_dtype_name(library.lds_param_dtype(param)).decode() == entry["dtype"]
        shape = library.lds_param_shape(param)
        assert [shape[d] for d in range(library.lds_param_n_dims(param))] == entry["shape"]
        root = library.lds_param_tied_to(param)
        assert (library.lds_param_name(root).decode() if root else None) == entry["tied_to"]
        init = library.lds_param_init(param)
        kind = library.lds_init_kind_name(init.kind).decode()
        rule = entry["init"] if isinstance(entry["init"], dict) else {"kind": entry["init"]}
        assert rule["kind"] == kind
        assert all(getattr(init, field) == rule.get(field, 0) for field in ("a", "b", "lo", "hi"))
    network.close()
