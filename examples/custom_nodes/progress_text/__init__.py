"""A node that tells how far it is: bars, pictures, text, events of its own."""

import json
import threading
import time

import comfy.utils
from PIL import Image
from server import PromptServer


class CountSlowly:
    """Counts to a number and says so."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "steps": ("INT", {"default": 5, "min": 1, "max": 1000}),
                "seconds": ("FLOAT", {"default": 0.01, "min": 0.0, "max": 10.0}),
                "preview": ("BOOLEAN", {"default": True}),
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    RETURN_TYPES = ("INT",)
    FUNCTION = "count"
    CATEGORY = "examples"
    OUTPUT_NODE = True

    def count(self, steps, seconds, preview, unique_id):
        bar = comfy.utils.ProgressBar(steps)
        server = PromptServer.instance
        for step in range(steps):
            time.sleep(seconds)
            picture = Image.new("RGB", (64, 32), (step * 40 % 256, 80, 120)) if preview else None
            bar.update_absolute(step + 1, steps, ("JPEG", picture, 512) if picture is not None else None)
            server.send_progress_text(f"step {step + 1} of {steps}", unique_id)
        server.send_sync("examples.counted", {"node": unique_id, "steps": steps}, server.client_id)
        return {"ui": {"text": [f"counted to {steps}"]}, "result": (steps,)}


class CountInThread:
    """Reports progress from a thread that it starts."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"steps": ("INT", {"default": 3, "min": 1, "max": 100}), "name": ("STRING", {"default": ""})}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "count"
    CATEGORY = "examples"
    OUTPUT_NODE = True

    def count(self, steps, name):
        def work():
            bar = comfy.utils.ProgressBar(steps)
            for _ in range(steps):
                time.sleep(0.01)
                bar.update(1)
            PromptServer.instance.send_progress_text(f"{name} counted in a thread", PromptServer.instance.last_node_id)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return {"ui": {"text": [name]}, "result": (steps,)}


class Stubborn:
    """Never looks whether it is interrupted."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seconds": ("FLOAT", {"default": 30.0})}}

    RETURN_TYPES = ()
    FUNCTION = "wait"
    CATEGORY = "examples"
    OUTPUT_NODE = True

    def wait(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.02)
        return ()


class MeasureEvents:
    """How long it takes to send an event, and to make its JSON, in microseconds."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"count": ("INT", {"default": 20000})}}

    RETURN_TYPES = ()
    FUNCTION = "measure"
    CATEGORY = "examples"
    OUTPUT_NODE = True

    def measure(self, count):
        server = PromptServer.instance
        data = {"node": "7", "value": 1, "text": "a short text"}
        begun = time.perf_counter()
        for _ in range(count):
            json.dumps(data)
        serialising = time.perf_counter() - begun
        begun = time.perf_counter()
        for _ in range(count):
            server.send_sync("examples.measured", data, "nobody")
        sending = time.perf_counter() - begun
        return {"ui": {"sending": [sending / count * 1e6], "serialising": [serialising / count * 1e6]}}


class Fails:
    """Fails in the way that it is told to."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"how": (["raise", "exit", "short", "not a tuple", "base"],)}}

    RETURN_TYPES = ("INT", "INT")
    FUNCTION = "fail"
    CATEGORY = "examples"
    OUTPUT_NODE = True

    def fail(self, how):
        if how == "raise":
            raise ValueError("this node always fails")
        if how == "exit":
            raise SystemExit("bye")
        if how == "base":
            raise KeyboardInterrupt
        return (1,) if how == "short" else 1


NODE_CLASS_MAPPINGS = {
    "ExampleCountSlowly": CountSlowly,
    "ExampleCountInThread": CountInThread,
    "ExampleStubborn": Stubborn,
    "ExampleFails": Fails,
    "ExampleMeasureEvents": MeasureEvents,
}
NODE_DISPLAY_NAME_MAPPINGS = {"ExampleCountSlowly": "Count slowly"}
