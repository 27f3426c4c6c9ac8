"""Building graphs: the wheel's own, found here as a checkout's would be."""

import os

import rushlight

_path = os.path.join(os.path.dirname(rushlight.__file__), "modules", "comfy_execution", "graph_utils.py")
with open(_path, encoding="utf-8") as _file:
    exec(compile(_file.read(), _path, "exec"))
