"""One load through Python, by Loadstone or by another loader, in a process of its own:

    loaders.py WAY PATH [DTYPE] [--before COMMAND...]

Prints one JSON object as bench/load_bench does. "load" is the time of the load alone, "seconds" that of a
touch of every page as well, which is when the weights of a mapped file are there. Importing packages is not
counted; what follows --before is run after that, right before the load. Ways that end in -used fill memory
that was used before, which is what load_state_dict does; -tensors make an object for every tensor of a file.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

NAMES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}


def disk_nbytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock * 512


def peak_rss():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def torch_dtype(dtype):
    import torch

    return getattr(torch, NAMES[dtype])


def numpy_dtype(dtype):
    import ml_dtypes
    import numpy as np

    return np.dtype(ml_dtypes.bfloat16 if dtype == "bf16" else NAMES[dtype])


# Each way imports what it needs, and returns the load: a function without arguments.


def by_loadstone(path, dtype):
    import loadstone
    import loadstone._network  # before the clock, as with all other loaders

    return lambda: loadstone.load(path, dtype=dtype)


def by_loadstone_used(path, dtype):
    import loadstone
    import loadstone._network
    import loadstone._out
    import numpy as np

    out = {name: np.ones(tensor.shape, numpy_dtype(dtype)) for name, tensor in loadstone.open(path).items()}
    return lambda: loadstone.load(path, out=out)


def by_loadstone_tensors(path, _):
    import loadstone

    return lambda: dict(loadstone.open(path).items())


def by_loadstone_weights(path, _):
    import loadstone
    import loadstone._network

    return lambda: dict(loadstone.load(path).items())


def by_safetensors(path, dtype):
    from safetensors.torch import load_file

    wanted = torch_dtype(dtype)
    return lambda: {name: weight.to(wanted) for name, weight in load_file(path).items()}


def by_safetensors_numpy(path, dtype):
    from safetensors.numpy import load_file

    wanted = numpy_dtype(dtype)
    return lambda: {name: weight.astype(wanted, copy=False) for name, weight in load_file(path).items()}


def by_safetensors_used(path, dtype):
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(path, "pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    weights = {name: torch.ones(shape, dtype=torch_dtype(dtype)) for name, shape in shapes.items()}

    def load():
        for name, weight in load_file(path).items():
            weights[name].copy_(weight)
        return weights

    return load


def by_safetensors_open(path, _):
    import torch  # noqa: F401
    from safetensors import safe_open

    def load():
        with safe_open(path, "pt") as file:
            return dict.fromkeys(file.keys())

    return load


def by_safetensors_open_shards(index, _):
    import torch  # noqa: F401
    from safetensors import safe_open

    def load():
        files = set(json.loads(Path(index).read_text())["weight_map"].values())
        names = {}
        for shard in files:
            with safe_open(Path(index).parent / shard, "pt") as file:
                names |= dict.fromkeys(file.keys())
        return names

    return load


def by_safetensors_tensors(path, _):
    import torch  # noqa: F401
    from safetensors import safe_open

    def load():
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    return load


def by_diffusers(path, dtype):
    from diffusers import CogVideoXTransformer3DModel as Model

    wanted = torch_dtype(dtype)
    return lambda: dict(Model.from_pretrained(path, torch_dtype=wanted).named_parameters())


def by_torch(path, dtype, **options):
    import torch

    wanted = torch_dtype(dtype)
    return lambda: {
        name: weight.to(wanted) for name, weight in torch.load(path, weights_only=True, **options).items()
    }


def by_torch_mmap(path, dtype):
    return by_torch(path, dtype, mmap=True)


def by_runai(path, dtype):
    from runai_model_streamer import SafetensorsStreamer

    wanted = torch_dtype(dtype)

    def load():
        with SafetensorsStreamer() as streamer:
            streamer.stream_file(path)
            return {name: weight.to(wanted, copy=True) for name, weight in streamer.get_tensors()}

    return load


def by_fastsafetensors(path, dtype):
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    wanted = torch_dtype(dtype)

    def load():
        loader = SafeTensorsFileLoader(SingleGroup(), "cpu", nogds=True, framework="pytorch")
        loader.add_filenames({0: [path]})
        buffer = loader.copy_files_to_device()
        by_fastsafetensors.kept = loader, buffer  # the tensors live in it
        return {name: buffer.get_tensor(name).to(wanted) for name in loader.get_keys()}

    return load


WAYS = {
    "loadstone": by_loadstone,
    "loadstone-used": by_loadstone_used,
    "loadstone-tensors": by_loadstone_tensors,
    "loadstone-weights": by_loadstone_weights,
    "safetensors": by_safetensors,
    "safetensors-numpy": by_safetensors_numpy,
    "safetensors-used": by_safetensors_used,
    "safetensors-open": by_safetensors_open,
    "safetensors-open-shards": by_safetensors_open_shards,
    "safetensors-tensors": by_safetensors_tensors,
    "diffusers": by_diffusers,
    "torch": by_torch,
    "torch-mmap": by_torch_mmap,
    "runai": by_runai,
    "fastsafetensors": by_fastsafetensors,
}


def touch(weight):
    """Read a byte of every page of a weight; its number of bytes, and its dtype's name."""
    if hasattr(weight, "raw"):  # Loadstone's
        sum(weight.raw[::4096])
        return weight.nbytes, str(weight.dtype)
    if hasattr(weight, "detach"):
        import torch

        weight.detach().view(torch.uint8).reshape(-1)[::4096].sum()
        return weight.nbytes, str(weight.dtype).removeprefix("torch.")
    import numpy as np

    weight.view(np.uint8).reshape(-1)[::4096].sum()
    return weight.nbytes, str(weight.dtype)


def touch_all(weights):
    """What the load brought, after a touch of every page of it."""
    begin, faults = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    touched = [touch(weight) for weight in weights.values()]
    return {
        "walk": time.perf_counter() - begin,
        "walk_faults": resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults,
        "network_nbytes": sum(nbytes for nbytes, _ in touched),
        "dtypes": sorted({dtype for _, dtype in touched}),
    }


def main():
    arguments, before = sys.argv[1:], []
    if "--before" in arguments:
        at = arguments.index("--before")
        arguments, before = arguments[:at], arguments[at + 1 :]
    way, path, dtype = (*arguments, None)[:3]
    load = WAYS[way](path, dtype)
    if before:
        subprocess.run(before, stdout=subprocess.DEVNULL, check=True)
    disk = disk_nbytes()
    begin = time.perf_counter()
    weights = load()
    loaded = time.perf_counter() - begin
    result = {"seconds": loaded, "load": loaded, "n_tensors": len(weights), "peak_rss_bytes": peak_rss()}
    if dtype:
        result |= touch_all(weights)
        result["seconds"] = loaded + result["walk"]
        if result["dtypes"] not in ([NAMES[dtype]], [dtype.upper()]):
            sys.exit(f"asked for {NAMES[dtype]}, found {', '.join(result['dtypes'])}")
    print(json.dumps(result | {"disk_nbytes": disk_nbytes() - disk}))


if __name__ == "__main__":
    main()
