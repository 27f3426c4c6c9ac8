"""``comfy_execution.graph``: errors of graphs, and the blocker."""

from .graph_utils import ExecutionBlocker, is_link

__all__ = ["DependencyCycleError", "ExecutionBlocker", "NodeInputError", "NodeNotFoundError", "is_link"]


class DependencyCycleError(Exception):
    """Nodes wait for each other."""


class NodeInputError(Exception):
    """An input cannot be had."""


class NodeNotFoundError(Exception):
    """There is no such node."""


class DynamicPrompt:
    """A prompt with the nodes that were added to it while it ran."""

    def __init__(self, original_prompt):
        self.original_prompt = original_prompt
        self.ephemeral_prompt: dict = {}
        self.ephemeral_parents: dict = {}
        self.ephemeral_display: dict = {}

    def get_node(self, node_id):
        for prompt in (self.ephemeral_prompt, self.original_prompt):
            if node_id in prompt:
                return prompt[node_id]
        raise NodeNotFoundError(f"Node {node_id} not found")

    def has_node(self, node_id):
        return node_id in self.original_prompt or node_id in self.ephemeral_prompt

    def all_node_ids(self):
        return set(self.original_prompt) | set(self.ephemeral_prompt)

    def get_original_prompt(self):
        return self.original_prompt

    def add_ephemeral_node(self, node_id, node_info, parent_id, display_id):
        self.ephemeral_prompt[node_id] = node_info
        self.ephemeral_parents[node_id] = parent_id
        self.ephemeral_display[node_id] = display_id

    def get_parent_node_id(self, node_id):
        return self.ephemeral_parents.get(node_id)

    def get_real_node_id(self, node_id):
        while node_id in self.ephemeral_parents:
            node_id = self.ephemeral_parents[node_id]
        return node_id

    def get_display_node_id(self, node_id):
        while node_id in self.ephemeral_parents:
            node_id = self.ephemeral_display[node_id]
        return node_id
