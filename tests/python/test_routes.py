"""Routes that nodes add."""

import json

import pytest
from websockets.sync.client import connect

pytest.importorskip("aiohttp")


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_routes_of_nodes_are_served_with_and_without_api(examples, prefix):
    status, body, _ = examples.request(f"{prefix}/examples/notes/a{len(prefix)}", b"hello", method="POST")
    assert (status, body) == (201, {"bytes": 5})
    status, body, headers = examples.request(f"{prefix}/examples/notes/a{len(prefix)}")
    assert (status, body["text"], headers["X-Example"]) == (200, "hello", "yes")
    assert examples.request(f"{prefix}/examples/notes/none")[0] == 404


def test_large_bodies_and_streams_pass(examples):
    text = b"x" * 3_000_000
    assert examples.request("/examples/notes/large", text, method="POST")[1] == {"bytes": len(text)}
    assert len(examples.get("/examples/notes/large")["text"]) == len(text)
    assert examples.request("/examples/stream", raw=True)[1] == b"0\n1\n2\n"


def test_websockets_of_nodes_pass(examples):
    with connect(f"ws://127.0.0.1:{examples.port}/examples/echo") as socket:
        for word in ("one", "two"):
            socket.send(word)
            assert socket.recv(timeout=10) == "echo: " + word


def test_unknown_routes_are_404(examples):
    assert examples.request("/examples/nothing")[0] == 404


def test_the_secret_of_the_forwarding_is_not_told(examples):
    assert "x-rushlight-forward" not in json.dumps(dict(examples.request("/examples/stream", raw=True)[2])).lower()
