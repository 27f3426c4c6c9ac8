"""The same requests to a ComfyUI server and to ours must get the same answers.

Needs COMFYUI_DIR (a ComfyUI folder) and, if the interpreter of the tests lacks its requirements, COMFYUI_PYTHON.
The original is run, never read. Where ours answers otherwise on purpose, the case says why and checks both answers.
"""

from __future__ import annotations

import copy

import pytest
import requests

import beside


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def picture(**inputs) -> dict:
    return node("EmptyImage", **{"width": 64, "height": 48, "batch_size": 1, "color": 0, **inputs})


def shown(*link) -> dict:
    return node("PreviewImage", images=list(link or ("1", 0)))


def text(*link) -> dict:
    return node("PreviewAny", source=list(link or ("1", 0)))


def scaled(**inputs) -> dict:
    defaults = {"image": ["1", 0], "upscale_method": "area", "width": 32, "height": 32, "crop": "center"}
    return node("ImageScale", **{**defaults, **inputs})


# Prompts that are looked at and refused, or accepted with a conversion.
PROMPTS = {
    "good": {"1": picture(), "2": shown()},
    "no class": {"1": {"inputs": {}}, "2": shown()},
    "unknown class": {"1": node("NoSuchClass"), "2": shown()},
    "unknown class out of reach": {"1": picture(), "2": shown(), "9": node("NoSuchClass")},
    "no outputs": {"1": picture()},
    "empty": {},
    "missing input": {"1": picture(), "2": node("PreviewImage")},
    "missing inputs upstream": {"1": node("EmptyImage", width=64), "2": shown()},
    "link of three": {"1": picture(), "2": shown("1", 0, 1)},
    "link of one": {"1": picture(), "2": shown("1")},
    "link to nothing": {"1": picture(), "2": shown("9", 0)},
    "link to nothing deeper": {"1": node("ImageInvert", image=["9", 0]), "2": shown()},
    "slot too high": {"1": picture(), "2": shown("1", 5)},
    "slot -1": {"1": picture(), "2": shown("1", -1)},
    "slot -5": {"1": picture(), "2": shown("1", -5)},
    "slot 0.0": {"1": picture(), "2": shown("1", 0.0)},
    "slot as text": {"1": picture(), "2": shown("1", "0")},
    "slot false": {"1": picture(), "2": shown("1", False)},
    "node id as number": {"1": picture(), "2": shown(1, 0)},
    "type mismatch": {"1": node("EmptyLatentImage", width=64, height=64, batch_size=1), "2": shown()},
    "type mismatch deeper": {"3": node("PrimitiveInt", value=3), "1": node("ImageInvert", image=["3", 0]), "2": shown()},
    "constant for a socket": {"1": picture(), "2": node("PreviewImage", images="hello")},
    "too small": {"1": picture(width=0), "2": shown()},
    "too big": {"1": picture(width=100000), "2": shown()},
    "beyond 64 bits": {"1": node("PrimitiveInt", value="1" + "0" * 20), "2": text()},
    "number as text": {"1": picture(width="64"), "2": shown()},
    "no number": {"1": picture(width="abc"), "2": shown()},
    "null for a number": {"1": picture(width=None), "2": shown()},
    "object for a number": {"1": picture(width={"a": 1}), "2": shown()},
    "list for a number": {"1": picture(width=[1, 2, 3]), "2": shown()},
    "wrapped list for a number": {"1": picture(width={"__value__": [1, 2]}), "2": shown()},
    "float for an int": {"1": picture(width=64.9), "2": shown()},
    "nan for an int": {"1": picture(width="nan"), "2": shown()},
    "text for a float": {"1": node("PrimitiveFloat", value="x1"), "2": text()},
    "hexadecimal for an int": {"1": node("PrimitiveInt", value="0x10"), "2": text()},
    "float beyond its maximum": {"1": node("PrimitiveFloat", value=1e300), "2": text()},
    "not in list": {"1": picture(), "3": scaled(upscale_method="zzz"), "2": shown("3", 0)},
    "no text for a combo": {"1": picture(), "3": scaled(upscale_method=5, crop=None), "2": shown("3", 0)},
    "linked combo of another type": {"1": picture(), "4": node("PrimitiveString", value="x"), "3": scaled(upscale_method=["4", 0]), "2": shown("3", 0)},
    "not in a long list": {"1": node("KSamplerSelect", sampler_name="zzz"), "2": text()},
    "no such picture": {"1": node("LoadImage", image="nope.png"), "2": shown()},
    "one output of two": {"1": picture(), "2": shown(), "3": node("PreviewImage")},
    "outputs share a fault": {"1": picture(), "2": shown(), "4": picture(width=0), "3": shown("4", 0), "5": shown("4", 0)},
    "inputs missing": {"1": {"class_type": "EmptyImage"}, "2": shown()},
    "inputs null": {"1": {"class_type": "EmptyImage", "inputs": None}, "2": shown()},
    "inputs a list": {"1": {"class_type": "EmptyImage", "inputs": []}, "2": shown()},
    "extra constant": {"1": picture(zzz=5), "2": shown()},
    "empty node id": {"": picture(), "2": shown("", 0)},
    "several bounds": {"1": node("KSampler", seed=-1, steps=0, cfg=1000.5, sampler_name="euler", scheduler="zz", denoise=1.5), "2": shown()},
}


