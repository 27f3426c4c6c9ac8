"""Packs that change core classes, tables and folders: what they do takes effect, also natively."""

import pytest
from serving import Server, has, home, node

PATCHES = '''
import os
import folder_paths
import nodes

here = os.path.dirname(__file__)

# A class put into the table, and a folder of scripts.
class Direct:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def run(self):
        return {"ui": {"text": ["direct"]}}


nodes.NODE_CLASS_MAPPINGS["PatchDirect"] = Direct
nodes.EXTENSION_WEB_DIRS["patch_web"] = os.path.join(here, "scripts")

# A method of a core class, which still calls the one before.
if hasattr(nodes, "ImageInvert"):
    before = nodes.ImageInvert.invert

    def invert(self, image):
        print("the patched invert ran")
        return before(self, image)

    nodes.ImageInvert.invert = invert


# Another class under a core name.
class Loud:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",), "filename_prefix": ("STRING", {"default": "ComfyUI"})}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def run(self, images, filename_prefix):
        return {"ui": {"text": ["the pack's own SaveImage: " + filename_prefix]}}


nodes.NODE_CLASS_MAPPINGS["SaveImage"] = Loud

# Model folders: another key, a folder of a known key, and an extension, in place and by assignment.
folder_paths.folder_names_and_paths["patch_models"] = ([os.path.join(here, "models")], {".patch"})
folder_paths.folder_names_and_paths["loras"][0].append(os.path.join(here, "models"))
if "upscale_models" in folder_paths.folder_names_and_paths:
    places, extensions = folder_paths.folder_names_and_paths["upscale_models"]
    folder_paths.folder_names_and_paths["upscale_models"] = (places + [os.path.join(here, "models")], set(extensions) | {".patch"})


class Move:
    """Changes folders while the server runs."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"output": ("STRING", {}), "loras": ("STRING", {})}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def run(self, output, loras):
        folder_paths.set_output_directory(output)
        folder_paths.folder_names_and_paths["loras"][0].append(loras)
        return {"ui": {"text": [folder_paths.get_output_directory()]}}


NODE_CLASS_MAPPINGS = {"PatchMove": Move}
'''


@pytest.fixture(scope="module", params=["stand-alone", "stand-in checkout"])
def server(request, python, tmp_path_factory):
    base, arguments = home(request.param, tmp_path_factory.mktemp("patched"), python)
    pack = base / "custom_nodes" / "patcher"
    (pack / "scripts").mkdir(parents=True)
    (pack / "scripts" / "patch.js").write_text("// patch\n")
    (pack / "models").mkdir()
    for name in ("one.patch", "two.safetensors"):
        (pack / "models" / name).write_bytes(b"x")
    (pack / "__init__.py").write_text(PATCHES)
    server = Server(python, base, *arguments)
    server.home = request.param
    server.get("/object_info")
    yield server
    server.stop()


def test_classes_and_web_folders_put_into_the_tables_are_there(server):
    assert server.get("/object_info/PatchDirect")["PatchDirect"]["python_module"] == "custom_nodes.patcher"
    with server.client() as client:
        assert client.run({"1": node("PatchDirect")}).ok().outputs["1"]["text"] == ["direct"]
    assert "/extensions/patch_web/patch.js" in server.get("/extensions")
    assert server.request("/extensions/patch_web/patch.js", raw=True)[1] == b"// patch\n"


def test_a_patched_method_of_a_core_class_runs_in_place_of_the_native_node(server):
    with server.client() as client:
        run = client.run({
            "1": node("EmptyImage", width=4, height=4, batch_size=1, color=0), "2": node("ImageInvert", image=["1", 0]),
            "3": node("MaskToImage", mask=["4", 0]), "4": node("ImageToMask", image=["2", 0], channel="red"),
            "5": node("PreviewImage", images=["3", 0]),
        }).ok()
    assert run.outputs["5"]["images"]
    assert "the patched invert ran" in server.output
    assert "Class ImageInvert was changed by a pack" in server.output
    assert "Class EmptyImage" not in server.output


def test_another_class_under_a_core_name_is_the_one_that_runs(server):
    with server.client() as client:
        run = client.run({
            "1": node("EmptyImage", width=4, height=4, batch_size=1, color=0),
            "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
        }).ok()
    assert run.outputs["2"]["text"] == ["the pack's own SaveImage: x"]


def test_model_folders_and_extensions_of_packs_are_listed_by_native_nodes(server):
    info = server.get("/object_info")
    assert "two.safetensors" in info["LoraLoader"]["input"]["required"]["lora_name"][0]
    assert server.get("/models/patch_models") == ["one.patch"]
    if server.home == "stand-alone":
        assert "one.patch" in str(info["UpscaleModelLoader"]["input"]["required"]["model_name"])


def test_folders_that_change_while_the_server_runs_reach_native_nodes(server, tmp_path):
    (tmp_path / "late.safetensors").write_bytes(b"x")
    output = tmp_path / "moved"
    with server.client() as client:
        client.run({"1": node("PatchMove", output=str(output), loras=str(tmp_path))}).ok()
        lists = server.get("/object_info/LoraLoader")["LoraLoader"]["input"]["required"]["lora_name"][0]
        assert "late.safetensors" in lists
        run = client.run({
            "1": node("EmptyImage", width=4, height=4, batch_size=1, color=0),
            "2": node("SaveAnimatedPNG", images=["1", 0], filename_prefix="there", fps=6.0, compress_level=4),
        }).ok()
    assert (output / run.outputs["2"]["images"][0]["filename"]).is_file()


LATE = '''
import nodes


class Late:
    """Imports PyTorch in a call, and calls the engine before and after."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, image):
        return nodes.ImageInvert().invert(image)


NODE_CLASS_MAPPINGS = {"Late": Late}
'''


def test_pytorch_that_a_call_imports_first_is_used_by_later_calls(python, tmp_path):
    if not has(python, "torch"):
        pytest.skip(f"{python} has no PyTorch")
    (tmp_path / "custom_nodes").mkdir()
    (tmp_path / "custom_nodes" / "late.py").write_text(LATE)
    server = Server(python, tmp_path)
    try:
        with server.client() as client:
            for color in range(5):
                client.run({
                    "1": node("EmptyImage", width=4, height=4, batch_size=1, color=color), "2": node("Late", image=["1", 0]),
                    "3": node("Late", image=["2", 0]), "4": node("PreviewImage", images=["3", 0]),
                }, timeout=120).ok()
    finally:
        server.stop()
