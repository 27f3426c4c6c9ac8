"""Tells running calls that their run is to end."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

from . import loop

PATIENCE = 0.5
"""Seconds without an answer after which the event loop is taken to be blocked."""

_flagged = False
"""Whether the flag of a checkout's engine was raised."""


class Coroutine:
    """A call that runs as a coroutine."""

    def __init__(self) -> None:
        self.future: Any = None
        self.task: "asyncio.Task | None" = None

    def begin(self) -> None:
        """Called by the coroutine itself."""
        self.task = asyncio.current_task()

    def cancel(self) -> None:
        """Cancel it, on its loop. It may clean up: the call ends when it does."""
        if self.task is not None:
            self.task.cancel()
        else:
            self.future.cancel()


_coroutines: "dict[int, Coroutine]" = {}
"""By the call's number."""


def watch(call_id: int, coroutine: Coroutine) -> None:
    """A coroutine begins; its future is known."""
    _coroutines[call_id] = coroutine
    coroutine.future.add_done_callback(lambda _: _coroutines.pop(call_id, None))


def cancel(call_id: int, context) -> None:
    """The run of a call was cancelled."""
    coroutine = _coroutines.get(call_id)
    if coroutine is not None:
        loop.get().call_soon_threadsafe(coroutine.cancel)
        return
    # ComfyUI's own engine looks at a flag of its own.
    management = checkout_management()
    if management is not None:
        global _flagged
        _flagged = True
        management.interrupt_current_processing(True)


def blocked_thread(call_id: int) -> "int | None":
    """The event loop's thread, if the call's coroutine keeps the loop from going on.

    A coroutine that was cancelled and goes on without blocking the loop is left to itself: its call ends here.
    """
    coroutine = _coroutines.get(call_id)
    if coroutine is None:
        return None
    running, answered = loop.get(), threading.Event()
    running.call_soon_threadsafe(answered.set)
    if answered.wait(PATIENCE):
        coroutine.future.cancel()
        return None
    return loop.thread_id() if asyncio.current_task(running) is coroutine.task else None


def begin(context) -> None:
    """A call begins: the flag of a run that has ended is not its own."""
    global _flagged
    if _flagged and not context.cancelled:
        _flagged = False
        management = checkout_management()
        if management is not None:
            management.interrupt_current_processing(False)


def checkout_management():
    """``comfy.model_management`` of a checkout, ``None`` stand-alone."""
    management = sys.modules.get("comfy.model_management")
    return None if getattr(management, "RUSHLIGHT", False) else management
