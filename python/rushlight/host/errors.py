"""Exceptions as the server reports them."""

from __future__ import annotations

import builtins
import os
import sys
import traceback

_HERE = os.path.dirname(os.path.abspath(__file__))
_LIBRARY = os.path.dirname(os.path.abspath(os.__file__))
# contextlib is a file of the standard library's folder itself.
_BETWEEN = (_HERE, _LIBRARY, os.path.join(_LIBRARY, "concurrent", "futures"), os.path.join(_LIBRARY, "asyncio"))


class NodeHomeError(RuntimeError):
    """A name that needs ComfyUI's own Python engine was used where there is none."""

    def __init__(self, what: str):
        super().__init__(
            f"{what} needs ComfyUI's PyTorch engine, which the stand-alone Rushlight does not have. Start Rushlight "
            "inside a ComfyUI checkout to use it: rushlight serve --comfyui-dir PATH"
        )


class ServerOwnError(AttributeError):
    """A name of upstream's server that Python cannot have here."""

    def __init__(self, what: str, instead: str):
        super().__init__(f"{what} is not there in Rushlight: {instead}")


class NodeHomeNameError(NodeHomeError, AttributeError):
    """The same for a name of a module: ``hasattr`` is false, and ``from … import`` raises an ``ImportError``."""


class NodeHomeImportError(NodeHomeError, ModuleNotFoundError):
    """The same for a module."""


def needs_engine(name: str):
    """A function that only ComfyUI's engine has: it can be imported, and says so when it is called."""

    def function(*args, **kwargs):
        raise NodeHomeError(name)

    function.__name__ = name.rpartition(".")[2]
    return function


def module_getattr(module: str, engine=(), functions=(), lazy=None):
    """A module's ``__getattr__``: ``engine`` are names that ComfyUI's engine has, ``functions`` those of its functions that
    packs import whether they call them or not (see :func:`needs_engine`), ``lazy`` makes some on first use."""

    def getattribute(name):
        if lazy is not None and name in lazy:
            return lazy[name]()
        if name in functions:
            return needs_engine(f"{module}.{name}")
        if name in engine:
            raise NodeHomeNameError(f"{module}.{name}")
        # Python itself asks for names in double underscores.
        hint = "" if name.startswith("__") else (
            " in stand-alone Rushlight; in a ComfyUI checkout (rushlight serve --comfyui-dir PATH) it may"
        )
        raise AttributeError(f"module '{module}' has no attribute '{name}'{hint}")

    return getattribute


def interrupt_class():
    """The class whose instances mean "interrupted"."""
    import comfy.model_management

    return comfy.model_management.InterruptProcessingException


def interrupted():
    """An exception that means "interrupted"."""
    return interrupt_class()()


def native_failure(kind: str, message: str):
    """A native node's failure as an exception of the same name where Python has one."""
    cls = getattr(builtins, kind, None)
    if isinstance(cls, type) and issubclass(cls, Exception):
        return cls(message)
    return RuntimeError(f"{kind}: {message}")


def native_attribute(kind: str, name: str):
    """An attribute of a native value: there are none, and the error says why."""
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(
        f"'{name}' of a native {kind}: values of the native engine are opaque to Python. Start Rushlight inside a "
        "ComfyUI checkout (--comfyui-dir PATH) to run this node on ComfyUI's PyTorch engine"
    )


def blocker(message):
    """An ``ExecutionBlocker``."""
    from comfy_execution.graph_utils import ExecutionBlocker

    return ExecutionBlocker(message)


def _is_interrupt(error: BaseException) -> bool:
    return any(cls.__name__ == "InterruptProcessingException" for cls in type(error).__mro__)


def dotted(cls: type) -> str:
    """``ValueError``, ``torch.OutOfMemoryError``."""
    module = cls.__module__
    return cls.__qualname__ if module in ("builtins", "__main__") else f"{module}.{cls.__qualname__}"


def describe(error: BaseException):
    """``(dotted type, message, frames)``; the type is ``interrupted`` for an interrupt."""
    if _is_interrupt(error):
        return "interrupted", "", []
    frames = traceback.extract_tb(error.__traceback__)
    # What stands between the server and the node's own code says nothing to its author.
    while frames and os.path.dirname(os.path.abspath(frames[0].filename)) in _BETWEEN:
        del frames[0]
    return dotted(type(error)), _message(error), traceback.format_list(frames)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__}>"


def show(error: BaseException) -> str:
    """The text that Python would print."""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def module_of(cls: type) -> str:
    """Name of the file that a class comes from, for messages."""
    module = sys.modules.get(cls.__module__)
    return getattr(module, "__file__", None) or cls.__module__
