"""Finds and imports packs of nodes, and hands their classes to the server."""

from __future__ import annotations

import inspect
import logging
import os
import time
import traceback

from . import describing, folders, imports, loop, patches, progress, state
from .adapter import Adapter
from .errors import describe

log = logging.getLogger("rushlight.custom_nodes")


def load_all(packs) -> None:
    """Import the packs, and register every class."""
    import nodes

    own = dict(nodes.NODE_CLASS_MAPPINGS)
    before = patches.snapshot(own)
    adapters, timings, told = [], [], set()
    for name, path in packs:
        started = time.perf_counter()
        known = set(nodes.NODE_CLASS_MAPPINGS)
        classes, web, error = load_pack(name, path)
        seconds = time.perf_counter() - started
        timings.append((seconds, path, error))
        for class_name, cls in classes.items():
            if class_name in own:
                log.info("%s: class %s is ComfyUI's own, the pack's is left out", name, class_name)
                continue
            nodes.NODE_CLASS_MAPPINGS[class_name] = cls
        # Some packs write into the table themselves.
        for class_name in (*classes, *(key for key in list(nodes.NODE_CLASS_MAPPINGS) if key not in known)):
            if class_name not in own and class_name in nodes.NODE_CLASS_MAPPINGS:
                cls = nodes.NODE_CLASS_MAPPINGS[class_name]
                adapters.append(_adapter(class_name, cls, f"custom_nodes.{name}"))
        if web is None:
            web = nodes.EXTENSION_WEB_DIRS.get(name)
        else:
            nodes.EXTENSION_WEB_DIRS[name] = web
        state.app.tell_pack(name, path, web, seconds, error)
        told.add(name)
    _report(timings)
    for name, web in nodes.EXTENSION_WEB_DIRS.items():
        if name not in told and os.path.isdir(web):
            state.app.tell_pack(name, os.path.abspath(web), os.path.abspath(web), 0.0)
    replaced = patches.changed(before, nodes.NODE_CLASS_MAPPINGS)
    for name in replaced:
        log.info("Class %s was changed by a pack, which is used in place of the native one", name)
    # Stand-alone the server has its own implementations.
    ours = [name for name in own if name in nodes.NODE_CLASS_MAPPINGS and state.checkout is not None]
    ours = [_adapter(name, nodes.NODE_CLASS_MAPPINGS[name], "nodes") for name in ours if name not in replaced]
    _register([*ours, *adapters])
    _register([_adapter(name, nodes.NODE_CLASS_MAPPINGS[name], "nodes") for name in replaced], replace=True)
    import folder_paths

    folders.share(folder_paths)
    progress.begin()


def _register(adapters, replace: bool = False) -> None:
    known = {adapter.name: adapter for adapter in adapters if adapter is not None}
    for class_name, error in state.app.register(list(known.values()), replace):
        log.error("Class %s is left out, its description failed: %s: %s", class_name, *describe(error)[:2])


def _adapter(name: str, cls: type, module: str):
    import nodes

    try:
        return Adapter(name, cls, nodes.NODE_DISPLAY_NAME_MAPPINGS.get(name), module)
    except Exception as error:
        log.error("Class %s is left out, its description failed: %s: %s", name, *describe(error)[:2])
        return None


def find() -> list:
    """``[(name, path)]`` of every pack, in name order within each folder."""
    if state.options.get("disable_all_custom_nodes") and not state.options.get("whitelist_custom_nodes"):
        log.info("Custom nodes are disabled")
        return []
    allowed = set(state.options.get("whitelist_custom_nodes") or ())
    packs = []
    for folder in _folders():
        try:
            entries = sorted(os.listdir(folder))
        except OSError:
            continue
        for entry in entries:
            path = os.path.join(folder, entry)
            stem, extension = os.path.splitext(entry)
            if entry.endswith(".disabled") or entry == "__pycache__" or entry.startswith("."):
                continue
            is_pack = os.path.isfile(os.path.join(path, "__init__.py")) or _web_only(path)
            if not is_pack and not (extension == ".py" and os.path.isfile(path)):
                continue
            if state.options.get("disable_all_custom_nodes") and entry not in allowed and stem not in allowed:
                continue
            packs.append((entry if is_pack else stem, path))
    return packs


def _folders() -> list:
    import folder_paths

    return list(dict.fromkeys(os.path.realpath(place) for place in folder_paths.get_folder_paths("custom_nodes")))


def _web_only(path: str) -> bool:
    return os.path.isdir(path) and _pyproject_web(path) is not None


