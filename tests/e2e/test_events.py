"""What a websocket client sees of a run, frame by frame."""

from __future__ import annotations

import io
import json
import struct

from PIL import Image

from harness import text_to_image

STEPS = 20
NODES = {"3", "4", "5", "6", "7", "8", "9"}


def kinds(frames: list) -> list[str]:
    return [frame["type"] if isinstance(frame, dict) else f"binary {struct.unpack('>I', frame[:4])[0]}" for frame in frames]


def structural(frames: list) -> list:
    """(type, node or None) of every frame that is never replaced by a newer one."""
    replaced = ("progress_state", "progress")
    return [
        (frame["type"], frame["data"].get("node"))
        for frame in frames
        if isinstance(frame, dict) and frame["type"] not in replaced
    ]


def greet(socket) -> dict:
    """Takes the frames of the connection's start."""
    first = socket.next()
    assert first["type"] == "status"
    assert first["data"]["sid"] == socket.id
    assert first["data"]["status"]["exec_info"]["queue_remaining"] == 0
    return first


def check_order(frames: list, executed: list[str]):
    names = structural(frames)
    assert [name for name, _ in names[:3]] == ["status", "status", "execution_start"], names
    assert names[3][0] == "execution_cached"
    begun = [node for name, node in names if name == "executing" and node is not None]
    assert begun == executed, names
    assert names[-3:] == [("execution_success", None), ("status", None), ("executing", None)], names


def progress_values(frames: list, node: str = "3") -> list[int]:
    return [
        frame["data"]["value"]
        for frame in frames
        if isinstance(frame, dict) and frame["type"] == "progress" and frame["data"]["node"] == node
    ]


def test_first_run_cached_run_and_changed_seed(server):
    socket = server.socket()
    greet(socket)
    graph = text_to_image(steps=STEPS, seed=1000)
    prompt_id = server.submit(graph, socket.id)
    frames = socket.until_done(prompt_id)
    cached = next(frame for frame in frames if isinstance(frame, dict) and frame["type"] == "execution_cached")
    assert cached["data"]["nodes"] == []
    begun = [node for name, node in structural(frames) if name == "executing" and node]
    assert set(begun) == NODES and begun[-2:] == ["8", "9"] and begun.index("3") == 4, begun
    check_order(frames, begun)
    values = progress_values(frames)
    assert values == sorted(set(values)) and values[-1] == STEPS, values
    states = [frame["data"]["nodes"] for frame in frames if isinstance(frame, dict) and frame["type"] == "progress_state"]
    assert set(states[-1]) == NODES
    assert all(node["state"] == "finished" and node["value"] == node["max"] for node in states[-1].values())
    assert states[0] == {
        begun[0]: {
            "value": 0.0, "max": 1.0, "state": "running", "node_id": begun[0], "prompt_id": prompt_id,
            "display_node_id": begun[0], "parent_node_id": None, "real_node_id": begun[0],
        }
    }
    picture = next(frame for frame in frames if isinstance(frame, dict) and frame["type"] == "executed")
    assert picture["data"]["node"] == "9" and picture["data"]["output"]["images"][0]["type"] == "output"
    assert all(isinstance(frame, dict) for frame in frames), "previews are off by default"

    prompt_id = server.submit(graph, socket.id)
    frames = socket.until_done(prompt_id)
    cached = next(frame for frame in frames if isinstance(frame, dict) and frame["type"] == "execution_cached")
    assert set(cached["data"]["nodes"]) == NODES
    check_order(frames, [])
    assert [frame["data"]["output"] for frame in frames if frame["type"] == "executed"] == [picture["data"]["output"]]
    assert "9" in server.wait(prompt_id)["outputs"]

    graph["3"]["inputs"]["seed"] = 1001
    frames = socket.until_done(server.submit(graph, socket.id))
    check_order(frames, ["3", "8", "9"])


def preview_frames(frames: list) -> list[bytes]:
    return [frame for frame in frames if isinstance(frame, bytes)]


