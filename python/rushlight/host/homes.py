"""Where the modules come from that nodes import.

Stand-alone, all of them are ours (``rushlight/modules``). In a ComfyUI checkout they are the checkout's, except
``server``, ``execution`` and ``latent_preview``, which belong to the server: ours are put in place before theirs
could load.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys

from . import imports, loop, running, state

MODULES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "modules")

# Modules of ours that stand in for the checkout's, too.
_ALWAYS_OURS = ("server", "execution")


def is_checkout(folder: str) -> bool:
    """Whether a folder is a ComfyUI checkout."""
    return os.path.isdir(os.path.join(folder, "comfy")) and all(
        os.path.isfile(os.path.join(folder, name)) for name in ("nodes.py", "folder_paths.py")
    )


def checkout() -> "str | None":
    """The checkout that this start uses: the one it was given, or the current folder."""
    given = state.options.get("comfyui_dir")
    if given:
        given = os.path.abspath(given)
        if not is_checkout(given):
            raise FileNotFoundError(f"--comfyui-dir {given}: no nodes.py, folder_paths.py and comfy/ there")
        return given
    current = os.getcwd()
    return current if is_checkout(current) else None


def prepare() -> None:
    """Make the modules importable."""
    folder = checkout()
    state.in_checkout = folder is not None
    if folder is None:
        sys.path.insert(0, MODULES)
    else:
        _enter_checkout(folder)
    importlib.import_module("server")
    importlib.import_module("folder_paths")
    importlib.import_module("nodes")


def prompt_server():
    """``server.PromptServer.instance``."""
    return importlib.import_module("server").PromptServer.instance


def versions() -> dict:
    """What ``/system_stats`` says of this side."""
    told: dict = {"python_version": sys.version}
    torch = sys.modules.get("torch")
    told["pytorch_version"] = str(torch.__version__) if torch is not None else None
    return told


# In a checkout


def _enter_checkout(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # The checkout reads its options from the command line when it is imported.
    arguments = sys.argv
    sys.argv = [arguments[0] if arguments else "rushlight", *_upstream_arguments()]
    try:
        import comfy.options

        comfy.options.enable_args_parsing(True)
        import comfy.cli_args

        comfy.options.enable_args_parsing(False)
    except (ImportError, AttributeError):
        pass
    finally:
        sys.argv = arguments
    for name in _ALWAYS_OURS:
        imports.from_file(name, os.path.join(MODULES, name + ".py"))
    import folder_paths

    _share_folders(folder_paths)
    _follow_progress()
    import nodes  # noqa: F401 - registers the checkout's classes

    _complete_node_api()


def _upstream_arguments() -> list:
    """Options of this start that the checkout's modules look at while they are imported."""
    made = list(state.options.get("upstream_argv") or ())
    base = (state.options.get("args") or {}).get("base_directory")
    if base:
        # As in ComfyUI, custom nodes and models are below it then.
        made += ["--base-directory", os.path.abspath(base)]
    return made


def _share_folders(folder_paths) -> None:
    """The checkout's folder table gets the folders of this start, and the server gets the checkout's model folders."""
    folders = state.app.folders()
    for kind in ("output", "input", "temp", "user"):
        setter = getattr(folder_paths, f"set_{kind}_directory", None)
        if setter is not None and folders.get(kind):
            setter(folders[kind])
    for key, entry in (folders.get("keys") or {}).items():
        for place in entry[0]:
            known = folder_paths.folder_names_and_paths.get(key)
            if known is None or place not in known[0]:
                folder_paths.add_model_folder_path(key, place)
    share_model_folders(folder_paths)


def share_model_folders(folder_paths) -> None:
    """Tell the server of model folders that it does not know yet."""
    known = {key: set(entry[0]) for key, entry in (state.app.folders().get("keys") or {}).items()}
    for key, entry in list(folder_paths.folder_names_and_paths.items()):
        for place in entry[0]:
            if key != "custom_nodes" and place not in known.get(key, ()) and os.path.isdir(place):
                state.app.add_model_folder(key, place)


def _follow_progress() -> None:
    """Progress of the checkout's own bars becomes the running node's."""
    import comfy.utils

    def hook(value, total, preview=None, node_id=None, **_):
        report(value, total, preview, node_id)

    comfy.utils.set_progress_bar_global_hook(hook)
    utils = _optional("comfy_execution.utils")
    context = None if utils is None else _context_maker(utils)
    if context is not None:
        _replace_everywhere("get_executing_context", utils.get_executing_context, context)
    progress = _optional("comfy_execution.progress")
    if progress is not None and hasattr(progress, "get_progress_state"):
        path = os.path.join(MODULES, "comfy_execution", "progress.py")
        ours = imports.from_file("rushlight_progress", path, known=False)
        _replace_everywhere("get_progress_state", progress.get_progress_state, ours.get_progress_state)


def _replace_everywhere(name: str, old, new) -> None:
    """Put a function of ours in the place of the checkout's, also in modules that have imported it already."""
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get(name) is old:
            setattr(module, name, new)


def _complete_node_api() -> None:
    """ComfyUI 0.8 gives ``ComfyAPI().execution`` to coroutines only once the API for functions has been made."""
    latest = _optional("comfy_api.latest")
    make = getattr(latest, "ComfyAPISync", None)
    if make is not None:
        try:
            make()
        except Exception as error:
            logging.debug("comfy_api.latest.ComfyAPISync cannot be made: %r", error)


def _optional(name: str):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _context_maker(module):
    cls = getattr(module, "ExecutionContext", None)
    if cls is None:
        return None

    def get_executing_context():
        context = running.current()
        return None if context is None else cls(context.prompt_id, context.node_id, context.list_index)

    return get_executing_context


def report(value, total, preview=None, node_id=None) -> None:
    """Move the bar of the running node; does nothing before the first node has run."""
    context = running.current()
    if context is not None:
        context.progress(value, total, encode_preview(preview, context.preview_size), node_id)


def encode_preview(preview, limit: int):
    """``(format, PIL image, size)`` as ``(format, bytes)``; ``None`` stays ``None``."""
    if preview is None:
        return None
    import io

    kind, image, *rest = preview
    size = rest[0] if rest and rest[0] else limit
    side = min(size, limit) if limit else size
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side))
    kind = "PNG" if str(kind).upper() == "PNG" else "JPEG"
    if kind == "JPEG" and image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {"compress_level": 1}))
    return kind, buffer.getvalue()


def load_checkout_nodes() -> None:
    """Import the checkout's own extra nodes (``comfy_extras``), without custom ones."""
    import nodes

    for name in ("init_extra_nodes", "init_builtin_extra_nodes"):
        function = getattr(nodes, name, None)
        if function is None:
            continue
        wanted = {"init_custom_nodes": False, "init_api_nodes": not state.options.get("disable_api_nodes")}
        taken = inspect.signature(function).parameters
        try:
            loop.settle(function(**{key: value for key, value in wanted.items() if key in taken}))
        except Exception as error:
            logging.error("The checkout's extra nodes did not all load: %r", error, exc_info=True)
        return
