"""Tells running calls that their run is to end."""

from __future__ import annotations

import sys

_flagged = False
"""Whether the flag of a checkout's engine was raised."""

_tasks: dict = {}
"""Call id → the future of a coroutine that runs."""


def watch(call_id: int, future) -> None:
    """A coroutine begins."""
    _tasks[call_id] = future
    future.add_done_callback(lambda _: _tasks.pop(call_id, None))


def cancel(call_id: int, context) -> None:
    """The run of a call was cancelled."""
    future = _tasks.get(call_id)
    if future is not None:
        future.cancel()
        return
    # ComfyUI's own engine looks at a flag of its own.
    management = _checkout_management()
    if management is not None:
        global _flagged
        _flagged = True
        management.interrupt_current_processing(True)


def begin(context) -> None:
    """A call begins: the flag of a run that has ended is not its own."""
    global _flagged
    if _flagged and not context.cancelled:
        _flagged = False
        management = _checkout_management()
        if management is not None:
            management.interrupt_current_processing(False)


def _checkout_management():
    management = sys.modules.get("comfy.model_management")
    return None if getattr(management, "RUSHLIGHT", False) else management
