"""A Python with the wheel and nothing else: no NumPy, PyTorch, Pillow or aiohttp."""

import pathlib
import subprocess

import pytest
from serving import Server, node

PACK = '''
from server import PromptServer


class Text:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": ""})}, "hidden": {"unique_id": "UNIQUE_ID"}}

    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def run(self, text, unique_id):
        PromptServer.instance.send_progress_text(text, unique_id)
        return {"ui": {"text": [text]}, "result": (text,)}


class Picture:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def run(self, image):
        return {"ui": {"text": [str(image.shape)]}}


class Call:
    """Calls what needs a library."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"code": ("STRING", {})}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def run(self, code):
        exec(code)
        return ()


NODE_CLASS_MAPPINGS = {"BareText": Text, "BarePicture": Picture, "BareCall": Call}
'''
ROUTES = '''
from server import PromptServer


@PromptServer.instance.routes.get("/bare")
async def bare(request):
    return None


NODE_CLASS_MAPPINGS = {}
'''
V3 = '''
from comfy_api.latest import ComfyExtension, io, ui


class Shout(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="BareShout", inputs=[io.String.Input("text")], outputs=[io.String.Output()],
                         is_output_node=True)

    @classmethod
    async def execute(cls, text):
        return io.NodeOutput(text.upper(), ui=ui.PreviewText(text.upper()))


class Pack(ComfyExtension):
    async def get_node_list(self):
        return [Shout]


async def comfy_entrypoint():
    return Pack()
'''


@pytest.fixture(scope="module")
def server(python, tmp_path_factory):
    base = tmp_path_factory.mktemp("bare")
    found = subprocess.run(
        [python, "-c", "import rushlight; print(rushlight.__file__)"], capture_output=True, text=True, check=True, cwd="/"
    )
    only = base / "only"
    only.mkdir()
    (only / "rushlight").symlink_to(pathlib.Path(found.stdout.strip()).parent)
    nodes = base / "custom_nodes"
    nodes.mkdir()
    for name, text in (("plain", PACK), ("routes", ROUTES), ("third", V3)):
        (nodes / f"{name}.py").write_text(text)
    # Without `site`, what is installed beside the wheel is not found.
    command = [python, "-S", "-m", "rushlight", "serve", "--port", "0", "--base-directory", str(base)]
    server = Server(python, base, command=command, env={"PYTHONPATH": str(only), "PYTHONNOUSERSITE": "1"})
    yield server
    server.stop()


def test_nodes_without_tensors_run(server):
    with server.client() as client:
        run = client.run({"1": node("BareText", text="hello"), "2": node("BareShout", text="loud")}).ok()
    assert run.outputs["1"]["text"] == ["hello"] and run.outputs["2"]["text"] == ["LOUD"]
    assert any(b"hello" in text for text in run.binary(3))


def test_a_tensor_without_a_library_for_it_is_an_error_that_says_what_to_install(server):
    with server.client() as client:
        run = client.run({"1": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
                          "2": node("BarePicture", image=["1", 0])})
    assert "pip install numpy" in run.error["exception_message"]


@pytest.mark.parametrize(("code", "needs"), [
    ("from comfy.model_management import get_torch_device as f; f()", "comfy.model_management needs PyTorch: pip install torch"),
    ("from comfy.utils import load_torch_file as f; f('x')", "comfy.utils.load_torch_file needs PyTorch: pip install torch"),
    ("from comfy.utils import save_torch_file as f; f({}, 'x')", "save_torch_file needs PyTorch: pip install torch"),
    ("from comfy.utils import tiled_scale as f; f(None, None)", "comfy.utils.tiled_scale needs PyTorch: pip install torch"),
    ("from comfy.utils import lanczos as f; f(None, 1, 1)", "comfy.utils.lanczos needs NumPy: pip install numpy"),
    ("from comfy.sample import prepare_noise as f; f(None, 1)", "comfy.sample.prepare_noise needs PyTorch: pip install torch"),
    ("from nodes import PreviewImage as C; C().save_images([type('I', (), {'shape': (1, 1, 3)})])",
     "nodes.SaveImage needs NumPy: pip install numpy"),
    ("from comfy_api.latest import ui; ui.AudioSaveHelper.save_audio({}, 'x', 'temp', None, 'wav')",
     "ui.AudioSaveHelper needs NumPy: pip install numpy"),
    ("from server import web", "a route of a custom node needs aiohttp: pip install aiohttp"),
])
def test_what_needs_a_library_says_how_to_install_it(server, code, needs):
    with server.client() as client:
        run = client.run({"1": node("BareCall", code=code)})
    assert run.error["exception_type"] == "ImportError" and needs in run.error["exception_message"]


def test_routes_without_aiohttp_say_what_to_install(server):
    server.get("/object_info/BareText")
    assert "needs aiohttp: pip install aiohttp" in server.output


def test_native_nodes_need_none_of_them(server):
    with server.client() as client:
        run = client.run({"1": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
                          "2": node("SaveImage", images=["1", 0], filename_prefix="bare")}).ok()
    assert run.outputs["2"]["images"]
