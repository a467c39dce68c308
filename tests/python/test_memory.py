"""Memory: what a load takes, what it refuses to begin, in a real control group where one can be made."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

MIB = 1 << 20


def write_zeros(path: Path, nbytes: int) -> Path:
    """A checkpoint of one bf16 tensor, all zeros, without a byte on the disk."""
    header = json.dumps(
        {"w": {"dtype": "BF16", "shape": [nbytes // 2], "data_offsets": [0, nbytes]}}
    ).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + nbytes)
    return path


class MemoryGroup:
    """A control group of its own with a limit; version 1 or 2."""

    def __init__(self, limit: int):
        name = f"loadstone-test-{uuid.uuid4().hex[:12]}"
        if Path("/sys/fs/cgroup/memory").is_dir():
            self.folder = Path("/sys/fs/cgroup/memory") / name
            limit_name, swap_name, self.peak_name = (
                "memory.limit_in_bytes",
                "memory.memsw.limit_in_bytes",
                "memory.max_usage_in_bytes",
            )
        else:
            self.folder = Path("/sys/fs/cgroup") / name
            limit_name, swap_name, self.peak_name = "memory.max", "memory.swap.max", "memory.peak"
        try:
            self.folder.mkdir()
            (self.folder / limit_name).write_text(str(limit))
        except OSError as error:
            self.close()
            pytest.skip(f"no control group can be made here: {error}")
        if (self.folder / swap_name).exists():
            (self.folder / swap_name).write_text(str(limit if "memsw" in swap_name else 0))

    def enter(self) -> None:
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def close(self) -> None:
        if self.folder.is_dir():
            self.folder.rmdir()

    def run(self, command: Path, *args) -> subprocess.CompletedProcess:
        return subprocess.run(
            [command, *map(str, args)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            preexec_fn=self.enter,
        )


def memory_available() -> int:
    """As the kernel has it for the system, whatever control groups allow."""
    kib = re.search(r"^MemAvailable: *(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(kib[1]) << 10


@pytest.fixture
def group(request):
    """What it allows is the least there is only where the system has more, whatever else goes on there."""
    limit = getattr(request, "param", 512) * MIB
    if (available := memory_available()) < 2 * limit:
        pytest.skip(f"needs {2 * limit // MIB} MiB of memory, the system has {available // MIB} MiB")
    made = MemoryGroup(limit)
    yield made
    made.close()


def test_refused_in_a_control_group(loadstone, tmp_path, group):
    path = write_zeros(tmp_path / "big.safetensors", 300 * MIB)
    done = group.run(loadstone.path, "load", path, "--dtype", "f32")
    assert done.returncode == 5
    found = re.fullmatch(
        r"loadstone: out of memory: needs (\d\.\d\d) GB, the control group allows (\d\.\d\d) GB\n",
        done.stderr,
    )
    assert found, done.stderr
    assert 0.62 < float(found[1]) < 0.72  # 600 MiB, and what is on its way
    assert 0.4 < float(found[2]) <= 0.54
    # Mapped, it needs none.
    assert group.run(loadstone.path, "load", path).returncode == 0


def test_overcommit_is_the_users_risk(loadstone, tmp_path, group):
    path = write_zeros(tmp_path / "big.safetensors", 300 * MIB)
    done = group.run(loadstone.path, "load", path, "--dtype", "f32", "--overcommit")
    assert done.returncode == -signal.SIGKILL


def test_fits_into_a_control_group(loadstone, tmp_path, group):
    """What fits is loaded there: the pages of the file, which count too, can go."""
    path = write_zeros(tmp_path / "small.safetensors", 180 * MIB)
    done = group.run(loadstone.path, "load", path, "--dtype", "f32", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["bytes_written"] == 360 * MIB
    assert report["peak_rss_bytes"] <= 360 * MIB + 64 * MIB + 16 * MIB


@pytest.mark.parametrize("group", [110], indirect=True)
def test_what_the_page_cache_has_needs_a_block_a_thread(loadstone, tmp_path, group):
    """80 MiB of weights fit, and a window of 64 MiB beside them would not."""
    path = write_zeros(tmp_path / "hot.safetensors", 40 * MIB)
    path.read_bytes()
    args = ["load", path, "--dtype", "f32", "--threads", 2, "--json"]
    plan = loadstone.json(*args, "--dry-run")
    assert 80 * MIB < plan["peak_bytes"] <= 80 * MIB + 2 * (4 * MIB + 8192)
    done = group.run(loadstone.path, *args)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["peak_rss_bytes"] <= plan["peak_bytes"] + 16 * MIB


@pytest.mark.parametrize("group", [110], indirect=True)
def test_refusal_tells_which_window_fits(loadstone, tmp_path, group):
    path = write_zeros(tmp_path / "cold.safetensors", 40 * MIB)
    args = ["load", path, "--dtype", "f32", "--threads", 2, "--io", "uring"]
    done = group.run(loadstone.path, *args)
    assert done.returncode == 5
    found = re.fullmatch(
        r"loadstone: out of memory: needs 0.1\d GB, the control group allows 0.1\d GB, "
        r"enough with a window of (\d+) MiB\n",
        done.stderr,
    )
    assert found, done.stderr
    assert 16 < int(found[1]) < 30
    done = group.run(loadstone.path, *args, "--window", f"{found[1]}MiB")
    assert done.returncode == 0, done.stderr
    # Where the weights alone do not fit, no window helps.
    path = write_zeros(tmp_path / "large.safetensors", 60 * MIB)
    done = group.run(loadstone.path, "load", path, "--dtype", "f32")
    assert done.returncode == 5
    assert "window" not in done.stderr


TWO_LOADS = """
import sys, threading, loadstone
results = []
def load():
    try: results.append(loadstone.load(sys.argv[1], dtype="float32"))
    except loadstone.OutOfMemoryError as error: results.append(error)
