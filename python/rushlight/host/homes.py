"""Where the modules come from that nodes import.

Stand-alone, all of them are ours (``rushlight/modules``). In a ComfyUI checkout they are the checkout's, except
``server`` and ``execution``, which belong to the server: a finder of ours stands before the checkout's folder.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import os
import sys

from . import folders, loop, progress, running, state

MODULES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "modules")

# Modules of ours that stand in for the checkout's, too.
_ALWAYS_OURS = ("server", "execution")


def begin() -> None:
    """Decide which home this is, and make its modules importable. Nothing of an engine is imported yet, so that what
    ``prestartup_script.py`` files put into the environment comes before PyTorch."""
    folder = state.options.get("comfyui_dir")
    if not folder:
        sys.path.insert(0, MODULES)
    else:
        state.checkout = folder
        if folder not in sys.path:
            sys.path.insert(0, folder)
        sys.meta_path.insert(0, _Ours)
        _read_arguments()
    import folder_paths

    if state.checkout is not None:
        folders.join(folder_paths)
    folders.remember(folder_paths)


def finish() -> None:
    """Import the modules that every pack may count on, with the checkout's engine and classes."""
    importlib.import_module("server")
    if state.checkout is not None:
        _follow_progress()
        _name_graphs()
        # A folder of the checkout, which its `comfy/utils.py` hides once `nodes` has put `comfy` into the path.
        _optional("utils")
    importlib.import_module("nodes")
    if state.checkout is not None:
        _complete_node_api()
        load_checkout_nodes()


class _Ours:
    """Finds those modules of ours that stand in for the checkout's."""

    @staticmethod
    def find_spec(fullname, path=None, target=None):
        if fullname not in _ALWAYS_OURS:
            return None
        return importlib.util.spec_from_file_location(fullname, os.path.join(MODULES, fullname + ".py"))


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


def _read_arguments() -> None:
    """Let the checkout read its options from the command line, as it does when it is imported."""
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


def _upstream_arguments() -> list:
    """Options of this start that the checkout's modules look at while they are imported."""
    made = list(state.options.get("upstream_argv") or ())
    base = (state.options.get("args") or {}).get("base_directory")
    if base:
        # As in ComfyUI, custom nodes and models are below it then.
        made += ["--base-directory", os.path.abspath(base)]
    return made


def _follow_progress() -> None:
    """Progress of the checkout's own bars becomes the running node's."""
    import comfy.utils

    set_hook = comfy.utils.set_progress_bar_global_hook
    set_hook(progress.report_running)

    def set_progress_bar_global_hook(function):
        set_hook(function)
        progress.share()

    _replace_everywhere("set_progress_bar_global_hook", set_hook, set_progress_bar_global_hook)
    utils = _optional("comfy_execution.utils")
    context = None if utils is None else _context_maker(utils)
    if context is not None:
        _replace_everywhere("get_executing_context", utils.get_executing_context, context)
    theirs = _optional("comfy_execution.progress")
    for name, ours in (
        ("get_progress_state", lambda: progress.registry),
        ("add_progress_handler", progress.registry.register_handler),
    ):
        if hasattr(theirs, name):
            _replace_everywhere(name, getattr(theirs, name), ours)


def _name_graphs() -> None:
    """Graphs that nodes build get ids that begin with the node's, the same in each run."""
    utils = _optional("comfy_execution.graph_utils")
    builder = getattr(utils, "GraphBuilder", None)
    allocate = getattr(builder, "alloc_prefix", None)
    if builder is None or allocate is None:
        return

    def alloc_prefix(cls, root=None, call_index=None, graph_index=None):
        made = running.graph_prefix() if (root, call_index, graph_index) == (None, None, None) else None
        return allocate(root, call_index, graph_index) if made is None else made

    builder.alloc_prefix = classmethod(alloc_prefix)


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
        return None if context is None or not context.node_id else cls(context.prompt_id, context.node_id, context.list_index)

    return get_executing_context


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
