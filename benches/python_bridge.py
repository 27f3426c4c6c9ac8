"""What the Python bridge costs, measured on a running server.

    pip install . websockets pytest numpy && python benches/python_bridge.py

Prints microseconds of ``send_sync``, ``send_progress_text`` and ``ProgressBar.update`` from a node, how long
``GET /queue`` and WebSocket pings take while a node holds the interpreter in one call of C code, and what 10,000 runs
that pass opaque Python objects leave behind. ``--python`` names another Python that has the wheel.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "python"))

from serving import EXAMPLES, Server, add_difficult_packs, node, resident  # noqa: E402

PACK = '''
import json, time
import comfy.utils
from server import PromptServer


class Measure:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"count": ("INT", {"default": 20000})}, "hidden": {"unique_id": "UNIQUE_ID"}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "bench"
    OUTPUT_NODE = True

    def run(self, count, unique_id):
        server, data = PromptServer.instance, {"node": "7", "value": 1, "text": "a short text"}
        bar = comfy.utils.ProgressBar(count)
        calls = {
            "json.dumps of the event": lambda: json.dumps(data),
            "send_sync to one client": lambda: server.send_sync("bench.event", data, server.client_id),
            "send_sync to everyone": lambda: server.send_sync("bench.event", data),
            "send_sync to a client that is gone": lambda: server.send_sync("bench.event", data, "gone"),
            "send_progress_text": lambda: server.send_progress_text("a short text", unique_id),
            "ProgressBar.update": lambda: bar.update(1),
        }
        made = {}
        for name, call in calls.items():
            best = None
            for _ in range(5):
                begun = time.perf_counter()
                for _ in range(count // 5):
                    call()
                took = (time.perf_counter() - begun) / (count // 5) * 1e6
                best = took if best is None else min(best, took)
            made[name] = [best]
        return {"ui": made}


NODE_CLASS_MAPPINGS = {"BenchMeasure": Measure}
'''


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--python", default=sys.executable)
    arguments.add_argument("--runs", type=int, default=10_000)
    options = arguments.parse_args()
    base = pathlib.Path(tempfile.mkdtemp(prefix="rushlight-bench-"))
    shutil.copytree(EXAMPLES, base / "custom_nodes")
    add_difficult_packs(base / "custom_nodes")
    (base / "custom_nodes" / "bench_pack.py").write_text(PACK)
    server = Server(options.python, base)
    try:
        server.request("/object_info", raw=True)
        with server.client() as client:
            events(client)
        holding(server)
        leaks(server, options.runs)
    finally:
        server.stop()
        shutil.rmtree(base, ignore_errors=True)


def events(client) -> None:
    """Microseconds a call."""
    outputs = client.run({"1": node("BenchMeasure", count=20_000)}, timeout=300).ok().outputs["1"]
    for name, (microseconds,) in outputs.items():
        print(f"{name:38} {microseconds:8.2f} µs")


def holding(server) -> None:
    """Answers while a node holds the interpreter."""
    with server.client() as client, server.client() as other:
        seconds = client.run({"1": node("TestHoldTheInterpreter", count=10**8)}).ok().outputs["1"]["seconds"][0]
        for name, count in (("idle", 0), ("interpreter held", int(10 / seconds * 10**8))):
            prompt_id = client.submit({"1": node("TestHoldTheInterpreter", count=count)}) if count else None
            time.sleep(0.3)
            queue, ping = [], []
            end = time.monotonic() + 5
            while time.monotonic() < end:
                queue.append(timed(lambda: server.get("/queue")))
                ping.append(timed(lambda: other.socket.ping().wait(10)))
            for what, times in (("GET /queue", queue), ("ping", ping)):
                times.sort()
                p99 = times[int(len(times) * 0.99)]
                print(f"{name:17} {what:11} median {times[len(times) // 2]:6.2f} ms, p99 {p99:6.2f} ms, "
                      f"longest {times[-1]:6.2f} ms ({len(times)} times)")
            if prompt_id:
                client.frames(prompt_id, timeout=60)
                held = server.get(f"/history/{prompt_id}")[prompt_id]["outputs"]["1"]["seconds"][0]
                print(f"the call took {held:.1f} s")


def timed(call) -> float:
    """Milliseconds."""
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1e3


def leaks(server, runs: int) -> None:
    """Objects and memory that runs leave behind."""
    with server.client() as client:
        begun = time.perf_counter()
        for start in range(0, runs, 100):
            ids = [
                client.submit({"1": node("ExampleMakeHandle", name=f"bench {number}"),
                               "2": node("ExampleCountHandles", handle=["1", 0])})
                for number in range(start, start + 100)
            ]
            client.frames(ids[-1], timeout=300)
            if start + 100 in (1000, runs // 2, runs):
                alive = server.get(f"/history/{ids[-1]}")[ids[-1]]["outputs"]["2"]["alive"][0]
                print(f"after {start + 100:6} runs: {alive} objects alive, {resident(server.process.pid):.0f} MiB resident")
        print(f"{(time.perf_counter() - begun) / runs * 1e3:.2f} ms a run of two Python nodes")


if __name__ == "__main__":
    main()