threads = [threading.Thread(target=load) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*sorted(type(result).__name__ for result in results))
"""


def test_loads_at_once_know_of_each_other(loadstone, tmp_path, group):
    """Each alone would fit; together they would meet the kernel's killer."""
    package = loadstone.path.parent / "python"
    if not package.is_dir():
        pytest.skip("built without the Python package")
    path = write_zeros(tmp_path / "half.safetensors", 150 * MIB)
    for _ in range(3):
        code = f"import sys; sys.path.insert(0, {str(package)!r}){TWO_LOADS}"
        done = group.run(sys.executable, "-c", code, path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["OutOfMemoryError", "Weights"]


def test_address_space_is_an_error_too(loadstone, tmp_path):
    """Where the limit is the address space, the kernel itself says no, and the message is ours."""
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (512 * MIB, 512 * MIB))

    path = write_zeros(tmp_path / "big.safetensors", 300 * MIB)
    done = loadstone("load", path, "--dtype", "f32", check=False, preexec_fn=limit)
    assert done.returncode == 5
    assert re.fullmatch(r"loadstone: out of memory: \d+ bytes could not be had\n", done.stderr)


def test_hugetlb_names_what_is_missing(loadstone, tmp_path):
    if int(Path("/proc/sys/vm/nr_hugepages").read_text()) >= 30:
        pytest.skip("huge pages are reserved here")
    path = write_zeros(tmp_path / "big.safetensors", 30 * MIB)
    done = loadstone("load", path, "--dtype", "f32", "--hugetlb", check=False)
    assert done.returncode == 5
    assert "out of memory: needs 30 reserved huge pages of 2 MiB, the system has " in done.stderr


@pytest.fixture
def huge_pages():
    """So many more than there are reserved."""
    reserved = Path("/proc/sys/vm/nr_hugepages")
    before = reserved.read_text()
    try:
        reserved.write_text(str(int(before) + 24))
    except OSError as error:
        pytest.skip(f"no huge pages can be reserved: {error}")
    if int(reserved.read_text()) < int(before) + 24:
        reserved.write_text(before)
        pytest.skip("no huge pages to be had")
    yield 24
    reserved.write_text(before)


