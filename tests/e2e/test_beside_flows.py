"""What takes several requests, done to a ComfyUI server and to ours: uploads, views, a busy queue, interrupts, first frames.

Needs COMFYUI_DIR as :mod:`test_beside_original` does.
"""

from __future__ import annotations

import io
import json
import time

import pytest
import requests
from PIL import Image, PngImagePlugin

import beside
from harness import Socket


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def png(colour: tuple, size=(8, 6), text: str | None = None) -> bytes:
    info = PngImagePlugin.PngInfo()
    if text is not None:
        info.add_text("prompt", text)
    out = io.BytesIO()
    Image.new("RGBA" if len(colour) == 4 else "RGB", size, colour).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def same(pair, do):
    """What `do` finds on each server is equal."""
    found = beside.differences(*(do(server) for server in pair))
    assert not found, "\n".join(found)


RED, BLUE = png((200, 0, 0)), png((0, 0, 200, 128))

UPLOADS = [
    ("new", "a.png", RED, {}),
    ("the same again", "a.png", RED, {}),
    ("other content", "a.png", BLUE, {}),
    ("other content again", "a.png", BLUE, {}),
    ("overwritten", "a.png", BLUE, {"overwrite": "true"}),
    ("overwritten by 1", "a.png", RED, {"overwrite": "1"}),
    ("not overwritten by True", "a.png", BLUE, {"overwrite": "True"}),
    ("a subfolder", "b.png", RED, {"subfolder": "x/y"}),
    ("a type", "c.png", RED, {"type": "temp"}),
    ("an output", "d.png", RED, {"type": "output", "subfolder": "z"}),
    ("a leading folder", "x/f.png", RED, {}),
    ("out of the folder", "g.png", RED, {"subfolder": "../x"}),
    ("no extension", "plain", b"text", {}),
    ("a space and accents", "h \u00e9.png", RED, {}),
]


def test_uploads_get_the_same_names(pair):
    def upload(server):
        answers = {}
        for what, name, content, fields in UPLOADS:
            response = requests.post(f"{server.url}/upload/image", files={"image": (name, content)}, data=fields, timeout=60)
            answers[what] = [response.status_code, response.json() if response.ok else None]
        return answers

    same(pair, upload)


def test_a_form_without_a_file_is_refused(pair):
    same(pair, lambda server: requests.post(f"{server.url}/upload/image", files={"other": ("a.png", RED)}, timeout=60).status_code)


@pytest.mark.parametrize("form", [
    {"files": {"image": ("e.png", RED)}, "data": {"type": "zzz"}},
    {"files": {"image": ("", RED)}},
], ids=["an unknown type", "a file without a name"])
def test_forms_that_make_the_original_fail_are_refused_with_400(pair, form):
    original, ours = (requests.post(f"{server.url}/upload/image", timeout=60, **form).status_code for server in pair)
    assert (original, ours) == (500, 400)


def test_a_mask_changes_the_same_pixels_and_keeps_the_text(pair):
    original = png((10, 20, 30), text='{"kept": 1}')
    mask = png((1, 2, 3, 77))

    def upload(server):
        requests.post(f"{server.url}/upload/image", files={"image": ("o.png", original)}, timeout=60)
        reference = json.dumps({"filename": "o.png", "type": "input", "subfolder": ""})
        response = requests.post(f"{server.url}/upload/mask", files={"image": ("m.png", mask)},
                                 data={"original_ref": reference, "subfolder": "clip"}, timeout=60)
        view = requests.get(f"{server.url}/view", params={"filename": "m.png", "subfolder": "clip", "type": "input"}, timeout=60)
        image = Image.open(io.BytesIO(view.content))
        return [response.json(), image.mode, list(image.getpixel((0, 0))), image.text.get("prompt")]

    same(pair, upload)


FILES = {"a.png": RED, "t.txt": b"hello", "j.json": b"{}", "w.webm": b"\x1a\x45\xdf\xa3", "h.html": b"<b>",
         "c.css": b"a{}", "x.bin": b"\0\1", "noext": b"plain", "h \u00e9.png": RED}

VIEWS = [
    *({"filename": name, "type": "input", "subfolder": "views"} for name in FILES),
    {"filename": "a.png [input]", "subfolder": "views"},
    {"filename": "a.png", "type": "input", "subfolder": "views", "channel": "rgb"},
    {"filename": "a.png", "type": "input", "subfolder": "views", "channel": "a"},
    {"filename": "a.png", "type": "input", "subfolder": "views", "channel": "rgba"},
    {"filename": "views/a.png", "type": "input"},
    {"filename": "/etc/passwd"},
    {"filename": "a.png", "type": "input", "subfolder": "/etc"},
    {"filename": "a.png", "type": "input", "subfolder": "none"},
]


