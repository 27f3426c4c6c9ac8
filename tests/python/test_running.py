"""Nodes run, report and fail as custom nodes expect."""

import json
import time

import pytest
from serving import node


def test_progress_text_and_pictures_of_a_node_reach_its_client(examples):
    with examples.client(flags={"supports_preview_metadata": True}) as client:
        run = client.run({"7": node("ExampleCountSlowly", steps=3, seconds=0.05, preview=True)}).ok()
    progress = run.events("progress")
    assert [entry["value"] for entry in progress][-1] == 3
    assert all(entry["max"] == 3 and entry["node"] == "7" and entry["prompt_id"] == run.prompt_id for entry in progress)
    assert run.events("progress_state")[-1]["nodes"]["7"]["state"] == "finished"
    texts = run.binary(3)
    assert texts and texts[-1].endswith(b"step 3 of 3") and texts[-1][:5] == b"\0\0\0\x017"
    previews = run.binary(4)
    assert previews
    length = int.from_bytes(previews[-1][:4], "big")
    meta = json.loads(previews[-1][4 : 4 + length])
    assert meta["node_id"] == "7" and meta["image_type"] == "image/jpeg"
    assert previews[-1][4 + length :][:2] == b"\xff\xd8"
    assert run.events("examples.counted") == [{"node": "7", "steps": 3}]
    assert run.outputs["7"] == {"text": ["counted to 3"]}


def test_progress_from_a_thread_belongs_to_its_node(examples):
    with examples.client() as client:
        run = client.run({
            "a": node("ExampleCountInThread", steps=3, name="one"),
            "b": node("ExampleCountInThread", steps=4, name="two"),
        }).ok()
    assert {entry["max"] for entry in run.events("progress") if entry["node"] == "a"} == {3}
    assert {entry["max"] for entry in run.events("progress") if entry["node"] == "b"} == {4}
    texts = run.binary(3)
    assert any(text[4:5] == b"a" and text.endswith(b"one counted in a thread") for text in texts)
    assert any(text[4:5] == b"b" and text.endswith(b"two counted in a thread") for text in texts)


@pytest.mark.parametrize(("how", "kind", "text"), [
    ("raise", "ValueError", "this node always fails"),
    ("exit", "SystemExit", "bye"),
    ("base", "KeyboardInterrupt", ""),
    ("short", "ValueError", "returned 1 value, but declares 2 outputs"),
    ("not a tuple", "TypeError", "returned a int"),
])
def test_failures_are_told_as_execution_errors(examples, how, kind, text):
    with examples.client() as client:
        run = client.run({"1": node("ExampleFails", how=how)})
    assert run.error["exception_type"] == kind
    assert text in run.error["exception_message"]
    assert run.error["current_inputs"] == {"how": [how]}
    if how == "raise":
        assert "always fails" in "".join(run.error["traceback"])
        assert len(run.error["traceback"]) == 1
    assert run.history["status"]["status_str"] == "error"
    with examples.client() as client:
        client.run({"1": node("ExampleText", text="still serving")}).ok()


def test_a_node_that_ignores_interrupts_is_ended_after_a_grace(examples):
    with examples.client() as client:
        prompt_id = client.submit({"1": node("ExampleStubborn", seconds=60.0)})
        time.sleep(0.5)
        begun = time.monotonic()
        examples.request("/interrupt", {}, method="POST")
        frames = client.frames(prompt_id, timeout=30)
    assert 1.5 < time.monotonic() - begun < 15
    assert [frame[0] for frame in frames if isinstance(frame, tuple)].count("execution_interrupted") == 1
    assert any(isinstance(frame, bytes) and b"waiting for ExampleStubborn" in frame for frame in frames)
    status = examples.get(f"/history/{prompt_id}")[prompt_id]["status"]
    assert (status["status_str"], status["completed"]) == ("error", False)


