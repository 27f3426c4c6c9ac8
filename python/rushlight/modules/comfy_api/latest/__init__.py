"""The node API: ``io`` (schemas and sockets), ``ui`` (what frontends show), ``ComfyExtension``, ``ComfyAPI``."""

from __future__ import annotations

from abc import ABC, abstractmethod

from . import _io as io
from . import _io as IO
from . import _types as Types
from . import _ui as ui
from . import _ui as UI
from ._api import ComfyAPI, ComfyAPISync, Execution
from ._types import Input, InputImpl

ComfyAPI_latest = ComfyAPI


class ComfyExtension(ABC):
    """What ``comfy_entrypoint`` returns: a pack of node classes."""

    async def on_load(self) -> None:
        """Called once before the classes are asked for."""

    @abstractmethod
    async def get_node_list(self) -> "list[type[io.ComfyNode]]":
        """The pack's classes."""


__all__ = ["ComfyAPI", "ComfyAPISync", "ComfyExtension", "Execution", "IO", "Input", "InputImpl", "Types", "UI", "io", "ui"]
