"""``comfy_extras``: the native classes, under the modules that they have in ComfyUI (``comfy_extras.nodes_mask``, …)."""

from __future__ import annotations

import importlib.machinery
import sys


class _NativeModules:
    """Makes a module of the native classes that belong to it; other modules need ComfyUI's engine."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if not fullname.startswith("comfy_extras."):
            return None
        from rushlight.host import errors, native

        if native.in_module(fullname):
            return importlib.machinery.ModuleSpec(fullname, cls)
        error = errors.NodeHomeError(fullname)
        # Packs that make such an import optional catch ImportError.
        raise ModuleNotFoundError(str(error), name=fullname)

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        from rushlight.host import errors, native

        def missing(name):
            if name.startswith("__"):
                raise AttributeError(name)
            raise errors.NodeHomeError(f"{module.__name__}.{name}")

        classes = native.in_module(module.__name__)
        module.__dict__.update(classes)
        module.__dict__["NODE_CLASS_MAPPINGS"] = dict(classes)
        module.__dict__["__getattr__"] = missing


if _NativeModules not in sys.meta_path:
    sys.meta_path.append(_NativeModules)
