"""Traces: a file that trace viewers read, with a lane a worker, and phases that fill the load."""

import json
import os
import resource
import signal
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
    # What takes less than a microsecond is left out, and "cache" is there three times.
    for name in ("plan", "cache", "memory", "transfer", "init", "check"):
        took = sum(e["dur"] for e in phases if e["name"] == name)
        assert took == pytest.approx(report["phases"][name] * 1e6, abs=3.1)
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
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "none")
    for path, why in (
        (dangling, "No such file or directory"),
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


def test_trace_to_stdout(loadstone, model):
    """The trace comes before the report."""
    printed = loadstone("load", model, "--trace", "/dev/stdout").stdout
    _, n = json.JSONDecoder().raw_decode(printed)
    assert "12 tensors" in printed[n:]


def test_trace_to_the_file_of_stdout(loadstone, model, tmp_path):
    """Which is another's when the trace has taken its place."""
    path = tmp_path / "out"
    for target in (path, "/dev/stdout"):
        for args, code in (((), 2), (("--quiet", "--json"), 2), (("--quiet",), 0)):
            command = [loadstone.path, "load", model, "--trace", target, *args]
            with path.open("w") as out:
                done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
            assert done.returncode == code
            if code:
                assert done.stderr == (
                    "loadstone: load: --trace: expected a file of its own, found that of the standard output "
                    "(see 'loadstone help load')\n"
                )
                assert path.read_text() == ""
            else:
                assert len(json.loads(path.read_text())["traceEvents"]) > 3


def test_what_is_no_trace_is_not_replaced(loadstone, model, tmp_path):
    """Above all not what is being loaded, whatever name it goes by."""
    keymap, network, other = tmp_path / "map.json", tmp_path / "network.json", tmp_path / "other"
    keymap.write_text('{"rules": []}')
    network.write_text(loadstone("manifest", model, "--json").stdout)
    other.write_text("{")
    link, hard_link = tmp_path / "link", tmp_path / "hard_link"
    link.symlink_to(model)
    os.link(model, hard_link)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for path in before:
        args = ("load", model, "--map", keymap, "--network", network)
        done = loadstone(*args, "--trace", path, check=False)
        assert done.returncode == 2
        assert done.stderr == (
            f"loadstone: {path}: expected a new file or an earlier trace, found another file\n"
        )
        assert done.stdout == ""
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_earlier_trace_is_replaced(loadstone, model, tmp_path):
    path, link = tmp_path / "trace.json", tmp_path / "link"
    path.touch(0o600)
    link.symlink_to(path)
    for n in range(2):
        loadstone("load", model, "--trace", link, "--threads", n + 1)
        assert len(json.loads(path.read_text())["traceEvents"]) > 3
        path.write_text(path.read_text() + "\n" * 100000)
    loadstone("load", model, "--trace", link)
    assert not path.read_text().endswith("\n\n")
    assert link.is_symlink() and path.stat().st_mode & 0o777 == 0o600
    assert sorted(tmp_path.iterdir()) == sorted((path, link, model))


def limit_files():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


def test_an_earlier_trace_stays_until_the_next_is_whole(loadstone, model, tmp_path):
    path = tmp_path / "trace.json"
    loadstone("load", model, "--trace", path)
    before = path.read_bytes()
    for args, code in (
        ((tmp_path / "none.safetensors",), 4),
        ((model, "--map", tmp_path / "none.json"), 4),
        ((model, "--names", "none"), 1),
        ((model, "--dry-run"), 0),
    ):
        assert loadstone("load", *args, "--trace", path, check=False).returncode == code
        assert path.read_bytes() == before
    done = loadstone("load", model, "--trace", path, check=False, preexec_fn=limit_files)
    assert done.returncode == 4
    assert done.stderr == f"loadstone: {path}: cannot be written: File too large\n"
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == sorted((path, model))
