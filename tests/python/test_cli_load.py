"""The command line's load: digests equal to torch's, reports that are true, plans that are kept."""

import contextlib
import fcntl
import json
import os
import re
import resource
import subprocess
import threading

import pytest
import torch
from cli_support import (
    FLOATS,
    TORCH_DTYPES,
    digest,
    digests,
    mixed_tensors,
    random_tensor,
    write_many,
    write_pipeline,
    write_raw,
    write_shards,
    write_t5,
)
from safetensors.torch import save_file

FIELDS = {
    "tensors",
    "bytes_read",
    "bytes_mapped",
    "bytes_written",
    "seconds",
    "peak_rss_bytes",
    "source",
    "reason",
    "source_reason",
    "fallback",
    "cache",
    "threads",
    "architecture",
    "phases",
    "missing",
    "unexpected",
    "mismatched",
    "initialised",
    "tied",
    "components",
}
NOT_OF_PIPELINES = {"reason", "source_reason", "fallback", "cache", "phases", "architecture"}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    tensors = mixed_tensors()
    path = tmp_path_factory.mktemp("mixed") / "mixed.safetensors"
    save_file(tensors, path)
    return path, tensors


def nbytes(tensors):
    return sum(t.numel() * t.element_size() for t in tensors.values())


def refused(loadstone, *args, **options):
    """Run a load that does not fit, which has both forms of the report; the JSON one, and the error."""
    text = loadstone("load", *args, check=False, **options)
    done = loadstone("load", *args, "--json", check=False, **options)
    assert text.returncode == done.returncode == 1
    assert "does not fit" in text.stdout and text.stderr == done.stderr
    assert done.stderr.startswith("loadstone: ") and done.stderr.count("\n") == 1
    return json.loads(done.stdout), done.stderr


# ---------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("io", ["auto", "map", "read", "uring", "direct"])
@pytest.mark.parametrize("threads", [[], ["-j1"], ["-j", "7"]])
def test_own_dtypes(loadstone, mixed, io, threads):
    path, tensors = mixed
    found = loadstone.json("load", path, "--digest", "--io", io, *threads, encoding="utf-8")
    assert found["digests"] == digests(tensors)
    assert set(found) == FIELDS | {"digests"}
    assert found["tensors"] == len(tensors)
    assert found["bytes_read"] == nbytes(tensors)
    assert 0 < found["seconds"] < 60 and found["peak_rss_bytes"] > 1 << 20
    assert set(found["phases"]) == {
        "plan",
        "memory",
        "transfer",
        "init",
        "cache",
        "check",
        "read",
        "convert",
    }
    if io in ("read", "uring", "direct"):
        assert found["source"] == io or found["fallback"]
        assert found["threads"] >= 1
        assert found["bytes_written"] == nbytes(tensors) and found["bytes_mapped"] == 0
    else:
        assert found["bytes_mapped"] + found["bytes_written"] == nbytes(tensors)
    assert found["components"] == {} and found["missing"] == found["unexpected"] == found["mismatched"] == []


@pytest.mark.parametrize("target", FLOATS)
def test_every_float_dtype(loadstone, tmp_path, target):
    tensors = {
        f"{name}.{n}": random_tensor((n,), TORCH_DTYPES[name], n)
        for name in FLOATS
        for n in (1, 63, 1000, 20011)
    } | {"ids": torch.arange(9)}
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    for options in ([], ["--io", "read", "-j2", "--window", "128K"]):
        found = loadstone.json("load", path, "-d", target.lower(), "--digest", *options)
        assert found["digests"] == digests(tensors, TORCH_DTYPES[target])


