"""Building graphs: the wheel's own, found here as a checkout's would be, without its knowledge of the running node."""

import os

import rushlight

_path = os.path.join(os.path.dirname(rushlight.__file__), "modules", "comfy_execution", "graph_utils.py")
with open(_path, encoding="utf-8") as _file:
    exec(compile(_file.read(), _path, "exec"))


class GraphBuilder(GraphBuilder):  # noqa: F821 - from the file above
    """As a checkout's: it knows the running node only by what its executor would tell it."""

    @classmethod
    def alloc_prefix(cls, root=None, call_index=None, graph_index=None):
        cls._default_prefix_graph_index += 1
        return f"{root or cls._default_prefix_root}.{call_index or 0}.{cls._default_prefix_graph_index}."
