"""How a ComfyUI checkout's classes are called: ``python core_classes.py CHECKOUT NAME…`` prints it as JSON.

Run in a Python in which ComfyUI runs. It asks the classes by ``inspect.signature``; the answer is
``python/rushlight/host/core_classes.json``, one class a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import inspect
import json
import os
import sys


def parameters(function) -> list:
    """Names, those with a default as ``[name, default]``; of defaults only what JSON holds."""
    made: list = []
    for name, parameter in inspect.signature(function).parameters.items():
        default = parameter.default
        if parameter.kind is parameter.VAR_KEYWORD:
            made.append("**" + name)
        elif default is not parameter.empty:
            made.append([name, default if isinstance(default, (bool, int, float, str)) else None])
        else:
            made.append(name)
    return made


def describe(cls) -> dict:
    """One class's line."""
    made: dict = {"function": "execute"}
    if not hasattr(cls, "define_schema"):
        made["function"] = cls.FUNCTION
        made["parameters"] = [entry for entry in parameters(getattr(cls, cls.FUNCTION)) if entry != "self"]
        hooks = {"IS_CHANGED": "IS_CHANGED", "VALIDATE_INPUTS": "VALIDATE_INPUTS"}
    else:
        made["parameters"] = parameters(cls.execute)
        owner = next(base for base in cls.__mro__ if "execute" in vars(base))
        function = vars(owner)["execute"].__func__
        aliases = [name for name, value in vars(owner).items()
                   if name != "execute" and getattr(value, "__func__", value) is function]
        made.update({"aliases": aliases} if aliases else {})
        hooks = {"IS_CHANGED": "fingerprint_inputs", "VALIDATE_INPUTS": "validate_inputs"}
    for key, name in hooks.items():
        owner = next((base for base in cls.__mro__ if name in vars(base)), None)
        if owner is not None and not owner.__module__.startswith("comfy_api"):
            made[key] = parameters(getattr(cls, name))
    return made


def load(checkout: str) -> dict:
    """Name → class."""
    sys.path.insert(0, checkout)
    sys.argv = ["core_classes", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import utils.install_util  # noqa: F401 - before `comfy/utils.py` hides it
    import nodes

    asyncio.run(nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
    classes = dict(nodes.NODE_CLASS_MAPPINGS)
    # The one core class that ComfyUI has as a custom node.
    path = os.path.join(checkout, "custom_nodes", "websocket_image_save.py")
    spec = importlib.util.spec_from_file_location("websocket_image_save", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {**classes, **module.NODE_CLASS_MAPPINGS}


def main() -> None:
    checkout, *names = sys.argv[1:]
    with contextlib.redirect_stdout(sys.stderr):
        classes = load(os.path.abspath(checkout))
    known = [name for name in names if name in classes] if names else list(classes)
    print("{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(describe(classes[name]))}" for name in known) + "\n}")


if __name__ == "__main__":
    main()
