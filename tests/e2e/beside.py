"""Another server of the same protocol beside ours, and how their answers are compared.

Answers are compared as parsed JSON. What cannot be equal is made equal first: times, random ids, file names' random
parts, the servers' folders. `traceback` and `tooltip` are left out: the one names source lines, the other is prose;
and `is_input_list`, which servers after 0.8.0 have.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path

import requests

from harness import Socket, free_port

TIMES = {"timestamp", "create_time", "execution_start_time", "execution_end_time", "modified", "created"}
COUNTERS = {"number", "priority"}
LEFT_OUT = {"traceback", "tooltip", "is_input_list"}
UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
TEMP_NAME = re.compile(r"ComfyUI_temp_[a-z]{5}_\d{5}_")


class Original:
    """A ComfyUI server run as it is, from a folder and with an interpreter of the user's."""

    def __init__(self, folder: Path, python: str, base: Path):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.base = base
        for name in ("models/checkpoints", "custom_nodes", "input", "output", "temp", "user", "page"):
            (base / name).mkdir(parents=True, exist_ok=True)
        # Any page will do; without one the server asks for a package that the interpreter may not have.
        (base / "page" / "index.html").write_text("<!doctype html><title>page</title>")
        self.log = base / "original.log"
        command = [python, "main.py", "--cpu", "--port", str(self.port), "--base-directory", str(base)]
        command += ["--front-end-root", str(base / "page"), "--disable-api-nodes"]
        self.process = subprocess.Popen(command, cwd=folder, stdout=self.log.open("wb"), stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if requests.get(f"{self.url}/queue", timeout=5).ok:
                    return
            except requests.ConnectionError:
                time.sleep(0.5)
        self.stop()
        raise RuntimeError(f"the original did not start:\n{self.log.read_text()[-2000:]}")

    def stop(self):
        self.process.kill()
        self.process.wait()


def original_from_environment(base: Path) -> Original | None:
    """The original named by COMFYUI_DIR (and COMFYUI_PYTHON, the interpreter that has its requirements)."""
    folder = os.environ.get("COMFYUI_DIR")
    if not folder:
        return None
    return Original(Path(folder), os.environ.get("COMFYUI_PYTHON", sys.executable), base)


def normalise(value):
    """The value with everything that differs between two runs made equal."""
    if isinstance(value, dict):
        return {key: _normalise_member(key, member) for key, member in value.items() if key not in LEFT_OUT}
    if isinstance(value, list):
        # A queue item begins with its number.
        if len(value) == 5 and isinstance(value[2], dict) and isinstance(value[4], list):
            value = ["<counter>", *value[1:]]
        return [normalise(item) for item in value]
    if isinstance(value, str):
        return TEMP_NAME.sub("ComfyUI_temp_", UUID.sub("<uuid>", value))
    return value


def _normalise_member(key: str, member):
    if key in TIMES and member is not None:
        return "<time>"
    return "<counter>" if key in COUNTERS else normalise(member)


def differences(theirs, ours, path: str = "") -> list[str]:
    """Where two values differ, a line each: their value, then ours."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = list(theirs) + [key for key in ours if key not in theirs]
        absent = "<absent>"
        return [line for key in keys for line in differences(theirs.get(key, absent), ours.get(key, absent), f"{path}.{key}")]
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return [line for at, pair in enumerate(zip(theirs, ours)) for line in differences(*pair, f"{path}[{at}]")]
    same_kind = type(theirs) is type(ours) or {type(theirs), type(ours)} <= {int, float}
    if same_kind and theirs == ours:
        return []
    return [f"{path}: {json.dumps(theirs)[:400]} | {json.dumps(ours)[:400]}"]


def answer(server, method: str, path: str, **options) -> dict:
    """Status, content type and body of a server's answer, normalised."""
    response = requests.request(method, server.url + path, timeout=60, allow_redirects=False, **options)
    kind = response.headers.get("content-type", "")
    if "json" in kind:
        body = normalise(json.loads(response.text.replace(str(server.base), "<base>")))
    else:
        body = response.text if kind.startswith("text/") else len(response.content)
    return {"status": response.status_code, "content-type": kind, "body": body}


def run(port: int, graph: dict, **fields) -> dict:
    """Runs a prompt; every frame its client got, its history entry and its job, normalised."""
    url = f"http://127.0.0.1:{port}"
    client = Socket(port, uuid.uuid4().hex)
    try:
        client.next()  # the greeting
        posted = requests.post(f"{url}/prompt", json={"prompt": graph, "client_id": client.id, **fields}, timeout=60)
        if posted.status_code != 200:
            return {"refused": normalise(posted.json())}
        prompt_id = posted.json()["prompt_id"]
        frames = client.until_done(prompt_id)
    finally:
        client.close()
    history = requests.get(f"{url}/history/{prompt_id}", timeout=60).json()
    job = requests.get(f"{url}/api/jobs/{prompt_id}", timeout=60).json()
    known = [frame if isinstance(frame, dict) else f"<{len(frame)} bytes>" for frame in frames]
    text = json.dumps({"frames": known, "history": history, "job": job})
    return normalise(json.loads(text.replace(prompt_id, "<prompt>").replace(client.id, "<client>")))