def test_views_have_the_same_status_type_and_content(pair):
    def view(server):
        for name, content in FILES.items():
            requests.post(f"{server.url}/upload/image", files={"image": (name, content)}, data={"subfolder": "views"}, timeout=60)
        found = {}
        for query in VIEWS:
            response = requests.get(f"{server.url}/view", params=query, timeout=60)
            kind = response.headers.get("content-type", "").split(";")[0]
            content = None
            if response.ok:
                picture = kind.startswith("image/")
                image = Image.open(io.BytesIO(response.content)) if picture else None
                content = [image.mode, list(image.size), str(image.getpixel((0, 0)))] if picture else response.text
            found[json.dumps(query)] = [response.status_code, kind if response.ok else None, content]
        return found

    same(pair, view)


def test_previews_of_views_show_the_same_picture(pair):
    def view(server):
        requests.post(f"{server.url}/upload/image", files={"image": ("p.png", RED)}, timeout=60)
        found = []
        for preview in ["webp", "webp;90", "jpeg;50", "zzz", "jpeg;x"]:
            response = requests.get(f"{server.url}/view", params={"filename": "p.png", "type": "input", "preview": preview}, timeout=60)
            image = Image.open(io.BytesIO(response.content)).convert("RGB")
            found.append([response.headers["content-type"], list(image.size), [round(c / 20) for c in image.getpixel((2, 2))]])
        return found

    same(pair, view)


def slow(seed: int, repeats: int = 60) -> dict:
    """Blurs one after the other: seconds of work on either server, which an interrupt ends between two nodes."""
    graph = {"0": node("EmptyImage", width=1024, height=1024, batch_size=1, color=seed)}
    for place in range(1, repeats + 1):
        graph[str(place)] = node("ImageBlur", image=[str(place - 1), 0], blur_radius=15, sigma=3.0)
    graph["end"] = node("PreviewImage", images=[str(repeats), 0])
    return graph


def quick(colour: int) -> dict:
    return {"1": node("EmptyImage", width=16, height=16, batch_size=1, color=colour), "2": node("PreviewImage", images=["1", 0])}


def statuses(frames: list) -> list:
    return [frame["data"]["status"]["exec_info"]["queue_remaining"] for frame in frames if frame["type"] == "status"]


def drain(socket: Socket, seconds: float = 0.5) -> list:
    frames, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            frame = socket.next(timeout=0.1)
        except TimeoutError:
            continue
        if isinstance(frame, dict):
            frames.append(frame)
    return frames


def test_a_busy_queue_is_shown_deleted_and_interrupted_alike(pair):
    def flow(server):
        watcher, client = Socket(server.port, "watcher"), Socket(server.port, "client")
        try:
            drain(watcher)
            def post(path, body):
                return requests.post(server.url + path, json=body, timeout=60)
            running = post("/prompt", {"prompt": slow(1), "client_id": "client", "prompt_id": "running"}).json()
            frame = client.next()
            while frame["type"] != "executing":
                frame = client.next()
            ids = []
            for colour in range(4):
                body = {"prompt": quick(colour), "prompt_id": f"p{colour}", "extra_data": {"x": colour}, "front": colour == 3}
                ids.append(post("/prompt", body).json()["prompt_id"])
            queue = requests.get(f"{server.url}/queue", timeout=60).json()
            # The original lists a heap as it lies; what runs first is the same.
            found = {"order": sorted(item[1] for item in queue["queue_pending"]), "running": [i[1] for i in queue["queue_running"]]}
            found["item"] = beside.normalise(next(item for item in queue["queue_pending"] if item[1] == "p0"))
            found["jobs"] = [[job["id"], job["status"]] for job in requests.get(f"{server.url}/api/jobs?sort_order=asc", timeout=60).json()["jobs"] if job["id"] in ids]
            found["enqueued"] = statuses(drain(watcher))
            found["delete"] = post("/queue", {"delete": ["p1", "unknown"]}).status_code
            found["deleted"] = statuses(drain(watcher))
            found["none"] = post("/queue", {"delete": ["unknown"]}).status_code
            found["nothing deleted"] = statuses(drain(watcher))
            found["clear"] = post("/queue", {"clear": True}).status_code
            found["cleared"] = statuses(drain(watcher))
            post("/queue", {"clear": True})
            found["nothing cleared"] = statuses(drain(watcher))
            found["other"] = post("/interrupt", {"prompt_id": "unknown"}).status_code
            found["goes on"] = len(requests.get(f"{server.url}/queue", timeout=60).json()["queue_running"])
            drain(client, 0.2)
            post("/interrupt", {"prompt_id": "running"})
            frames = client.until_done("running")
            found["interrupted"] = [f["type"] for f in frames if isinstance(f, dict) and f["type"] not in ("progress_state", "executing")]
            found["last"] = frames[-1]
            told = [f for f in drain(watcher) if f["type"] == "execution_interrupted"]
            found["told"] = [sorted(f["data"]) for f in told]
            entry = requests.get(f"{server.url}/history/running", timeout=60).json()["running"]
            found["status"] = [entry["status"]["status_str"], entry["status"]["completed"], [m[0] for m in entry["status"]["messages"]]]
            found["outputs"] = entry["outputs"]
            found["job"] = requests.get(f"{server.url}/api/jobs/running", timeout=60).json()["status"]
            found["number"] = type(running["number"]).__name__
            return found
        finally:
            watcher.close()
            client.close()

    same(pair, flow)


