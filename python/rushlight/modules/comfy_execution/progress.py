"""``comfy_execution.progress``: progress of the running prompt's nodes."""

from __future__ import annotations

from enum import Enum

from rushlight.host import progress

ProgressRegistry = progress.Registry


class NodeState(Enum):
    """Where a node is."""

    Pending = "pending"
    Running = "running"
    Finished = "finished"
    Error = "error"


class ProgressHandler:
    """Packs subclass this to follow the nodes of every run, native ones too."""

    def __init__(self, name):
        self.name = name
        self.enabled = True

    def set_registry(self, registry):
        """The registry that tells this handler."""

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


def get_progress_state() -> ProgressRegistry:
    """The running prompt's progress."""
    return progress.registry


def add_progress_handler(handler) -> None:
    """Let a handler follow the nodes of every run."""
    progress.registry.register_handler(handler)
