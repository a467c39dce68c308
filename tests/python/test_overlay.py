"""Files in an overlay, as those of a container's image are: the pages that they have are another file's."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

NBYTES = 40 << 20  # not small


@pytest.fixture
def overlay(tmp_path):
    """A file system over another one; lower.safetensors is in the one below, upper.safetensors in its own."""
    lower, upper, work, folder = (tmp_path / name for name in ("lower", "upper", "work", "overlay"))
    for path in (lower, upper, work, folder):
        path.mkdir()
    write_weights(lower / "lower.safetensors")
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    command = ["mount", "-t", "overlay", "-o", options, "overlay", folder]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(command, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    write_weights(folder / "upper.safetensors")
    yield folder
    subprocess.run(["umount", folder], check=True)


def write_weights(path: Path) -> None:
    header = json.dumps(
        {"w": {"dtype": "BF16", "shape": [NBYTES // 2], "data_offsets": [0, NBYTES]}}
    ).encode()
    values = bytes(i & 0x3F for i in range(4096))
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header + values * (NBYTES // 4096))
        os.fsync(file.fileno())


def let_go(path: Path) -> bool:
    """Have the page cache let go of a file; it has no other place for one in memory."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            os.preadv(file.fileno(), [bytearray(1)], NBYTES // 2, os.RWF_NOWAIT)
        except BlockingIOError:
            return True
    return False


@pytest.mark.parametrize("layer", ["lower", "upper"])
def test_the_page_cache_is_seen(loadstone, overlay, layer):
    path = overlay / f"{layer}.safetensors"
    args = ["load", path, "--dtype", "f16", "--digest"]
    expected = loadstone.json(*args, "--io", "read")["digests"]
    hot = loadstone.json(*args)
    assert hot["source_reason"] == "in the page cache"
    assert hot["fallback"] == "a file is in an overlay: copied from the page cache"
    assert hot["digests"] == expected
    if not let_go(overlay.parent / layer / path.name):
        return
    cold = loadstone.json(*args)
    assert cold["source_reason"] == "cold and large"
    assert cold["digests"] == expected
