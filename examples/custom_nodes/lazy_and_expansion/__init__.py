"""Inputs computed when needed, nodes that become graphs, branches that are blocked."""

from comfy_execution.graph import ExecutionBlocker
from comfy_execution.graph_utils import GraphBuilder

ran = []
"""Names of the nodes that ran, for tests."""


class Number:
    """Gives a number and remembers that it ran."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {"default": 0}), "name": ("STRING", {"default": ""})}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "give"
    CATEGORY = "examples"

    def give(self, value, name):
        ran.append(name)
        return (value,)


class Switch:
    """Takes one of two inputs and leaves the other uncomputed."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "first": ("BOOLEAN", {"default": True}),
                "on_true": ("INT", {"lazy": True}),
                "on_false": ("INT", {"lazy": True}),
            }
        }

    RETURN_TYPES = ("INT",)
    FUNCTION = "pick"
    CATEGORY = "examples"

    def check_lazy_status(self, first, on_true=None, on_false=None):
        wanted, value = ("on_true", on_true) if first else ("on_false", on_false)
        return [wanted] if value is None else []

    def pick(self, first, on_true=None, on_false=None):
        return (on_true if first else on_false,)


class Sum:
    """Becomes a chain of additions."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {"default": 1}), "times": ("INT", {"default": 3, "min": 1, "max": 50})}}

    RETURN_TYPES = ("INT", "OBJECT")
    FUNCTION = "expand"
    CATEGORY = "examples"

    def expand(self, value, times):
        graph = GraphBuilder()
        total = value
        for _ in range(times - 1):
            total = graph.node("ExamplePlus", a=total, b=value).out(0)
        # A constant of an expanded graph may be any Python object.
        kept = graph.node("ExampleKeep", thing={"set": {1, 2, 3}})
        return {"result": (total, kept.out(0)), "expand": graph.finalize()}


class Plus:
    """Adds."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"a": ("INT", {}), "b": ("INT", {})}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "add"
    CATEGORY = "examples"

    def add(self, a, b):
        return (a + b,)


class Keep:
    """Gives what it gets."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"thing": ("OBJECT",)}}

    RETURN_TYPES = ("OBJECT",)
    FUNCTION = "keep"
    CATEGORY = "examples"

    def keep(self, thing):
        return (thing,)


class Gate:
    """Blocks what comes after it."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {"default": 0}), "open": ("BOOLEAN", {"default": True}),
                             "message": ("STRING", {"default": ""})}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "pass_on"
    CATEGORY = "examples"

    def pass_on(self, value, open, message):
        return (value if open else ExecutionBlocker(message or None),)


class Show:
    """Shows whatever it gets as text."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*", {})}}

    RETURN_TYPES = ()
    FUNCTION = "show"
    CATEGORY = "examples"
    OUTPUT_NODE = True

    def show(self, value):
        return {"ui": {"text": [repr(value)]}}


class Spread:
    """Gives a list that is spread over the next node's calls."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"count": ("INT", {"default": 3})}}

    RETURN_TYPES = ("INT",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "spread"
    CATEGORY = "examples"

    def spread(self, count):
        return (list(range(count)),)


class Collect:
    """Gets whole lists."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"values": ("INT", {"forceInput": True})}}

    INPUT_IS_LIST = True
    RETURN_TYPES = ("INT",)
    FUNCTION = "collect"
    CATEGORY = "examples"
    OUTPUT_NODE = True

    def collect(self, values):
        return {"ui": {"values": values}, "result": (sum(values),)}


NODE_CLASS_MAPPINGS = {
    "ExampleNumber": Number, "ExampleSwitch": Switch, "ExampleSum": Sum, "ExamplePlus": Plus, "ExampleKeep": Keep,
    "ExampleGate": Gate, "ExampleShow": Show, "ExampleSpread": Spread, "ExampleCollect": Collect,
}