def test_an_interrupt_is_noticed_at_the_next_progress_update(examples):
    with examples.client() as client:
        prompt_id = client.submit({"1": node("ExampleCountSlowly", steps=500, seconds=0.05, preview=False)})
        time.sleep(0.5)
        begun = time.monotonic()
        examples.request("/interrupt", {}, method="POST")
        client.frames(prompt_id, timeout=30)
    assert time.monotonic() - begun < 1.5


def test_coroutines_wait_beside_each_other(examples):
    with examples.client() as client:
        begun = time.monotonic()
        run = client.run({
            "1": node("ExampleWaitAsync", seconds=1.5, fail=False),
            "2": node("ExampleWaitAsync", seconds=1.51, fail=False),
            "3": node("ExampleAdd", a=["1", 0], b=["2", 0]),
        }).ok()
        assert time.monotonic() - begun < 2.8
    assert run.outputs["3"]["value"] == [pytest.approx(3.01)]
    assert {entry["node"] for entry in run.events("progress")} == {"1", "2"}


def test_a_failing_coroutine_is_an_execution_error(examples):
    with examples.client() as client:
        run = client.run({
            "1": node("ExampleWaitAsync", seconds=0.05, fail=True),
            "2": node("ExampleAdd", a=["1", 0], b=["1", 0]),
        })
    assert run.error["exception_type"] == "RuntimeError" and run.error["node_id"] == "1"


def test_a_lazy_input_that_is_not_asked_for_is_not_computed(examples):
    prompt = {
        "1": node("ExampleNumber", value=11, name="left-" + str(time.time())),
        "2": node("ExampleNumber", value=22, name="right-" + str(time.time())),
        "3": node("ExampleSwitch", first=True, on_true=["1", 0], on_false=["2", 0]),
        "4": node("ExampleShow", value=["3", 0]),
    }
    with examples.client() as client:
        run = client.run(prompt).ok()
    assert run.outputs["4"]["text"] == ["11"]
    ran = {entry["node"] for entry in run.events("executing")}
    assert "1" in ran and "2" not in ran


def test_a_node_becomes_a_graph_and_its_constants_may_be_any_object(examples):
    with examples.client() as client:
        run = client.run({
            "1": node("ExampleSum", value=5, times=4),
            "2": node("ExampleShow", value=["1", 0]),
            "3": node("ExampleShow", value=["1", 1]),
        }).ok()
    assert run.outputs["2"]["text"] == ["20"]
    assert run.outputs["3"]["text"] == ["{'set': {1, 2, 3}}"]


def test_a_blocked_branch_does_not_run_and_its_message_is_told(examples):
    with examples.client() as client:
        run = client.run({
            "1": node("ExampleGate", value=1, open=False, message="closed today"),
            "2": node("ExampleShow", value=["1", 0]),
            "3": node("ExampleText", text="runs on"),
        })
    assert run.error["exception_type"] == "ExecutionBlocked"
    assert "closed today" in run.error["exception_message"]
    assert "2" not in run.outputs and "3" in run.outputs


def test_lists_are_spread_and_collected(examples):
    with examples.client() as client:
        run = client.run({
            "1": node("ExampleSpread", count=4),
            "2": node("ExamplePlus", a=["1", 0], b=10),
            "3": node("ExampleCollect", values=["2", 0]),
            "4": node("ExampleShow", value=["3", 0]),
        }).ok()
    assert run.outputs["3"]["values"] == [10, 11, 12, 13]
    assert run.outputs["4"]["text"] == ["46"]


def test_validation_of_a_class_refuses_with_its_text(examples):
    status, body, _ = examples.request("/prompt", {"prompt": {"1": node("ExampleText", text="damn")}})
    assert status == 400
    fault = body["node_errors"]["1"]["errors"][0]
    assert fault["type"] == "custom_validation_failed" and "swearing is not allowed" in fault["details"]


def test_prompt_handlers_change_prompts_before_validation(examples):
    with examples.client() as client:
        run = client.run({"1": node("ExampleOldText", text="renamed")}).ok()
    assert run.outputs["1"]["text"] == ["renamed"]


