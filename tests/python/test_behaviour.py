"""What packs count on beside running nodes: loops that go on, graphs with ids, types, shared values, queue and progress."""

import json
import os
import time

import pytest
from PIL import Image
from serving import node


@pytest.mark.parametrize("how", ["sleep", "compute", "swallow"])
def test_a_coroutine_that_cannot_be_cancelled_is_ended_and_later_ones_run(examples, how):
    with examples.client() as client:
        prompt_id = client.submit({"1": node("TestBlockLoop", how=how, seconds=60.0)})
        time.sleep(0.5)
        begun = time.monotonic()
        examples.request("/interrupt", {}, method="POST")
        frames = client.frames(prompt_id, timeout=30)
        assert [frame[0] for frame in frames if isinstance(frame, tuple)].count("execution_interrupted") == 1
        run = client.run({"1": node("ExampleWaitAsync", seconds=0.01, fail=False),
                          "2": node("ExampleAdd", a=["1", 0], b=["1", 0])}, timeout=30).ok()
    assert run.outputs["2"]["value"] == [0.02]
    assert time.monotonic() - begun < 20


def test_graphs_of_nodes_that_take_turns_have_ids_of_their_own_the_same_in_each_run(examples):
    prompt = {
        "a": node("TestBuildGraphs", seconds=0.05), "b": node("TestBuildGraphs", seconds=0.03),
        "c": node("ExampleShow", value=["a", 0]), "d": node("ExampleShow", value=["b", 0]),
    }
    with examples.client() as client:
        first, second = client.run(prompt).ok(), client.run(prompt).ok()
    for run in (first, second):
        assert run.outputs["a"]["prefixes"] == ["a.0.0.", "a.0.1.", "a.0.2."]
        assert run.outputs["b"]["prefixes"] == ["b.0.0.", "b.0.1.", "b.0.2."]
        assert run.outputs["c"]["text"] == run.outputs["d"]["text"] == ["7"]
    # The nodes of the graph are the same ones, so their outputs come from the cache.
    assert "a.0.2.1" not in {entry["node"] for entry in second.events("executing")}


def test_types_that_compare_themselves_are_asked(examples):
    def faults(source, target="TestTakesSome", **inputs):
        prompt = {"1": source, "2": node(target, **(inputs or {"value": ["1", 0]}))}
        found = examples.request("/prompt", {"prompt": prompt})[1]["node_errors"]
        return [fault["type"] for fault in found.get("2", {"errors": []})["errors"]]

    assert faults(node("ExampleText", text="x")) == [], "a STRING, though the input's text is SOME"
    assert faults(node("TestGivesSome")) == ["return_type_mismatch"], "OTHER is not among what the input takes"
    assert faults(node("ExampleNumber", value=1, name="n")) == ["return_type_mismatch"]
    assert faults(node("TestGivesSome"), "TestValidate", checked=["1", 0]) == [], "the output's type takes STRING"
    assert faults(node("TestGivesSome"), "ExampleShow", value=["1", 0]) == []
    assert faults(node("TestGivesSome"), "ExampleCollect", values=["1", 0]) == ["return_type_mismatch"]


def test_what_a_node_writes_into_the_workflow_is_seen_by_later_ones_and_saved(examples):
    prompt = {
        "1": node("EmptyImage", width=4, height=4, batch_size=1, color=0),
        "2": node("TestWriteInfo", image=["1", 0]), "3": node("TestReadInfo", image=["2", 0]),
        "4": node("SaveImage", images=["2", 0], filename_prefix="written"),
    }
    if examples.home == "stand-in checkout":
        # There SaveImage runs natively, EmptyImage too.
        assert examples.get("/object_info/SaveImage")
    extra = {"extra_pnginfo": {"workflow": {"id": "w"}}}
    with examples.client() as client:
        run = client.run(prompt, extra_data=extra).ok()
    assert run.outputs["3"] == {"written": [[1, 2]], "note": ["seen"]}
    saved = run.outputs["4"]["images"][0]
    texts = Image.open(os.path.join(examples.base, "output", saved["subfolder"], saved["filename"])).text
    assert json.loads(texts["workflow"]) == {"id": "w", "written": [1, 2]}
    assert json.loads(texts["prompt"])["1"]["note"] == "seen"
    # Another run begins with what was submitted.
    with examples.client() as client:
        run = client.run({"1": prompt["1"], "3": node("TestReadInfo", image=["1", 0])}, extra_data=extra).ok()
    assert run.outputs["3"] == {"written": [None], "note": [None]}


