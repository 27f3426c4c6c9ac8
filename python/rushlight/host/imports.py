"""Imports files under names of our choice, and libraries that not everyone has."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

_LIBRARIES = {
    "PIL": ("Pillow", "pillow"), "aiohttp": ("aiohttp", "aiohttp"), "av": ("PyAV", "av"), "numpy": ("NumPy", "numpy"),
    "safetensors": ("safetensors", "safetensors"), "torch": ("PyTorch", "torch"),
}
"""Module → its name for people, and for pip."""


def library(name: str, what: str) -> Any:
    """A module that ``what`` needs and that need not be installed.

    Raises an ``ImportError`` that says so.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        top = name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            # It is there, and lacks something itself.
            raise
        title, package = _LIBRARIES[top]
        raise ImportError(f"{what} needs {title}: pip install {package}", name=name) from error


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
