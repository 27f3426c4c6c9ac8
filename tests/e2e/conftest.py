"""Fixtures of these tests; see :mod:`harness`."""

from __future__ import annotations

from pathlib import Path

import pytest

import beside
from harness import Server


@pytest.fixture
def start_server(tmp_path):
    """Starts servers that are stopped when the test ends."""
    servers: list[Server] = []

    def start(*options: str, base: Path | None = None) -> Server:
        server = Server(base or tmp_path, *options)
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        for opened in server.sockets:
            opened.close()
        if server.process is not None:
            server.process.kill()
            server.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for the tests of a module."""
    shared = Server(tmp_path_factory.mktemp("server"))
    shared.start()
    yield shared
    for opened in shared.sockets:
        opened.close()
    if shared.process is not None:
        shared.process.kill()
        shared.process.wait()


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    """The original and our server, each with empty folders of its own."""
    original = beside.original_from_environment(tmp_path_factory.mktemp("original"))
    if original is None:
        pytest.skip("COMPARISON WITH THE ORIGINAL NOT RUN: set COMFYUI_DIR (and COMFYUI_PYTHON) to run it")
    ours = Server(tmp_path_factory.mktemp("ours")).start()
    yield original, ours
    original.stop()
    ours.stop()
