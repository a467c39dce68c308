"""The extension in several interpreters of a process: each has its state and types, from 3.12 on its lock."""

import ctypes
import sys
import textwrap
import threading
from pathlib import Path

import loadstone
import pytest
from plain import write

if sys.version_info >= (3, 13):
    interpreters = pytest.importorskip("_interpreters")
else:
    interpreters = pytest.importorskip("_xxsubinterpreters")

HAS_OWN_LOCK = sys.version_info >= (3, 12)


class Interpreter:
    """A new one, with the path of this one."""

    def __init__(self):
        self.id = interpreters.create()
        self.run(f"import sys; sys.path[:] = {sys.path!r}")

    def run(self, code):
        """Run code; what it raises is raised here, with its text."""
        failed = interpreters.run_string(self.id, textwrap.dedent(code))
        if failed is not None:
            raise RuntimeError(failed.formatted)

    def end(self):
        interpreters.destroy(self.id)


@pytest.fixture
def interpreter():
    made = Interpreter()
    yield made
    made.end()


@pytest.fixture
def path(tmp_path):
    tensors = {f"t{i}": ("F16", (64, 64), bytes([i]) * 8192) for i in range(8)}
    return write(tmp_path / "model.safetensors", tensors)


def uses(path):
    """Code that goes through the package."""
    return f"""
        import loadstone
        checkpoint = loadstone.open({str(path)!r})
        for k in range(30):
            weights = loadstone.load(checkpoint, dtype=("float32", None)[k % 2], threads=2)
            if k % 2:
                assert bytes(weights["t3"].raw) == b"\\3" * 8192
                assert bytes(checkpoint["t5"][3:5].raw) == b"\\5" * 256
        weights["t1"].__dlpack__()
        try:
            loadstone.open("/nothing/there")
        except loadstone.NotFoundError as error:
            assert error.errno == 2
        else:
            raise AssertionError("opened")
    """


def test_a_second_interpreter(interpreter, path):
    interpreter.run(uses(path))
    interpreter.run(f"""
        import loadstone
        assert id(loadstone.Tensor) != {id(loadstone.Tensor)}, "a type is shared"
        assert id(loadstone.dtypes.bfloat16) != {id(loadstone.dtypes.bfloat16)}, "a dtype is shared"
    """)
    assert bytes(loadstone.load(path)["t7"].raw) == b"\7" * 8192


def test_it_may_end_in_any_order(path):
    first, second = Interpreter(), Interpreter()
    first.run(uses(path))
    second.run(uses(path))
    first.end()
    second.run(uses(path))
    third = Interpreter()
    third.run(uses(path))
    second.end()
    third.end()
    assert bytes(loadstone.load(path)["t7"].raw) == b"\7" * 8192


@pytest.mark.skipif(not HAS_OWN_LOCK, reason="before 3.12 interpreters share one lock")
def test_two_that_load_at_once(path):
    made = [Interpreter(), Interpreter()]
    errors = []

    def run(interpreter):
        try:
            interpreter.run(uses(path))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(interpreter,)) for interpreter in made]
    for thread in threads:
        thread.start()
    exec(textwrap.dedent(uses(path)), {})
    for thread in threads:
        thread.join()
    for interpreter in made:
        interpreter.end()
    assert not errors, errors[0]


def test_memory_of_the_callers_is_not_exported_there(interpreter, path):
    interpreter.run(f"""
        import loadstone
        weights = loadstone.load({str(path)!r}, out={{"t1": bytearray(8192)}})
        try:
            weights["t1"].__dlpack__()
        except BufferError as error:
            assert "main interpreter only" in str(error)
        else:
            raise AssertionError("exported")
    """)


# ---- DLPack: the deleter, which any thread of any framework may call ----


class Managed(ctypes.Structure):
    """DLManagedTensor, as dlpack.h has it."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("dtype", ctypes.c_uint8 * 4),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    ]


def consume(capsule):
    """What a consumer does: take the struct, and rename the capsule so that it forgets it."""
    api = ctypes.pythonapi
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
    pointer = api.PyCapsule_GetPointer(capsule, b"dltensor")
    assert api.PyCapsule_SetName(capsule, b"used_dltensor") == 0
    return ctypes.cast(pointer, ctypes.POINTER(Managed))


def delete_on_a_foreign_thread(managed):
    """Call the deleter on a thread that Python has never heard of."""
    threads = ctypes.CDLL(None)
    thread = ctypes.c_ulong()
    function = ctypes.c_void_p(managed.contents.deleter)
    assert threads.pthread_create(ctypes.byref(thread), None, function, managed) == 0
    assert threads.pthread_join(thread, None) == 0


def test_foreign_threads_may_be_the_last_owners(path):
    weights = loadstone.load(path, io="map")
    tensor = weights["t3"]
    managed = [consume(tensor.__dlpack__()) for _ in range(3)]
    first = managed[0].contents
    assert (first.ndim, list(first.shape[:2]), list(first.strides[:2])) == (2, [64, 64], [64, 1])
    del tensor, weights
    Path(path).unlink()
    delete_on_a_foreign_thread(managed[0])
    delete_on_a_foreign_thread(managed[1])
    assert ctypes.string_at(managed[2].contents.data, 8192) == b"\3" * 8192
    delete_on_a_foreign_thread(managed[2])


def test_read_tensors_and_copies_outlive_themselves(path):
    tensor = loadstone.open(path)["t3"][1:]
    managed = [consume(tensor.__dlpack__()), consume(tensor.__dlpack__(copy=True))]
    assert managed[0].contents.data != managed[1].contents.data
    del tensor
    for one in managed:
        assert ctypes.string_at(one.contents.data, 8064) == b"\3" * 8064
        delete_on_a_foreign_thread(one)


def test_memory_of_the_callers_is_let_go(path):
    mine = bytearray(8192)
    weights = loadstone.load(path, out={"t3": mine})
    managed = consume(weights["t3"].__dlpack__())
    assert managed.contents.data == weights["t3"].data_ptr
    del weights
    with pytest.raises(BufferError):
        mine.append(0)
    delete_on_a_foreign_thread(managed)
    mine.append(0)
