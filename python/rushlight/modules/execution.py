"""``execution``: names of upstream's executor that packs use. Prompts are run by the server itself."""

from __future__ import annotations

import asyncio
from enum import Enum

from comfy_execution.graph import ExecutionBlocker  # noqa: F401
from rushlight.host import errors, state

MAXIMUM_HISTORY_SIZE = 10000


class ExecutionResult(Enum):
    """How a node ended."""

    SUCCESS = 0
    FAILURE = 1
    PENDING = 2


class PromptExecutor:
    """Packs replace methods of this class; the server does not call them."""

    def handle_execution_error(self, *args, **kwargs):
        raise errors.NodeHomeError("execution.PromptExecutor")

    def execute(self, *args, **kwargs):
        raise errors.NodeHomeError("execution.PromptExecutor.execute")


class PromptQueue:
    """The queue is ``server.PromptServer.instance.prompt_queue``."""

    def __new__(cls, *args, **kwargs):
        from server import PromptServer

        return PromptServer.instance.prompt_queue


async def validate_prompt(prompt_id, prompt, partial_execution_list=None):
    """Whether a prompt could be queued: ``(valid, error, outputs that would run, node errors)``. Queues nothing."""
    targets = None if partial_execution_list is None else [str(node_id) for node_id in partial_execution_list]
    # Not on the loop's thread: classes may validate in coroutines of theirs.
    valid, answer = await asyncio.get_running_loop().run_in_executor(None, state.app.validate, prompt, targets)
    return valid, None if valid else answer["error"], answer.get("outputs", []), answer.get("node_errors", {})
