"""What is raised: its class, what it carries, and that it can be pickled."""

import os
import pickle
from pathlib import Path

import loadstone
import pytest
import torch
from safetensors.torch import save_file


@pytest.mark.parametrize(
    ("content", "expected", "builtin"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", loadstone.NotWeightsError, ValueError),
        (b"\x08\0\0\0\0\0\0\0[1, 2, 3", loadstone.MalformedError, ValueError),
        (None, loadstone.NotFoundError, FileNotFoundError),
    ],
)
def test_exceptions(tmp_path, content, expected, builtin):
    path = tmp_path / "bad.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(builtin) as caught:
        loadstone.open(path)
    error = caught.value
    assert type(error) is expected
    assert isinstance(error, loadstone.LoadstoneError)
    assert error.file == str(path)
    assert str(error).startswith(str(path))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert (again.code, again.file, again.tensor, again.offset) == (
        error.code,
        error.file,
        error.tensor,
        error.offset,
    )
    if isinstance(error, OSError):
        assert again.errno == error.errno == 2
        assert again.strerror == error.strerror == "No such file or directory"
        assert again.filename == error.filename == str(path)


@pytest.mark.parametrize("make", [loadstone.KeyMap.from_file, loadstone.Network.from_manifest])
def test_files_of_json_that_cannot_be_used(tmp_path, make):
    missing = tmp_path / "none.json"
    with pytest.raises(loadstone.NotFoundError) as caught:
        make(missing)
    assert str(caught.value) == f"{missing}: cannot be opened: No such file or directory"
    assert (caught.value.code, caught.value.errno, caught.value.file) == (-21, 2, str(missing))
    with pytest.raises(loadstone.FileError, match="cannot be opened: Is a directory") as caught:
        make(tmp_path)
    assert not isinstance(caught.value, loadstone.NotFoundError)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.json"))
    odd.write_text("{")
    with pytest.raises(loadstone.MalformedError) as caught:
        make(odd)
    assert caught.value.file == str(odd)
    with pytest.raises(loadstone.NotFoundError, match=r"\ufffd\.json2") as caught:
        make(f"{odd}2")
    assert caught.value.filename == f"{odd}2"


@pytest.mark.parametrize("make", [loadstone.KeyMap.from_file, loadstone.Network.from_manifest])
def test_descriptors_are_no_paths(make):
    end, other = os.pipe()
    os.close(other)
    with pytest.raises(TypeError, match=r"expected str, bytes or os\.PathLike object, not int"):
        make(end)
    os.close(end)


def test_long_paths_are_whole_in_errors(tmp_path):
    folder = tmp_path / ("x" * 200) / ("y" * 200)
    folder.mkdir(parents=True)
    file, index = folder / "m.safetensors", folder / "model.safetensors.index.json"
    for path in (file, str(file) + "/", f"{folder}//m.safetensors"):
        with pytest.raises(loadstone.NotFoundError) as caught:
            loadstone.open(path)
        assert caught.value.file == caught.value.filename == str(path)
        assert str(caught.value).startswith("...")
    index.write_text('{"weight_map": {"a": "m.safetensors"}}')
    for path in (folder, index):
        with pytest.raises(loadstone.NotFoundError) as caught:
            loadstone.open(path)
        assert caught.value.file == str(index)
    file.write_text("x")
    for path in (folder, index):
        with pytest.raises(loadstone.TruncatedError) as caught:
            loadstone.open(path)
        assert caught.value.file == str(file)
    with pytest.raises(loadstone.NotFoundError) as caught:
        loadstone.Network.from_config(folder)
    assert caught.value.file == f"{folder}/config.json"
    save_file({"a": torch.ones(3)}, file)
    checkpoint = loadstone.open(folder)
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(loadstone.ChangedError) as caught:
        loadstone.load(checkpoint)
    assert caught.value.file == str(file)
    manifest = folder / "manifest.json"
    manifest.write_text("[7]")
    with pytest.raises(loadstone.MalformedError) as caught:
        loadstone.Network.from_manifest(manifest)
    assert caught.value.file == str(manifest)
    assert loadstone._errors.make_error(-30, "m", "...z/c", None, None, 0, None).file == "...z/c"


def test_every_code_has_its_class():
    classes = {
        -10: ValueError,
        -11: KeyError,
        -20: OSError,
        -21: FileNotFoundError,
        -22: OSError,
        -30: ValueError,
        -31: ValueError,
        -32: ValueError,
        -40: ValueError,
        -50: ValueError,
        -60: MemoryError,
        -70: loadstone.CancelledError,
    }
    for code, builtin in classes.items():
        error = loadstone._errors.make_error(code, "message", "file", "tensor", 7, 0, None)
        assert isinstance(error, builtin)
        assert type(error) is not loadstone.LoadstoneError
        assert (str(error), error.code, error.tensor, error.offset) == ("message", code, "tensor", 7)
        assert pickle.loads(pickle.dumps(error)).__dict__ == error.__dict__


def test_a_changed_file_is_seen(small):
    checkpoint = loadstone.open(small)
    with small.open("ab") as file:
        file.write(b"x")
    with pytest.raises(loadstone.ChangedError):
        checkpoint["a"][0]
    with pytest.raises(OSError, match="changed since it was opened"):
        loadstone.load(checkpoint)


def test_nothing_can_be_made_by_calling_its_type():
    for name in ("Checkpoint", "CheckpointTensor", "Tensor", "Network", "Parameter", "KeyMap"):
        with pytest.raises(TypeError):
            getattr(loadstone._core, name)()
    with pytest.raises(TypeError):
        loadstone.Checkpoint()