def test_a_bare_text_as_ui_comes_out_as_letters(examples):
    with examples.client() as client:
        run = client.run({"1": node("TestBareText", text="ab")}).ok()
    assert run.outputs["1"]["text"] == ["a", "b"]


def test_is_changed_that_raises_counts_as_changed(examples):
    prompt = {"1": node("ExampleTimeStamp")}
    with examples.client() as client:
        first, second = client.run(prompt).ok(), client.run(prompt).ok()
    assert first.outputs["1"]["time"] != second.outputs["1"]["time"]


def test_v3_nodes_run_with_hidden_inputs_and_growing_inputs(examples):
    with examples.client() as client:
        run = client.run({
            "5": node("ExampleV3Repeat", text="Ab", times=2, case="upper"),
            "6": node("ExampleV3Join", **{"texts.text0": ["5", 0], "texts.text1": "x", "style": "separated",
                                          "style.separator": "-"}),
        }).ok()
    assert run.outputs["5"]["text"] == ["5: ABAB"]
    assert run.outputs["6"]["text"] == ["ABAB-x"]


def test_v3_validation_and_blocking(examples):
    status, body, _ = examples.request("/prompt", {"prompt": {"1": node("ExampleV3Repeat", text="", times=2, case="upper")}})
    assert status == 400 and "the text is empty" in json.dumps(body)
    with examples.client() as client:
        run = client.run({"1": node("ExampleV3Stop", value=["3", 0]), "2": node("ExampleShow", value=["1", 0]),
                          "3": node("ExampleNumber", value=1, name="n")})
    assert "stopped here" in run.error["exception_message"]


def test_two_prompts_never_mix_their_progress(examples):
    with examples.client() as one, examples.client() as two:
        first = one.submit({"x": node("TestLeaveProgress", seconds=1.5)})
        one.frames(first)
        # What the first prompt left behind goes on while the second one runs.
        second = two.submit({"y": node("ExampleCountSlowly", steps=10, seconds=0.1, preview=False)})
        frames_two = two.frames(second)
        late = one.submit({"z": node("ExampleText", text="later")})
        frames_one = one.frames(late)
    bars = [frame[1] for frame in frames_two if isinstance(frame, tuple) and frame[0] in ("progress", "progress_state")]
    assert bars and {entry["prompt_id"] for entry in bars} == {second}
    assert not any(isinstance(frame, bytes) and b"left behind" in frame for frame in frames_two)
    left = [frame[1] for frame in frames_one if isinstance(frame, tuple) and frame[0] == "progress"]
    assert left and {(entry["prompt_id"], entry["node"]) for entry in left} == {(first, "x")}
    assert any(isinstance(frame, bytes) and b"left behind" in frame for frame in frames_one)


def test_a_node_that_always_fails_never_ends_the_server(examples):
    with examples.client() as client:
        for _ in range(50):
            assert client.run({"1": node("ExampleFails", how="raise")}).error
        client.run({"1": node("ExampleText", text="after fifty failures")}).ok()


def test_memory_can_be_given_back_and_prompts_run_afterwards(examples):
    with examples.client() as client:
        assert examples.request("/free", {"unload_models": True, "free_memory": True}, method="POST")[0] == 200
        client.run({"1": node("ExampleText", text="after /free")}).ok()
        client.run({"1": node("TestUse", code="comfy.model_management.unload_all_models()")}).ok()
        client.run({"1": node("ExampleText", text="after a pack unloaded the models")}, timeout=20).ok()


def test_sending_an_event_takes_microseconds(examples):
    with examples.client() as client:
        run = client.run({"1": node("ExampleMeasureEvents", count=20000)}).ok()
    sending, serialising = run.outputs["1"]["sending"][0], run.outputs["1"]["serialising"][0]
    print(f"send_sync: {sending:.2f} us, json.dumps of the same: {serialising:.2f} us")
    # A debug build is slow; what would show here is a call that waits for a socket or a lock.
    assert sending < 500
