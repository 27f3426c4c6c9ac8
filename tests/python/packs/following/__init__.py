"""Nodes and handlers that follow progress: hooks, contexts, text from outside of nodes, preview methods."""

import asyncio
import concurrent.futures
import threading

import comfy.utils
from comfy_execution import progress
from comfy_execution.utils import get_executing_context
from server import PromptServer

server = PromptServer.instance
heard = []


class Handler(progress.ProgressHandler):
    """Keeps what it hears, and what the server says meanwhile."""

    def __init__(self):
        super().__init__("following")

    def reset(self):
        heard.clear()
        server.send_progress_text("a prompt has begun", "0")

    def start_handler(self, node_id, state, prompt_id):
        heard.append(["start", node_id, state["state"].name, server.last_node_id, server.client_id])

    def update_handler(self, node_id, value, max_value, state, prompt_id, image=None):
        heard.append(["update", node_id, value, max_value, None if image is None else [image[0], *image[1].size]])

    def finish_handler(self, node_id, state, prompt_id):
        heard.append(["finish", node_id, state["state"].name])


progress.add_progress_handler(Handler())


class Failing(progress.ProgressHandler):
    """Fails at everything."""

    def __init__(self):
        super().__init__("failing")

    def start_handler(self, *_):
        raise RuntimeError("a handler that fails")


progress.add_progress_handler(Failing())


def at_import(*_, **__):
    raise AssertionError("a hook that was set while packs loaded is called")


comfy.utils.set_progress_bar_global_hook(at_import)


class Node:
    RETURN_TYPES = ("INT",)
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")


class Heard(Node):
    """What handlers heard until now."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"after": ("*", {})}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):
        return True

    def run(self, after):
        nodes = {key: [node["state"].name, node["value"], node["max"]] for key, node in progress.get_progress_state().nodes.items()}
        return {"ui": {"heard": list(heard), "nodes": [nodes]}, "result": (0,)}


class SetHook(Node):
    """Sets the hook of all bars; it may call the one before."""

    before = None
    called = []

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"number": ("INT", {"default": 1}), "chain": (["chain", "alone", "fail", "interrupt"],)}}

    def run(self, number, chain):
        before = SetHook.before = comfy.utils.PROGRESS_BAR_HOOK
        SetHook.called.clear()

        def hook(value, total, preview=None, node_id=None):
            SetHook.called.append([value, total, node_id, get_executing_context().node_id])
            if chain == "fail":
                raise ValueError("a hook that fails")
            if chain == "interrupt":
                import comfy.model_management

                raise comfy.model_management.InterruptProcessingException
            if chain == "chain":
                before(value, total, preview, node_id=node_id)

        comfy.utils.set_progress_bar_global_hook(hook)
        return (number,)


class UnsetHook(Node):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}, "optional": {"after": ("LATENT",), "number": ("INT", {"forceInput": True})}}

    def run(self, after=None, number=None):
        comfy.utils.set_progress_bar_global_hook(SetHook.before)
        return {"ui": {"called": list(SetHook.called)}, "result": (0,)}


class MoveBar(Node):
    """A Python bar of two steps."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"number": ("INT", {"default": 1})}}

    def run(self, number):
        bar = comfy.utils.ProgressBar(2)
        bar.update(1)
        bar.update(1)
        return (number,)


class Contexts(Node):
    """Who runs, as asked from everywhere."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING", {"default": ""})}}

    INPUT_IS_LIST = False

    async def run(self, name):
        def ask():
            context = get_executing_context()
            return None if context is None else [context.prompt_id, context.node_id, context.list_index]

        async def asked():
            await asyncio.sleep(0.01)
            return ask()

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pooled = await asyncio.get_running_loop().run_in_executor(pool, ask)
        threaded = []
        thread = threading.Thread(target=lambda: threaded.append(ask()))
        thread.start()
        thread.join()
        found = {"own": ask(), "task": await asyncio.create_task(asked()), "to_thread": await asyncio.to_thread(ask),
                 "pool": pooled, "thread": threaded[0]}
        return {"ui": {key: [value] for key, value in found.items()}, "result": (0,)}


class Previewer(Node):
    """Which previewer a Python sampler gets; may choose a method itself."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"method": ("STRING", {"default": ""}), "after": ("INT", {"default": 0})}}

    def run(self, method, after):
        import latent_preview

        if method:
            latent_preview.set_preview_method(method)
        try:
            from comfy.latent_formats import SD15

            latent_format = SD15()
        except ImportError:
            from types import SimpleNamespace

            latent_format = SimpleNamespace(latent_rgb_factors=[[0.1, 0.2, 0.3]] * 4, latent_rgb_factors_bias=None)
        previewer = latent_preview.get_previewer("cpu", latent_format)
        return {"ui": {"previewer": [type(previewer).__name__]}, "result": (after,)}


class Sample(Node):
    """Calls a sampler's callback as a sampler of Python's would."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"steps": ("INT", {"default": 2})}}

    def run(self, steps):
        from types import SimpleNamespace

        import latent_preview

        try:
            import torch

            latent = torch.zeros((1, 4, 8, 16))
        except ImportError:
            import numpy

            latent = numpy.zeros((1, 4, 8, 16), dtype="float32")
        try:
            from comfy.latent_formats import SD15

            latent_format = SD15()
        except ImportError:
            latent_format = SimpleNamespace(latent_rgb_factors=[[0.1, 0.2, 0.3]] * 4, latent_rgb_factors_bias=[0.5, 0, -0.5])
        model = SimpleNamespace(load_device="cpu", model=SimpleNamespace(latent_format=latent_format))
        kept = {}
        callback = latent_preview.prepare_callback(model, steps, kept)
        for step in range(steps):
            callback(step, latent, latent, steps)
        return {"ui": {"kept": [list(kept["x0"].shape)]}, "result": (steps,)}


class SayWhileChecked(Node):
    """Sends text before any node runs."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {})}}

    @classmethod
    def VALIDATE_INPUTS(cls, text):
        server.send_progress_text(f"checked {text}", "7")
        return True

    @classmethod
    def IS_CHANGED(cls, text):
        server.send_progress_text(f"changed {text}", "7")
        return float("nan")

    def run(self, text):
        server.send_progress_text(f"ran {text}", "7")
        return (0,)


NODE_CLASS_MAPPINGS = {
    "TestHeard": Heard, "TestSetHook": SetHook, "TestUnsetHook": UnsetHook, "TestMoveBar": MoveBar, "TestContexts": Contexts,
    "TestPreviewer": Previewer, "TestSample": Sample, "TestSayWhileChecked": SayWhileChecked,
}
