"""Bad input gets a typed answer that names the thing, and the server goes on."""

from __future__ import annotations

import struct

import pytest
import requests

from harness import text_to_image


@pytest.fixture(autouse=True)
def still_serving(server):
    yield
    assert server.run(text_to_image(steps=1))["status"]["status_str"] == "success"


def failed(entry: dict) -> dict:
    assert entry["status"]["status_str"] == "error", entry["status"]
    return next(data for name, data in entry["status"]["messages"] if name == "execution_error")


def test_a_checkpoint_without_a_vae_is_named(server):
    from safetensors_lite import read, write

    tensors = read("models/rushlight-tiny.safetensors")
    kept = {key: tensor for key, tensor in tensors.items() if not key.startswith("first_stage_model.")}
    write(server.checkpoints / "no-vae.safetensors", kept)
    graph = text_to_image(steps=1)
    graph["4"]["inputs"]["ckpt_name"] = "no-vae.safetensors"
    error = failed(server.run(graph))
    assert "no-vae.safetensors" in error["exception_message"] and "VAE" in error["exception_message"]


def test_a_png_that_is_no_png_is_named(server):
    (server.base / "input" / "fake.png").write_bytes(b"this is no picture")
    graph = text_to_image(steps=1)
    graph["10"] = {"class_type": "LoadImage", "inputs": {"image": "fake.png"}}
    graph["11"] = {"class_type": "PreviewImage", "inputs": {"images": ["10", 0]}}
    error = failed(server.run(graph))
    assert error["node_id"] == "10" and "fake.png" in error["exception_message"]


def test_nan_in_a_field_is_a_bad_request(server):
    body = '{"prompt": {"1": {"class_type": "KSampler", "inputs": {"cfg": NaN}}}}'
    answer = requests.post(f"{server.url}/prompt", data=body, timeout=30)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"]


@pytest.mark.parametrize("text", ["NaN-text", "nan"])
def test_a_number_given_as_text_is_checked(server, text):
    answer = server.post("/prompt", {"prompt": text_to_image(steps=text)})
    assert answer.status_code == 400
    errors = answer.json()["node_errors"]["3"]["errors"]
    assert errors[0]["type"] == "invalid_input_type" and errors[0]["extra_info"]["input_name"] == "steps"


def test_json_100_000_deep_is_a_bad_request(server):
    body = '{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}"
    answer = requests.post(f"{server.url}/prompt", data=body, timeout=30)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"]


def test_a_safetensors_header_that_lies_is_refused(server):
    path = server.checkpoints / "lies.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    graph = text_to_image(steps=1)
    graph["4"]["inputs"]["ckpt_name"] = "lies.safetensors"
    error = failed(server.run(graph))
    assert "lies.safetensors" in error["exception_message"]


def refused(server, graph: dict, node: str) -> dict:
    answer = server.post("/prompt", {"prompt": graph})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "prompt_outputs_failed_validation"
    (error,) = answer.json()["node_errors"][node]["errors"]
    return error


@pytest.mark.parametrize("prefix", ["../x", "/tmp/x", "a/../../x", "..\\x", "C:\\x"])
@pytest.mark.parametrize("saver", ["SaveImage", "SaveAnimatedPNG"])
def test_a12_a_prefix_that_leaves_the_output_folder_is_refused_at_once(server, saver, prefix):
    graph = text_to_image(steps=1)
    more = {} if saver == "SaveImage" else {"fps": 6.0, "compress_level": 4}
    graph["9"] = {"class_type": saver, "inputs": {"filename_prefix": prefix, "images": ["8", 0], **more}}
    error = refused(server, graph, "9")
    assert error["type"] == "custom_validation_failed"
    assert error["details"].startswith("filename_prefix - ")


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "link.png", "none.png"])
def test_a9_a_picture_outside_the_input_folder_is_refused_at_once(server, name):
    (server.base / "secret.txt").write_text("secret")
    link = server.base / "input" / "link.png"
    if not link.is_symlink():
        link.symlink_to("/etc/passwd")
    graph = text_to_image(steps=1)
    graph["10"] = {"class_type": "LoadImage", "inputs": {"image": name}}
    graph["9"]["inputs"]["images"] = ["10", 0]
    error = refused(server, graph, "10")
    assert error["type"] == "custom_validation_failed"
    assert error["details"].startswith("image - Invalid image file")
