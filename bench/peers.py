"""One measurement of another loader, run by the Python that has it:

    peers.py safetensors|safetensors-used FILE DTYPE
    peers.py diffusers DIR DTYPE
    peers.py open FILE
        [--before COMMAND...]

Prints one JSON object as bench/load_bench does. "load" is the time of the load alone, "seconds" that of a
touch of every page as well, which is when the weights of a mapped file are there. Importing the packages is
not counted; what follows --before is run after that, right before the load. safetensors-used copies into
tensors that were used before, which is what load_state_dict does.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


def disk_nbytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock * 512


def peak_rss():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def touch(weights):
    for weight in weights.values():
        weight.detach().view(torch.uint8).reshape(-1)[::4096].sum()


def by_safetensors(path, dtype):
    return lambda: {name: weight.to(dtype) for name, weight in load_file(path).items()}


def by_safetensors_used(path, dtype):
    with safe_open(path, "pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    weights = {name: torch.ones(shape, dtype=dtype) for name, shape in shapes.items()}

    def load():
        for name, weight in load_file(path).items():
            weights[name].copy_(weight)
        return weights

    return load


def by_diffusers(path, dtype):
    from diffusers import CogVideoXTransformer3DModel as Model

    return lambda: dict(Model.from_pretrained(path, torch_dtype=dtype).named_parameters())


def by_opening(path, _):
    def load():
        with safe_open(path, "pt") as file:
            return dict.fromkeys(file.keys())

    return load


WAYS = {
    "safetensors": by_safetensors,
    "safetensors-used": by_safetensors_used,
    "diffusers": by_diffusers,
    "open": by_opening,
}


def main():
    arguments, before = sys.argv[1:], []
    if "--before" in arguments:
        at = arguments.index("--before")
        arguments, before = arguments[:at], arguments[at + 1 :]
    way, path = arguments[:2]
    load = WAYS[way](path, DTYPES[arguments[2]] if len(arguments) > 2 else None)
    if before:
        subprocess.run(before, stdout=subprocess.DEVNULL, check=True)
    disk = disk_nbytes()
    begin = time.perf_counter()
    weights = load()
    loaded = time.perf_counter() - begin
    result = {"seconds": loaded, "n_tensors": len(weights), "peak_rss_bytes": peak_rss()}
    if way != "open":
        begin = time.perf_counter()
        touch(weights)
        touched = time.perf_counter() - begin
        dtypes = {str(weight.dtype) for weight in weights.values()}
        nbytes = sum(weight.nbytes for weight in weights.values())
        result |= {"seconds": loaded + touched, "load": loaded, "walk": touched}
        result |= {"network_nbytes": nbytes, "dtypes": sorted(dtypes)}
    print(json.dumps(result | {"disk_nbytes": disk_nbytes() - disk}))


if __name__ == "__main__":
    main()
