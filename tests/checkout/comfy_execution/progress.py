"""Progress as a checkout has it: a registry of its own, which hears nothing while another executor runs."""

from enum import Enum


class NodeState(Enum):
    Pending = "pending"
    Running = "running"
    Finished = "finished"
    Error = "error"


class ProgressHandler:
    def __init__(self, name):
        self.name, self.enabled = name, True


class _Deaf:
    nodes = {}
    handlers = {}


def get_progress_state():
    return _Deaf


def add_progress_handler(handler):
    _Deaf.handlers[handler.name] = handler
