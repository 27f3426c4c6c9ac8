"""What all tests that start servers share: processes whose output is kept, and clients' sockets."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[1]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A server that runs: ours, or the original. It has started when it has printed its address."""

    def __init__(self, command, cwd, env=None, wait: float = 60):
        self.lines: list[str] = []
        self.port: int | None = None
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd=cwd,
            env={**os.environ, "NO_COLOR": "1", **(env or {})},
        )
        self._started = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        if not self._started.wait(wait) or self.port is None:
            self.stop()
            raise RuntimeError("the server did not start:\n" + self.output)

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            found = re.search(r"https?://[^\s:]+:(\d+)", line)
            if found and self.port is None:
                self.port = int(found.group(1))
                self._started.set()
        self._started.set()

    @property
    def output(self) -> str:
        """What it has printed."""
        return "".join(self.lines)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self, how: int = signal.SIGTERM, timeout: float = 30) -> int:
        """Ends it, by force if need be; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def kill(self):
        """Ends it at once."""
        self.process.kill()
        self.process.wait()


class Socket:
    """A client's websocket; text frames come as parsed JSON, binary ones as bytes."""

    def __init__(self, port: int, client_id: str, flags: dict | None = None):
        self.id = client_id
        # A client that does not read goes on hearing pongs, and is not ended for that it does not answer pings.
        opening = connect(
            f"ws://127.0.0.1:{port}/ws?clientId={client_id}", max_size=None, max_queue=None, ping_interval=None
        )
        self.socket = opening.__enter__()
        if flags is not None:
            self.socket.send(json.dumps({"type": "feature_flags", "data": flags}))

    def next(self, timeout: float = 60):
        """The next frame."""
        frame = self.socket.recv(timeout=timeout)
        return json.loads(frame) if isinstance(frame, str) else frame

    def until_done(self, prompt_id: str, timeout: float = 120) -> list:
        """Every frame up to `executing` with `node: null` of this prompt."""
        frames = []
        deadline = time.monotonic() + timeout
        while True:
            frame = self.next(max(0.01, deadline - time.monotonic()))
            frames.append(frame)
            if isinstance(frame, dict) and frame["type"] == "executing":
                data = frame["data"]
                if data["node"] is None and data["prompt_id"] == prompt_id:
                    return frames

    def close(self):
        self.socket.close()
