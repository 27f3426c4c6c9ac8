"""The server and the options of this start."""

from __future__ import annotations

from typing import Any

app: Any = None
"""The :class:`rushlight._rushlight.App`, or ``None`` while no server runs."""

options: dict = {}
"""``argv``, ``custom_nodes`` (folders), ``comfyui_dir``, ``prefer_python``, ``disable_all_custom_nodes``,
``whitelist_custom_nodes``, ``port``, ``listen``, ``args`` (what ``comfy.cli_args.args`` shows)."""


checkout: "str | None" = None
"""The checkout whose modules nodes import; ``None`` stand-alone."""


def begin(server) -> None:
    """Remember the server."""
    global app, options
    app = server
    options = server.options() or {}
