"""Nodes that block loops, build graphs, compare types, write into shared values, queue prompts and follow progress."""

import asyncio
import importlib
import threading
import time

from comfy_execution import progress
from comfy_execution.graph_utils import GraphBuilder
from server import PromptServer

server = PromptServer.instance


class Node:
    """What most of them have."""

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True


class BlockLoop(Node):
    """A coroutine that never lets the event loop go on."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"how": (["sleep", "compute", "swallow"],), "seconds": ("FLOAT", {"default": 60.0})}}

    async def run(self, how, seconds):
        await asyncio.sleep(0)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if how == "sleep":
                time.sleep(0.02)
            elif how == "compute":
                sum(range(1000))
            else:
                try:
                    await asyncio.sleep(0.1)
                except asyncio.CancelledError:
                    pass
        return ()


class BuildGraphs(Node):
    """Expands, and shows what the ids of its graphs begin with."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seconds": ("FLOAT", {"default": 0.05})}}

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")

    RETURN_TYPES = ("INT",)

    async def run(self, seconds):
        prefixes = []
        for _ in range(3):
            graph = GraphBuilder()
            prefixes.append(graph.prefix)
            await asyncio.sleep(seconds)
        number = graph.node("ExampleNumber", value=7, name="expanded")
        return {"ui": {"prefixes": prefixes}, "result": (number.out(0),), "expand": graph.finalize()}


class Accepts(str):
    """A type that takes the types it names, whatever its own text is."""

    def __new__(cls, text, *names):
        made = super().__new__(cls, text)
        made.names = names
        return made

    def __eq__(self, other):
        return not self.__ne__(other)

    def __ne__(self, other):
        return str.__str__(other) not in self.names

    __hash__ = str.__hash__


class TakesSome(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (Accepts("SOME", "LATENT", "STRING"), {})}}

    def run(self, value):
        return {"ui": {"kind": [type(value).__name__]}}


class GivesSome(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    RETURN_TYPES = (Accepts("OTHER", "STRING"),)
    OUTPUT_NODE = False

    def run(self):
        return ("a text",)


class WriteInfo(Node):
    """Writes into the values that all nodes of a run share."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}, "hidden": {"info": "EXTRA_PNGINFO", "prompt": "PROMPT"}}

    RETURN_TYPES = ("IMAGE",)
    OUTPUT_NODE = False

    def run(self, image, info, prompt):
        info["workflow"]["written"] = [1, 2]
        prompt["1"]["note"] = "seen"
        return (image,)


class ReadInfo(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}, "hidden": {"info": "EXTRA_PNGINFO", "prompt": "PROMPT"}}

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")

    def run(self, image, info, prompt):
        return {"ui": {"written": [info["workflow"].get("written")], "note": [prompt["1"].get("note")]}}


class TryImports(Node):
    """What optional imports of the engine's parts come to."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"names": ("STRING", {})}}

    def run(self, names):
        found = []
        for name in names.split():
            module, _, attribute = name.rpartition(".")
            try:
                exec(f"from {module} import {attribute}")
                answer = ["no error", ""]
            except ImportError as error:
                answer = ["ImportError", str(error)]
            except BaseException as error:
                answer = [type(error).__name__, str(error)]
            holder = importlib.import_module(module)
            found.append([name, *answer, hasattr(holder, attribute), getattr(holder, attribute, "default") == "default"])
        return {"ui": {"found": found}}


class ValidatesAsync(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {})}}

    @classmethod
    async def VALIDATE_INPUTS(cls, text):
        await asyncio.sleep(0.01)
        return True if text == "good" else "not good"

    def run(self, text):
        return {"ui": {"text": [text]}}


