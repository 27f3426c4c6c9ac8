"""ComfyUI's frontend in a browser, used as its users and its scripts (`window.app`) use it."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import browser
from browser import Browser
from harness import DEFAULT_WORKFLOW, Server

#: What must not be skipped in CI.
REQUIRED = os.environ.get("RUSHLIGHT_REQUIRE_BROWSER") == "1"

#: Refusals that ComfyUI's own server gives too: files that a user has not made yet, packages that are not installed.
USUAL = (
    "/user.css",
    "/userdata?dir=workflows&",
    "/userdata?dir=subgraphs&",
    "/userdata/comfy.templates.json",
    "/userdata/workflows%2F.index.json",
    "/templates/index",
    "/favicon.ico",
)

#: Where the nodes of the default workflow are on the canvas.
PLACES = {"4": [0, 200], "6": [340, 0], "7": [340, 240], "5": [340, 480], "3": [780, 60], "8": [1120, 60], "9": [1360, 60]}


def missing(what: str):
    """Skips by name; fails where the test may not be skipped."""
    if REQUIRED:
        pytest.fail(f"{what}, and RUSHLIGHT_REQUIRE_BROWSER is set", pytrace=False)
    pytest.skip(f"BROWSER TEST NOT RUN: {what}")


def need_browser():
    if browser.program() is None:
        missing("there is no Chromium (Debian: apt-get install chromium)")


def root_of(name: str) -> Path:
    """The folder of the newest frontend, or of the one that was made for the version that the server speaks as."""
    if name == "newest":
        found = find_spec("comfyui_frontend_package")
        folder = Path(found.submodule_search_locations[0]) if found else None
    else:
        folder = Path(os.environ.get("RUSHLIGHT_FRONTEND_0_8", Path(sys.prefix) / "frontend-0.8")) / "comfyui_frontend_package"
    if folder is None or not (folder / "static" / "index.html").is_file():
        missing(f"comfyui-frontend-package ({name}) is not installed; see tests/requirements*.txt")
    return folder / "static"


class Frontend:
    """The frontend of a server, opened in a browser."""

    def __init__(self, server: Server, opened: Browser):
        self.server = server
        self.browser = opened
        self.script = opened.script
        self.until = opened.until

    def open(self, path: str = "/"):
        self.browser.open(self.server.url + path)
        self.ready()

    def ready(self):
        self.until("return !!window.app?.graph?._nodes && !!window.app.api.clientId", timeout=120)
        # What it restores comes last.
        self.until("return window.app.extensionManager?.workflow?.activeWorkflow?.isLoaded", timeout=60)
        self.listen()

    def reload(self):
        self.browser.reload()
        self.ready()

    def listen(self):
        """Notes what the page's own socket client gives out, as extensions hear it."""
        self.script("""
            if (window.heard) return;
            window.heard = [];
            const names = ['status', 'execution_start', 'execution_cached', 'executing', 'progress', 'progress_state',
                'executed', 'execution_success', 'execution_error', 'execution_interrupted', 'b_preview',
                'b_preview_with_metadata'];
            for (const name of names)
                window.app.api.addEventListener(name, ({detail}) => window.heard.push(
                    [name, detail instanceof Blob ? detail.size : detail?.blob ? detail.blob.size : detail]));
        """)

    def heard(self, name: str) -> list:
        """The details of the events of a name so far."""
        return self.script("return window.heard.filter(([name]) => name === args[0]).map(([, detail]) => detail)", name)

    def forget(self):
        self.script("window.heard.length = 0")

    def load_default(self):
        """Loads the frontend's default graph and sets it to the embedded checkpoint; a default graph of other models is
        replaced by the default workflow."""
        self.script("await window.app.loadGraphData(window.comfyAPI.defaultGraph.defaultGraph)")
        nodes = self.until("return window.app.graph._nodes.map((node) => node.type)")
        if "CheckpointLoaderSimple" not in nodes:
            self.script("await window.app.loadApiJson(args[0], 'default.json')", DEFAULT_WORKFLOW)
            self.script("""
                for (const node of window.app.graph._nodes) {
                    node.pos = args[0][node.id] ?? node.pos;
                    if (node.type === 'CLIPTextEncode') node.size = [400, 200];
                }
            """, PLACES)
        self.set(
            ckpt_name="rushlight-tiny.safetensors", width=128, height=128, steps=20, cfg=4,
            control_after_generate="fixed", text="a red heart on a white background",
        )
        self.set("7", text="")

    def set(self, node: str | None = None, **widgets):
        """Sets widgets by name, of all nodes or of one."""
        self.script("""
            const [only, values] = args;
            for (const node of window.app.graph._nodes)
                for (const widget of node.widgets ?? [])
                    if (widget.name in values && (only === null || String(node.id) === only))
                        widget.value = values[widget.name];
            window.app.graph.setDirtyCanvas(true, true);
        """, node, widgets)

    def widget(self, kind: str, name: str):
        """The value of a widget of the first node of a class."""
        return self.script("""
            const node = window.app.graph._nodes.find((node) => node.type === args[0]);
            return node?.widgets?.find((widget) => widget.name === args[1])?.value ?? null;
        """, kind, name)

    def press_run(self):
        """Clicks on Run."""
        self.browser.click("""
            const buttons = [...document.querySelectorAll('button')];
            return buttons.find((button) => button.innerText.trim() === 'Run' && button.offsetParent);
        """)

    def press(self, label: str):
        """Clicks on a button by the beginning of its accessible name."""
        self.browser.click("""
            const buttons = [...document.querySelectorAll('button')].filter((button) => button.offsetParent);
            return buttons.find((button) => button.getAttribute('aria-label')?.startsWith(args[0]) && !button.disabled);
        """, label)

    def until_heard(self, name: str, timeout: float = 120):
        self.until("return window.heard.some(([name]) => name === args[0])", name, timeout=timeout)

    def fit(self):
        """Brings the whole graph into view."""
        self.press("Fit View")
        self.script("await new Promise((done) => setTimeout(done, 800))")

    def save_as(self, name: str):
        """Saves the open workflow under a name, by key and dialog."""
        self.browser.click("return document.querySelector('#graph-canvas')")
        self.browser.press("s", modifiers=2)
        self.until("""
            const field = [...document.querySelectorAll('[role=dialog] input')].find((input) => input.offsetParent);
            field?.focus();
            field?.select();
            return !!field && document.activeElement === field;
        """)
        self.browser.type(name)
        self.browser.press("Enter")
        self.until("return window.app.extensionManager.workflow.activeWorkflow.path === args[0]", f"workflows/{name}.json")

    def open_workflow(self, name: str):
        """Opens a saved workflow from the sidebar."""
        self.press("Workflows")
        self.browser.click("""
            const rows = [...document.querySelectorAll('.comfyui-workflows-browse *, .workflows-sidebar-tab *')];
            return rows.find((row) => row.children.length === 0 && row.innerText?.trim().startsWith(args[0]) && row.offsetParent);
        """, name)

    def problems(self) -> list[str]:
        """Requests to this server that failed, and errors of the page's own code."""
        def unusual(line: str) -> bool:
            return self.server.url in line and not any(usual in line for usual in USUAL)

        thrown = [line for line in self.browser.console if "Uncaught" in line or "TypeError" in line]
        return [line for line in self.browser.failed if unusual(line)] + thrown
