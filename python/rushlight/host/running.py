"""Which node runs, seen from any thread.

A node's call sets a context variable. Threads that the node starts, and work that it hands to thread pools, keep
it; so do coroutines. Whoever has none (a thread from before) is taken to belong to the node that had its turn last,
whichever engine runs it: that one the server knows.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import threading
import weakref
from contextlib import contextmanager

from . import state

_current: contextvars.ContextVar = contextvars.ContextVar("rushlight_node", default=None)
_threads: "weakref.WeakKeyDictionary[threading.Thread, object]" = weakref.WeakKeyDictionary()


def current():
    """The running node's :class:`rushlight._rushlight.NodeContext`, or ``None`` before the first run. Between the beginning
    of a run and that of its first node, its ``node_id`` is empty."""
    context = current_of_caller()
    return context if context is not None or state.app is None else state.app.running()


@contextmanager
def node(context):
    """Within it, ``context`` is the running node."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def graph_prefix() -> "str | None":
    """What the ids of a graph begin with that the running node builds: no other graph of its call has it. ``None`` where no
    node runs."""
    context = current_of_caller()
    return None if context is None else f"{context.node_id}.{context.list_index or 0}.{context.next_graph()}."


def follow_threads() -> None:
    """Let new threads and pool work keep the node that started them. Idempotent."""
    if getattr(threading.Thread.start, "_rushlight", False):
        return
    start, submit = threading.Thread.start, concurrent.futures.ThreadPoolExecutor.submit

    def start_and_remember(self):
        context = current_of_caller()
        if context is not None:
            _threads[self] = context
        return start(self)

    def submit_in_context(self, fn, /, *args, **kwargs):
        if current_of_caller() is None:
            return submit(self, fn, *args, **kwargs)
        return submit(self, contextvars.copy_context().run, fn, *args, **kwargs)

    setattr(start_and_remember, "_rushlight", True)  # noqa: B010 - a checked type has no such attribute
    setattr(threading.Thread, "start", start_and_remember)  # noqa: B010
    setattr(concurrent.futures.ThreadPoolExecutor, "submit", submit_in_context)  # noqa: B010


def current_of_caller():
    """As :func:`current`, without the guess for threads that have none."""
    context = _current.get()
    return _threads.get(threading.current_thread()) if context is None else context
