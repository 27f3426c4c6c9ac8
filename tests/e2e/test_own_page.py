"""The page at `/` where no frontend is installed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from browser import Browser
from frontend import need_browser
from harness import Server

PICTURES = os.environ.get("RUSHLIGHT_SCREENSHOTS")


@pytest.fixture
def page(tmp_path):
    need_browser()
    (tmp_path / "none").mkdir()
    server = Server(tmp_path, "--preview-method", "auto", "--front-end-root", str(tmp_path / "none"))
    server.start()
    opened = Browser(tmp_path, width=1280, height=900)
    try:
        opened.open(server.url)
        opened.until("return document.getElementById('connection').textContent === 'connected'")
        opened.server = server
        yield opened
    finally:
        opened.close()
        server.stop()


def fill(page: Browser, field: str, text: str):
    page.click("return document.getElementById(args[0])", field)
    page.script("document.activeElement.select()")
    page.type(text)


def many_steps(page: Browser, steps: int):
    """More than the form allows, so that there is time to look."""
    page.script("document.getElementById('steps').removeAttribute('max')")
    fill(page, "steps", str(steps))


def press(page: Browser, text: str):
    page.click("return [...document.querySelectorAll('button')].find((button) => button.textContent === args[0])", text)


def test_the_form_makes_pictures_and_shows_them_while_they_are_made(page, tmp_path):
    page.until("return document.getElementById('model').value === 'rushlight-tiny.safetensors'")
    fill(page, "seed", "7")
    many_steps(page, 200)
    press(page, "Make")
    page.until("return document.getElementById('bar').value > 20")
    assert page.script("return document.getElementById('live').naturalWidth") == 512, "a preview is shown"
    fill(page, "prompt", "a blue star on a black background")
    fill(page, "steps", "20")
    press(page, "Make")
    page.until("return document.querySelectorAll('#queue li').length === 2")
    page.screenshot(Path(PICTURES or tmp_path) / "own-page.png")
    page.until("return document.querySelectorAll('#gallery img').length === 2", timeout=300)
    page.until("return document.getElementById('queue-count').textContent === 'queue: 0'")
    page.until("return [...document.querySelectorAll('#gallery img')].every((image) => image.naturalWidth === 128)")
    page.screenshot(Path(PICTURES or tmp_path) / "own-page-done.png")
    statuses = [entry["status"]["status_str"] for entry in page.server.get("/history").json().values()]
    assert statuses == ["success", "success"]
    assert page.failed == [] and page.console == []


def test_its_buttons_stop_the_running_and_remove_the_waiting(page):
    page.until("return document.getElementById('model').value === 'rushlight-tiny.safetensors'")
    many_steps(page, 5000)
    for seed in ("1", "2"):
        fill(page, "seed", seed)
        press(page, "Make")
    page.until("return document.querySelectorAll('#queue li').length === 2")
    page.click("return document.querySelector('#queue li button')")
    page.until("return document.querySelectorAll('#queue li').length === 1")
    press(page, "Stop")
    page.until("return document.querySelectorAll('#queue li').length === 0")
    (entry,) = page.server.get("/history").json().values()
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"


def test_a_refusal_is_shown_in_words(page):
    page.until("return document.getElementById('model').value === 'rushlight-tiny.safetensors'")
    page.script("document.getElementById('width').removeAttribute('max')")
    fill(page, "width", "80000")
    press(page, "Make")
    said = page.until("return document.getElementById('problem').textContent")
    assert "Value 80000 bigger than max" in said
