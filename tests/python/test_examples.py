"""
The programs in examples/ build, run, and print what torch computes from the same files. What the documents
have of C compiles.
"""

import os
import re
import shlex
import subprocess

import pytest
import torch
from models import write_perceptron, write_transformer
from tree import ROOT

EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.c"))
DOCUMENTS = {
    path.stem: "".join(blocks)
    for path in sorted((ROOT / "docs").rglob("*.md"))
    if (blocks := re.findall(r"^```c\n(.*?)^```$", path.read_text(), flags=re.DOTALL | re.MULTILINE))
}
# The blocks of a document follow each other in one function. What they do not declare themselves is here.
FRAME = """
#include <err.h>
#include <loadstone.h>
lds_status code(lds_load_options options, int n_layers, uint64_t width);
lds_status code(lds_load_options options, int n_layers, uint64_t width)
{
lds_error err = LDS_ERROR_INIT;
(void)err, (void)n_layers, (void)width, (void)options;
{
%s
}
return LDS_OK;
}
"""


@pytest.fixture(scope="module")
def example(build_dir):
    """Run an example; what it printed."""
    subprocess.run(["ninja", "-C", build_dir, *(f"examples/{name}" for name in EXAMPLES)], check=True)

    def run(name, *args, exit_code=0):
        command = [build_dir / "examples" / name, *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done

    return run


@pytest.mark.parametrize("name", EXAMPLES)
def test_without_arguments_they_say_how_to_call_them(example, name):
    assert re.match(rf"usage: .*{name}", example(name, exit_code=2).stderr)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_load_file(example, tmp_path, dtype):
    weight = write_perceptron(tmp_path / "m.safetensors", dtype)["hidden.weight"].double()
    printed = example("load_file", tmp_path / "m.safetensors", "hidden.weight").stdout
    found = re.fullmatch(r"hidden.weight: 32 elements, mean (\S+), largest magnitude (\S+)\n", printed)
    assert found, printed
    assert float(found[1]) == pytest.approx(weight.mean().item(), rel=1e-5)
    assert float(found[2]) == pytest.approx(weight.abs().max().item(), rel=1e-5)


def test_load_file_explains_what_is_wrong(example, tmp_path):
    write_perceptron(tmp_path / "m.safetensors")
    assert (
        "no float weight is called nothing"
        in example("load_file", tmp_path / "m.safetensors", "nothing", exit_code=1).stderr
    )
    assert (
        "absent.safetensors" in example("load_file", tmp_path / "absent.safetensors", "x", exit_code=1).stderr
    )


def test_own_network(example, tmp_path):
    weights = write_perceptron(tmp_path / "m.safetensors", torch.float16)
    w = {name: weight.float() for name, weight in weights.items()}
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    h = torch.relu(w["hidden.weight"] @ x + w["hidden.bias"])
    y = w["output.weight"] @ h + w["output.bias"]

    lines = example("own_network", tmp_path / "m.safetensors").stdout.splitlines()
    assert lines[0] == "the pool holds the weights: yes"
    numbers = [[float(number) for number in line.split(": ")[1].split()] for line in lines[1:]]
    assert numbers[0] == pytest.approx(w["output.bias"].tolist(), rel=1e-5)
    assert numbers[1] == pytest.approx(y.tolist(), rel=1e-4)


def test_set_dtype(example, tmp_path):
    weights = write_perceptron(tmp_path / "m.safetensors", torch.bfloat16)
    first_byte = weights["hidden.weight"].view(torch.uint8).flatten()[0].item()
    lines = example("set_dtype", tmp_path / "m.safetensors", "hidden.weight").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["loaded", "BF16", "64", "bytes"],
        ["set_dtype", "F32", "128", "bytes"],
        ["old", "values", "first", "byte", f"0x{first_byte:02x}"],
        ["network_to", "F16", "64", "bytes"],
    ]


@pytest.mark.slow
def test_from_config(example, tmp_path):
    write_transformer(tmp_path)
    done = example("from_config", tmp_path, "bf16")
    assert re.search(
        r"^CogVideoXTransformer3DModel: \d+ parameters are ready$", done.stdout, flags=re.MULTILINE
    )
    assert "100.0 %" in done.stderr


def test_documents_with_code_are_known():
    assert {"loading", "networks"} <= set(DOCUMENTS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_code_in_documents_compiles(tmp_path, name):
    (tmp_path / "code.c").write_text(FRAME % DOCUMENTS[name])
    compiler = shlex.split(os.environ.get("CC", "cc"))
    options = [
        "-std=c11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-I",
        ROOT / "include",
        "-c",
        "-o",
        tmp_path / "code.o",
    ]
    done = subprocess.run(
        [*compiler, *options, tmp_path / "code.c"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
