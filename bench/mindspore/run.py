"""How long mindone's models take to load: as shipped, with the strategy of pull request 1422, with Loadstone.

    ./dev bench mindspore [--work .cache/bench] [--case [NAME ...]] [--how NAME ...] [--rounds N] [--docs]

Needs about 14 GB of disk, 20 GB of memory, and a quarter of an hour of a machine that does nothing else.
Every measurement is a process of its own, on files that were read from the disk just before, and with memory
that another process has touched just before. What is slow is measured once, Loadstone --rounds times. Results
are kept in --work, so that cases can be measured one after another; --docs writes the table of
docs/mindspore.md from them (--case without names: from what there is).
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "bench"))
import make_checkpoint  # noqa: E402

# Name, title, and what measure.py is told: class, directory, dtype.
CASES = {
    "same": ("CogVideoX transformer, bf16 -> bf16", "transformer", "transformer-30-bf16", "bfloat16"),
    "f16": ("CogVideoX transformer, bf16 -> f16", "transformer", "transformer-30-bf16", "float16"),
    "f32": ("CogVideoX transformer, f32 -> bf16", "transformer", "transformer-30-f32", "bfloat16"),
    "t5": ("T5 encoder, 3 shards, bf16 -> bf16", "t5", "mindspore-pipeline/text_encoder", "bfloat16"),
    "t5-f16": ("T5 encoder, 3 shards, bf16 -> f16", "t5", "mindspore-pipeline/text_encoder", "float16"),
    "pipeline": ("CogVideoX pipeline, bf16 -> bf16", "pipeline", "mindspore-pipeline", "bfloat16"),
}
HOWS = {
    "shipped": "shipped",
    "pr1422": "pull request",
    "loadstone": "Loadstone",
    "build": "building alone",
}
# The pull request is about diffusers; its strategy for transformers is not measured.
NOT_MEASURED = {("pr1422", "t5"), ("pr1422", "t5-f16"), ("pr1422", "pipeline"), ("build", "pipeline")}
BACKED_NBYTES = 8 << 30
BEGIN, END = "<!-- bench/mindspore/run.py: begin -->\n", "<!-- bench/mindspore/run.py: end -->\n"


def make_files(loadstone, work):
    for dtype in ("bf16", "f32"):
        make_checkpoint.make_transformer(loadstone, work / f"transformer-30-{dtype}", dtype)
    pipeline = work / "mindspore-pipeline"
    config = make_checkpoint.TEXT_ENCODER | {"num_layers": 6}
    make_checkpoint.make_model(loadstone, pipeline / "text_encoder", config, "bf16", 3)
    make_checkpoint.make_model(loadstone, pipeline / "vae", make_checkpoint.VAE, "bf16")
    (pipeline / "scheduler").mkdir(exist_ok=True)
    make_checkpoint.write_json(pipeline / "scheduler/scheduler_config.json", make_checkpoint.SCHEDULER)
    make_checkpoint.write_json(pipeline / "model_index.json", make_checkpoint.PIPELINE)
    if not (pipeline / "transformer").exists():
        (pipeline / "transformer").symlink_to(work.resolve() / "transformer-30-bf16")


def read(directory):
    """Bring a model's files into the page cache, from the disk. What lies there since it was written is in
    pieces of a page, which are mapped one by one, and that takes longer than everything else.
    """
    buffer = bytearray(1 << 24)
    for path in (*directory.glob("*.safetensors"), *directory.glob("*/*.safetensors")):
        with path.open("rb", buffering=0) as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while file.readinto(buffer):
                pass


def measure(args, how, case):
    _, kind, directory, dtype = CASES[case]
    script = Path(__file__).with_name("measure.py")
    environment = os.environ | {"PYTHONPATH": str(args.build / "python"), "GLOG_v": "3"}
    command = [args.python, "-W", "ignore", script, how, kind, args.work / directory, dtype]
    # A virtual machine's host gives memory slowly at the first touch: it is to have some at hand.
    command += [args.build / "bench/limits", "back", "--nbytes", str(BACKED_NBYTES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-4000:])
    return json.loads(done.stdout.splitlines()[-1])


def cell(found, how, case):
    runs = found.get(f"{how} {case}")
    if not runs:
        return ""
    times = sorted(run["seconds"] for run in runs)
    median = f" ({times[len(times) // 2]:.2f})" if len(times) > 1 else ""
    return f"{times[0]:.2f}{median}"


def memory(found, how, case):
    runs = found.get(f"{how} {case}")
    return f"{min(run['anonymous_gb'] for run in runs):.2f}" if runs else ""


def ratio(found, case):
    runs = [found.get(f"{how} {case}") for how in ("shipped", "loadstone")]
    if not all(runs):
        return ""
    shipped, ours = (min(run["seconds"] for run in r) for r in runs)
    return f"{shipped / ours:.0f}x"


def table(found):
    cases = [c for c in CASES if any(f"{how} {c}" in found for how in HOWS)]
    head = ["seconds", *HOWS.values(), "shipped / Loadstone"]
    rows = [[CASES[c][0], *(cell(found, how, c) for how in HOWS), ratio(found, c)] for c in cases]
    lines = [head, ["---"] * len(head), *rows]
    hows = ("shipped", "pr1422", "loadstone")
    head = ["most anonymous memory, GB", *(HOWS[how] for how in hows)]
    rows = [[CASES[c][0], *(memory(found, how, c) for how in hows)] for c in cases]
    return "\n\n".join(
        "\n".join("| " + " | ".join(row) + " |" for row in part)
        for part in (lines, [head, ["---"] * len(head), *rows])
    )


def write_docs(text):
    path = TREE / "docs/mindspore.md"
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{text}\n\n{END}{after}", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", type=Path, default=TREE / ".cache/mindspore/2.7.1/bin/python")
    parser.add_argument("--build", type=Path, default=TREE / "build")
    parser.add_argument("--work", type=Path, default=TREE / ".cache/bench")
    parser.add_argument("--case", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--how", nargs="*", choices=HOWS, default=list(HOWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--docs", action="store_true")
    args = parser.parse_args()
    make_files(args.build / "loadstone", args.work)
    results = args.work / "mindspore.json"
    found = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    for case in args.case:
        for how in args.how:
            if (how, case) in NOT_MEASURED:
                continue
            runs = []
            for _ in range(args.rounds if how in ("loadstone", "build") else 1):
                read(args.work / CASES[case][2])
                runs.append(measure(args, how, case))
                print(how, case, runs[-1], flush=True)
            found[f"{how} {case}"] = runs
            results.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    text = table(found)
    print(text)
    if args.docs:
        write_docs(text)


if __name__ == "__main__":
    main()
