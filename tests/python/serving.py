"""Starts real servers in a Python that has the wheel, and speaks to them as clients do."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import uuid

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from servers import ROOT, Process, Socket  # noqa: E402

EXAMPLES = ROOT / "examples" / "custom_nodes"


@pytest.fixture(scope="session")
def python(tmp_path_factory) -> str:
    """A Python with the wheel: ``RUSHLIGHT_TEST_PYTHON``, this one if it has it, else a fresh environment."""
    given = os.environ.get("RUSHLIGHT_TEST_PYTHON")
    if given:
        return given
    if has(sys.executable, "rushlight"):
        return sys.executable
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    made = str(folder / "bin" / "python")
    subprocess.run([made, "-m", "pip", "install", "--quiet", f"{ROOT}[test]"], check=True)
    return made


class Server(Process):
    """A running server in a Python that has the wheel, or what ``command`` starts."""

    def __init__(self, python: str, base: pathlib.Path, *arguments: str, env=None, command=None, cwd=None, wait=60):
        self.base = base
        own = [python, "-m", "rushlight", "serve", "--port", "0", "--base-directory", str(base), *arguments]
        super().__init__(command or own, str(cwd or base), env, wait)

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
        client = Client(self, flags)
        try:
            yield client
        finally:
            client.close()


class Client(Socket):
    """A session."""

    def __init__(self, server, flags=None):
        super().__init__(server.port, uuid.uuid4().hex, flags)
        self.server, self.sid = server, self.id

    def submit(self, prompt, **extra):
        """Queues a prompt; gives its id."""
        status, body, _ = self.server.request("/prompt", {"prompt": prompt, "client_id": self.sid, **extra})
        assert status == 200, body
        return body["prompt_id"]

    def frames(self, prompt_id, timeout=60):
        """Every frame until the prompt has ended: ``(type, data)`` or bytes."""
        frames = self.until_done(prompt_id, timeout)
        return [frame if isinstance(frame, bytes) else (frame["type"], frame["data"]) for frame in frames]

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


def home(kind: str, base: pathlib.Path, python: str) -> "tuple[pathlib.Path, list[str]]":
    """Base folder of a server in one of ``HOMES``, made below ``base``, and the arguments that it starts with."""
    if kind == "stand-in checkout":
        base = base / "ComfyUI"
        shutil.copytree(ROOT / "tests" / "checkout", base)
        return base, ["--comfyui-dir", str(base)]
    (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
    if kind == "stand-alone":
        return base, []
    if not os.environ.get("COMFYUI_DIR"):
        pytest.skip("COMFYUI_DIR is not set")
    if not has(python, "torch"):
        pytest.skip(f"{python} has no PyTorch: ComfyUI does not run in it")
    return base, ["--cpu", "--comfyui-dir", os.environ["COMFYUI_DIR"]]


def has(python: str, *modules: str) -> bool:
    """Whether a Python has modules."""
    return subprocess.run([python, "-c", f"import {', '.join(modules)}"], capture_output=True, cwd="/").returncode == 0


@pytest.fixture(scope="session", params=HOMES)
def examples(request, python, tmp_path_factory):
    """A server with every example pack, and packs that fail, in each home."""
    base, arguments = home(request.param, tmp_path_factory.mktemp("base"), python)
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
