"""Uses the modules that packs import, and shows what comes of it."""

import importlib

from comfy_execution.graph_utils import GraphBuilder
from server import PromptServer

try:
    import torch as library
except ImportError:
    import numpy as library


class Use:
    """Evaluates an expression."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"code": ("STRING", {})}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")

    def run(self, code):
        return {"ui": {"made": [plain(eval(code, names()))]}}


def names():
    """What expressions know."""
    modules = ("comfy.utils comfy.model_management comfy.samplers comfy.cli_args comfy.comfy_types folder_paths nodes "
               "node_helpers latent_preview comfyui_version comfy_execution.graph_utils execution os").split()
    found = {}
    for name in modules:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            # The stand-in checkout has not all of them.
            continue
        top = name.partition(".")[0]
        found[top] = importlib.import_module(top)
    return {**found, "server": PromptServer.instance, "ramp": ramp, "ones": library.ones, "graph": graph, "error": error,
            "bar": bar, "sum_of": lambda tensor: float(tensor.sum()), "close": close}


def ramp(*shape):
    """A tensor that counts."""
    size = 1
    for side in shape:
        size *= side
    return library.arange(size).reshape(shape) * 1.0


def graph():
    """A graph of two nodes, with its ids made equal."""
    builder = GraphBuilder(prefix="g.")
    first = builder.node("A", value=1)
    second = builder.node("B", "named", link=first.out(0), gone=2)
    second.set_input("gone", None)
    second.set_override_display_id("7")
    builder.replace_node_output("none", 0, None)
    return builder.finalize()


def error(function, *arguments):
    """Type of what a call raises."""
    try:
        function(*arguments)
    except Exception as raised:
        return type(raised).__name__
    return "no error"


def bar(*updates):
    """Where a bar stands after updates."""
    import comfy.utils

    made = comfy.utils.ProgressBar(10)
    for value in updates:
        made.update(value)
    return made.current


def close(tensor, values):
    """Whether a tensor holds about these values."""
    flat = tensor.reshape(-1).tolist()
    return len(flat) == len(values) and all(abs(one - other) < 1e-4 for one, other in zip(flat, values))


def plain(value):
    """What JSON holds."""
    if isinstance(value, (tuple, list, set)) or type(value).__name__ == "Size":
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


NODE_CLASS_MAPPINGS = {"TestUse": Use}
