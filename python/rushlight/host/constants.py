"""Constants of expanded graphs that JSON cannot hold, such as tensors.

A node may put any Python object into the inputs of a graph that it expands to. The graph crosses the border as JSON;
such an object stays here under a number until its prompt has ended.
"""

from __future__ import annotations

import itertools
import threading

KEY = "__rushlight_object__"

_lock = threading.Lock()
_numbers = itertools.count(1)
_objects: dict = {}


def keep(value, prompt_id: str) -> dict:
    """The JSON that stands for an object."""
    number = next(_numbers)
    with _lock:
        _objects.setdefault(prompt_id, {})[number] = value
    return {KEY: [prompt_id, number]}


def resolve(value):
    """The object that a JSON value stands for, or the value itself."""
    if isinstance(value, dict) and len(value) == 1 and KEY in value:
        prompt_id, number = value[KEY]
        return _objects[prompt_id][number]
    return value


def forget(prompt_id: str) -> None:
    """Drop the objects of a prompt."""
    with _lock:
        _objects.pop(prompt_id, None)