def test_hugetlb(loadstone, tmp_path, huge_pages):
    path = write_zeros(tmp_path / "big.safetensors", 6 * MIB)
    assert loadstone.json("load", path, "--dtype", "f32", "--hugetlb")["bytes_written"] == 12 * MIB


class HugePageGroup:
    """A control group with a limit of huge pages; version 1 is mounted if it is not."""

    def __init__(self, mount: Path):
        self.is_mounted = False
        self.parent = Path("/sys/fs/cgroup")
        self.limit_name, self.usage_name = "hugetlb.2MB.max", "hugetlb.2MB.current"
        if not (self.parent / "cgroup.controllers").exists():
            self.parent = self.parent / "hugetlb"
            self.limit_name, self.usage_name = "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.usage_in_bytes"
            if not self.parent.is_dir():
                self.mount(mount)
        self.folder = self.parent / f"loadstone-test-{uuid.uuid4().hex[:12]}"
        try:
            self.folder.mkdir()
            self.limit(0)
        except OSError as error:
            self.close()
            pytest.skip(f"no control group for huge pages can be made here: {error}")

    def mount(self, folder: Path) -> None:
        folder.mkdir()
        command = ["mount", "-t", "cgroup", "-o", "hugetlb", "none", folder]
        self.is_mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
        self.parent = folder if self.is_mounted else self.parent

    def limit(self, n_pages: int) -> None:
        (self.folder / self.limit_name).write_text(str(n_pages * 2 * MIB))

    def command(self, *args) -> list[str]:
        """What runs it in the group."""
        enter = 'echo $$ > "$0" && exec "$@"'
        return ["sh", "-c", enter, str(self.folder / "cgroup.procs"), *map(str, args)]

    def close(self) -> None:
        if self.folder.is_dir():
            self.folder.rmdir()
        # A group that is not gone yet would keep the hierarchy, without a mount.
        last = time.monotonic() + 5
        alone = re.compile(r"^hugetlb\t\d+\t1\t", re.MULTILINE)
        while (
            self.is_mounted
            and time.monotonic() < last
            and not alone.search(Path("/proc/cgroups").read_text())
        ):
            time.sleep(0.02)
        if self.is_mounted:
            subprocess.run(["umount", self.parent], check=True)


@pytest.fixture
def huge_page_group(tmp_path):
    made = HugePageGroup(tmp_path / "hugetlb")
    yield made
    made.close()


