"""Imports files under names of our choice."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType


def from_file(name: str, path: str, folder: "str | None" = None, known: bool = True) -> ModuleType:
    """The module of a file; ``folder`` is where its submodules are. It can be imported by name if it is ``known``.

    Raises whatever the file raises; the name is free again then.
    """
    places = None if folder is None else [folder]
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=places)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    if known:
        sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if known:
            sys.modules.pop(name, None)
        raise
    return module
