"""A real server on a free port, and clients that talk to it as users' programs do."""

from __future__ import annotations

import copy
import json
import os
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path

import requests
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("RUSHLIGHT_BIN", ROOT / "target" / "debug" / "rushlight"))
DEFAULT_WORKFLOW = json.loads((ROOT / "rust/cli/assets/default_workflow.json").read_text())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def text_to_image(prompt: str = "a red heart on a white background", **sampler) -> dict:
    """The default workflow with another prompt or sampler settings."""
    graph = copy.deepcopy(DEFAULT_WORKFLOW)
    graph["6"]["inputs"]["text"] = prompt
    graph["3"]["inputs"].update(sampler)
    return graph


class Socket:
    """A websocket client; text frames come as parsed JSON, binary ones as bytes."""

    def __init__(self, port: int, client_id: str, flags: dict | None = None):
        self.id = client_id
        self.socket = connect(f"ws://127.0.0.1:{port}/ws?clientId={client_id}", max_size=None)
        if flags is not None:
            self.socket.send(json.dumps({"type": "feature_flags", "data": flags}))

    def next(self, timeout: float = 60):
        frame = self.socket.recv(timeout=timeout)
        return json.loads(frame) if isinstance(frame, str) else frame

    def until_done(self, prompt_id: str, timeout: float = 120) -> list:
        """Every frame up to `executing` with `node: null` of this prompt."""
        frames = []
        deadline = time.monotonic() + timeout
        while True:
            frame = self.next(max(0.1, deadline - time.monotonic()))
            frames.append(frame)
            if isinstance(frame, dict) and frame["type"] == "executing":
                data = frame["data"]
                if data["node"] is None and data["prompt_id"] == prompt_id:
                    return frames

    def close(self):
        self.socket.close()


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
        self.log = open(self.base / "server.log", "ab")
        command = [BINARY, "serve", "--base-directory", self.base, "--port", str(self.port), "--cpu", *self.options]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if self.get("/system_stats").ok:
                    return self
            except requests.ConnectionError:
                time.sleep(0.02)
        raise RuntimeError(f"the server did not start:\n{(self.base / 'server.log').read_text()}")

    def stop(self, how: int = signal.SIGTERM, timeout: float = 30) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(timeout)
        self.log.close()
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