def test_keep_f32_and_names(loadstone, tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = {
        n: random_tensor((4, 4), torch.bfloat16, 1) for n in ("a.norm.w", "a.linear.w", "b.norm.w", "b.proj")
    }
    save_file(tensors, path)
    found = loadstone.json(
        "load", path, "-d", "f16", "--keep-f32", "*.norm.*", "--keep-f32=b.proj", "--digest"
    )
    assert found["digests"] == {
        n: digest(t.half() if n == "a.linear.w" else t.float()) for n, t in tensors.items()
    }
    found = loadstone.json("load", path, "--names", "a.*", "--names", "*proj", "--digest")
    assert set(found["digests"]) == {"a.norm.w", "a.linear.w", "b.proj"}
    assert found["tensors"] == 3


def test_digest_text(loadstone, mixed):
    path, tensors = mixed
    lines = loadstone("load", path, "--digest", encoding="utf-8").stdout.splitlines()
    listed = dict(reversed(line.split("  ")) for line in lines if re.match("[0-9a-f]{32}  ", line))
    assert listed == digests(tensors)


def test_quiet_digests_can_be_compared(loadstone, tmp_path):
    tensors = {f"w{i}": random_tensor((5, i), torch.bfloat16, i) for i in range(4)}
    wide, narrow = tmp_path / "model.safetensors", tmp_path / "model.bf16.safetensors"
    save_file({name: t.float() for name, t in tensors.items()}, wide)
    save_file(tensors, narrow)
    converted = loadstone("load", "-q", "--digest", "--dtype", "bf16", wide).stdout
    assert converted == loadstone("load", "-q", "--digest", narrow).stdout
    assert converted == "".join(f"{digest(t)}  {name}\n" for name, t in tensors.items())
    assert loadstone("load", "-q", "--digest", "--dry-run", narrow).stdout == ""


def test_lazy(loadstone, mixed):
    path, tensors = mixed
    assert loadstone.json("load", path, "--lazy", "--digest", encoding="utf-8")["digests"] == digests(tensors)


def test_map(loadstone, tmp_path):
    path, rules = tmp_path / "model.safetensors", tmp_path / "map.json"
    tensors = {
        "model.embed.weight": random_tensor((6, 4), torch.float32, 1),
        "model.h.0.w": random_tensor((4, 3), torch.float32, 2),
        "model.h.1.w": random_tensor((4, 3), torch.float32, 3),
        "model.step": torch.tensor(5),
    }
    save_file(tensors, path)
    rules.write_text(
        json.dumps(
            {
                "rules": [
                    {"exact": "model.step", "drop": True},
                    {"prefix": "model.", "to": ""},
                    {"regex": r"^h\.(\d+)\.", "to": "layers.$1."},
                    {"regex": r"embed\.weight$", "to": "table", "add_dim": 1},
                ]
            }
        )
    )
    network = tmp_path / "net.json"
    network.write_text(
        json.dumps(
            [
                {"name": "table", "dtype": "F32", "shape": [6, 1, 4]},
                {"name": "layers.0.w", "dtype": "BF16", "shape": [4, 3]},
                {"name": "layers.1.w", "dtype": "F32", "shape": [4, 3]},
            ]
        )
    )
    found = loadstone.json("load", path, "--map", rules, "--network", network, "--digest")
    assert found["digests"] == {
        "table": digest(tensors["model.embed.weight"]),
        "layers.0.w": digest(tensors["model.h.0.w"].bfloat16()),
        "layers.1.w": digest(tensors["model.h.1.w"]),
    }
    found = loadstone.json("load", path, "-m", rules, "-n", network, "-d", "f16", "--digest")
    assert found["digests"]["table"] == digest(tensors["model.embed.weight"].half())
    found = loadstone.json("load", path, "-m", rules, "-d", "bf16", "--digest")
    assert found["digests"] == {
        "table": digest(tensors["model.embed.weight"].bfloat16()),
        "layers.0.w": digest(tensors["model.h.0.w"].bfloat16()),
        "layers.1.w": digest(tensors["model.h.1.w"].bfloat16()),
    }


def test_network_from_a_pipe(loadstone, tmp_path):
    """A manifest may come from another program, as <(...) gives it."""
    path, fifo = tmp_path / "model.safetensors", tmp_path / "fifo"
    save_file({"w": torch.ones(3)}, path)
    text = loadstone("manifest", path, "-d", "f16", "--json").stdout
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_text, args=(text,))
    writer.start()
    found = loadstone.json("load", path, "--network", fifo, "--digest")
    writer.join()
    assert found["digests"] == {"w": digest(torch.ones(3).half())}