def test_optional_imports_of_the_engine_fail_as_import_errors_that_say_why(examples):
    if examples.home != "stand-alone":
        pytest.skip("a checkout has its own engine")
    names = ("comfy.sd comfy.model_patcher comfy_extras.nodes_mask.composite comfy.utils.UNET_MAP_BASIC "
             "comfy_extras.nodes_custom_sampler.Noise_RandomNoise comfy.samplers.nothing")
    with examples.client() as client:
        found = client.run({"1": node("TestTryImports", names=names)}).ok().outputs["1"]["found"]
    for name, kind, text, has, default in found:
        assert (kind, has, default) == ("ImportError", False, True), (name, kind, text)
        if name != "comfy.samplers.nothing":
            assert name in text and "--comfyui-dir" in text, text


@pytest.mark.parametrize(("route", "good", "bad"), [
    ("/tests/put", {"queued": True}, {"queued": False}), ("/tests/check", {"valid": True}, {"valid": False}),
])
def test_a_route_may_queue_and_check_prompts_of_classes_that_validate_in_coroutines(examples, route, good, bad):
    pytest.importorskip("aiohttp")
    for text, expected in (("good", good), ("bad", bad)):
        body = {"id": f"by-{route[7:]}-{text}", "prompt": {"1": node("TestValidatesAsync", text=text)}}
        status, answer, _ = examples.request(route, body, method="POST", timeout=20)
        assert status == 200 and expected.items() <= answer.items(), answer


def test_prompts_that_packs_queue_do_not_go_through_their_handlers(examples):
    with examples.client() as client:
        prompt = {"1": node("TestValidatesAsync", text="good")}
        client.run(prompt, extra_data={"queue_another": True}, prompt_id="seen-by-handlers").ok()
        for _ in range(100):
            if examples.get("/history/queued-by-a-handler"):
                break
            time.sleep(0.05)
        seen = client.run({"1": node("TestSeenPrompts")}).ok().outputs["1"]["seen"]
    assert examples.get("/history/queued-by-a-handler")["queued-by-a-handler"]["outputs"]["1"]["text"] == ["good"]
    assert seen.count("seen-by-handlers") == 1 and "queued-by-a-handler" not in seen


def test_a_validation_that_takes_types_and_everything_else_skips_the_usual_checks(examples):
    prompt = {"1": node("ExampleText", text="x"), "2": node("TestValidatesTypes", value=99, linked=["1", 0])}
    with examples.client() as client:
        assert client.run(prompt).ok().outputs["2"]["got"] == [99, "x"]
    prompt["2"]["inputs"]["value"] = 98
    found = examples.request("/prompt", {"prompt": prompt})[1]["node_errors"]
    assert {fault["type"] for fault in found["2"]["errors"]} == {"custom_validation_failed"}
    assert "values ['value']" in json.dumps(found)


def test_progress_handlers_hear_of_python_nodes(examples):
    with examples.client() as client:
        run = client.run({
            "1": node("ExampleCountSlowly", steps=2, seconds=0.0, preview=False), "2": node("TestHeardProgress", after=["1", 0]),
        }).ok()
    heard = [entry for entry in run.outputs["2"]["heard"] if entry[1] == "1"]
    assert heard == [["start", "1", "Running"], ["update", "1", 1, 2], ["update", "1", 2, 2], ["finish", "1", "Finished"]]
    assert "1" in run.outputs["2"]["nodes"][0]


def test_the_servers_object_tells_what_it_knows_and_says_what_it_cannot(examples):
    with examples.client(flags={"supports_preview_metadata": True, "own": 1}) as client:
        time.sleep(0.2)
        run = client.run({"1": node("TestAskServer", gone="nobody")}).ok()
    assert run.outputs["1"]["flags"][0]["own"] == 1
    assert run.outputs["1"]["closed"] == [False, True]
    assert "user_manager.add_user" in run.outputs["1"]["error"][0]
    frame = run.binary(4)[0]
    length = int.from_bytes(frame[:4], "big")
    assert json.loads(frame[4 : 4 + length]) == {"node_id": "7", "display_node_id": "7", "image_type": "image/png"}
    assert frame[4 + length :].startswith(b"\x89PNG")


def test_progress_text_comes_with_the_prompts_id_for_clients_that_take_it(examples):
    with examples.client(flags={"supports_progress_text_metadata": True}) as client:
        time.sleep(0.2)
        run = client.run({"5": node("ExampleCountSlowly", steps=1, seconds=0.0, preview=False)}).ok()
    text = run.binary(3)[-1]
    fields = []
    for _ in range(2):
        length = int.from_bytes(text[:4], "big")
        fields.append(text[4 : 4 + length].decode())
        text = text[4 + length :]
    assert fields == [run.prompt_id, "5"] and text == b"step 1 of 1"
