"""Inside a checkout: its modules and classes, our server, and placement on engines."""

import shutil
import time

import pytest
from serving import ROOT, Server, node


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkout") / "ComfyUI"
    shutil.copytree(ROOT / "tests" / "checkout", folder)
    return folder


@pytest.fixture(scope="module")
def server(python, checkout, tmp_path_factory):
    server = Server(python, tmp_path_factory.mktemp("base"), "--comfyui-dir", str(checkout))
    yield server
    server.stop()


def test_the_checkouts_classes_and_its_packs_are_registered(server):
    info = server.get("/object_info")
    assert info["PyOnlyModelMerge"]["display_name"] == "Merge (Python)"
    assert info["PyExtra"]["python_module"] == "comfy_extras.nodes_extra"
    assert info["PackNode"]["python_module"] == "custom_nodes.pack"


def test_nodes_of_the_checkout_run_with_our_server(server):
    with server.client() as client:
        run = client.run({"1": node("PackNode", text="hello"), "2": node("PyExtra", text="extra")}).ok()
    assert run.outputs["1"]["text"] == ["hello"]
    assert any(b"from the checkout" in text for text in run.binary(3))


def test_a_group_with_a_python_only_node_runs_in_python(server):
    with server.client() as client:
        run = client.run({
            "1": node("CheckpointLoaderSimple", ckpt_name="rushlight-tiny.safetensors"),
            "2": node("PyOnlyModelMerge", model=["1", 0]),
            "3": node("PyShowModel", model=["2", 0]),
        }).ok()
    assert run.outputs["3"]["text"] == ["['merged', 'python']"]
    assert [entry["value"] for entry in run.events("progress")] == [1, 2]


def test_classes_with_both_implementations_run_natively(server):
    with server.client() as client:
        run = client.run({
            "1": node("EmptyLatentImage", width=64, height=64, batch_size=1),
            "2": node("LatentFlip", samples=["1", 0], flip_method="x-axis: vertically"),
            "3": node("PyExtra", text="x"),
        }).ok()
    assert run.error is None


def test_nodes_that_cannot_meet_are_named(server):
    info = server.get("/object_info")
    if "CLIPTextEncode" not in info:
        pytest.skip("CLIPTextEncode is not there")
    status, body, _ = server.request("/prompt", {"prompt": {
        "1": node("CheckpointLoaderSimple", ckpt_name="rushlight-tiny.safetensors"),
        "2": node("VAEDecode", vae=["1", 2], samples=["4", 0]),
        "3": node("PyShowModel", model=["1", 0]),
        "4": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "5": node("PreviewImage", images=["2", 0]),
    }})
    assert status == 400 and body["error"]["type"] == "engines_cannot_meet"
    assert "VAEDecode" in body["error"]["details"] and "PyShowModel" in body["error"]["details"]


def test_an_interrupt_reaches_the_checkouts_own_flag(server):
    with server.client() as client:
        prompt_id = client.submit({"1": node("PyLoop", seconds=60.0)})
        time.sleep(0.5)
        begun = time.monotonic()
        server.request("/interrupt", {}, method="POST")
        client.frames(prompt_id, timeout=30)
        assert time.monotonic() - begun < 3
        # The flag is down again for the next prompt.
        client.run({"1": node("PyShowModel", model=["2", 0]), "2": node("PyOnlyModelMerge", model=["3", 0]),
                    "3": node("CheckpointLoaderSimple", ckpt_name="rushlight-tiny.safetensors")}).ok()


def test_prefer_python_turns_placement_round(python, checkout, tmp_path):
    server = Server(python, tmp_path, "--comfyui-dir", str(checkout), "--prefer-python")
    try:
        with server.client() as client:
            run = client.run({
                "1": node("EmptyLatentImage", width=64, height=64, batch_size=1),
                "2": node("SaveLatent", samples=["1", 0], filename_prefix="x"),
            } if "SaveLatent" in server.get("/object_info") else {
                "1": node("EmptyLatentImage", width=64, height=64, batch_size=1),
                "2": node("PreviewAny", source=["1", 0]),
            })
        assert "the Python EmptyLatentImage ran" in run.error["exception_message"]
    finally:
        server.stop()


def test_a_checkouts_own_folders_are_used_unless_others_are_given(python, tmp_path):
    folder = tmp_path / "ComfyUI"
    shutil.copytree(ROOT / "tests" / "checkout", folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [python, "-m", "rushlight", "serve", "--port", "0", "--comfyui-dir", str(folder), "--lowvram"]
    server = Server(python, elsewhere, command=command)
    try:
        with server.client() as client:
            client.run({"1": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
                        "2": node("SaveImage", images=["1", 0], filename_prefix="here")}).ok()
        assert "have no effect" not in server.output
    finally:
        server.stop()
    assert [path.name for path in (folder / "output").iterdir()] == ["here_00001_.png"]
    assert list(elsewhere.iterdir()) == []


def test_classes_with_both_implementations_are_shown_as_the_checkout_describes_them(server):
    info = server.get("/object_info/ImageInvert")["ImageInvert"]
    assert info["input"] == {"required": {"image": ["IMAGE"]}} and "is_input_list" not in info
    choices = server.get("/object_info/CheckpointLoaderSimple")["CheckpointLoaderSimple"]["input"]["required"]
    assert choices["ckpt_name"][0] == ["rushlight-tiny.safetensors"]