def test_a_job_of_every_kind_is_shown_alike(pair):
    def flow(server):
        found = {}
        requests.post(f"{server.url}/history", json={"clear": True}, timeout=60)
        requests.post(f"{server.url}/prompt", json={"prompt": quick(77), "prompt_id": "done"}, timeout=60)
        failing = quick(78) | {"2": node("PreviewImage", images=["3", 0]), "3": node("ImageBatch", image1=["1", 0], image2="x")}
        requests.post(f"{server.url}/prompt", json={"prompt": failing, "prompt_id": "failed"}, timeout=60)
        end = time.monotonic() + 60
        while len(requests.get(f"{server.url}/history", timeout=60).json()) < 2 and time.monotonic() < end:
            time.sleep(0.1)
        for query in ["", "?status=completed", "?status=failed,completed&sort_order=asc", "?limit=1", "?limit=1&offset=1",
                      "?sort_by=execution_duration", "?workflow_id=none", "?status=", "?workflow_id=", "?limit=0", "?offset=-1",
                      "?limit=x", "?sort_by=zzz", "?sort_order=zzz"]:
            response = requests.get(f"{server.url}/api/jobs{query}", timeout=60)
            body = response.json()
            jobs = [[job["id"], job["status"], sorted(job)] for job in body.get("jobs", [])]
            # A refusal's words are each server's own.
            found[query] = [response.status_code, jobs, body.get("pagination"), type(body.get("error")).__name__]
        for prompt in ["done", "failed"]:
            job = requests.get(f"{server.url}/api/jobs/{prompt}", timeout=60).json()
            found[prompt] = [sorted(job), sorted(job.get("execution_error") or {}), job.get("outputs_count")]
        # Which ran longer is chance.
        found["?sort_by=execution_duration"][1].sort()
        return found

    same(pair, flow)


def first_frames(server, *sent: str) -> list:
    socket = Socket(server.port, "first")
    try:
        for text in sent:
            socket.socket.send(text)
        frames = drain(socket)
        for frame in frames:
            # Flags of ours that the original does not have.
            for flag in ("rushlight_resume", "supports_progress_text_metadata"):
                frame["data"].pop(flag, None)
        return beside.normalise(frames)
    finally:
        socket.close()


FIRST = {
    "nothing": [],
    "flags": ['{"type": "feature_flags", "data": {"supports_preview_metadata": true}}'],
    "flags without data": ['{"type": "feature_flags"}'],
    "flags twice": ['{"type": "feature_flags", "data": {}}'] * 2,
    "something else, then flags": ['{"type": "other"}', '{"type": "feature_flags", "data": {}}'],
    "no JSON": ["hello"],
    "no JSON, then flags": ["hello", '{"type": "feature_flags", "data": {}}'],
    "a list, then flags": ["[1]", '{"type": "feature_flags", "data": {}}'],
    "a number, then flags": ["5", '{"type": "feature_flags", "data": {}}'],
    "a type that is a number, then flags": ['{"type": 5}', '{"type": "feature_flags", "data": {}}'],
    "flags that are a list, then flags": ['{"type": "feature_flags", "data": [1]}', '{"type": "feature_flags", "data": {}}'],
    "a list": ["[1]"],
    "a number": ["5"],
}


@pytest.mark.parametrize("name", FIRST)
def test_first_frames_of_a_socket_are_answered_alike(pair, name):
    same(pair, lambda server: first_frames(server, *FIRST[name]))
