"""Many threads at once, with the interpreter's lock or without it; and what other processes see."""

import contextlib
import os
import signal
import subprocess
import sys
import sysconfig
import textwrap
import threading
import time
from pathlib import Path

import loadstone
import pytest
from plain import NBYTES, environment, run, write, write_sparse

N_THREADS = 32


def run_together(function):
    """Call function(i) on all threads, which start together; raise what the first one raised."""
    barrier, errors = threading.Barrier(N_THREADS), []

    def call(i):
        try:
            barrier.wait()
            function(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(N_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.fixture
def path(tmp_path):
    """Tensors t0 ... t31, each of its number's bytes as float16: 0x0101 and so on."""
    tensors = {f"t{i}": ("F16", (16, 64), bytes([i]) * 2048) for i in range(N_THREADS)}
    return write(tmp_path / "model.safetensors", tensors)


def test_the_interpreter_stays_without_its_lock():
    code = "import sys, loadstone; print(getattr(sys, '_is_gil_enabled', lambda: None)())"
    without_gil = environment()
    without_gil.pop("PYTHON_GIL", None)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=without_gil, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    has_lock = not sysconfig.get_config_var("Py_GIL_DISABLED")
    assert done.stdout.strip() in (("None", "True") if has_lock else ("False",))


def lets_others_run(use):
    """Whether use() lets a thread run that waits for the interpreter, which nothing else does meanwhile."""
    has_run, interval = [], sys.getswitchinterval()

    def wait():
        time.sleep(0.02)
        has_run.append(True)

    sys.setswitchinterval(1000)
    try:
        thread = threading.Thread(target=wait)
        thread.start()
        end = time.perf_counter() + 0.1
        while time.perf_counter() < end:
            pass
        was_early = bool(has_run)
        use()
        return bool(has_run) and not was_early
    finally:
        sys.setswitchinterval(interval)
        thread.join()


@pytest.mark.skipif(bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="others run always")
@pytest.mark.parametrize("kind", ["read", "mapped", "loaded", "last", "capsule", "numpy", "network", "pool"])
def test_others_run_while_memory_is_given_back(tmp_path, kind):
    """By whatever has it last; a small tensor may have the memory of all."""
    np = pytest.importorskip("numpy") if kind == "numpy" else None
    if np and not hasattr(np, "from_dlpack"):
        pytest.skip("this NumPy cannot read tensors")
    path = write_sparse(tmp_path / "big.safetensors", {"a": ("F32", (64 << 20,)), "b": ("F32", (4,))})
    kinds = {
        "loaded": lambda weights: weights["a"],
        "last": lambda weights: weights["b"],
        "capsule": lambda weights: weights["b"].__dlpack__(),
        "numpy": lambda weights: np.from_dlpack(weights["b"]),
        "network": lambda weights: weights,
        "mapped": lambda weights: weights["a"],
    }

    def make():
        pool = loadstone.Pool()
        if kind == "read":
            return loadstone.open(path)["a"].read()
        weights = loadstone.load(path, io="map" if kind == "mapped" else "read", pool=pool)
        return pool if kind == "pool" else kinds[kind](weights)

    def once():
        held = [make()]
        return lets_others_run(held.clear)

    assert any(once() for _ in range(10))  # another process may have had the processor


TRACED = """
    import os, sys, threading, time
    import loadstone

    def read():
        time.sleep(0.3)
        print("traceEvents" in open(sys.argv[2]).read())

    os.mkfifo(sys.argv[2])
    thread = threading.Thread(target=read)
    thread.start()
    loadstone.load(sys.argv[1], trace=sys.argv[2])
    thread.join()
"""


def test_others_run_while_a_trace_is_written(path, tmp_path):
    """To a pipe, which waits until another thread reads from it."""
    done = run("-c", textwrap.dedent(TRACED), path, tmp_path / "trace")
    assert done.stdout == "True\n", done.stderr


def test_reading_one_checkpoint(path):
    checkpoint = loadstone.open(path)

    def read(i):
        for k in range(20):
            name = f"t{(i + k) % N_THREADS}"
            assert bytes(checkpoint[name][3:5, ::2].raw) == bytes([(i + k) % N_THREADS]) * 128
        assert set(map(len, (checkpoint, list(checkpoint)))) == {N_THREADS}

    run_together(read)


def test_loading_one_file(path):
    def load(i):
        weights = loadstone.load(
            path, io=("map", "read")[i % 2], dtype=(None, "float32")[i // 2 % 2], threads=2
        )
        if i // 2 % 2 == 0:
            assert all(bytes(weights[f"t{k}"].raw) == bytes([k]) * 2048 for k in range(N_THREADS))

    run_together(load)


def test_one_weight_in_many_hands(path):
    """Threads make and drop views of all kinds of the same tensor."""
    weights = loadstone.load(path)
    tensor = weights["t7"]

    def look(i):
        for _ in range(50):
            views = memoryview(tensor), tensor.raw, tensor.__dlpack__(), tensor.__dlpack__(max_version=(1, 0))
            assert bytes(views[1]) == b"\7" * 2048
            assert weights["t7"].data_ptr == tensor.data_ptr

    run_together(look)


def test_a_network_is_changed_by_one_at_a_time(path):
    """Every call does its work whole, or says that the network is busy."""
    network = loadstone.load(path).network
    n_done = []

    def change(i):
        for k in range(10):
            try:
                if i % 2:
                    network.to(("float32", "float16")[k % 2])
                else:
                    network["t3"].set_dtype(("bfloat16", "float16")[k % 2])
                n_done.append(1)
            except RuntimeError as error:
                assert str(error) == "the network is being changed by another call"
            with contextlib.suppress(RuntimeError):
                assert network.tensor("t5").shape == (16, 64)

    run_together(change)
    assert n_done
    network.to("float16")
    assert bytes(network["t4"].tensor.raw) == bytes([4]) * 2048


def test_a_network_is_completed_once():
    network = loadstone.Network("float32")
    for i in range(100):
        network.add(f"p{i}", (i,))

    def look(i):
        while True:
            try:
                assert len(network) == 100
                return
            except RuntimeError:
                time.sleep(0)

    run_together(look)
    assert network["p7"].shape == (7,)


HANGS_AFTER = 120  # seconds


def in_child(function):
    """What function returns in a forked process: its exit code, or less than 0 if a signal ended it."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(HANGS_AFTER)
        code = 99
        try:
            code = function()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_forking_with_live_mappings(path):
    weights = loadstone.load(path, io="map", lazy=True)
    wide = loadstone.load(path, dtype="float32")
    checkpoint = loadstone.open(path)

    def look():
        if bytes(weights["t5"].raw) != b"\5" * 2048 or len(wide["t5"].raw) != 4096:
            return 1
        weights["t5"].raw[:4] = b"mine"
        if bytes(checkpoint["t5"].read().raw) != b"\5" * 2048:
            return 2
        if bytes(loadstone.load(checkpoint, threads=4, io="read")["t9"].raw) != b"\x09" * 2048:
            return 3
        return 0

    assert in_child(look) == 0
    assert bytes(weights["t5"].raw) == b"\5" * 2048
    assert bytes(loadstone.load(checkpoint, threads=4, dtype="float32")["t0"].raw) == bytes(4096)


@pytest.mark.skipif(
    "libasan" in os.environ.get("LD_PRELOAD", ""), reason="its allocator may be locked in the child for good"
)
def test_forking_while_threads_load(path):
    stop = threading.Event()

    def load():
        while not stop.is_set():
            loadstone.load(path, io="read", threads=2)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for _ in range(10):
            assert in_child(lambda: bytes(loadstone.load(path, threads=2)["t1"].raw) != b"\1" * 2048) == 0
    finally:
        stop.set()
        thread.join()


INTERRUPTED = """
    import sys, time
    import loadstone
    network = loadstone.Network.from_checkpoint(loadstone.open(sys.argv[1]), "bfloat16")
    print("loading", flush=True)
    try:
        network.load_into(sys.argv[1], io="read", threads=1)
    except KeyboardInterrupt:
        read = int(open("/proc/self/io").read().split()[1])
        print("interrupted", read, network["a"].data_ptr, network["b"].data_ptr)
        network.load_into(sys.argv[1], names=["b"], strict=False)
        print("loaded", network["b"].tensor.nbytes)
    else:
        print("finished")
"""


def n_read(process):
    return int(Path(f"/proc/{process.pid}/io").read_text().split()[1])


@pytest.mark.parametrize("gib", [2, 4])
def test_an_interrupt_ends_a_load(tmp_path, gib):
    """A real SIGINT in the middle of a load: it ends before the file does, and nothing has been filled."""
    path = write_sparse(tmp_path / "big.safetensors", {"a": ("F32", (gib << 28,)), "b": ("F32", (16,))})
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED), str(path)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "loading\n"
        begin = n_read(process)
        while process.poll() is None and n_read(process) < begin + (64 << 20):
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        output = process.stdout.read().split()
    if output == ["finished"]:
        pytest.skip("the load was faster than the signal")
    assert output[0] == "interrupted", output
    assert int(output[1]) < NBYTES["F32"] * (gib << 28), "read to the end"
    assert output[2:] == ["None", "None", "loaded", "32"]


CHANGED = """
    import os, signal, sys, threading, time
    import loadstone
    what, path = sys.argv[1:]
    if what == "init_missing":
        network = loadstone.Network("float8_e4m3fn")
        network.add("a", (1 << 30,), init="trunc_normal", b=1, lo=-2, hi=2)
    else:
        network = loadstone.Network.from_checkpoint(path)
        network.load_into(path, io="map", lazy=True)
    parameter = network["a"]
    before = parameter.dtype, parameter.data_ptr

    def interrupt():
        try:
            while True:
                parameter.dtype
                time.sleep(0.001)
        except RuntimeError:  # another call is changing it
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    try:
        if what == "init_missing":
            network.init_missing()
        elif what == "to":
            network.to("bfloat16")
        else:
            parameter.set_dtype("bfloat16")
    except KeyboardInterrupt:
        print("interrupted", (parameter.dtype, parameter.data_ptr) == before)
    else:
        print("finished")
"""


@pytest.mark.parametrize("what", ["init_missing", "to", "set_dtype"])
def test_an_interrupt_undoes_a_change(tmp_path, what):
    """A real SIGINT while gigabytes of values are written: all is as it was.

    Elements of a byte are aligned wherever they are in the file, so that it is mapped, and takes no memory.
    """
    path = write_sparse(tmp_path / "big.safetensors", {"a": ("F8_E4M3", (1 << 31,))})
    child = [sys.executable, "-c", textwrap.dedent(CHANGED), what, str(path)]
    done = subprocess.run(child, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["interrupted", "True"]
