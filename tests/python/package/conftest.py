"""The files that most tests of the package begin with."""

import pytest


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file of every dtype that torch has; tests only read it."""
    from support import save_every  # needs torch, which is not beside every interpreter

    path = tmp_path_factory.mktemp("every") / "every.safetensors"
    save_every(path)
    return path


@pytest.fixture
def small(tmp_path):
    """A file of a in float32, 8 x 8, and b in bfloat16, 300 elements, for one test alone."""
    from support import save_small

    path = tmp_path / "small.safetensors"
    save_small(path)
    return path
