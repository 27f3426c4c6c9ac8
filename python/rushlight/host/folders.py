"""What this side and the server tell each other of folders.

Packs write to ``folder_paths.folder_names_and_paths`` and move the output folder, often by changing lists in place, so
the table is compared with what the server was last told: when every pack has loaded, before ``/object_info`` is made and
before a prompt with Python classes is checked.
"""

from __future__ import annotations

import os

from . import state

KINDS = ("input", "output", "temp")
"""Folders that may be moved."""

_told_models: dict = {}
_told_places: dict = {}


def join(folder_paths) -> None:
    """A checkout's folder table gets the folders of this start, and the server gets the checkout's model folders."""
    ours = state.app.folders()
    for kind in (*KINDS, "user"):
        setter = getattr(folder_paths, f"set_{kind}_directory", None)
        if setter is not None and ours.get(kind):
            setter(ours[kind])
    keys = ours.get("keys") or {}
    for key, entry in keys.items():
        for place in entry[0]:
            known = folder_paths.folder_names_and_paths.get(key)
            if known is None or place not in known[0]:
                folder_paths.add_model_folder_path(key, place)
    for key, (places, _) in _models(folder_paths).items():
        for place in places:
            if place not in keys.get(key, ((),))[0] and os.path.isdir(place):
                state.app.add_model_folder(key, place)


def remember(folder_paths) -> None:
    """Take the folders as they are now for what the server knows."""
    _told_models.clear()
    _told_models.update(_models(folder_paths))
    _told_places.clear()
    _told_places.update(_places(folder_paths))


def share(folder_paths) -> None:
    """Tell the server what has changed."""
    for key, entry in _models(folder_paths).items():
        if _told_models.get(key) != entry:
            places, extensions = entry
            if "folder" in extensions:
                # Lists of folders: the server knows how to list those that it has.
                for place in places:
                    state.app.add_model_folder(key, place)
            else:
                state.app.set_model_folder(key, list(places), sorted(extensions))
            _told_models[key] = entry
    for kind, place in _places(folder_paths).items():
        if _told_places.get(kind) != place and state.app.set_folder(kind, place):
            _told_places[kind] = place


def _models(folder_paths) -> dict:
    """Key → (folders, extensions)."""
    made = {}
    for key, entry in list(folder_paths.folder_names_and_paths.items()):
        if key == "custom_nodes":
            continue
        try:
            places, extensions = entry[0], entry[1]
            made[str(key)] = (
                tuple(os.path.abspath(place) for place in places), frozenset(str(extension) for extension in extensions)
            )
        except (TypeError, IndexError, KeyError):
            # Half written by a pack: it is looked at again.
            continue
    return made


def _places(folder_paths) -> dict:
    found = ((kind, getattr(folder_paths, f"get_{kind}_directory", None)) for kind in KINDS)
    return {kind: os.path.abspath(get()) for kind, get in found if get is not None}
