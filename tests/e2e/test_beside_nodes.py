"""Nodes with random inputs beside the original: pictures, masks, latents, sounds, texts and numbers.

Every class that both servers have and whose inputs can be made by other nodes runs in a small graph with random values.
What the original computes has to come out here, too. Where the original fails, this server may do more.
"""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
import requests
from PIL import Image

import beside
import generated_models as models
from harness import Server

SOURCES = ("IMAGE", "MASK", "LATENT", "SIGMAS", "AUDIO")
NUMBERS = ("INT", "FLOAT", "BOOLEAN", "STRING")
TEXTS = ("", "abc", "Hello, World", "a b  c\nd", "  Trim me ", "a,b,c", '{"k": 1}', "x" * 40, "ÄöÜ ß")
PICTURES = {"a.png": (37, 53, 3), "b.png": (64, 48, 3), "c.png": (37, 53, 3), "d.png": (20, 30, 4), "e.png": (37, 53, 4)}
LATENTS = {"a.latent": (1, 4, 9, 13), "b.latent": (2, 4, 8, 8), "c.latent": (1, 4, 9, 13), "d.latent": (3, 4, 12, 10)}
# Largest random number, by words in an input's name.
LARGEST = {"width": 96, "height": 96, "size": 96, "x": 96, "y": 96, "left": 24, "right": 24, "top": 24, "bottom": 24}
LEFT_OUT = {
    "CreateVideo": "needs ffmpeg",
    "LTXVPreprocess": "needs ffmpeg",
    "WebcamCapture": "needs a browser",
    "MergeTextLists": "the original gives a list in a list, which no node takes",
    "GITSScheduler": "only the levels of coefficient 1.2 and 10 steps are included",
    "OptimalStepsScheduler": "only the levels of FLUX are included",
}
# Eight-bit pictures may be rounded to the other side; of Lanczos, which is rounded twice, a few numbers twice.
PIXEL, RARE = 1.01 / 255, 1e-4
# Colours of a palette: a number that a resize has rounded to the other side may get the next colour.
PALETTE, FEW = "ImageQuantize", 0.02
LATENT = 2e-5
# Where a crop leaves nothing of a picture, the original makes an empty one.
NOTHING_LEFT = "a side is zero"


