"""Pools: weights of one load in the memory of an earlier one. The cache: in a file of an earlier one."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import loadstone
import numpy as np
import pytest
from safetensors.numpy import save_file

MIB = 1 << 20


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"w": np.arange(MIB, dtype=np.float32), "b": np.ones(3, np.float32)}, path)
    return path


def test_memory_is_used_again(path):
    pool = loadstone.Pool()
    weights = loadstone.load(path, dtype="float64", pool=pool)
    assert (weights["w"].numpy() == np.arange(MIB)).all()
    lent = pool.lent_nbytes
    assert lent >= 8 * MIB and pool.idle_nbytes == 0
    assert re.fullmatch(r"<loadstone\.Pool: \d+\.\d+ MB lent, 0 B idle>", repr(pool))
    address = weights["w"].data_ptr
    array = weights["w"].numpy()
    del weights
    assert pool.lent_nbytes == lent  # the array holds it
    del array
    assert (pool.lent_nbytes, pool.idle_nbytes) == (0, lent)
    again = loadstone.load(path, dtype="float64", pool=pool)
    assert again["w"].data_ptr == address
    assert (again["w"].numpy() == np.arange(MIB)).all()
    assert (again["b"].numpy() == 1).all()
    del again
    pool.trim()
    assert pool.idle_nbytes == 0


def test_weights_outlive_the_pool(path):
    weights = loadstone.load(path, dtype="float16", pool=loadstone.Pool(max_nbytes=MIB))
    assert weights["b"].numpy().tolist() == [1, 1, 1]


def test_wrong_arguments(path):
    with pytest.raises(TypeError, match="pool: expected a Pool, found int"):
        loadstone.load(path, pool=7)
    with pytest.raises(loadstone.ArgumentError, match="memory is either a pool's or hugetlb's"):
        loadstone.load(path, pool=loadstone.Pool(), hugetlb=True)
    with pytest.raises(TypeError):
        loadstone.Pool(max_nbytes="1 GB")


def test_overcommit_is_taken(path):
    assert loadstone.load(path, dtype="float64", overcommit=True).report.written_nbytes == 8 * MIB + 24


def test_cache_and_trace(path, tmp_path):
    """The cache and the trace take paths, or True, as the command does."""
    trace = tmp_path / "trace.json"
    first = loadstone.load(path, dtype="float64", cache=tmp_path / "cache", trace=trace)
    second = loadstone.load(path, dtype="float64", cache=str(tmp_path / "cache"))
    assert (first.report.cache, second.report.cache) == ("stored", "hit")
    assert second.report.source == "cache"
    assert (second["w"].numpy() == np.arange(MIB)).all()
    second["w"].numpy()[:] = 0  # a private mapping: the entry stays as it is
    third = loadstone.load(path, dtype="float64", cache=tmp_path / "cache", cache_nbytes=1 << 30)
    assert third["w"].numpy()[-1] == MIB - 1
    assert '"traceEvents"' in trace.read_text()
    assert loadstone.load(path).report.cache is None


def test_a_trace_replaces_nothing_else(path, tmp_path):
    """What cannot be written is refused before the load."""
    before = path.read_bytes()
    network = loadstone.Network.from_checkpoint(path)
    for target, error, message in (
        (path, loadstone.ArgumentError, "expected a new file or an earlier trace, found another file"),
        (tmp_path, OSError, "cannot be written: Is a directory"),
    ):
        with pytest.raises(error, match=f"{re.escape(str(target))}: {message}"):
            network.load_into(path, trace=target)
        assert network["w"].data_ptr is None
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_load_that_fails_has_a_trace(path, tmp_path):
    """Up to there; and its error is what is told, not that the trace could not be written."""
    trace = tmp_path / "trace.json"
    with pytest.raises(ZeroDivisionError):
        loadstone.load(path, dtype="float64", trace=trace, progress=lambda *numbers: 1 / 0)
    names = {event["name"] for event in json.loads(trace.read_text())["traceEvents"]}
    assert "transfer" in names and "init" not in names

    def spoil(*numbers):
        trace.write_text("another file")
        return 1 / 0

    with pytest.raises(ZeroDivisionError):
        loadstone.load(path, dtype="float64", trace=trace, progress=spoil)
    assert trace.read_text() == "another file"


GERMAN = r"""
    import json, locale, re, sys
    import loadstone

    locale.setlocale(locale.LC_NUMERIC, "de_DE.UTF-8")
    report = str(loadstone.load(sys.argv[1], trace=sys.argv[2]).report)
    print(re.findall(r"in \d+([.,])\d+ s, \d+([.,])\d", report))
    print(len(json.load(open(sys.argv[2]))["traceEvents"]) > 1, locale.str(0.5))
"""


def test_reports_and_traces_have_decimal_points(path, tmp_path):
    """Whatever the program's locale has."""
    command = ["localedef", "-i", "de_DE", "-f", "UTF-8", tmp_path / "de_DE.UTF-8"]
    if not shutil.which("localedef") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the sources of locales")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(GERMAN), path, tmp_path / "trace"],
        env={
            **os.environ,
            "LOCPATH": str(tmp_path),
            "PYTHONPATH": str(Path(loadstone.__file__).parents[1]),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "[('.', '.')]\nTrue 0,5\n", done.stderr
