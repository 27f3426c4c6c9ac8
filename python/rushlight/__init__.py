"""Rushlight: a ComfyUI-compatible inference server with a Rust core.

``rushlight serve`` (or ``python -m rushlight serve``) starts the server in this Python; custom nodes are loaded
into it. :mod:`rushlight.host` is what runs beside the server, :mod:`rushlight.modules` holds the modules that
custom nodes import.
"""

from ._rushlight import __VERSION__ as __version__

__all__ = ["__version__", "main"]


def main(arguments: "list[str] | None" = None) -> int:
    """Run the command line and return its exit status."""
    import sys

    # Python takes the thread that imports this first for the main one.
    import threading  # noqa: F401

    from . import _rushlight

    return _rushlight.main(list(sys.argv[1:] if arguments is None else arguments))
