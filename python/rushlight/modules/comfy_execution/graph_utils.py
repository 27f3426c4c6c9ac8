"""``comfy_execution.graph_utils``: building the graphs that nodes expand to."""

from __future__ import annotations

from rushlight.host import running


def is_link(obj) -> bool:
    """Whether a value is a link, ``[node id, slot]``."""
    return isinstance(obj, list) and len(obj) == 2 and isinstance(obj[0], str) and isinstance(obj[1], (int, float))


class ExecutionBlocker:
    """A value that keeps its consumers from running; a message is told to the user."""

    def __init__(self, message):
        self.message = message


class Node:
    """One node of a graph that is being built."""

    def __init__(self, id, class_type, inputs):
        self.id = id
        self.class_type = class_type
        self.inputs = inputs
        self.override_display_id = None

    def out(self, index):
        """A link to an output."""
        return [self.id, index]

    def set_input(self, key, value):
        if value is None:
            self.inputs.pop(key, None)
        else:
            self.inputs[key] = value

    def get_input(self, key):
        return self.inputs.get(key)

    def set_override_display_id(self, override_display_id):
        self.override_display_id = override_display_id

    def serialize(self):
        made = {"class_type": self.class_type, "inputs": self.inputs}
        if self.override_display_id is not None:
            made["override_display_id"] = self.override_display_id
        return made


class GraphBuilder:
    """Builds a graph; ids of its nodes begin with the running node's."""

    _default_prefix_root = ""
    _default_prefix_call_index = 0
    _default_prefix_graph_index = 0

    def __init__(self, prefix=None):
        self.prefix = GraphBuilder.alloc_prefix() if prefix is None else prefix
        self.nodes: dict = {}
        self.id_gen = 1

    @classmethod
    def set_default_prefix(cls, prefix_root, call_index, graph_index=0):
        """What prefixes are made of where no node runs."""
        cls._default_prefix_root = prefix_root
        cls._default_prefix_call_index = call_index
        cls._default_prefix_graph_index = graph_index

    @classmethod
    def alloc_prefix(cls, root=None, call_index=None, graph_index=None):
        """A prefix that no other graph of the running call has."""
        if root is None and call_index is None and graph_index is None:
            made = running.graph_prefix()
            if made is not None:
                return made
        root = cls._default_prefix_root if root is None else root
        call_index = cls._default_prefix_call_index if call_index is None else call_index
        graph_index = cls._default_prefix_graph_index if graph_index is None else graph_index
        cls._default_prefix_graph_index += 1
        return f"{root}.{call_index}.{graph_index}."

    def node(self, class_type, id=None, **kwargs):
        """A new node, or the one of that id."""
        if id is None:
            id = str(self.id_gen)
            self.id_gen += 1
        id = self.prefix + str(id)
        if id not in self.nodes:
            self.nodes[id] = Node(id, class_type, kwargs)
        return self.nodes[id]

    def lookup_node(self, id):
        return self.nodes.get(self.prefix + str(id))

    def finalize(self):
        """The graph in API format."""
        return {id: node.serialize() for id, node in self.nodes.items()}

    def replace_node_output(self, node_id, index, new_value):
        """Consumers of an output take another value; ``None`` removes their input."""
        node_id = self.prefix + str(node_id)
        for node in self.nodes.values():
            for key in [key for key, value in node.inputs.items() if is_link(value)]:
                if node.inputs[key][0] == node_id and node.inputs[key][1] == index:
                    node.set_input(key, new_value)

    def remove_node(self, id):
        del self.nodes[self.prefix + str(id)]


def add_graph_prefix(graph, outputs, prefix):
    """A graph and links into it with every id prefixed."""
    def moved(value):
        return [prefix + value[0], value[1]] if is_link(value) else value

    made = {}
    for node_id, node in graph.items():
        inputs = {key: moved(value) for key, value in node.get("inputs", {}).items()}
        made[prefix + node_id] = {**node, "inputs": inputs}
    return made, tuple(moved(value) for value in outputs)
