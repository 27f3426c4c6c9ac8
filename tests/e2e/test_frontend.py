"""ComfyUI's own frontend against this server, in a real browser: the one that was made for the version the server
speaks as, and the newest that is pinned."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from browser import Browser
from frontend import Frontend, need_browser, root_of
from harness import Server

#: Screenshots are left here; the test's own folder if not set.
PICTURES = os.environ.get("RUSHLIGHT_SCREENSHOTS")


@pytest.fixture(scope="module", params=["newest", "0.8"])
def frontend(request, tmp_path_factory):
    need_browser()
    folder = tmp_path_factory.mktemp("frontend")
    server = Server(folder, "--preview-method", "auto", "--front-end-root", str(root_of(request.param)))
    server.start()
    # Else the first visit is a tour of templates, which come from a package of their own.
    assert server.post("/settings", {"Comfy.TutorialCompleted": True}).ok
    opened = Browser(folder)
    page = Frontend(server, opened)
    page.name = request.param
    page.pictures = Path(PICTURES or folder)
    try:
        page.open()
        yield page
    finally:
        opened.close()
        server.stop()


@pytest.fixture(autouse=True)
def nothing_fails(request):
    """Each request that the page makes of this server is answered, and its code runs without errors."""
    yield
    if "frontend" in request.fixturenames:
        page = request.getfixturevalue("frontend")
        assert page.problems() == []


def shot(page: Frontend, name: str):
    page.browser.screenshot(page.pictures / f"{name}-{page.name}.png")


def history(page: Frontend) -> dict:
    return page.server.get("/history").json()


def test_the_default_graph_runs_with_progress_previews_and_a_picture(frontend):
    frontend.load_default()
    frontend.set(seed=7)
    frontend.fit()
    frontend.press_run()
    frontend.until_heard("execution_success")
    values = [progress["value"] for progress in frontend.heard("progress")]
    assert values == sorted(values) and values[-1] == 20, values
    assert any(size > 100 for size in frontend.heard("b_preview_with_metadata")), "step previews arrived"
    begun = [node for node in frontend.heard("executing") if node]
    assert len(begun) >= 7, begun
    frontend.until("""
        const saved = window.app.graph._nodes.find((node) => node.type === 'SaveImage');
        return saved.imgs?.length === 1 && saved.imgs[0].complete && saved.imgs[0].naturalWidth === 128;
    """)
    frontend.script("await new Promise((done) => setTimeout(done, 1000))")
    shot(frontend, "run")
    (entry,) = history(frontend).values()
    assert entry["status"]["status_str"] == "success"


def test_queue_and_history_show_what_was_done(frontend):
    done = len(history(frontend))
    frontend.load_default()
    frontend.forget()
    frontend.fit()
    frontend.set(seed=8, steps=5000)
    frontend.press_run()
    frontend.until_heard("progress")
    frontend.set(seed=9, steps=2)
    frontend.press_run()
    frontend.until("return window.app.api.getQueue().then((queue) => queue.Running.length === 1 && queue.Pending.length === 1)")
    frontend.press("Expand job queue") if frontend.name == "0.8" else frontend.browser.click(
        "return document.querySelector('[data-testid=\"queue-overlay-toggle\"]')"
    )
    frontend.script("await new Promise((done) => setTimeout(done, 1200))")
    shot(frontend, "queue")
    # The long one is stopped by its button; the other runs.
    frontend.press("Cancel current run")
    frontend.until_heard("execution_interrupted", timeout=30)
    frontend.until_heard("execution_success", timeout=60)
    entries = list(history(frontend).values())[done:]
    assert [entry["status"]["status_str"] for entry in entries] == ["error", "success"]
    assert entries[0]["status"]["completed"] is False
    shown = frontend.script("return window.app.api.getHistory(200)")
    assert len(shown if isinstance(shown, list) else shown["History"]) == done + 2
    frontend.script("await new Promise((done) => setTimeout(done, 1200))")
    shot(frontend, "history")


def test_a_saved_picture_dropped_on_the_canvas_restores_its_graph(frontend):
    entry = list(history(frontend).values())[0]
    (node,) = entry["outputs"].values()
    picture = frontend.server.base / "output" / node["images"][0]["filename"]
    assert json.loads(Image.open(picture).text["workflow"])["nodes"]
    frontend.load_default()
    frontend.set(seed=1234567, text="something else")
    frontend.browser.drop(picture, 500, 850)
    frontend.until("""
        const sampler = window.app.graph._nodes.find((node) => node.type === 'KSampler');
        return sampler?.widgets.find((widget) => widget.name === 'seed').value === 7;
    """)
    assert frontend.widget("CheckpointLoaderSimple", "ckpt_name") == "rushlight-tiny.safetensors"
    assert frontend.widget("KSampler", "steps") == 20
    texts = frontend.script("""
        return window.app.graph._nodes.filter((node) => node.type === 'CLIPTextEncode').map((node) => node.widgets[0].value);
    """)
    assert "a red heart on a white background" in texts


def test_settings_and_workflows_are_found_again_after_a_reload(frontend):
    frontend.load_default()
    frontend.set(seed=4321)
    assert frontend.script("return window.app.extensionManager.setting.get('Comfy.Graph.CanvasInfo')") is True
    frontend.script("await window.app.extensionManager.setting.set('Comfy.Graph.CanvasInfo', false)")
    frontend.save_as("kept")
    frontend.until("return window.app.api.fetchApi('/userdata?dir=workflows').then((answer) => answer.ok ? answer.json() : []).then((names) => names.includes('kept.json'))")
    stored = frontend.server.get("/userdata/workflows%2Fkept.json").json()
    assert any(4321 in (node.get("widgets_values") or []) for node in stored["nodes"])
    frontend.reload()
    assert frontend.script("return window.app.extensionManager.setting.get('Comfy.Graph.CanvasInfo')") is False
    frontend.open_workflow("kept")
    frontend.until("return window.app.extensionManager.workflow.activeWorkflow.path === 'workflows/kept.json'")
    assert frontend.widget("KSampler", "seed") == 4321


@pytest.fixture
def guarded(tmp_path):
    """A server that asks for a token, and a browser that has never been there."""
    need_browser()
    (tmp_path / "tokens").write_text("open sesame\n")
    token_file = str(tmp_path / "tokens")
    server = Server(
        tmp_path, "--preview-method", "auto", "--front-end-root", str(root_of("newest")), "--api-token-file", token_file,
        token="open sesame",
    )
    server.start()
    assert server.post("/settings", {"Comfy.TutorialCompleted": True}).ok
    opened = Browser(tmp_path)
    try:
        yield Frontend(server, opened)
    finally:
        opened.close()
        server.stop()


def test_with_tokens_a_browser_signs_in_once_and_then_works_as_without(guarded, tmp_path):
    page = guarded
    page.browser.open(page.server.url)
    assert page.script("return document.querySelector('input[type=password]') !== null")
    page.browser.screenshot(Path(PICTURES or tmp_path) / "login.png")
    page.browser.click("return document.querySelector('input[name=token]')")
    page.browser.type("wrong")
    page.browser.press("Enter")
    page.until("return location.search.includes('wrong') && document.readyState === 'complete'")
    page.browser.click("return document.querySelector('input[name=token]')")
    page.browser.type("open sesame")
    page.browser.press("Enter")
    page.ready()
    assert page.script("return location.href") == page.server.url + "/"
    page.browser.failed.clear()
    page.load_default()
    page.fit()
    page.press_run()
    page.until_heard("execution_success")
    assert page.heard("b_preview_with_metadata")
    page.until("return !!window.app.graph._nodes.find((node) => node.type === 'SaveImage').imgs?.[0]?.naturalWidth")
    page.reload()
    assert page.script("return document.cookie").find("rushlight_token") < 0, "scripts cannot read the cookie"
    assert page.problems() == []


def test_a_link_with_the_token_signs_in_and_leaves_the_address_bar(guarded):
    guarded.open("/?token=open%20sesame")
    assert guarded.script("return location.href") == guarded.server.url + "/"
    assert guarded.problems() == []
