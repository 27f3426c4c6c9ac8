"""A real server on a free port, and clients that talk to it as users' programs do."""

from __future__ import annotations

import copy
import io
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import requests
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from servers import ROOT, Process, Socket, free_port  # noqa: E402

__all__ = ["BINARY", "DEFAULT_WORKFLOW", "ROOT", "Server", "Socket", "free_port", "pixels", "text_to_image"]

BINARY = Path(os.environ.get("RUSHLIGHT_BIN", ROOT / "target" / "debug" / "rushlight"))
DEFAULT_WORKFLOW = json.loads((ROOT / "rust/cli/assets/default_workflow.json").read_text())


def text_to_image(prompt: str = "a red heart on a white background", **sampler) -> dict:
    """The default workflow with another prompt or sampler settings."""
    graph = copy.deepcopy(DEFAULT_WORKFLOW)
    graph["6"]["inputs"]["text"] = prompt
    graph["3"]["inputs"].update(sampler)
    return graph


def pixels(png: bytes) -> np.ndarray:
    """The colours `[H, W, 3]` of a picture, 0 to 255."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(np.float64)


class Server:
    """One `rushlight serve` process."""

    def __init__(self, base: Path, *options: str, token: str | None = None):
        self.base = base
        self.options = options
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.port = free_port()
        self.process: subprocess.Popen | None = None
        self.sockets: list[Socket] = []
        self.checkpoints.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoints(self) -> Path:
        return self.base / "models" / "checkpoints"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "Server":
        command = [BINARY, "serve", "--base-directory", self.base, "--port", str(self.port), "--cpu", *self.options]
        self.running = Process(command, self.base)
        self.process = self.running.process
        return self

    def stop(self, how: int = signal.SIGTERM, timeout: float = 30) -> int:
        code = self.running.stop(how, timeout)
        self.process = None
        return code

    def get(self, path: str, **options) -> requests.Response:
        return requests.get(self.url + path, timeout=60, **{"headers": self.headers, **options})

    def post(self, path: str, body=None, **options) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=60, **{"headers": self.headers, **options})

    def submit(self, graph: dict, client_id: str | None = None, **body) -> str:
        answer = self.post("/prompt", {"prompt": graph, **({"client_id": client_id} if client_id else {}), **body})
        assert answer.status_code == 200, answer.text
        return answer.json()["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = 120) -> dict:
        """The history entry, once there is one."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            entry = self.get(f"/history/{prompt_id}").json().get(prompt_id)
            if entry:
                return entry
            time.sleep(0.05)
        raise AssertionError(f"prompt {prompt_id} did not end in {timeout} s")

    def run(self, graph: dict) -> dict:
        return self.wait(self.submit(graph))

    def socket(self, flags: dict | None = None, client_id: str | None = None) -> Socket:
        opened = Socket(self.port, client_id or uuid.uuid4().hex, flags)
        self.sockets.append(opened)
        return opened

    def picture(self, item: dict) -> bytes:
        answer = self.get("/view", params=item)
        assert answer.status_code == 200, answer.text
        return answer.content
