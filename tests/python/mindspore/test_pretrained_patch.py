"""accelerated() and install(): what is replaced in mindone, and that it is put back."""

from __future__ import annotations

import inspect
import threading

import loadstone.mindspore
import mindspore as ms
import numpy as np
import pytest
from loadstone.mindspore import _pretrained
from pretrained_support import (
    cpu_operators,
    differences,
    dtype_argument,
    model_class,
    models,
    nothing_left,
    touched,
)

__all__ = ["cpu_operators", "models", "nothing_left"]  # fixtures


def load(models, name="clip_text", dtype=ms.float16, layout="float32-whole"):
    return model_class(name).from_pretrained(models / name / layout, **dtype_argument(name, dtype))


def counts():
    return _pretrained._patch._n_holders


def test_restored_at_the_end_and_after_exceptions(models):
    with loadstone.mindspore.accelerated():
        load(models)
        assert counts() == 1
    assert counts() == 0
    with pytest.raises(ZeroDivisionError), loadstone.mindspore.accelerated():
        load(models, "vae")
        raise ZeroDivisionError
    with pytest.raises(OSError), loadstone.mindspore.accelerated():
        model_class("vae").from_pretrained(models / "nothing there")
    assert counts() == 0


def test_nests(models):
    before = touched()
    with loadstone.mindspore.accelerated():
        inside = touched()
        with loadstone.mindspore.accelerated():
            load(models)
        assert [key for key in inside if inside[key] is not touched()[key]] == []
        with pytest.raises(OSError), loadstone.mindspore.accelerated():
            model_class("vae").from_pretrained(models / "nothing there")
        load(models, "vae")
    assert before.keys() == touched().keys()


def test_decorates(models):
    @loadstone.mindspore.accelerated()
    def build():
        assert counts() == 1
        return load(models)

    assert differences(load(models), build()) == []
    assert differences(load(models), build()) == []


def test_install_and_uninstall(models):
    loadstone.mindspore.uninstall()
    loadstone.mindspore.install()
    loadstone.mindspore.install()
    try:
        assert counts() == 1
        with loadstone.mindspore.accelerated():
            load(models)
        assert counts() == 1
    finally:
        loadstone.mindspore.uninstall()
    assert counts() == 0
    loadstone.mindspore.uninstall()
    assert counts() == 0


def test_signatures_stay(models):
    cls = model_class("vae")
    before = inspect.signature(cls.from_pretrained), cls.from_pretrained.__doc__, inspect.signature(cls.to)
    with loadstone.mindspore.accelerated():
        assert (
            inspect.signature(cls.from_pretrained),
            cls.from_pretrained.__doc__,
            inspect.signature(cls.to),
        ) == before


CHANGES = {
    "float": lambda model: model.float(),
    "half": lambda model: model.half(),
    "to": lambda model: model.to(ms.bfloat16),
    "to keyword": lambda model: model.to(dtype=ms.float32),
    "to the same": lambda model: model.to(ms.float32),
}


@pytest.mark.parametrize("layout", ["float32-whole", "bfloat16-whole"])
@pytest.mark.parametrize("name", ["vae", "unet", "flux", "clip_text", "bert", "t5"])
def test_to_half_and_float(models, name, layout):
    """After each of a row of changes."""
    theirs = load(models, name, None, layout)
    with loadstone.mindspore.accelerated():
        ours = load(models, name, None, layout)
    for change in CHANGES.values():
        change(theirs)
        with loadstone.mindspore.accelerated():
            assert change(ours) is ours
        assert differences(theirs, ours) == []


def result_of(function, *args):
    try:
        return function(*args)
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("name", ["vae", "clip_text"])
def test_to_takes_and_refuses_what_mindones_does(models, name):
    arguments = [(), (None,), ("float16",), (np.float16,), ("no dtype",), (ms.int32,), (ms.float16, 1)]
    for args in arguments:
        model = load(models, name)
        theirs = result_of(model.to, *args)
        theirs = theirs if theirs is not model else "the model"
        dtype = model.dtype
        model = load(models, name)
        with loadstone.mindspore.accelerated():
            ours = result_of(model.to, *args)
        assert (ours if ours is not model else "the model") == theirs, args
        assert model.dtype == dtype, args
    with loadstone.mindspore.accelerated():
        for change in (model.half, model.float):
            with pytest.raises(TypeError):
                change(1)


def test_dtypes_that_are_refused(models):
    """What mindone would not take is not taken by the call that begins again, either."""
    for dtype in ("auto", np.float16, "no dtype"):
        theirs = result_of(load, models, "clip_text", dtype)
        with loadstone.mindspore.accelerated():
            ours = result_of(load, models, "clip_text", dtype)
        assert type(ours) is type(theirs)
        assert not isinstance(theirs, tuple) or ours[0] is theirs[0]


def test_threads_with_different_dtypes(models):
    """Each thread loads again and again, in its own dtype, and leaves at its own time."""
    expected = {dtype: load(models, "clip_text", dtype) for dtype in (None, ms.float16, ms.bfloat16)}
    failures = []
    begin = threading.Barrier(len(expected))

    def work(dtype, n_loads):
        try:
            begin.wait()
            for _ in range(n_loads):
                with loadstone.mindspore.accelerated():
                    model = load(models, "clip_text", dtype)
                failures.extend(differences(expected[dtype], model))
        except BaseException as error:
            failures.append(repr(error))
            raise

    threads = [threading.Thread(target=work, args=(dtype, 2 + i)) for i, dtype in enumerate(expected)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_load_outlives_the_block_that_it_began_in(models, monkeypatch):
    """The last block ends while another thread is in the middle of a load."""
    expected = load(models)
    middle, go_on = threading.Event(), threading.Event()
    open_file = loadstone.open

    def slow(path, **kwargs):
        middle.set()
        assert go_on.wait(60)
        return open_file(path, **kwargs)

    monkeypatch.setattr(loadstone, "open", slow)
    found = []
    block = loadstone.mindspore.accelerated()
    block.__enter__()
    thread = threading.Thread(target=lambda: found.append(load(models)))
    thread.start()
    assert middle.wait(60)
    block.__exit__()
    assert counts() == 1
    go_on.set()
    thread.join()
    assert counts() == 0
    assert differences(expected, found[0]) == []
