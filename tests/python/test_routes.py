"""Routes that nodes add."""

import json
import time

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


def test_static_folders_tables_of_routes_and_middlewares_of_nodes_are_served(examples):
    status, text, headers = examples.request("/tests/files/note.txt", raw=True)
    assert (status, text, headers["X-Tests"]) == (200, b"static text\n", "marked")
    first, second = examples.get("/tests/number"), examples.get("/tests/number")
    assert second["number"] == first["number"] + 1 and second["own_loop"]


def test_a_pack_queues_a_prompt_itself(examples):
    prompt = {"1": {"class_type": "ExampleText", "inputs": {"text": "from a route"}}}
    assert examples.request("/tests/queue", {"prompt": prompt}, method="POST")[0] == 200
    for _ in range(200):
        found = examples.get("/history/put-by-a-pack").get("put-by-a-pack")
        if found:
            break
        time.sleep(0.05)
    assert found["outputs"]["1"]["text"] == ["from a route"]
