"""A headless Chromium, driven over its own debugging protocol: no driver program and no library beside websockets."""

from __future__ import annotations

import base64
import json
import os
import queue
import shutil
import subprocess
import threading
import time
from pathlib import Path

import requests
from websockets.sync.client import connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def program() -> str | None:
    """The browser: ``RUSHLIGHT_CHROMIUM``, or what is in the path."""
    given = os.environ.get("RUSHLIGHT_CHROMIUM")
    return given or next(filter(None, map(shutil.which, PROGRAMS)), None)


class JavaScriptError(AssertionError):
    """What the page's own code threw."""


class Browser:
    """One page of a browser of its own, with everything that went wrong in it."""

    def __init__(self, folder: Path, width: int = 1400, height: int = 900):
        self.failed: list[str] = []
        self.console: list[str] = []
        self.dialogs: list[str] = []
        self.requests: dict[str, str] = {}
        profile = folder / "chromium"
        profile.mkdir(parents=True, exist_ok=True)
        self.log = open(folder / "chromium.log", "wb")
        options = [
            "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio", "--hide-scrollbars",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--lang=en-GB",
            "--remote-debugging-port=0", f"--user-data-dir={profile}", f"--window-size={width},{height}",
        ]
        if os.name == "posix" and os.geteuid() == 0:
            options.append("--no-sandbox")  # Chromium refuses to run as root with it, as containers do.
        self.process = subprocess.Popen([program(), *options, "about:blank"], stdout=self.log, stderr=self.log)
        self.socket = connect(self._page(profile), max_size=None, ping_interval=None)
        self.answers: dict[int, queue.Queue] = {}
        self.count = 0
        threading.Thread(target=self._read, daemon=True).start()
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.bringToFront")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def _page(self, profile: Path) -> str:
        """The debugging address of the first page."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                port = (profile / "DevToolsActivePort").read_text().split()[0]
                pages = requests.get(f"http://127.0.0.1:{port}/json/list", timeout=5).json()
                return next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            except (OSError, IndexError, StopIteration):
                if self.process.poll() is not None:
                    break
                time.sleep(0.05)
        raise RuntimeError(f"the browser did not start; see {self.log.name}")

    def _read(self):
        try:
            for frame in self.socket:
                message = json.loads(frame)
                if "id" in message:
                    self.answers.pop(message["id"]).put(message)
                else:
                    self._noticed(message["method"], message["params"])
        except Exception as error:  # noqa: BLE001 - whatever ends the reader must end those who wait for it
            for waiting in list(self.answers.values()):
                waiting.put({"error": str(error)})

    def _noticed(self, method: str, data: dict):
        if method == "Network.requestWillBeSent":
            request = data["request"]
            self.requests[data["requestId"]] = f"{request['method']} {request['url']}"
        elif method == "Network.responseReceived" and data["response"]["status"] >= 400:
            asked = self.requests.get(data["requestId"], data["response"]["url"])
            self.failed.append(f"{data['response']['status']} {asked}")
        elif method == "Network.loadingFailed" and not data.get("canceled"):
            self.failed.append(f"{data['errorText']} {self.requests.get(data['requestId'])}")
        elif method == "Runtime.exceptionThrown":
            details = data["exceptionDetails"]
            self.console.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and data["type"] in ("error", "assert"):
            parts = [part.get("description") or str(part.get("value")) for part in data["args"]]
            self.console.append(" ".join(parts))
        elif method == "Log.entryAdded" and data["entry"]["level"] == "error":
            self.console.append(f"{data['entry']['text']} {data['entry'].get('url', '')}")
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(data["message"])
            # Not `call`: this is the thread that would get its answer.
            self._send("Page.handleJavaScriptDialog", {"accept": True, "promptText": data.get("defaultPrompt", "")})

    def _send(self, method: str, params: dict) -> queue.Queue:
        self.count += 1
        answer: queue.Queue = queue.Queue()
        self.answers[self.count] = answer
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        return answer

    def call(self, method: str, **params) -> dict:
        """One command of the debugging protocol."""
        message = self._send(method, params).get(timeout=120)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        return message["result"]

    def script(self, body: str, *arguments):
        """Runs the body of an async function with `arguments`; gives what it returns."""
        expression = f"(async (...args) => {{ {body} }})(...{json.dumps(arguments)})"
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        thrown = answer.get("exceptionDetails")
        if thrown:
            raise JavaScriptError(thrown.get("exception", {}).get("description") or thrown["text"])
        return answer["result"].get("value")

    def until(self, body: str, *arguments, timeout: float = 60):
        """Runs the script until it gives something that is true; gives that."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                value = self.script(body, *arguments)
            except RuntimeError:
                value = None  # The page was just left.
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"not so within {timeout} s: {body}")
            time.sleep(0.1)

    def open(self, url: str):
        """Goes to an address and waits until it is loaded."""
        self.call("Page.navigate", url=url)
        self.until("return document.readyState === 'complete'")

    def reload(self):
        """Loads the page again."""
        self.script("window.beforeReload = true")
        self.call("Page.reload")
        self.until("return !window.beforeReload && document.readyState === 'complete'")

    def press(self, key: str, modifiers: int = 0):
        """Presses a key, as `KeyboardEvent.key` names it. Control is 2."""
        code = {"Enter": 13, "Escape": 27}.get(key, ord(key[0].upper()))
        text = {"text": "\r"} if key == "Enter" else {}
        where = {"key": key, "code": key if len(key) > 1 else f"Key{key.upper()}", "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", modifiers=modifiers, **where, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", modifiers=modifiers, **where)

    def type(self, text: str):
        """Types a text where the focus is."""
        self.call("Input.insertText", text=text)

    def click(self, find: str, *arguments):
        """Clicks with the mouse on the middle of the element that the script gives."""
        middle = f"""
            const element = await (async (...args) => {{ {find} }})(...args);
            if (!element) return null;
            element.scrollIntoView({{block: 'nearest'}});
            const box = element.getBoundingClientRect();
            return box.width && box.height ? {{x: box.x + box.width / 2, y: box.y + box.height / 2}} : null;
        """
        place = self.until(middle, *arguments)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, **place, **button)

    def drop(self, file: Path, x: float, y: float):
        """Drags a file from outside and drops it at a place of the page."""
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def screenshot(self, path: Path):
        """Writes what the page shows as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self):
        """Ends the browser."""
        self.socket.close()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
