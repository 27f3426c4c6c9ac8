"""What nodes print reaches the server's log, and through it the clients that asked for it."""

from __future__ import annotations

import logging
import sys

from . import state


class _Tee:
    """A stream that also tells the server."""

    def __init__(self, stream):
        self._stream = stream
        self._line = ""

    def write(self, text):
        written = self._stream.write(text)
        self._line += text
        # Bars that rewrite their line end it with a carriage return.
        *lines, self._line = self._line.replace("\r", "\n").split("\n")
        self._line = self._line[-8192:]
        for line in lines:
            if line.strip() and state.app is not None:
                try:
                    state.app.log(line)
                except Exception:
                    # The log must never be why a node fails.
                    pass
        return written

    def __getattr__(self, name):
        return getattr(self._stream, name)


def begin() -> None:
    """Follow stdout and stderr from now on. Idempotent."""
    if not isinstance(sys.stdout, _Tee):
        sys.stdout, sys.stderr = _Tee(sys.stdout), _Tee(sys.stderr)
    root = logging.getLogger()
    if not root.handlers:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