class ValidatesTypes(Node):
    """Takes everything over."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {"max": 3}), "linked": ("IMAGE",)}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types, **kwargs):
        if input_types != {"linked": "STRING"}:
            return f"types {input_types}"
        return True if kwargs.get("value") == 99 else f"values {sorted(kwargs)}"

    def run(self, value, linked):
        return {"ui": {"got": [value, linked]}}


class Progress(progress.ProgressHandler):
    """Keeps what it hears."""

    heard = []

    def __init__(self):
        super().__init__("behaviour")

    def reset(self):
        Progress.heard.clear()

    def start_handler(self, node_id, state, prompt_id):
        Progress.heard.append(["start", node_id, state["state"].name])

    def update_handler(self, node_id, value, max_value, state, prompt_id, image=None):
        Progress.heard.append(["update", node_id, value, max_value])

    def finish_handler(self, node_id, state, prompt_id):
        Progress.heard.append(["finish", node_id, state["state"].name])


progress.add_progress_handler(Progress())


class HeardProgress(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"after": ("INT", {"forceInput": True})}}

    def run(self, after):
        return {"ui": {"heard": list(Progress.heard), "nodes": [sorted(progress.get_progress_state().nodes)]}}


class BareText(Node):
    """Its ui is no list."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {})}}

    def run(self, text):
        return {"ui": {"text": text}}


class LeaveProgress(Node):
    """Its thread goes on when the node has ended."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seconds": ("FLOAT", {})}}

    def run(self, seconds):
        import comfy.utils

        bar = comfy.utils.ProgressBar(1000)

        def work():
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(0.05)
                bar.update(1)
                server.send_progress_text("left behind", server.last_node_id)

        threading.Thread(target=work, daemon=True).start()
        return ()


class AskServer(Node):
    """What the server tells of its sessions, and what it does with what cannot be."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"gone": ("STRING", {})}}

    def run(self, gone):
        sid = server.client_id
        flags = server.sockets_metadata[sid]["feature_flags"]
        closed = [server.sockets[sid].closed, type(server.sockets[sid])(gone).closed]
        server.send_sync(4, (("PNG", _picture(), None), {"node_id": "7", "display_node_id": "7"}), sid)
        try:
            server.user_manager.add_user("x")
            error = ""
        except AttributeError as raised:
            error = str(raised)
        return {"ui": {"flags": [flags], "closed": closed, "error": [error], "users": [server.user_manager is not None]}}


def _picture():
    from PIL import Image

    return Image.new("RGB", (4, 4), (0, 0, 255))


seen = []


def on_prompt(body):
    """Notes every submitted prompt; one with a mark makes it queue another itself, which is not seen here."""
    seen.append(body.get("prompt_id") or "no id")
    if (body.get("extra_data") or {}).get("queue_another"):
        prompt = {"1": {"class_type": "TestValidatesAsync", "inputs": {"text": "good"}}}
        server.prompt_queue.put((0, "queued-by-a-handler", prompt, {"queue_another": True}, ["1"]))
    return body


server.add_on_prompt_handler(on_prompt)


class SeenPrompts(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    @classmethod
    def IS_CHANGED(cls):
        return float("nan")

    def run(self):
        return {"ui": {"seen": list(seen)}}


try:
    from aiohttp import web
except ImportError:
    web = None
if web is not None:

    @server.routes.post("/tests/put")
    async def put(request):
        body = await request.json()
        try:
            server.prompt_queue.put((0, body["id"], body["prompt"], {}, list(body["prompt"])))
            return web.json_response({"queued": True})
        except ValueError as error:
            return web.json_response({"queued": False, "error": str(error)})

    @server.routes.post("/tests/check")
    async def check(request):
        import execution

        valid, error, outputs, _ = await execution.validate_prompt("x", (await request.json())["prompt"], None)
        return web.json_response({"valid": valid, "outputs": outputs, "error": error and error["type"]})


NODE_CLASS_MAPPINGS = {
    "TestBlockLoop": BlockLoop, "TestBuildGraphs": BuildGraphs, "TestTakesSome": TakesSome, "TestGivesSome": GivesSome,
    "TestWriteInfo": WriteInfo, "TestReadInfo": ReadInfo, "TestTryImports": TryImports,
    "TestValidatesAsync": ValidatesAsync, "TestValidatesTypes": ValidatesTypes, "TestHeardProgress": HeardProgress,
    "TestBareText": BareText, "TestLeaveProgress": LeaveProgress, "TestAskServer": AskServer, "TestSeenPrompts": SeenPrompts,
}