def run_prestartup(packs) -> None:
    """Run ``prestartup_script.py`` of each pack, before any pack is imported."""
    for name, path in packs:
        script = os.path.join(path, "prestartup_script.py")
        if not os.path.isfile(script):
            continue
        started = time.perf_counter()
        try:
            imports.from_file(f"{name}.prestartup_script", script, known=False)
            log.info("Prestartup script of %s: %.1f s", name, time.perf_counter() - started)
        except BaseException as error:  # noqa: B036 - scripts call sys.exit
            log.error("Prestartup script of %s failed: %r\n%s", name, error, traceback.format_exc())


def load_pack(name: str, path: str):
    """Import one pack: ``(classes, web folder or None, error text or None)``."""
    try:
        return _load_pack(name, path)
    except BaseException as error:  # noqa: B036 - packs call sys.exit when something is missing
        text = traceback.format_exc()
        log.error("Cannot import %s: %s\n%s", path, error, text)
        return {}, None, f"{type(error).__name__}: {error}"


def _load_pack(name: str, path: str):
    import nodes

    folder = os.path.isdir(path)
    web = _pyproject_web(path) if folder else None
    if folder and not os.path.isfile(os.path.join(path, "__init__.py")):
        return {}, web, None
    # A dot would make Python look for a parent package.
    module_name = path.replace(".", "_x_") if folder else name
    source = os.path.join(path, "__init__.py") if folder else path
    module = imports.from_file(module_name, source, folder=path if folder else None)
    declared = getattr(module, "WEB_DIRECTORY", None)
    if declared is not None and folder:
        candidate = os.path.abspath(os.path.join(path, declared))
        if os.path.isdir(candidate):
            web = candidate
    classes: dict = {}
    mappings = getattr(module, "NODE_CLASS_MAPPINGS", None)
    entry = getattr(module, "comfy_entrypoint", None)
    if mappings is not None:
        classes.update(mappings)
        nodes.NODE_DISPLAY_NAME_MAPPINGS.update(getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", None) or {})
    elif entry is not None:
        classes.update(_v3_classes(entry, nodes))
    elif web is None:
        log.warning("%s has no NODE_CLASS_MAPPINGS and no comfy_entrypoint", path)
    for cls in classes.values():
        try:
            cls.RELATIVE_PYTHON_MODULE = f"custom_nodes.{name}"
        except (AttributeError, TypeError):
            pass
    return classes, web, None


def _v3_classes(entry, nodes) -> dict:
    async def collect():
        extension = entry()
        if inspect.isawaitable(extension):
            extension = await extension
        loaded = getattr(extension, "on_load", None)
        if loaded is not None:
            await loaded()
        return await extension.get_node_list()

    classes = {}
    for cls in loop.run(collect()):
        schema = cls.GET_SCHEMA() if hasattr(cls, "GET_SCHEMA") else cls.define_schema()
        if not describing.is_v3(cls):
            raise TypeError(f"{cls.__name__} is no io.ComfyNode")
        classes[schema.node_id] = cls
        if schema.display_name:
            nodes.NODE_DISPLAY_NAME_MAPPINGS[schema.node_id] = schema.display_name
    return classes


def _pyproject_web(path: str) -> "str | None":
    """The folder that ``[tool.comfy] web`` of a pack's pyproject.toml names."""
    try:
        with open(os.path.join(path, "pyproject.toml"), encoding="utf-8") as file:
            text = file.read()
    except OSError:
        return None
    named = _toml_value(text, "tool.comfy", "web")
    if not named:
        return None
    folder = os.path.realpath(os.path.join(path, named))
    inside = os.path.commonpath([os.path.realpath(path), folder]) == os.path.realpath(path)
    return folder if inside and os.path.isdir(folder) else None


def _toml_value(text: str, section: str, key: str):
    try:
        import tomllib
    except ImportError:  # Python 3.10
        current = None
        for line in text.splitlines():
            line = line.strip()
            if line.startswith("["):
                current = line.strip("[]").strip()
            elif current == section and line.partition("=")[0].strip() == key:
                return line.partition("=")[2].strip().strip("\"'")
        return None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None
    for part in section.split("."):
        table = table.get(part, {}) if isinstance(table, dict) else {}
    value = table.get(key) if isinstance(table, dict) else None
    return value if isinstance(value, str) else None


def _report(timings) -> None:
    if not timings:
        return
    log.info("Import times for custom nodes:")
    for seconds, path, error in sorted(timings):
        log.info("%7.1f seconds%s: %s", seconds, " (IMPORT FAILED)" if error else "", path)
