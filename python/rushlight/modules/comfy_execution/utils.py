"""``comfy_execution.utils``: which node runs."""

from __future__ import annotations

from typing import NamedTuple, Optional

from rushlight.host import running


class ExecutionContext(NamedTuple):
    """One call of one node."""

    prompt_id: str
    node_id: str
    list_index: Optional[int]


def get_executing_context() -> Optional[ExecutionContext]:
    """The running node, ``None`` while there is none."""
    context = running.current()
    return None if context is None or not context.node_id else ExecutionContext(context.prompt_id, context.node_id, context.list_index)