def test_tied(loadstone, tmp_path):
    params = write_t5(tmp_path / "t5", torch.float32)
    for options, dtype in (([], None), (["-d", "bf16"], torch.bfloat16)):
        found = loadstone.json("load", tmp_path / "t5", "--digest", *options)
        assert found["digests"] == digests(params, dtype)
        assert found["tied"] == [{"name": "encoder.embed_tokens.weight", "tied_to": "shared.weight"}]
        assert found["architecture"] == "T5EncoderModel"
        assert found["tensors"] == len(params) - 1
    assert (
        "1 tied\n  encoder.embed_tokens.weight: shared.weight"
        in loadstone("load", tmp_path / "t5", "-v").stdout
    )


def test_kept_in_f32(loadstone, tmp_path):
    """transformers keeps the second linear of T5's feed-forward in float32 beside float16, and only there."""
    params = write_t5(tmp_path / "t5", torch.float32)
    found = loadstone.json("load", tmp_path / "t5", "-d", "f16", "--digest")["digests"]
    for name, t in params.items():
        assert found[name] == digest(t if name.endswith(".wo.weight") else t.half())


def test_pipeline(loadstone, tmp_path):
    parts = write_pipeline(tmp_path / "pipe")
    for options, dtype in (([], None), (["-d", "f32"], torch.float32)):
        done = loadstone("load", tmp_path / "pipe", "--digest", "--json", *options)
        found = json.loads(done.stdout)
        assert list(found["components"]) == ["text_encoder", "transformer", "vae"]
        assert found["digests"] == {
            f"{part}/{name}": d
            for part, tensors in parts.items()
            for name, d in digests(tensors, dtype).items()
        }
        assert set(found) == (FIELDS | {"digests"}) - NOT_OF_PIPELINES
        for sums in ("tensors", "bytes_read", "bytes_mapped", "bytes_written"):
            assert found[sums] == sum(part[sums] for part in found["components"].values())
        for part in found["components"].values():
            assert set(part) == FIELDS - {"components", "peak_rss_bytes"}
        assert found["tied"] == [
            {"name": "text_encoder/encoder.embed_tokens.weight", "tied_to": "text_encoder/shared.weight"}
        ]
    lines = loadstone("load", tmp_path / "pipe").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["text_encoder", "transformer", "vae", "total"]
    assert re.fullmatch(r"vae +1 tensor +72 B +f32 -> f32 +\S.*\d\.\d\d s", lines[2])


