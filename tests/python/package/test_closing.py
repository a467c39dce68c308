"""Closing checkpoints, also under the hands of others."""

import os
import threading
from pathlib import Path

import loadstone
import pytest
import torch
from safetensors.torch import load_file
from support import torch_bytes


def open_files(path):
    links = [link for link in Path("/proc/self/fd").iterdir() if link.exists()]
    return sum(link.readlink() == path for link in links)


def test_files_are_closed_at_the_end_of_a_with_statement(path):
    with loadstone.open(path) as checkpoint:
        assert open_files(path) == 1
        part = checkpoint["float32"][0]
        weights = loadstone.load(checkpoint)
        assert not checkpoint.closed
    assert checkpoint.closed
    assert open_files(path) == 0
    assert bytes(part.raw) == torch_bytes(load_file(path)["float32"][0])
    assert bytes(weights["int64"].raw) == torch_bytes(load_file(path)["int64"])
    checkpoint.close()


def test_files_are_closed_with_the_last_reference(path):
    tensor = loadstone.open(path)["float32"]
    assert open_files(path) == 1
    assert tensor[0, 0].shape == (5, 6)
    del tensor
    assert open_files(path) == 0


@pytest.mark.parametrize(
    "use",
    [
        len,
        list,
        dict,
        lambda c: dict(c.items()),
        lambda c: list(c.values()),
        lambda c: c["float32"],
        lambda c: "float32" in c,
        lambda c: c.metadata,
        lambda c: c.files,
        lambda c: c.path,
        lambda c: c.directory,
        lambda c: c.dtype,
        lambda c: c.components,
        loadstone.load,
        loadstone.Network.from_checkpoint,
        lambda c: loadstone.Network().load_into(c),
    ],
)
def test_a_closed_checkpoint_says_so(path, use):
    checkpoint = loadstone.open(path)
    checkpoint.close()
    with pytest.raises(ValueError, match="the checkpoint is closed"):
        use(checkpoint)


@pytest.mark.parametrize("name", ["name", "dtype", "shape", "ndim", "nbytes", "offset", "file"])
def test_tensors_of_a_closed_checkpoint_say_so(path, name):
    with loadstone.open(path) as checkpoint:
        tensor = checkpoint["float32"]
    for use in (
        lambda: getattr(tensor, name),
        lambda: tensor[0],
        tensor.read,
        tensor.numpy,
        lambda: len(tensor),
    ):
        with pytest.raises(ValueError, match="the checkpoint is closed"):
            use()


def test_what_is_closed_can_be_shown(path):
    with loadstone.open(path) as checkpoint:
        tensor = checkpoint["float32"]
        assert repr(tensor) == "<loadstone.CheckpointTensor 'float32' float32 [3, 4, 5, 6], 1.44 kB>"
    assert repr(checkpoint) == "<loadstone.Checkpoint: closed>"
    assert checkpoint._repr_html_() == "<p>loadstone.Checkpoint: closed</p>"
    assert repr(tensor) == "<loadstone.CheckpointTensor: of a closed checkpoint>"


def test_closing_while_others_read(path):
    expected = torch_bytes(load_file(path)["float32"])
    failures = []

    def read(checkpoint):
        try:
            while True:
                if bytes(checkpoint["float32"].read().raw) != expected:
                    failures.append("other bytes")
        except ValueError as error:
            if str(error) != "the checkpoint is closed":
                failures.append(error)

    for _ in range(20):
        checkpoint = loadstone.open(path)
        threads = [threading.Thread(target=read, args=(checkpoint,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        checkpoint.close()
        for thread in threads:
            thread.join()
        assert open_files(path) == 0
    assert failures == []


def test_a_load_can_close_what_it_reads(path):
    checkpoint = loadstone.open(path)
    weights = loadstone.load(checkpoint, io="read", progress=lambda *numbers: checkpoint.close())
    assert bytes(weights["int64"].raw) == torch_bytes(load_file(path)["int64"])
    assert open_files(path) == 0


def test_a_component_is_closed_with_its_pipeline(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "vae").mkdir()
    (tmp_path / "model_index.json").write_text('{"_class_name": "P", "vae": ["diffusers", "AutoencoderKL"]}')
    save_file({"w": torch.ones(3)}, tmp_path / "vae" / "diffusion_pytorch_model.safetensors")
    pipeline = loadstone.open(tmp_path)
    vae = pipeline.components["vae"]
    assert "1 component>" in repr(pipeline)
    vae.close()
    assert vae["w"].numpy().tolist() == [1, 1, 1]
    pipeline.close()
    assert vae.closed
    with pytest.raises(ValueError, match="the checkpoint is closed"):
        vae["w"]


def test_a_child_has_files_of_its_own(path):
    checkpoint = loadstone.open(path)
    expected = torch_bytes(load_file(path)["int64"])
    child = os.fork()
    if not child:
        good = bytes(checkpoint["int64"].read().raw) == expected
        weights = loadstone.load(checkpoint, dtype="float64", threads=2)
        good = good and bytes(weights["int64"].raw) == expected
        checkpoint.close()
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bytes(checkpoint["int64"].read().raw) == expected


def test_closing_hides_no_error_of_a_load(small):
    checkpoint = loadstone.open(small)

    def stop(*numbers):
        checkpoint.close()
        raise loadstone.CancelledError("enough")

    with pytest.raises(loadstone.CancelledError, match="enough"):
        loadstone.load(checkpoint, progress=stop)
