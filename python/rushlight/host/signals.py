"""Signals are the server's.

Python lets only the main thread set handlers, and that thread belongs to the server. ComfyUI imports packs in the
main thread, so some set handlers; here that neither fails nor changes how the server is stopped.
"""

from __future__ import annotations

import logging
import signal
import threading

_handlers: dict = {}


def keep() -> None:
    """Take note of handlers that packs set from now on, and never call them. Idempotent."""
    if getattr(signal.signal, "_rushlight", False):
        return
    set_handler = signal.signal

    def note_handler(signalnum, handler):
        if threading.current_thread() is threading.main_thread():
            return set_handler(signalnum, handler)
        before = _handlers.get(signalnum, signal.getsignal(signalnum))
        _handlers[signalnum] = handler
        logging.debug("signals are the server's: the handler for %s is not called", signalnum)
        return before

    setattr(note_handler, "_rushlight", True)  # noqa: B010 - a checked type has no such attribute
    signal.signal = note_handler
