"""Inside a checkout: its modules and classes, our server, and placement on engines."""

import time

import pytest
from serving import HOMES, Server, home, node


@pytest.fixture(scope="module")
def checkout(python, tmp_path_factory):
    return home("stand-in checkout", tmp_path_factory.mktemp("checkout"), python)[0]


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


ALONE = '''
import nodes

# From here on only the server itself has it.
nodes.NODE_CLASS_MAPPINGS.pop("ModelSamplingDiscrete", None)


class OnlyPython:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def run(self, model):
        return {"ui": {"text": [type(model).__name__]}}


NODE_CLASS_MAPPINGS = {"OnlyPython": OnlyPython}
'''


@pytest.mark.parametrize("kind", [kind for kind in HOMES if kind != "stand-alone"])
def test_nodes_that_cannot_meet_are_named(python, tmp_path, kind):
    base, arguments = home(kind, tmp_path, python)
    (base / "custom_nodes" / "alone.py").write_text(ALONE)
    server = Server(python, base, *arguments)
    prompt = {
        "1": node("CheckpointLoaderSimple", ckpt_name="rushlight-tiny.safetensors"),
        "2": node("ModelSamplingDiscrete", model=["1", 0], sampling="eps", zsnr=False),
        "3": node("OnlyPython", model=["2", 0]),
    }
    try:
        status, body, _ = server.request("/prompt", {"prompt": prompt}, timeout=300)
        assert status == 400 and body["error"]["type"] == "engines_cannot_meet"
        assert "'2' (ModelSamplingDiscrete) only runs natively" in body["error"]["details"]
        assert "'3' (OnlyPython) only runs in Python" in body["error"]["details"]
        assert set(body["node_errors"]) == {"2", "3"}
    finally:
        server.stop()


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
    folder, _ = home("stand-in checkout", tmp_path, python)
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
