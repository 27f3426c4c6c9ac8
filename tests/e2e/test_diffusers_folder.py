"""Models in folders of diffusers' layout."""

from __future__ import annotations

import numpy as np
import pytest

import diffusers_folder
from harness import ROOT, pixels, text_to_image

CHECKPOINT = ROOT / "models" / "rushlight-tiny.safetensors"


def graph(loader: dict) -> dict:
    """The usual graph with 8 steps and another loader; MODEL, CLIP and VAE are a checkpoint loader's outputs."""
    nodes = text_to_image("a green star on a black background", seed=11, steps=8)
    nodes["4"] = loader
    return nodes


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "models" / "diffusers" / "sets" / "tiny"
    diffusers_folder.write(CHECKPOINT, path, blocks=1, levels=4)
    return path


def test_a_folder_gives_the_picture_of_its_checkpoint(start_server, folder):
    server = start_server()
    inputs = server.get("/object_info/DiffusersLoader").json()["DiffusersLoader"]["input"]["required"]
    assert inputs["model_path"][0] == ["sets/tiny"]
    loaders = [
        {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "rushlight-tiny.safetensors"}},
        {"class_type": "DiffusersLoader", "inputs": {"model_path": "sets/tiny"}},
    ]
    entries = [server.run(graph(loader)) for loader in loaders]
    assert [entry["status"]["status_str"] for entry in entries] == ["success"] * 2, entries[1]["status"]
    one, other = (pixels(server.picture(entry["outputs"]["9"]["images"][0])) for entry in entries)
    # The same numbers in the same operations.
    assert np.array_equal(one, other)


def test_a_part_that_is_not_there_is_named(start_server, folder):
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    entry = start_server().run(graph({"class_type": "DiffusersLoader", "inputs": {"model_path": "sets/tiny"}}))
    (_, error) = next(message for message in entry["status"]["messages"] if message[0] == "execution_error")
    assert "'sets/tiny' has no file of its 'vae'" in error["exception_message"]
    assert error["exception_type"] == "FileNotFoundError"