class Graph:
    """A prompt that is put together from random parts."""

    def __init__(self, chance: random.Random):
        self.nodes: dict[str, dict] = {}
        self.chance = chance

    def add(self, class_type: str, **inputs) -> str:
        name = str(len(self.nodes) + 1)
        self.nodes[name] = {"class_type": class_type, "inputs": inputs}
        return name

    def source(self, kind: str) -> list:
        """A link to a random value."""
        chance, draw = self.chance, self.chance.random()
        if kind == "IMAGE":
            link = [self.add("LoadImage", image=chance.choice(list(PICTURES))), 0]
            if draw < 0.3:
                link = [self.add("ImageBatch", image1=link, image2=self.source("IMAGE")), 0]
            return link
        if kind == "MASK":
            if draw < 0.2:
                return [self.add("SolidMask", value=chance.choice([0, 0.3, 1.0]), width=40, height=24), 0]
            channel = chance.choice(["red", "green", "alpha"])
            return [self.add("LoadImageMask", image=chance.choice(list(PICTURES)), channel=channel), 0]
        if kind == "LATENT":
            link = [self.add("LoadLatent", latent=chance.choice(list(LATENTS))), 0]
            if draw < 0.2:
                link = [self.add("SetLatentNoiseMask", samples=link, mask=self.source("MASK")), 0]
            return link
        if kind == "SIGMAS":
            return [self.add("KarrasScheduler", steps=chance.randint(1, 12), sigma_max=14.6, sigma_min=0.03, rho=7.0), 0]
        return [self.add("EmptyAudio", duration=0.5, sample_rate=8000, channels=2), 0]

    def number(self, name: str, kind: str, options: dict):
        """A random value of a widget."""
        chance, default = self.chance, options.get("default", 0)
        if kind == "BOOLEAN":
            return chance.random() < 0.5
        if kind == "STRING":
            return chance.choice(TEXTS)
        if chance.random() < 0.25 and isinstance(default, (int, float)):
            return default
        largest = next((LARGEST[word] for word in name.split("_") if word in LARGEST), 12)
        low = max(options.get("min", -10), -largest)
        high = max(low, min(options.get("max", 10), largest))
        if kind == "FLOAT":
            return min(max(round(chance.uniform(low, high), 3), low), high)
        step = int(options.get("step", 1) or 1) if chance.random() < 0.6 else 1
        return min(max(chance.randint(int(low), int(high)) // step * step, int(low)), int(high))

    def value(self, name: str, kind, options: dict):
        """A random value or link for an input; `None` if there is none of its type."""
        choices = kind if isinstance(kind, list) else options.get("options", []) if kind == "COMBO" else None
        if choices is not None:
            return self.chance.choice(choices) if choices else None
        if kind in NUMBERS:
            return self.number(name, kind, options)
        if kind in SOURCES:
            return self.source(kind)
        return self.source("IMAGE") if kind == "*" or kind.startswith("COMFY_MATCH") else None

    def show(self, kind, link: list) -> None:
        """Keeps an output."""
        if kind == "MASK":
            kind, link = "IMAGE", [self.add("MaskToImage", mask=link), 0]
        if kind == "IMAGE" or kind == "*" or kind.startswith("COMFY_MATCH"):
            self.add("SaveImage", images=link, filename_prefix="n")
        elif kind == "LATENT":
            self.add("SaveLatent", samples=link, filename_prefix="n")
        elif kind in NUMBERS:
            self.add("PreviewAny", source=link)


def graph_of(name: str, info: dict, chance: random.Random) -> dict | None:
    """A graph around a node of that class; `None` if an input cannot be made or no output can be kept."""
    graph, inputs = Graph(chance), {}
    for kind in ("required", "optional"):
        for key, (type_name, *rest) in info["input"].get(kind, {}).items():
            if kind == "optional" and chance.random() < 0.4:
                continue
            value = graph.value(key, type_name, rest[0] if rest else {})
            if value is not None:
                inputs[key] = value
            elif kind == "required":
                return None
    node, count = graph.add(name, **inputs), len(graph.nodes)
    for slot, type_name in enumerate(info["output"]):
        graph.show(str(type_name), [node, slot])
    return graph.nodes if len(graph.nodes) > count else None


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """The original and ours, with the same input folders, and what each says of its classes."""
    bases = [tmp_path_factory.mktemp(name) for name in ("original", "ours")]
    numbers = np.random.default_rng(1)
    for base in bases:
        (base / "input").mkdir()
    for name, shape in PICTURES.items():
        picture = Image.fromarray((numbers.random(shape) * 255).astype(np.uint8))
        for base in bases:
            picture.save(base / "input" / name)
    for name, shape in LATENTS.items():
        latent = numbers.standard_normal(shape).astype(np.float32)
        for base in bases:
            models.save(base / "input" / name, {"latent_tensor": latent, "latent_format_version_0": np.zeros(0, np.float32)})
    original = beside.original_from_environment(bases[0])
    if original is None:
        pytest.skip("NODES NOT COMPARED WITH THE ORIGINAL: set COMFYUI_DIR (and COMFYUI_PYTHON) to run it")
    ours = Server(bases[1]).start()
    yield [(server, requests.get(f"{server.url}/object_info", timeout=120).json()) for server in (original, ours)]
    original.stop()
    ours.stop()


def outcome(server, graph: dict) -> tuple[str, dict]:
    """How a prompt ended, with its outputs or what was wrong."""
    posted = requests.post(f"{server.url}/prompt", json={"prompt": graph}, timeout=60)
    if posted.status_code != 200:
        faults = posted.json().get("node_errors", {})
        return "refused", {node: sorted(error["type"] for error in fault["errors"]) for node, fault in faults.items()}
    prompt_id, deadline = posted.json()["prompt_id"], time.monotonic() + 120
    while time.monotonic() < deadline:
        entry = requests.get(f"{server.url}/history/{prompt_id}", timeout=60).json().get(prompt_id)
        if entry:
            break
        time.sleep(0.01)
    else:
        return "failed", {"exception_message": "it took too long"}
    if entry["status"]["status_str"] == "success":
        return "done", entry["outputs"]
    return "failed", next(data for event, data in entry["status"]["messages"] if event == "execution_error")


def file_of(server, item: dict) -> np.ndarray:
    path = server.base / item["type"] / item["subfolder"] / item["filename"]
    if path.suffix == ".latent":
        return models.load(path)["latent_tensor"]
    return np.asarray(Image.open(path)).astype(np.float64) / 255


def is_near(theirs: np.ndarray, ours: np.ndarray, is_latent: bool, has_palette: bool) -> bool:
    if theirs.shape != ours.shape:
        return False
    if theirs.size == 0:
        return True
    away = np.abs(theirs - ours)
    if is_latent:
        return bool(away.max() <= LATENT * max(1.0, np.abs(theirs).max()))
    if has_palette:
        return bool((away > PIXEL).mean() <= FEW)
    return bool(away.max() <= 2 * PIXEL and (away > PIXEL).mean() <= RARE)


def differences(servers, outputs: list[dict], has_palette: bool) -> list[str]:
    """What of the outputs of a prompt is not the same."""
    found = []
    for node in sorted(outputs[0].keys() | outputs[1].keys()):
        theirs, ours = (output.get(node, {}) for output in outputs)
        for key in sorted(theirs.keys() | ours.keys()):
            one, other = theirs.get(key, []), ours.get(key, [])
            files = [item for item in [*one, *other] if isinstance(item, dict) and "filename" in item]
            if len(one) != len(other) or (not files and one != other):
                found.append(f"{node} {key}: {str(one)[:200]} and {str(other)[:200]}")
            elif files:
                for pair in zip(one, other):
                    arrays = [file_of(server, item) for (server, _), item in zip(servers, pair)]
                    if not is_near(*arrays, key == "latents", has_palette):
                        found.append(f"{node} {key}: shapes {[array.shape for array in arrays]}")
    return found


@pytest.mark.parametrize("seed", range(8))
def test_what_the_original_computes_comes_out(servers, seed):
    chance, wrong, compared = random.Random(seed), [], 0
    (_, theirs), (_, ours) = servers
    for name in sorted(theirs.keys() & ours.keys()):
        if name in LEFT_OUT or name.startswith(("Save", "Preview", "Load", "Record")):
            continue
        graph = graph_of(name, ours[name], chance)
        if graph is None:
            continue
        (state, original), (our_state, found) = (outcome(server, graph) for server, _ in servers)
        if state == "failed" or NOTHING_LEFT in found.get("exception_message", ""):
            continue
        if state != our_state or state == "refused":
            if (state, original) != (our_state, found):
                wrong.append((name, state, our_state, str(found)[:300], graph))
            continue
        # The original keeps no outputs of a prompt that was wholly cached.
        if original:
            compared += 1
            unlike = differences(servers, [original, found], name == PALETTE)
            if unlike:
                wrong.append((name, unlike, graph))
    assert not wrong, "\n".join(map(str, wrong))
    assert compared > 80