def in_any_order(body: dict) -> dict:
    """The order of errors inside a node is not fixed, nor that of the outputs which depend on it."""
    body = copy.deepcopy(body)
    for fault in body.get("node_errors", {}).values():
        fault["errors"].sort(key=lambda error: (error["type"], error["details"]))
        fault["dependent_outputs"].sort()
    return body


@pytest.mark.parametrize("name", PROMPTS)
def test_validation_gives_the_same_answer(pair, name):
    theirs, ours = (beside.answer(server, "POST", "/prompt", json={"prompt": PROMPTS[name]}) for server in pair)
    theirs["body"], ours["body"] = in_any_order(theirs["body"]), in_any_order(ours["body"])
    assert beside.differences(theirs, ours) == []


BODIES = {
    "no prompt": {},
    "a list": [],
    "a text": "x",
    "targets that are none": {"prompt": PROMPTS["good"], "partial_execution_targets": ["9"]},
    "targets that are no outputs": {"prompt": PROMPTS["good"], "partial_execution_targets": ["1"]},
    "no targets": {"prompt": PROMPTS["good"], "partial_execution_targets": []},
    "null targets": {"prompt": PROMPTS["good"], "partial_execution_targets": None},
    "a number as text": {"prompt": PROMPTS["good"], "number": "5"},
    "a number": {"prompt": PROMPTS["good"], "number": 1.5},
    "a prompt id": {"prompt": PROMPTS["good"], "prompt_id": "hello"},
    "a prompt id that is a number": {"prompt": PROMPTS["good"], "prompt_id": 5},
    "a prompt id that is null": {"prompt": PROMPTS["good"], "prompt_id": None},
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_get_the_same_answer(pair, name):
    theirs, ours = (beside.answer(server, "POST", "/prompt", json=BODIES[name]) for server in pair)
    assert beside.differences(theirs, ours) == []


def inverted_and_scaled(color: int) -> dict:
    return {
        "1": picture(color=color),
        "2": node("ImageInvert", image=["1", 0]),
        "3": scaled(image=["2", 0]),
        "4": node("ImageBatch", image1=["3", 0], image2=["1", 0]),
        "5": shown("4", 0),
    }


def changed(graph: dict, node_id: str, **inputs) -> dict:
    graph = copy.deepcopy(graph)
    graph[node_id]["inputs"].update(inputs)
    return graph


# Prompts run one after the other: first, cached, changed. One output each, as the original takes several in no
# fixed order.
RUNS = {
    "a picture": [{"1": picture(color=1), "2": shown()}] * 2,
    "saved": [{"1": picture(color=2), "2": node("SaveImage", images=["1", 0], filename_prefix="sub/x_%width%x%height%")}] * 2,
    "converted": [{"1": picture(width="64", height=48.9, color=3), "2": node("SaveImage", images=["1", False], filename_prefix=5)}] * 2,
    "a batch": [{"1": picture(batch_size=3, color=4), "2": shown()}],
    "cached, changed": [
        inverted_and_scaled(50),
        inverted_and_scaled(50),
        changed(inverted_and_scaled(50), "4", image2=["2", 0]),
        changed(inverted_and_scaled(50), "3", width=16),
    ],
    "twins": [{"1": picture(color=6), "2": node("ImageInvert", image=["1", 0]), "3": node("ImageInvert", image=["1", 0]), "4": node("ImageBatch", image1=["2", 0], image2=["3", 0]), "5": shown("4", 0)}] * 2,
    "odd node ids": [{"10": picture(color=7), "2:3": node("ImageInvert", image=["10", 0]), "a b": shown("2:3", 0)}] * 2,
    "an int": [{"1": node("PrimitiveInt", value=2**53 + 1), "2": text()}] * 2,
    "a float": [{"1": node("PrimitiveFloat", value=3), "2": text()}] * 2,
    "a text": [{"1": node("PrimitiveString", value='h\u00e9llo "x"\n'), "2": text()}] * 2,
    "a bool": [{"1": node("PrimitiveBoolean", value=True), "2": text()}],
    "an object": [{"2": node("PreviewAny", source={"a": {"b": [1, 2.5, "\u00e9"]}, "z": None, "e": [{}, []]})}] * 2,
    "nothing": [{"2": node("PreviewAny", source=None)}],
    "texts": [{"1": node("PrimitiveString", value="a,b"), "2": node("StringConcatenate", string_a=["1", 0], string_b="z", delimiter="-"), "3": text("2", 0)}],
    "a size": [{"1": picture(color=8), "2": node("GetImageSize", image=["1", 0]), "3": text("2", 1)}],
    "a mask": [{"1": node("SolidMask", value=0.5, width=16, height=16), "2": node("MaskPreview", mask=["1", 0])}] * 2,
    "a list": [{"1": picture(batch_size=3, color=9), "2": node("RebatchImages", images=["1", 0], batch_size=1), "3": node("ImageInvert", image=["2", 0]), "4": shown("3", 0)}] * 2,
    "a lazy switch": [{"1": picture(color=10), "2": picture(color=11), "3": node("ComfySwitchNode", switch=True, on_false=["1", 0], on_true=["2", 0]), "4": shown("3", 0)}] * 2,
    "animations": [{"1": picture(batch_size=2, color=12), "2": node("SaveAnimatedWEBP", images=["1", 0], filename_prefix="an", fps=6.0, lossless=True, quality=80, method="default")}],
    "animated png": [{"1": picture(batch_size=2, color=13), "2": node("SaveAnimatedPNG", images=["1", 0], filename_prefix="ap", fps=6.0, compress_level=4)}],
}


@pytest.mark.parametrize("name", RUNS)
def test_runs_send_the_same_events_and_leave_the_same_history(pair, name):
    original, ours = pair
    for place, graph in enumerate(RUNS[name]):
        found = beside.differences(beside.run(original.port, graph), beside.run(ours.port, graph))
        assert found == [], f"run {place}"


def test_a_failing_node_sends_the_same_events(pair):
    """The words of the error differ: they are Python's there and ours here."""
    graph = changed(inverted_and_scaled(60), "4", image2="no picture")
    for _ in range(2):
        theirs, ours = (beside.run(server.port, graph) for server in pair)
        kinds = [[frame["type"] for frame in run["frames"]] for run in (theirs, ours)]
        assert kinds[0] == kinds[1]
        failures = [next(f["data"] for f in run["frames"] if f["type"] == "execution_error") for run in (theirs, ours)]
        # The original keeps executed nodes in a set.
        assert sorted(failures[0]["executed"]) == sorted(failures[1]["executed"])
        for key in ("node_id", "node_type"):
            assert failures[0][key] == failures[1][key]
        assert sorted(failures[0]["current_outputs"]) == sorted(failures[1]["current_outputs"])
        assert sorted(failures[0]["current_inputs"]) == sorted(failures[1]["current_inputs"])
        assert failures[0].keys() == failures[1].keys()


# Requests in this order, each to both servers.
REQUESTS = [
    ("GET", "/prompt", {}),
    ("GET", "/queue", {}),
    ("POST", "/queue", {"json": {"clear": True}}),
    ("POST", "/queue", {"json": {"delete": ["x"]}}),
    ("POST", "/history", {"json": {"clear": True}}),
    ("GET", "/history", {}),
    ("GET", "/history/none", {}),
    ("POST", "/interrupt", {}),
    ("POST", "/interrupt", {"json": {"prompt_id": "x"}}),
    ("POST", "/free", {"json": {"unload_models": True, "free_memory": True}}),
    ("GET", "/api/jobs", {}),
    ("GET", "/api/jobs/none", {}),
    ("GET", "/object_info/NoSuchClass", {}),
    ("GET", "/object_info/EmptyImage", {}),
    ("GET", "/embeddings", {}),
    ("GET", "/models", {}),
    ("GET", "/models/loras", {}),
    ("GET", "/experiment/models", {}),
    ("GET", "/i18n", {}),
    ("GET", "/global_subgraphs", {}),
    ("GET", "/global_subgraphs/none", {}),
    ("GET", "/workflow_templates", {}),
    ("POST", "/settings", {"json": {"a.b": 1}}),
    ("POST", "/settings/c", {"json": {"x": [1]}}),
    ("GET", "/settings", {}),
    ("GET", "/settings/c", {}),
    ("GET", "/settings/none", {}),
    ("POST", "/userdata/w%2Fa.json", {"data": '{"x":1}'}),
    ("POST", "/userdata/w%2Fr%2FB.json?full_info=true", {"data": "22"}),
    ("POST", "/userdata/w%2Fr%2Fa.json", {"data": "333"}),
    ("GET", "/userdata/w%2Fa.json", {}),
    ("GET", "/userdata?dir=w", {}),
    ("GET", "/userdata?dir=w&full_info=true", {}),
    ("GET", "/userdata?dir=w&split=true", {}),
    ("GET", "/v2/userdata?path=w", {}),
    ("POST", "/userdata/w%2Fa.json/move/w%2Fc.json", {}),
    ("DELETE", "/userdata/w%2Fc.json", {}),
    ("PATCH", "/internal/logs/subscribe", {"json": {"clientId": "x", "enabled": False}}),
]


def test_routes_answer_the_same(pair):
    found = []
    for method, path, options in REQUESTS:
        theirs, ours = (beside.answer(server, method, path, **options) for server in pair)
        found += [f"{method} {path} {line}" for line in beside.differences(theirs, ours)]
    assert not found, "\n".join(found)


REFUSALS = [
    ("GET", "/view?filename=nope.png", 404),
    ("GET", "/view?filename=", 400),
    ("GET", "/view?filename=../a.png&type=input", 400),
    ("GET", "/view?filename=a.png&type=input&subfolder=..", 403),
    ("GET", "/view?filename=a.png&type=none", 400),
    ("GET", "/models/none", 404),
    ("GET", "/view_metadata/checkpoints?filename=none.safetensors", 404),
    ("GET", "/userdata/none.json", 404),
    ("GET", "/userdata", 400),
    ("GET", "/userdata?dir=none", 404),
    ("GET", "/userdata/..%2Fx", 403),
    ("GET", "/userdata?dir=..", 403),
    ("GET", "/v2/userdata?path=..", 400),
    ("DELETE", "/userdata/none.json", 404),
    ("GET", "/api/jobs?status=none", 400),
    ("GET", "/internal/files/none", 400),
    ("DELETE", "/queue", 405),
    ("GET", "/none/none", 404),
]


@pytest.mark.parametrize(("method", "path", "status"), REFUSALS)
def test_refusals_have_the_same_status(pair, method, path, status):
    """Bodies differ on purpose: ours say in JSON what is wrong, the original's are empty or plain text."""
    theirs, ours = (requests.request(method, server.url + path, timeout=60).status_code for server in pair)
    assert (theirs, ours) == (status, status)
