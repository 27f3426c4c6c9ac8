"""SIGTERM: the running prompt ends or goes back into the queue, clients are told, nothing is lost."""

from __future__ import annotations

import signal
import time

import pytest
from websockets.exceptions import ConnectionClosed

from harness import text_to_image


def until_running(server, socket, node: str = "3") -> list:
    """Frames up to the first step of the sampler."""
    frames = []
    while not (frames and frames[-1]["type"] == "progress" and frames[-1]["data"]["node"] == node):
        frames.append(socket.next())
    return frames


def rest(socket) -> tuple[list, int, str]:
    """What still comes, and the code and reason of the close frame."""
    frames = []
    try:
        while True:
            frames.append(socket.next())
    except ConnectionClosed as closed:
        assert closed.rcvd is not None, "the server said goodbye"
        return frames, closed.rcvd.code, closed.rcvd.reason


def queued(server) -> list[str]:
    """Ids of the running and the waiting, in order."""
    queue = server.get("/queue").json()
    return [item[1] for item in queue["queue_running"] + sorted(queue["queue_pending"], key=lambda item: item[0])]


def test_a_signal_right_after_the_start_is_heard(start_server, tmp_path):
    for _ in range(10):
        server = start_server()
        left = tmp_path / "temp" / "left.png"
        left.write_text("left")
        assert server.stop() == 0
        assert not left.exists(), "an orderly end empties temp"


def test_a_prompt_that_ends_by_the_deadline_is_finished(start_server, tmp_path):
    server = start_server("--shutdown-grace", "120")
    socket = server.socket()
    running = server.submit(text_to_image(steps=40, seed=1), socket.id)
    waiting = [server.submit(text_to_image(steps=1, seed=seed), socket.id) for seed in (2, 3)]
    until_running(server, socket)
    server.process.send_signal(signal.SIGTERM)
    frames, code, reason = rest(socket)
    assert server.process.wait(120) == 0
    assert (code, reason) == (1001, "the server is stopping")
    kinds = [frame["type"] for frame in frames if frame["type"] not in ("progress", "progress_state", "executing")]
    assert kinds[-2:] == ["execution_success", "status"], kinds
    again = start_server(base=tmp_path)
    assert again.wait(running)["status"]["status_str"] == "success"
    for prompt_id in waiting:
        assert again.wait(prompt_id)["status"]["status_str"] == "success"
    assert list(again.get("/history").json()) == [running, *waiting]
    assert len(list((tmp_path / "output").iterdir())) == 3


def test_a_prompt_that_takes_longer_goes_back_in_its_place(start_server, tmp_path):
    server = start_server("--shutdown-grace", "1")
    socket = server.socket()
    running = server.submit(text_to_image(steps=10_000, seed=1), socket.id)
    waiting = [server.submit(text_to_image(steps=1, seed=seed), socket.id) for seed in (2, 3)]
    until_running(server, socket)
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    frames, code, _ = rest(socket)
    assert server.process.wait(30) == 0
    assert time.monotonic() - begun < 10
    assert code == 1001
    assert not {"execution_interrupted", "execution_error"} & {frame["type"] for frame in frames}, "it is not over"
    again = start_server("--shutdown-grace", "1", base=tmp_path)
    assert queued(again) == [running, *waiting]
    assert again.get("/history").json() == {}
    # Its attempt does not count: it may be put back any number of times.
    assert again.stop() == 0
    once_more = start_server("--shutdown-grace", "1", base=tmp_path)
    assert queued(once_more) == [running, *waiting]
    deadline = time.monotonic() + 60
    while running not in [item[1] for item in once_more.get("/queue").json()["queue_running"]]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    once_more.post("/interrupt", {"prompt_id": running})
    assert once_more.wait(running)["status"]["messages"][-1][0] == "execution_interrupted"
    for prompt_id in waiting:
        assert once_more.wait(prompt_id)["status"]["status_str"] == "success"


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once_and_loses_nothing(start_server, tmp_path, second):
    server = start_server("--shutdown-grace", "120")
    socket = server.socket()
    running = server.submit(text_to_image(steps=10_000, seed=1), socket.id)
    waiting = server.submit(text_to_image(steps=1, seed=2), socket.id)
    until_running(server, socket)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert server.process.poll() is None, "it waits for the prompt"
    begun = time.monotonic()
    server.process.send_signal(second)
    assert server.process.wait(30) == 1, "it says that it did not wait"
    assert time.monotonic() - begun < 5
    again = start_server("--shutdown-grace", "0", base=tmp_path)
    assert queued(again) == [running, waiting]