def test_names_of_a_pipeline(loadstone, tmp_path):
    """Each pattern has to mean something in one component; those in which none does are left alone."""
    write_pipeline(tmp_path / "pipe")

    def load(*names):
        args = [arg for name in names for arg in ("--names", name)]
        return loadstone.json("load", tmp_path / "pipe", "--digest", *args)

    found = load("shared.weight")
    assert list(found["components"]) == ["text_encoder"] and found["tensors"] == 1
    assert set(found["digests"]) == {"text_encoder/shared.weight", "text_encoder/encoder.embed_tokens.weight"}
    found = load("encoder.block.0.*", "blocks.[0-2].w", "conv.*")
    assert list(found["components"]) == ["text_encoder", "transformer", "vae"]
    everything = loadstone.json("load", tmp_path / "pipe", "--digest")["digests"]
    assert set(found["digests"].items()) < set(everything.items())
    done = loadstone("load", tmp_path / "pipe", "--names", "shared.weight", "--names=no.*", check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "loadstone: --names: no parameter of any component matches 'no.*'\n"


def test_patterns_that_match_nothing(loadstone, mixed):
    path, _ = mixed
    done = loadstone("load", path, "--names", "no", "--dry-run", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "loadstone: --names: no parameter of the network matches 'no'\n"
    done = loadstone("load", path, "-d", "f16", "--keep-f32", "block.*", "--keep-f32", "no.*")
    assert done.stderr == "loadstone: --keep-f32: no float parameter of the network matches 'no.*'\n"
    assert loadstone("load", path, "-d", "f16", "-q", "--keep-f32", "no.*").stderr == ""
    done = loadstone("load", path, "--keep-f32", "*.bool")
    assert done.stderr == "loadstone: --keep-f32: no float parameter of the network matches '*.bool'\n"


def test_pipeline_takes_no_manifest(loadstone, tmp_path):
    write_pipeline(tmp_path / "pipe")
    manifest = tmp_path / "net.json"
    manifest.write_text("[]")
    done = loadstone("load", tmp_path / "pipe", "--network", manifest, check=False)
    assert done.returncode == 2 and "expected a single checkpoint, found a pipeline" in done.stderr


# ----------------------------------------------------------------------------------- what does not fit


@pytest.fixture
def misfit(tmp_path):
    """A file and a network that differ in all ways."""
    path, manifest = tmp_path / "model.safetensors", tmp_path / "net.json"
    save_file({"same": torch.ones(2), "turned": torch.ones(3, 2), "extra\x1b[1m": torch.ones(1)}, path)
    manifest.write_text(
        json.dumps(
            [
                {"name": "same", "dtype": "F32", "shape": [2]},
                {"name": "turned", "dtype": "F32", "shape": [2, 3], "init": "zeros"},
                {"name": "absent", "dtype": "F32", "shape": [4], "init": {"kind": "constant", "a": 0.5}},
            ]
        )
    )
    return [path, "--network", manifest]


def test_misfit(loadstone, misfit):
    found, error = refused(loadstone, *misfit)
    assert found["missing"] == ["absent"]
    assert found["unexpected"] == ["extra\x1b[1m"]
    assert found["mismatched"] == [
        {"name": "turned", "expected": [2, 3], "found": [3, 2], "detail": "expected [2, 3], found [3, 2]"}
    ]
    assert found["tensors"] == found["bytes_read"] == 0
    assert "model.safetensors" in error and "\x1b" not in error
    text = loadstone("load", *misfit, check=False).stdout
    assert "1 missing from the checkpoint\n  absent\n" in text
    assert "1 unexpected in the checkpoint\n  extra\\x1b[1m\n" in text
    assert "1 of another shape in the checkpoint\n  turned: expected [2, 3], found [3, 2]\n" in text


def test_long_shapes_are_found_whole(loadstone, tmp_path):
    """The text of a mismatch is cut, its shape is not."""
    shape = [0] + [10000] * 49
    path = write_raw(
        tmp_path / "m.safetensors", {"w": {"dtype": "U8", "shape": shape, "data_offsets": [0, 0]}}
    )
    manifest = tmp_path / "net.json"
    manifest.write_text('[{"name": "w", "dtype": "U8", "shape": []}]')
    found, _ = refused(loadstone, path, "--network", manifest)
    assert [(m["expected"], m["found"]) for m in found["mismatched"]] == [([], shape)]


def test_misfit_is_planned_alike(loadstone, misfit):
    done = loadstone("load", *misfit, "--dry-run", "--json", check=False)
    found = json.loads(done.stdout)
    assert done.returncode == 1 and found["dry_run"] is True
    assert (found["missing"], found["unexpected"]) == (["absent"], ["extra\x1b[1m"])
    assert [m["name"] for m in found["mismatched"]] == ["turned"]


def test_misfit_allowed(loadstone, misfit):
    assert loadstone("load", *misfit, "--no-strict", check=False).returncode == 1
    found = loadstone.json("load", *misfit, "--no-strict", "--ignore-mismatched", "--digest")
    assert set(found["initialised"]) == {"turned", "absent"}
    assert found["digests"] == digests(
        {"same": torch.ones(2), "turned": torch.zeros(2, 3), "absent": torch.full((4,), 0.5)}
    )
    found = loadstone.json("load", *misfit, "--no-strict", "--ignore-mismatched", "--no-init", "--digest")
    assert found["initialised"] == [] and set(found["digests"]) == {"same"}


def test_seed(loadstone, tmp_path):
    path, manifest = tmp_path / "model.safetensors", tmp_path / "net.json"
    save_file({}, path)
    manifest.write_text(json.dumps([{"name": "w", "dtype": "F32", "shape": [1000], "init": "normal"}]))

    def load(*args):
        return loadstone.json("load", path, "-n", manifest, "--no-strict", "--digest", *args)["digests"]["w"]

    assert load() == load("--seed", 0) == load("--seed=0", "-j1")
    assert len({load("--seed", seed) for seed in (0, 1, 2**64 - 1)}) == 3


def test_pipeline_that_does_not_fit(loadstone, tmp_path):
    """The report goes as far as the component that does not fit, and the error names it."""
    write_pipeline(tmp_path / "pipe")
    config = tmp_path / "pipe/text_encoder/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_layers": 3}))
    found, error = refused(loadstone, tmp_path / "pipe")
    assert error.startswith("loadstone: text_encoder: ")
    assert list(found["components"]) == ["text_encoder"]
    assert all(name.startswith("text_encoder/encoder.block.2.") for name in found["missing"])
    assert found["components"]["text_encoder"]["missing"] == [n.split("/")[1] for n in found["missing"]]


