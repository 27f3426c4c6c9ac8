"""Progress of Python nodes: told to the server, and to the handlers that packs add.

The server tells its clients of every node itself. Handlers hear of the nodes that run in Python.
"""

from __future__ import annotations

import importlib
import logging

from . import previews, running


class Registry:
    """The Python nodes of the running prompt, and who hears of them."""

    def __init__(self) -> None:
        self.prompt_id: "str | None" = None
        self.dynprompt = None
        self.nodes: dict = {}
        self.handlers: dict = {}

    def register_handler(self, handler) -> None:
        """Let a handler hear of nodes from now on."""
        self.handlers[handler.name] = handler
        if hasattr(handler, "set_registry"):
            handler.set_registry(self)

    def unregister_handler(self, handler_name) -> None:
        self.handlers.pop(handler_name, None)

    def enable_handler(self, handler_name) -> None:
        if handler_name in self.handlers:
            self.handlers[handler_name].enable()

    def disable_handler(self, handler_name) -> None:
        if handler_name in self.handlers:
            self.handlers[handler_name].disable()

    def ensure_entry(self, node_id) -> dict:
        """What is known of a node: ``state``, ``value``, ``max``."""
        return self.nodes.get(node_id) or self._enter(node_id, "Pending")

    def reset_handlers(self) -> None:
        """Tell the handlers that another prompt begins, and forget its nodes."""
        self.nodes.clear()
        self._tell("reset")

    def start_progress(self, node_id) -> None:
        """A node begins."""
        entry = self._enter(node_id, "Running")
        self._tell("start_handler", node_id, entry, self.prompt_id)

    def update_progress(self, node_id, value, max_value, image=None) -> None:
        """A node's bar moves; ``image`` is ``(format, PIL image, size)``."""
        context = running.current()
        if context is not None:
            report(context, value, max_value, image, node_id)

    def finish_progress(self, node_id) -> None:
        """A node has ended."""
        entry = self._enter(node_id, "Finished")
        entry["value"] = entry["max"]
        self._tell("finish_handler", node_id, entry, self.prompt_id)

    def moved(self, node_id, value, max_value, image) -> None:
        """A node's bar has moved."""
        entry = self._enter(node_id, "Running")
        entry["value"], entry["max"] = value, max_value
        self._tell("update_handler", node_id, value, max_value, entry, self.prompt_id, image)

    def follow(self, context) -> None:
        """A node of a run begins; of another run than the last, all begins anew."""
        if context.prompt_id != self.prompt_id:
            self.prompt_id = context.prompt_id
            self.reset_handlers()

    def _enter(self, node_id, name: str) -> dict:
        entry = self.nodes.setdefault(node_id, {"value": 0.0, "max": 1.0})
        entry["state"] = _states()[name]
        return entry

    def _tell(self, method: str, *arguments) -> None:
        for handler in list(self.handlers.values()):
            if not getattr(handler, "enabled", True):
                continue
            try:
                getattr(handler, method)(*arguments)
            except Exception:
                logging.warning("The progress handler %s failed", handler.name, exc_info=True)


registry = Registry()


def _states():
    return importlib.import_module("comfy_execution.progress").NodeState.__members__


def begin(context) -> None:
    """A call of a Python node begins."""
    registry.follow(context)
    if registry.handlers:
        registry.start_progress(context.node_id)


def end(context) -> None:
    """A call of a Python node has ended."""
    if registry.handlers:
        registry.finish_progress(context.node_id)


def report(context, value, total, preview=None, node_id=None) -> None:
    """Move the bar of a node of the context's run."""
    context.progress(value, total, previews.encode(preview, context.preview_size), node_id)
    if registry.handlers:
        registry.follow(context)
        registry.moved(node_id or context.node_id, value, total, preview)


def report_running(value, total, preview=None, node_id=None) -> None:
    """Move the bar of the running node; does nothing before the first node has run."""
    context = running.current()
    if context is not None:
        report(context, value, total, preview, node_id)
