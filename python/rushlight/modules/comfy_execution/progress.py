"""``comfy_execution.progress``: progress of the running prompt's nodes."""

from __future__ import annotations

from enum import Enum

from rushlight.host import homes, running


class NodeState(Enum):
    """Where a node is."""

    Pending = "pending"
    Running = "running"
    Finished = "finished"
    Error = "error"


class ProgressHandler:
    """Packs subclass this to follow progress; the server sends progress itself."""

    def __init__(self, name):
        self.name = name
        self.enabled = True

    def start_handler(self, node_id, state, prompt_id):
        """A node begins."""

    def update_handler(self, node_id, value, max_value, state, prompt_id, image=None):
        """A bar moved."""

    def finish_handler(self, node_id, state, prompt_id):
        """A node ended."""

    def reset(self):
        """A prompt begins."""

    def enable(self):
        self.enabled = True

    def disable(self):
        self.enabled = False


class ProgressRegistry:
    """Bars of the running prompt."""

    def __init__(self):
        self.handlers: dict = {}

    @property
    def prompt_id(self):
        context = running.current()
        return None if context is None else context.prompt_id

    def register_handler(self, handler):
        self.handlers[handler.name] = handler

    def unregister_handler(self, handler_name):
        self.handlers.pop(handler_name, None)

    def update_progress(self, node_id, value, max_value, image=None):
        """Move a node's bar; ``image`` is ``(format, PIL image, size)``."""
        homes.report(value, max_value, image, node_id)
        for handler in self.handlers.values():
            if handler.enabled:
                state = {"state": NodeState.Running, "value": value, "max": max_value}
                handler.update_handler(node_id, value, max_value, state, self.prompt_id, image)


_registry = ProgressRegistry()


def get_progress_state() -> ProgressRegistry:
    """The running prompt's progress."""
    return _registry


def add_progress_handler(handler) -> None:
    _registry.register_handler(handler)
