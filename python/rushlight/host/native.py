"""Native node classes as Python classes."""

from __future__ import annotations

import functools
import inspect
import json
import os

from . import running, state

_UPSCALE_METHODS = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]


def _context(name: str):
    context = running.current()
    if context is None:
        raise RuntimeError(f"{name} can only be called while a node runs")
    return context


def call(name: str, inputs: dict) -> tuple:
    """Run a native node as part of the running one; gives its outputs."""
    return tuple(state.app.call_native(_context(name), name, inputs)[0])


def _call_with_ui(name: str, inputs: dict):
    values, ui = state.app.call_native(_context(name), name, inputs)
    return {"ui": ui, "result": tuple(values)} if ui else tuple(values)


@functools.lru_cache(maxsize=1)
def table() -> dict:
    """How the core classes are called: class → ``function``, ``parameters`` (a name, or a name and its default) in order,
    other names of the function as ``aliases``, and the parameters of ``IS_CHANGED`` and ``VALIDATE_INPUTS``."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "core_classes.json")
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _signature(parameters, first: str) -> inspect.Signature:
    kinds = inspect.Parameter
    made = [kinds(first, kinds.POSITIONAL_OR_KEYWORD)]
    for entry in parameters:
        name, *default = entry if isinstance(entry, list) else [entry]
        if name.startswith("**"):
            made.append(kinds(name[2:], kinds.VAR_KEYWORD))
        elif default:
            made.append(kinds(name, kinds.POSITIONAL_OR_KEYWORD, default=default[0]))
        else:
            made.append(kinds(name, kinds.POSITIONAL_OR_KEYWORD))
    return inspect.Signature(made)


def _bind(signature: inspect.Signature, args, kwargs, optional) -> dict:
    """The inputs of a call: what is optional and ``None`` is left out."""
    bound = signature.bind(None, *args, **kwargs)
    bound.apply_defaults()
    inputs: dict = {}
    for name, parameter in list(signature.parameters.items())[1:]:
        value = bound.arguments[name]
        if parameter.kind is parameter.VAR_KEYWORD:
            inputs.update(value)
        elif value is not None or (name not in optional and parameter.default is parameter.empty):
            inputs[name] = value
    return inputs


def _class(name: str, info: dict) -> type:
    groups = info["input_order"]
    order = [*groups.get("required", []), *([key, None] for key in groups.get("optional", []))]
    optional = {key for group in ("optional", "hidden") for key in groups.get(group, [])}
    # Classes that ComfyUI does not have are called by their inputs.
    entry = table().get(name) or {"function": "execute", "parameters": order}
    signature = _signature(entry["parameters"], "self")

    def run(self, *args, **kwargs):
        return _call_with_ui(name, _bind(signature, args, kwargs, optional))

    def execute(cls, *args, **kwargs):
        from comfy_api.latest import io

        made = run(None, *args, **kwargs)
        return io.NodeOutput.from_dict(made) if isinstance(made, dict) else io.NodeOutput(*made)

    def input_types(cls):
        return (state.app.native_schema(name) or info)["input"]

    run.__signature__ = signature  # type: ignore[attr-defined]
    execute.__signature__ = _signature(entry["parameters"], "cls")  # type: ignore[attr-defined]
    members = {
        # Called on the class, as that of the third generation is, or on an instance.
        "execute": classmethod(execute),
        **{alias: run for alias in (entry["function"], *entry.get("aliases", ())) if alias != "execute"},
        **_hooks(name, entry),
        "INPUT_TYPES": classmethod(input_types),
        "RETURN_TYPES": tuple(info["output"]),
        "RETURN_NAMES": tuple(info["output_name"]),
        "OUTPUT_IS_LIST": tuple(info["output_is_list"]),
        "FUNCTION": entry["function"],
        "CATEGORY": info["category"],
        "DESCRIPTION": info["description"],
        "OUTPUT_NODE": info["output_node"],
        "INPUT_IS_LIST": info["is_input_list"],
        "RELATIVE_PYTHON_MODULE": info["python_module"],
        "RUSHLIGHT_NATIVE": True,
        "__doc__": f"The native node {name}.",
        "__module__": "nodes",
    }
    if name in ("ImageScale", "ImageScaleBy"):
        members["upscale_methods"] = list(_UPSCALE_METHODS)
    return type(name if name.isidentifier() else "NativeNode", (), members)


def _hooks(name: str, entry: dict) -> dict:
    """``IS_CHANGED`` and ``VALIDATE_INPUTS``, which subclasses call, where ComfyUI's class has them."""

    def is_changed(cls, *args, **kwargs):
        inputs = _bind(is_changed.__signature__, args, kwargs, ())  # type: ignore[attr-defined]
        kind, value = state.app.native_fingerprint(_context(name), name, inputs)
        return float("nan") if kind == "changed" else value

    def validate_inputs(cls, *args, **kwargs):
        inputs = _bind(validate_inputs.__signature__, args, kwargs, ())  # type: ignore[attr-defined]
        return state.app.native_validate(name, inputs) or True

    made = {}
    for key, function in (("IS_CHANGED", is_changed), ("VALIDATE_INPUTS", validate_inputs)):
        if key in entry:
            function.__signature__ = _signature(entry[key], "cls")  # type: ignore[attr-defined]
            made[key] = classmethod(function)
    return made


def classes() -> dict:
    """Name → class of every native node."""
    if state.app is None:
        return {}
    made = {}
    for name in state.app.native_names():
        info = state.app.native_schema(name)
        if info is not None:
            made[name] = _class(name, info)
    return made


def display_names() -> dict:
    """Name → name for people of every native node."""
    infos = ((name, state.app.native_schema(name)) for name in (state.app.native_names() if state.app else ()))
    return {name: info["display_name"] for name, info in infos if info is not None}


def in_module(module: str) -> dict:
    """Name → class of the native nodes that ComfyUI has in a module."""
    import nodes

    return {
        name: cls for name, cls in nodes.NODE_CLASS_MAPPINGS.items()
        if getattr(cls, "RUSHLIGHT_NATIVE", False) and cls.RELATIVE_PYTHON_MODULE == module
    }