def run(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_hugetlb_in_a_control_group(loadstone, tmp_path, huge_pages, huge_page_group):
    """Its limit counts pages when they are touched, which must not be when they are filled."""
    path = write_zeros(tmp_path / "big.safetensors", 10 * MIB)
    command = huge_page_group.command(loadstone.path, "load", path, "--dtype", "f32", "--hugetlb")
    for n_pages in (0, 9):
        huge_page_group.limit(n_pages)
        done = run(command)
        assert done.returncode == 5
        assert done.stderr == (
            "loadstone: out of memory: needs 10 reserved huge pages of 2 MiB, "
            f"the control group's limit leaves {n_pages} of them (hugetlb.2MB)\n"
        )
    huge_page_group.limit(10)
    expected = loadstone.json("load", path, "--dtype", "f32", "--digest")["digests"]
    done = run([*command, "--digest", "--json"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["digests"] == expected


def check_beside_others(loadstone, group: HugePageGroup, shown: Path, n_pages: int, *args) -> None:
    """What others take after the limit was looked at is an error: here the load is shown another limit."""
    group.limit(6)
    shown.mkdir()
    (shown / group.limit_name).write_text(str(64 * MIB))
    (shown / group.usage_name).write_text("0")
    show = f"mount --bind '{shown}' '{group.folder}' && exec \"$@\""
    load = [loadstone.path, "load", *args, "--hugetlb"]
    done = run(group.command("unshare", "--mount", "sh", "-c", show, "sh", *load))
    assert done.returncode == 5
    assert done.stderr == (
        f"loadstone: out of memory: needs {n_pages} reserved huge pages of 2 MiB, "
        "others have taken what the control group's limit left of them (hugetlb.2MB)\n"
    )


@pytest.mark.parametrize(
    ("io", "dtype", "mib", "n_pages"),
    [("auto", "f32", 10, 10), ("read", "f32", 10, 10), ("direct", "f32", 10, 10), ("direct", "bf16", 19, 10)],
)
def test_hugetlb_beside_others_of_the_group(
    loadstone, tmp_path, huge_pages, huge_page_group, io, dtype, mib, n_pages
):
    path = write_zeros(tmp_path / "big.safetensors", mib * MIB)
    path.read_bytes()
    args = (path, "--dtype", dtype, "--io", io)
    check_beside_others(loadstone, huge_page_group, tmp_path / "shown", n_pages, *args)


def test_hugetlb_beside_others_while_values_are_initialised(loadstone, tmp_path, huge_pages, huge_page_group):
    path = write_zeros(tmp_path / "small.safetensors", 2 * MIB)
    network = tmp_path / "network.json"
    w = {"name": "w", "dtype": "F32", "shape": [MIB]}
    network.write_text(json.dumps([w, {"name": "v", "dtype": "F32", "shape": [4 * MIB], "init": "ones"}]))
    args = (path, "--network", network, "--no-strict")
    check_beside_others(loadstone, huge_page_group, tmp_path / "shown", 10, *args)
    huge_page_group.limit(10)
    done = run(huge_page_group.command(loadstone.path, "load", *args, "--hugetlb"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("is_cached", [False, True])
@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_peak_is_the_network_and_the_window(loadstone, tmp_path, dtype, is_cached):
    """The kernel's own high-water mark: a network larger than everything else, with the smallest window."""
    path = write_zeros(tmp_path / "a.safetensors", 256 * MIB)
    if is_cached:
        path.read_bytes()
    report = loadstone.json("load", path, "--dtype", dtype, "--window", "1MiB", "--threads", 2)
    written = 256 * MIB * (2 if dtype == "f32" else 1)
    assert report["bytes_written"] == written
    assert report["peak_rss_bytes"] <= written + MIB + 16 * MIB


@pytest.mark.parametrize("n_threads", [1, 2, 6])
@pytest.mark.parametrize(("mib", "window"), [(256, 64), (400, 100), (512, 128), (4000, 128)])
def test_window_is_a_part_of_what_is_read(loadstone, tmp_path, mib, window, n_threads):
    path = write_zeros(tmp_path / "a.safetensors", mib * MIB)
    args = ["load", path, "--dtype", "f16", "--dry-run", "--threads", n_threads, "--io", "uring"]
    plan = loadstone.json(*args)
    assert window * 3 // 4 * MIB < plan["peak_bytes"] - plan["bytes_written"] <= window * MIB


@pytest.mark.parametrize(
    ("n_threads", "window", "largest"), [(1, 6, 32), (2, 12, 64), (16, 96, 256), (64, 128, 256)]
)
def test_window_of_direct_reads_is_small(loadstone, tmp_path, n_threads, window, largest):
    """But may be as large as is asked for, up to 64 reads a thread."""
    path = write_zeros(tmp_path / "a.safetensors", 512 * MIB)
    args = ["load", path, "--dtype", "f16", "--dry-run", "--threads", n_threads, "--io", "direct"]
    for most, options in ((window, []), (largest, ["--window", "256MiB"])):
        plan = loadstone.json(*args, *options)
        assert most * 3 // 4 * MIB <= plan["peak_bytes"] - plan["bytes_written"] <= most * MIB
