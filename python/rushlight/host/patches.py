"""Core classes that packs change: another class under a core name, or another method in a core class.

Such a class is the pack's from then on, and the native implementation is not used in its place.
"""

from __future__ import annotations

_DECLARATIONS = ("RETURN_TYPES", "FUNCTION", "INPUT_IS_LIST", "OUTPUT_IS_LIST", "OUTPUT_NODE")


def snapshot(classes: dict) -> dict:
    """Name → (class, its members) of a table of classes."""
    return {name: (cls, _members(cls)) for name, cls in classes.items()}


def changed(before: dict, classes: dict) -> list:
    """Names of those classes that are others than before, or have other members."""
    return [
        name for name, (cls, members) in before.items()
        if name in classes and (classes[name] is not cls or _differ(members, _members(cls)))
    ]


def _members(cls) -> dict:
    members: dict = {}
    for base in reversed(getattr(cls, "__mro__", (cls,))):
        if base is not object:
            members.update(vars(base))
    return {name: value for name, value in members.items() if name in _DECLARATIONS or _is_function(value)}


def _is_function(value) -> bool:
    return isinstance(value, (classmethod, staticmethod, property)) or callable(value) and not isinstance(value, type)


def _differ(before: dict, now: dict) -> bool:
    return before.keys() != now.keys() or any(now[name] is not value for name, value in before.items())
