"""Starts real servers in a Python that has the wheel, and speaks to them as clients do."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid

import pytest
from websockets.sync.client import connect

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "custom_nodes"


def _has_wheel(python: str) -> bool:
    return subprocess.run([python, "-c", "import rushlight"], capture_output=True, cwd="/").returncode == 0


@pytest.fixture(scope="session")
def python(tmp_path_factory) -> str:
    """A Python with the wheel: ``RUSHLIGHT_TEST_PYTHON``, this one if it has it, else a fresh environment."""
    given = os.environ.get("RUSHLIGHT_TEST_PYTHON")
    if given:
        return given
    if _has_wheel(sys.executable):
        return sys.executable
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    made = str(folder / "bin" / "python")
    subprocess.run([made, "-m", "pip", "install", "--quiet", f"{ROOT}[test]"], check=True)
    return made


class Server:
    """A running server."""

    def __init__(self, python: str, base: pathlib.Path, *arguments: str, env=None, command=None, cwd=None, wait=60):
        self.lines: list = []
        command = command or [python, "-m", "rushlight", "serve", "--port", "0", "--base-directory", str(base), *arguments]
        self.base = base
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=str(cwd or base),
            env={**os.environ, "NO_COLOR": "1", **(env or {})},
        )
        self._found = threading.Event()
        self.port = None
        threading.Thread(target=self._read, daemon=True).start()
        if not self._found.wait(wait):
            self.stop()
            raise RuntimeError("the server did not start:\n" + "".join(self.lines))

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            found = re.search(r"http://[^:]+:(\d+)", line)
            if found and self.port is None:
                self.port = int(found.group(1))
                self._found.set()
        self._found.set()

    @property
    def output(self) -> str:
        return "".join(self.lines)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(self, path, body=None, method=None, headers=None, raw=False, timeout=60):
        """``(status, parsed body, headers)``."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                status, text, got = answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            status, text, got = error.code, error.read(), error.headers
        if raw:
            return status, text, got
        try:
            return status, json.loads(text), got
        except ValueError:
            return status, text.decode(), got

    def get(self, path):
        status, body, _ = self.request(path)
        assert status == 200, (path, status, body)
        return body

    @contextlib.contextmanager
    def client(self, flags=None):
        """A connected client."""
        sid = uuid.uuid4().hex
        # A client that does not read goes on hearing pongs, and is not ended for that it does not answer pings.
        options = {"max_size": None, "max_queue": None, "ping_interval": None}
        with connect(f"ws://127.0.0.1:{self.port}/ws?clientId={sid}", **options) as socket:
            if flags is not None:
                socket.send(json.dumps({"type": "feature_flags", "data": flags}))
            yield Client(self, sid, socket)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Client:
    """A session."""

    def __init__(self, server, sid, socket):
        self.server, self.sid, self.socket = server, sid, socket

    def submit(self, prompt, **extra):
        """Queues a prompt; gives its id."""
        status, body, _ = self.server.request("/prompt", {"prompt": prompt, "client_id": self.sid, **extra})
        assert status == 200, body
        return body["prompt_id"]

    def frames(self, prompt_id, timeout=60):
        """Every frame until the prompt has ended: ``(type, data)`` or bytes."""
        end = time.monotonic() + timeout
        frames = []
        while True:
            frame = self.socket.recv(timeout=max(0.01, end - time.monotonic()))
            if isinstance(frame, bytes):
                frames.append(frame)
                continue
            message = json.loads(frame)
            frames.append((message["type"], message["data"]))
            data = message["data"]
            if message["type"] == "executing" and data["node"] is None and data["prompt_id"] == prompt_id:
                return frames

    def run(self, prompt, timeout=60, **extra):
        """Runs a prompt: a :class:`Run`."""
        prompt_id = self.submit(prompt, **extra)
        frames = self.frames(prompt_id, timeout)
        return Run(prompt_id, frames, self.server.get(f"/history/{prompt_id}")[prompt_id])


class Run:
    """A prompt that has ended."""

    def __init__(self, prompt_id, frames, history):
        self.prompt_id, self.frames, self.history = prompt_id, frames, history
        self.outputs = history["outputs"]

    def events(self, kind):
        return [frame[1] for frame in self.frames if isinstance(frame, tuple) and frame[0] == kind]

    def binary(self, kind):
        return [frame[4:] for frame in self.frames if isinstance(frame, bytes) and frame[:4] == kind.to_bytes(4, "big")]

    @property
    def error(self):
        errors = self.events("execution_error")
        return errors[-1] if errors else None

    def ok(self):
        assert self.events("execution_success"), (self.error, self.history["status"])
        return self


def node(class_type, **inputs):
    """A node of a prompt."""
    return {"class_type": class_type, "inputs": inputs}


HOMES = ["stand-alone", "stand-in checkout"] + (["ComfyUI"] if os.environ.get("COMFYUI_DIR") else [])
"""Where the examples run: in a folder of their own, in ``tests/checkout``, and in ``COMFYUI_DIR`` if that is set."""


@pytest.fixture(scope="session", params=HOMES)
def examples(request, python, tmp_path_factory):
    """A server with every example pack, and packs that fail, in each home."""
    base = tmp_path_factory.mktemp("base")
    arguments = []
    if request.param == "stand-in checkout":
        base = base / "ComfyUI"
        shutil.copytree(ROOT / "tests" / "checkout", base)
        arguments = ["--comfyui-dir", str(base)]
    elif request.param == "ComfyUI":
        if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode != 0:
            pytest.skip(f"{python} has no PyTorch: ComfyUI does not run in it")
        arguments = ["--cpu", "--comfyui-dir", os.environ["COMFYUI_DIR"]]
    nodes = base / "custom_nodes"
    shutil.copytree(EXAMPLES, nodes, dirs_exist_ok=True)
    add_difficult_packs(nodes)
    server = Server(python, base, *arguments, env={"RUSHLIGHT_INTERRUPT_GRACE": "2", "PYTHONDONTWRITEBYTECODE": "1"})
    server.home = request.param
    # Answered when every pack has loaded, so that tests that take times do not wait for that.
    server.request("/object_info", raw=True, timeout=300)
    yield server
    server.stop()


def add_difficult_packs(nodes) -> None:
    """Packs that fail to load in every way, and one whose nodes misbehave."""
    packs = pathlib.Path(__file__).parent / "packs"
    shutil.copytree(packs, nodes, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (nodes / "bad_import").mkdir()
    (nodes / "bad_import" / "__init__.py").write_text("import no_such_module_at_all\n")
    (nodes / "bad_exit.py").write_text("import sys\nsys.exit(3)\n")
    (nodes / "off.disabled").mkdir()
    (nodes / "off.disabled" / "__init__.py").write_text("raise RuntimeError('loaded though disabled')\n")
    (nodes / "early").mkdir()
    (nodes / "early" / "prestartup_script.py").write_text("import builtins\nbuiltins.example_early = True\n")
    (nodes / "early" / "__init__.py").write_text(
        "import builtins\nassert builtins.example_early\nNODE_CLASS_MAPPINGS = {}\n"
    )
    (nodes / "web_only").mkdir()
    (nodes / "web_only" / "pyproject.toml").write_text('[project]\nname = "w"\n[tool.comfy]\nweb = "js"\n')
    (nodes / "web_only" / "js").mkdir()
    (nodes / "web_only" / "js" / "w.js").write_text("// w\n")


def resident(pid: int) -> float:
    """MiB of memory that a process has; 0 where the system does not tell."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0
