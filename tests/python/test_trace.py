"""Traces: a file that trace viewers read, with a lane a worker, and phases that fill the load."""

import json
import os
import subprocess

import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture
def model(tmp_path):
    path = tmp_path / 'model "1".safetensors'
    save_file({f"w{i}": torch.randn(1 << 20).bfloat16() for i in range(12)}, path)
    return path


def test_trace(loadstone, model, tmp_path):
    path = tmp_path / "trace.json"
    report = loadstone.json("load", model, "-d", "f32", "--threads", 2, "--trace", path)
    events = json.loads(path.read_text())["traceEvents"]
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    (process,) = [e["args"]["name"] for e in events if e["name"] == "process_name"]
    assert process == str(model)
    spans = [e for e in events if e["ph"] == "X"]
    lanes = {e["tid"] for e in spans}
    assert {names[0, lane] for lane in lanes} <= {"load", "worker 1", "worker 2", "worker 3"}
    assert (
        {"read", "convert"}
        <= {e["name"] for e in spans if e["tid"]}
        <= {"read", "convert", "wait", "page faults"}
    )
    assert sum(e["args"]["bytes"] for e in spans if e["name"] == "convert") == report["bytes_read"]
    # What one thread does comes one after the other.
    for lane in lanes:
        end = 0
        for e in sorted((e for e in spans if e["tid"] == lane), key=lambda e: e["ts"]):
            assert e["ts"] >= end - 0.01
            end = e["ts"] + e["dur"]
    phases = [e for e in spans if e["tid"] == 0]
    assert [e["name"] for e in phases if e["name"] in ("plan", "memory", "transfer")] == [
        "plan",
        "memory",
        "transfer",
    ]
    assert sum(e["dur"] for e in phases) / 1e6 <= report["seconds"]


def test_what_is_written_to_a_cache(loadstone, model, tmp_path):
    path = tmp_path / "trace.json"
    report = loadstone.json("load", model, "-d", "f32", f"--cache={tmp_path}/cache", "--trace", path)
    assert report["cache"] == "stored"
    spans = [e for e in json.loads(path.read_text())["traceEvents"] if e["ph"] == "X" and e["tid"]]
    assert sum(e["args"]["bytes"] for e in spans if e["name"] == "cache") == report["bytes_read"]


def test_mapped_pages_are_page_faults(loadstone, model, tmp_path):
    path = tmp_path / "trace.json"
    loadstone("load", model, "--trace", path)
    spans = [e for e in json.loads(path.read_text())["traceEvents"] if e["ph"] == "X" and e["tid"]]
    # There is nothing to wait for, but a thread may be held up where it would.
    assert {e["name"] for e in spans} - {"wait"} == {"page faults"}


def test_a_path_that_is_not_utf8(loadstone, model, tmp_path):
    other = tmp_path / os.fsdecode(b"mod\xe8le.safetensors")
    model.rename(other)
    loadstone("load", other, "--trace", tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text("utf-8"))["traceEvents"]
    assert events[0]["args"]["name"] == f"{tmp_path}/mod\ufffdle.safetensors"


def test_trace_that_cannot_be_written(loadstone, tmp_path):
    """It is said before anything is loaded, or looked for."""
    for path, why in (
        (tmp_path / "no" / "trace.json", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        done = loadstone("load", tmp_path / "none.safetensors", "--trace", path, check=False)
        assert done.returncode == 4
        assert done.stderr == f"loadstone: {path}: cannot be written: {why}\n"


def test_trace_into_a_pipe(loadstone, model, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen([loadstone.path, "load", model, "--trace", pipe], stdout=subprocess.DEVNULL):
        assert len(json.loads(pipe.read_text())["traceEvents"]) > 3