def test_long_lists_are_cut(loadstone, tmp_path):
    path, manifest = tmp_path / "model.safetensors", tmp_path / "net.json"
    save_file({f"w{i}": torch.ones(1) for i in range(30)}, path)
    manifest.write_text("[]")
    text = loadstone("load", path, "-n", manifest, check=False).stdout
    assert text.count("\n  w") == 20 and "  and 10 more (--verbose shows all)\n" in text
    text = loadstone("load", path, "-n", manifest, "-v", check=False).stdout
    assert text.count("\n  w") == 30 and "more" not in text


def test_quiet(loadstone, mixed):
    done = loadstone("load", mixed[0], "-q", "-d", "f32")
    assert done.stdout == done.stderr == ""
    assert loadstone.json("load", mixed[0], "-q")["tensors"] == len(mixed[1])


def test_integers_are_not_converted(loadstone, tmp_path):
    path, manifest = tmp_path / "model.safetensors", tmp_path / "net.json"
    save_file({"w": torch.arange(3)}, path)
    manifest.write_text(json.dumps([{"name": "w", "dtype": "F32", "shape": [3]}]))
    done = loadstone("load", path, "-n", manifest, check=False)
    assert done.returncode == 3 and "w" in done.stderr and done.stdout == ""


def test_dtypes_that_are_only_carried(loadstone, tmp_path):
    header = {
        "a": {"dtype": "F8_E8M0", "shape": [4], "data_offsets": [0, 4]},
        "b": {"dtype": "F4", "shape": [4], "data_offsets": [4, 6]},
    }
    path = write_raw(tmp_path / "model.safetensors", header, b"abcdef")
    for options in ([], ["-d", "bf16"], ["--io", "read"]):
        found = loadstone.json("load", path, "--digest", *options)["digests"]
        assert found == {
            n: digest(torch.frombuffer(bytearray(b), dtype=torch.uint8))
            for n, b in (("a", b"abcd"), ("b", b"ef"))
        }
    assert {t["dtype"] for t in loadstone.json("inspect", path)["tensors"]} == {"F8_E8M0", "F4"}


# ------------------------------------------------------------------------------------- sizes and plans


def test_no_tensors(loadstone, tmp_path):
    path = tmp_path / "empty.safetensors"
    save_file({}, path)
    found = loadstone.json("load", path, "--digest")
    assert (found["tensors"], found["bytes_read"], found["source"], found["digests"]) == (0, 0, "none", {})
    assert "nothing to load" in loadstone("load", path).stdout


def test_many_tensors(loadstone, tmp_path):
    path = write_many(tmp_path / "many.safetensors", 100000)
    found = loadstone.json("load", path, "--digest", "-d", "f32")
    assert found["tensors"] == len(found["digests"]) == 100000
    raw = bytearray((77777).to_bytes(4, "little"))
    assert found["digests"]["layers.777.experts.77.w"] == digest(
        torch.frombuffer(raw, dtype=torch.bfloat16).float()
    )
    assert found["seconds"] < 5


def test_few_descriptors(loadstone, tmp_path):
    n_shards = 24
    tensors = {f"t{i}": random_tensor((4, 4), torch.float32, i) for i in range(n_shards)}
    write_shards(tmp_path / "model", "model", tensors, n_shards)

    def limit(n):
        return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))

    args = ("load", tmp_path / "model", "-d", "bf16", "--io", "direct")
    found = loadstone.json(*args, "--digest", preexec_fn=limit(2 * n_shards + 12))
    assert found["digests"] == digests(tensors, torch.bfloat16)
    assert "direct reads" in found["fallback"]
    failed = loadstone(*args, check=False, preexec_fn=limit(n_shards + 12))
    assert failed.returncode == 4
    assert "open twice" in failed.stderr and "ulimit -n" in failed.stderr
    mapped = loadstone.json("load", tmp_path / "model", "--digest", preexec_fn=limit(n_shards + 12))
    assert mapped["digests"] == digests(tensors, torch.float32)
    assert mapped["fallback"] == "too few descriptors: pages are read on first use"