def test_previews_come_as_frame_1_without_the_flag(server):
    socket = server.socket()
    greet(socket)
    graph = text_to_image(steps=STEPS, seed=2000)
    frames = socket.until_done(server.submit(graph, socket.id, extra_data={"preview_method": "latent2rgb"}))
    previews = preview_frames(frames)
    assert previews
    for frame in previews:
        kind, image_type = struct.unpack(">II", frame[:8])
        assert (kind, image_type) == (1, 1)
        picture = Image.open(io.BytesIO(frame[8:]))
        assert picture.format == "JPEG" and picture.width == picture.height and picture.width <= 512


def test_previews_come_as_frame_4_with_the_flag(server):
    socket = server.socket(flags={"supports_preview_metadata": True})
    greet(socket)
    answer = socket.next()
    assert answer["type"] == "feature_flags"
    assert answer["data"]["supports_preview_metadata"] is True
    assert answer["data"]["max_upload_size"] == 104857600
    graph = text_to_image(steps=STEPS, seed=2001)
    prompt_id = server.submit(graph, socket.id, extra_data={"preview_method": "auto"})
    previews = preview_frames(socket.until_done(prompt_id))
    assert previews
    for frame in previews:
        kind, length = struct.unpack(">II", frame[:8])
        assert kind == 4
        assert json.loads(frame[8 : 8 + length]) == {
            "node_id": "3", "prompt_id": prompt_id, "display_node_id": "3", "parent_node_id": None,
            "real_node_id": "3", "image_type": "image/jpeg",
        }
        assert Image.open(io.BytesIO(frame[8 + length :])).format == "JPEG"


def test_interrupt_ends_the_run_in_the_middle(server):
    socket = server.socket()
    greet(socket)
    prompt_id = server.submit(text_to_image(steps=400, seed=3000), socket.id)
    frames = []
    while not progress_values(frames):
        frames.append(socket.next())
    assert server.post("/interrupt", {"prompt_id": prompt_id}).status_code == 200
    frames += socket.until_done(prompt_id)
    names = structural(frames)
    assert [name for name, _ in names[-3:]] == ["execution_interrupted", "status", "executing"]
    interrupted = next(frame for frame in frames if isinstance(frame, dict) and frame["type"] == "execution_interrupted")
    assert interrupted["data"]["node_id"] == "3" and interrupted["data"]["node_type"] == "KSampler"
    assert len(progress_values(frames)) < 400
    status = server.wait(prompt_id)["status"]
    assert status["status_str"] == "error" and status["completed"] is False


def test_an_error_in_a_node_is_told_and_the_next_prompt_runs(server):
    socket = server.socket()
    greet(socket)
    broken = server.checkpoints / "truncated.safetensors"
    broken.write_bytes((0x1000).to_bytes(8, "little") + b'{"a":')
    graph = text_to_image(seed=4000)
    graph["4"]["inputs"]["ckpt_name"] = "truncated.safetensors"
    prompt_id = server.submit(graph, socket.id)
    frames = socket.until_done(prompt_id)
    names = structural(frames)
    assert [name for name, _ in names[-3:]] == ["execution_error", "status", "executing"]
    error = next(frame for frame in frames if isinstance(frame, dict) and frame["type"] == "execution_error")["data"]
    assert error["node_id"] == "4" and error["node_type"] == "CheckpointLoaderSimple"
    assert "truncated.safetensors" in error["exception_message"]
    assert error["exception_message"].endswith("\n")
    assert error["current_inputs"] == {"ckpt_name": ["truncated.safetensors"]}
    assert server.wait(prompt_id)["status"]["status_str"] == "error"
    assert server.run(text_to_image(steps=1, seed=4001))["status"]["status_str"] == "success"


def test_a_session_sees_only_its_own_run(server):
    mine, other = server.socket(), server.socket()
    greet(mine), greet(other)
    mine.until_done(server.submit(text_to_image(steps=1, seed=5000), mine.id))
    server.run(text_to_image(steps=1, seed=5001))
    seen = set()
    try:
        while True:
            seen.add(other.next(timeout=0.3)["type"])
    except TimeoutError:
        pass
    assert seen == {"status"}
