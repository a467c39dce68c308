"""The number of threads in a real control group with a CPU quota, where one can be made."""

import os
import uuid
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture
def quota_group():
    """A function that limits the group to so many thousandths of a processor, and the one that enters it."""
    name = f"loadstone-test-{uuid.uuid4().hex[:12]}"
    is_v1 = Path("/sys/fs/cgroup/cpu").is_dir()
    folder = Path("/sys/fs/cgroup/cpu" if is_v1 else "/sys/fs/cgroup") / name

    def limit(thousandths: int) -> None:
        if is_v1:
            (folder / "cpu.cfs_quota_us").write_text(str(thousandths * 100))
        else:
            (folder / "cpu.max").write_text(f"{thousandths * 100} 100000")

    try:
        folder.mkdir()
        limit(1000)
    except OSError as error:
        if folder.is_dir():
            folder.rmdir()
        pytest.skip(f"no control group can be made here: {error}")
    yield limit, lambda: (folder / "cgroup.procs").write_text(str(os.getpid()))
    folder.rmdir()


def test_quota_decides(loadstone, tmp_path, quota_group):
    limit, enter = quota_group
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.zeros(16 << 20, dtype=torch.bfloat16)}, path)
    ranks = {"LOCAL_WORLD_SIZE": "1"}
    all_threads = loadstone.json("load", path, "-d", "f32", env=os.environ | ranks)["threads"]
    for thousandths, expected in ((500, 1), (1999, 1), (64000, all_threads)):
        limit(thousandths)
        found = loadstone.json("load", path, "-d", "f32", env=os.environ | ranks, preexec_fn=enter)
        assert found["threads"] == expected
