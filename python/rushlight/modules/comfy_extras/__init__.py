"""``comfy_extras``: the native classes, under the modules that they have in ComfyUI (``comfy_extras.nodes_mask``, …)."""

from __future__ import annotations

import importlib.machinery
import sys

from rushlight.host import errors, native


class _NativeModules:
    """Makes a module of the native classes that belong to it; other modules need ComfyUI's engine."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if not fullname.startswith("comfy_extras."):
            return None
        if native.in_module(fullname):
            return importlib.machinery.ModuleSpec(fullname, cls, is_package=True)
        # An ImportError without a name: `from comfy_extras.nodes_mask import composite` would swallow one with it.
        raise errors.NodeHomeImportError(fullname)

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        classes = native.in_module(module.__name__)
        module.__dict__.update(classes)
        module.__dict__["NODE_CLASS_MAPPINGS"] = dict(classes)

        def missing(name):
            if name.startswith("__"):
                raise AttributeError(name)
            raise errors.NodeHomeNameError(f"{module.__name__}.{name}")

        module.__dict__["__getattr__"] = missing


if _NativeModules not in sys.meta_path:
    sys.meta_path.append(_NativeModules)