def test_dry_run(loadstone, mixed):
    path, tensors = mixed
    floats = {n: t for n, t in tensors.items() if t.is_floating_point()}
    rest = {n: t for n, t in tensors.items() if n not in floats}
    converted = {n: t.half() for n, t in floats.items()}
    plan = loadstone.json("load", path, "--dry-run", "-v", "-d", "f16", "--io", "read", encoding="utf-8")
    assert plan["dry_run"] is True
    assert plan["bytes_read"] == nbytes(tensors) and plan["bytes_mapped"] == 0
    assert plan["bytes_written"] == nbytes(converted) + nbytes(rest)
    assert plan["peak_bytes"] >= plan["bytes_written"]
    assert plan["transfers"] == len(plan["plan"])
    elements = dict.fromkeys(tensors, 0)
    for t in plan["plan"]:
        elements[t["tensor"]] += t["elements"]
        assert t["parameter"] == t["tensor"] and t["file"] == str(path) and not t["mapped"]
        assert t["to"] == ("F16" if t["tensor"] in floats else t["from"])
    assert elements == {n: t.numel() for n, t in tensors.items()}
    done = loadstone.json("load", path, "-d", "f16", "--io", "read", encoding="utf-8")
    for field in ("bytes_read", "bytes_mapped", "bytes_written"):
        assert done[field] == plan[field]

    text = loadstone("load", path, "--dry-run", "-v", encoding="utf-8").stdout
    assert re.match(r" +transfers +read +mapped +written +peak +dtypes\n", text)
    assert re.search(r"\n +\d+ +\d+ +bf16 -> bf16 +(map|read) +naïve.重み.🙂 +naïve.重み.🙂\n", text)


def test_dry_run_of_pipeline(loadstone, tmp_path):
    write_pipeline(tmp_path / "pipe")
    plan = loadstone.json("load", tmp_path / "pipe", "--dry-run", "-d", "f32", "-v")
    parts = plan["components"]
    for field in ("transfers", "bytes_read", "bytes_written"):
        assert plan[field] == sum(part[field] for part in parts.values())
    assert plan["peak_bytes"] >= plan["bytes_written"]
    assert {t["component"] for t in plan["plan"]} == set(parts)


def test_peak_is_of_this_program(loadstone, tmp_path):
    """Converting takes the network and a bounded window, whatever the file's size or who started us."""
    path = tmp_path / "model.safetensors"
    save_file({f"w{i}": torch.zeros(1 << 20, dtype=torch.bfloat16) for i in range(64)}, path)
    found = loadstone.json("load", path, "-d", "f32")
    assert found["bytes_written"] == 256 << 20
    assert found["bytes_written"] <= found["peak_rss_bytes"] <= found["bytes_written"] + ((64 + 16) << 20)


@contextlib.contextmanager
def slow_cache(path):
    """An option of a load that then takes a second: as long it waits for whoever holds the folder's lock."""
    path.mkdir()
    folder = os.open(path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        yield f"--cache={path}"
    finally:
        os.close(folder)


def test_progress_bar_on_a_terminal_only(loadstone, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.zeros(1 << 16)}, path)
    for how in ("--dtype=f16", "--json", "--quiet"):
        terminal, end = os.openpty()
        with slow_cache(tmp_path / how) as slow:
            command = [loadstone.path, "load", path, "-d", "f16", slow, how]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=end) as process:
                os.close(end)
                drawn = b""
                with contextlib.suppress(OSError):
                    while block := os.read(terminal, 65536):
                        drawn += block
        os.close(terminal)
        assert process.returncode == 0
        if how == "--dtype=f16":
            line = rb".*model.safetensors \[#* *\] .* of 262.1 kB, .*/s(, \d+ s left)?"
            # Between the two that keep a narrow terminal from taking several lines for it.
            assert re.search(rb"\r\x1b\[\?7l" + line + rb"\x1b\[K\x1b\[\?7h", drawn)
            assert drawn.endswith(b"\r\x1b[K")
        else:
            assert drawn == b""
    with slow_cache(tmp_path / "cache") as slow:
        assert loadstone("load", path, "-d", "f16", slow).stderr == ""
