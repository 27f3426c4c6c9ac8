"""Coroutines: nodes that wait without keeping others from running."""

import asyncio

from comfy_api.latest import ComfyAPI


class WaitAsync:
    """Waits; two of them wait at the same time."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seconds": ("FLOAT", {"default": 0.1, "min": 0.0}), "fail": ("BOOLEAN", {"default": False})}}

    RETURN_TYPES = ("FLOAT",)
    FUNCTION = "wait"
    CATEGORY = "examples"

    async def wait(self, seconds, fail):
        api = ComfyAPI()
        for step in range(4):
            await asyncio.sleep(seconds / 4)
            await api.execution.set_progress(step + 1, 4)
        if fail:
            raise RuntimeError("failed while waiting")
        return (seconds,)


class Add:
    """Adds two numbers."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"a": ("FLOAT", {"forceInput": True}), "b": ("FLOAT", {"forceInput": True})}}

    RETURN_TYPES = ("FLOAT",)
    FUNCTION = "add"
    CATEGORY = "examples"
    OUTPUT_NODE = True

    def add(self, a, b):
        return {"ui": {"value": [a + b]}, "result": (a + b,)}


NODE_CLASS_MAPPINGS = {"ExampleWaitAsync": WaitAsync, "ExampleAdd": Add}
