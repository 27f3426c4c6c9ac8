"""Bars of nodes: told to the server, and from it to the handlers and hooks that packs add.

The server knows how far every node is, whichever engine runs it, and tells its clients. It asks this side
(:func:`hear`, :func:`call_hook`) only while packs have added something that wants to hear of it.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading

from . import previews, running, state


class Registry:
    """The nodes of the running prompt, and who hears of them."""

    def __init__(self) -> None:
        self.prompt_id: "str | None" = None
        self.dynprompt = None
        self.handlers: dict = {}

    @property
    def nodes(self) -> dict:
        """The nodes that have begun: id → ``state``, ``value``, ``max``."""
        context = running.current()
        return {} if context is None else {node_id: _entry(*node) for node_id, node in context.nodes().items()}

    def register_handler(self, handler) -> None:
        """Let a handler hear of nodes from now on."""
        self.handlers[handler.name] = handler
        if hasattr(handler, "set_registry"):
            handler.set_registry(self)
        share()

    def unregister_handler(self, handler_name) -> None:
        self.handlers.pop(handler_name, None)
        share()

    def enable_handler(self, handler_name) -> None:
        if handler_name in self.handlers:
            self.handlers[handler_name].enable()

    def disable_handler(self, handler_name) -> None:
        if handler_name in self.handlers:
            self.handlers[handler_name].disable()

    def reset_handlers(self) -> None:
        """Tell the handlers that another prompt begins."""
        self._tell("reset")

    def ensure_entry(self, node_id) -> dict:
        """What is known of a node: ``state``, ``value``, ``max``."""
        return self.nodes.get(node_id) or _entry("Pending", 0.0, 1.0)

    def start_progress(self, node_id) -> None:
        """A node begins."""
        context = running.current()
        if context is not None:
            context.report(False, node_id)

    def update_progress(self, node_id, value, max_value, image=None) -> None:
        """A node's bar moves; ``image`` is ``(format, PIL image, size)``."""
        report_running(value, max_value, image, node_id)

    def finish_progress(self, node_id) -> None:
        """A node has ended."""
        context = running.current()
        if context is not None:
            context.report(True, node_id)

    def hear(self, prompt_id, node_id, entry, moved, image) -> None:
        """The server tells of a node."""
        newest = state.app.running()
        # What an earlier prompt left behind may still move its bars.
        if prompt_id != self.prompt_id and newest is not None and newest.prompt_id == prompt_id:
            self.prompt_id = prompt_id
            self.reset_handlers()
        if moved:
            self._tell("update_handler", node_id, entry["value"], entry["max"], entry, prompt_id, image)
        else:
            ended = entry["state"] is _states()["Finished"]
            self._tell("finish_handler" if ended else "start_handler", node_id, entry, prompt_id)

    def _tell(self, method: str, *arguments) -> None:
        for handler in list(self.handlers.values()):
            if not getattr(handler, "enabled", True):
                continue
            try:
                getattr(handler, method)(*arguments)
            except Exception:
                logging.warning("The progress handler %s failed", handler.name, exc_info=True)


registry = Registry()
_own = threading.local()


def _states():
    return importlib.import_module("comfy_execution.progress").NodeState.__members__


def _entry(name, value, maximum) -> dict:
    return {"state": _states()[name], "value": value, "max": maximum}


# From nodes to the server


def report(context, value, total, preview=None, node_id=None) -> None:
    """Move the bar of a node of the context's run; ``preview`` is ``(format, PIL image, size)``."""
    # Handlers hear of it in this thread, while this call goes on: they get the picture as it is.
    _own.preview = preview
    try:
        context.progress(value, total, previews.encode(preview, context.preview_size), node_id)
    finally:
        _own.preview = None


def report_running(value, total, preview=None, node_id=None) -> None:
    """Move the bar of the running node; does nothing before the first node has run. The hook that bars call unless a
    pack sets another."""
    context = running.current()
    if context is not None and context.node_id:
        report(context, value, total, preview, node_id)


# From the server to packs


def hook():
    """The hook that a pack has set for all bars, ``None`` while it is ours."""
    utils = sys.modules.get("comfy.utils")
    found = getattr(utils, "PROGRESS_BAR_HOOK", None)
    return None if found is report_running else found


def begin() -> None:
    """Every pack has loaded: bars call our hook, also if a pack set another while it loaded, as ComfyUI has it. One that is
    set from now on stays."""
    utils = sys.modules.get("comfy.utils")
    if utils is not None:
        utils.set_progress_bar_global_hook(report_running)
    share()


def share() -> None:
    """Tell the server who there is that wants to hear of bars."""
    if state.app is not None:
        state.app.tell_listeners(bool(registry.handlers), hook() is not None)


def call_hook(context, value, total, preview) -> bool:
    """A native node moves its bar: tell a pack's hook in place of the clients. Whether there is one."""
    function = hook()
    if function is None:
        return False
    with running.node(context):
        function(value, total, previews.decode(preview), node_id=context.node_id)
    return True


def hear(prompt_id, node_id, state_name, value, maximum, moved, preview) -> None:
    """The server tells of a node that has begun, moved its bar, or ended."""
    image = getattr(_own, "preview", None) or previews.decode(preview)
    registry.hear(prompt_id, node_id, _entry(state_name, value, maximum), moved, image)
