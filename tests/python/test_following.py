"""Handlers, hooks and threads of packs follow every node, whichever engine runs it."""

import json
import time

import pytest
from serving import node


@pytest.fixture
def sampling(examples):
    if examples.home != "stand-alone":
        pytest.skip("the small checkpoint is the native engine's, and there Python nodes would take its models")
    return examples


def sampler(seed, **more):
    """A native sampler of two steps, at node 5."""
    return {
        "1": node("CheckpointLoaderSimple", ckpt_name="rushlight-tiny.safetensors"),
        "2": node("CLIPTextEncode", clip=["1", 1], text="a red heart"),
        "3": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "5": node("KSampler", model=["1", 0], seed=seed, steps=2, cfg=1.0, sampler_name="euler", scheduler="normal",
                  positive=["2", 0], negative=["2", 0], latent_image=["3", 0], denoise=1.0),
        **more,
    }


def test_handlers_hear_of_native_and_python_nodes(examples):
    with examples.client() as client:
        run = client.run({
            "1": node("EmptyImage", width=8, height=int(time.time()) % 4000 + 8, batch_size=1, color=1),
            "2": node("TestHeard", after=["1", 0]),
        }).ok()
    heard = run.outputs["2"]["heard"]
    assert heard[:3] == [
        ["start", "1", "Running", "1", client.sid], ["finish", "1", "Finished"],
        ["start", "2", "Running", "2", client.sid],
    ]
    assert run.outputs["2"]["nodes"] == [{"1": ["Finished", 1.0, 1.0], "2": ["Running", 0.0, 1.0]}]
    # What a handler sends before the first node has run is for the client of the prompt.
    assert any(b"a prompt has begun" in text for text in run.binary(3))
    assert "The progress handler failing failed" in examples.output


def test_handlers_hear_of_the_steps_of_native_samplers_with_their_pictures(sampling):
    prompt = sampler(int(time.time()), **{"6": node("TestHeard", after=["5", 0])})
    with sampling.client() as client:
        heard = client.run(prompt, extra_data={"preview_method": "latent2rgb"}).ok().outputs["6"]["heard"]
    moved = [entry for entry in heard if entry[0] == "update"]
    assert [entry[1:4] for entry in moved] == [["5", 1, 2], ["5", 2, 2]]
    assert all(entry[4] == ["JPEG", 512, 512] for entry in moved)


def test_a_hook_takes_the_bars_of_native_nodes_over(sampling):
    seed = int(time.time())
    prompt = sampler(["4", 0], **{"4": node("TestSetHook", number=seed, chain="chain"), "6": node("TestUnsetHook", after=["5", 0])})
    with sampling.client() as client:
        run = client.run(prompt).ok()
        assert run.outputs["6"]["called"] == [[1, 2, "5", "5"], [2, 2, "5", "5"]]
        # It calls the hook that was there before it, which tells the client.
        assert [(entry["node"], entry["value"]) for entry in run.events("progress")] == [("5", 1), ("5", 2)]
        prompt["4"] = node("TestSetHook", number=seed + 1, chain="alone")
        run = client.run(prompt).ok()
        assert len(run.outputs["6"]["called"]) == 2 and run.events("progress") == []
        # One that fails is told to the log, and the client is told as if there were none.
        prompt["4"] = node("TestSetHook", number=seed + 2, chain="fail")
        run = client.run(prompt).ok()
        assert len(run.events("progress")) == 2 and "a hook that fails" in sampling.output
        prompt["4"] = node("TestSetHook", number=seed + 3, chain="interrupt")
        run = client.run(prompt)
        assert run.events("execution_interrupted")
        client.run({"6": node("TestUnsetHook")}).ok()
        run = client.run(sampler(seed + 4, **{"6": node("TestHeard", after=["5", 0])})).ok()
        assert len(run.events("progress")) == 2


def test_a_hook_hears_of_python_bars(examples):
    prompt = {"4": node("TestSetHook", number=1, chain="chain"), "5": node("TestMoveBar", number=["4", 0]),
              "6": node("TestUnsetHook", number=["5", 0])}
    with examples.client() as client:
        run = client.run(prompt).ok()
        assert [entry[:2] + entry[3:] for entry in run.outputs["6"]["called"]] == [[1, 2, "5"], [2, 2, "5"]]
        assert [(entry["node"], entry["value"]) for entry in run.events("progress")] == [("5", 1), ("5", 2)]
        run = client.run({"5": node("TestMoveBar", number=2)}).ok()
        assert len(run.events("progress")) == 2


def test_the_running_node_is_known_in_coroutines_tasks_and_threads(examples):
    with examples.client() as client:
        run = client.run({"a": node("TestContexts", name="1"), "b": node("TestContexts", name="2")}).ok()
    for node_id in "ab":
        for where, (found,) in run.outputs[node_id].items():
            assert found is not None and found[:2] == [run.prompt_id, node_id], where


def test_text_that_belongs_to_no_node_reaches_everyone_while_nothing_runs_and_else_the_prompts_client(examples):
    with examples.client() as one, examples.client() as two, examples.client(flags={"supports_progress_text_metadata": True}) as new:
        time.sleep(0.2)
        # No prompt runs while this one is checked.
        run = one.run({"7": node("TestSayWhileChecked", text="first")}).ok()
        assert [text.split()[-2] for text in texts(run.frames)] == [b"\0\0\0\x017checked", b"\0\0\0\x017changed", b"\0\0\0\x017ran"]
        others = [texts(frames_of(client)) for client in (two, new)]
        assert others[0] == [b"\0\0\0\x017checked first"]
        assert len(others[1]) == 1 and others[1][0].endswith(b"\0\0\0\x017checked first")
        prompt_id = examples.request("/prompt", {"prompt": {"7": node("TestSayWhileChecked", text="nobody's")}})[1]["prompt_id"]
        for _ in range(200):
            if examples.get(f"/history/{prompt_id}"):
                break
            time.sleep(0.05)
        # The texts of a prompt without a client are nobody's, as its other events are.
        assert texts(frames_of(two)) == [b"\0\0\0\x017checked nobody's"]


def texts(frames):
    return [frame[4:] for frame in frames if isinstance(frame, bytes) and frame[:4] == b"\0\0\0\3"
            and (b"checked" in frame or b"changed" in frame or b"ran " in frame)]


def frames_of(client, seconds=0.7):
    """What comes within some time; threads that other packs left behind never stop sending."""
    frames = []
    end = time.monotonic() + seconds
    while True:
        try:
            frames.append(client.next(timeout=max(0.0, end - time.monotonic())))
        except TimeoutError:
            return frames
        if time.monotonic() > end:
            return frames


@pytest.mark.parametrize(("method", "previewer"), [("none", "NoneType"), ("latent2rgb", "Latent2RGBPreviewer")])
def test_python_samplers_make_the_previews_that_the_prompt_asks_for(examples, method, previewer):
    if examples.home == "stand-in checkout":
        pytest.skip("the stand-in has no latent_preview")
    other, kind = {"none": ("latent2rgb", "Latent2RGBPreviewer"), "latent2rgb": ("none", "NoneType")}[method]
    prompt = {"1": node("TestPreviewer", method="", after=0), "2": node("TestPreviewer", method=other, after=["1", 0]),
              "3": node("TestPreviewer", method="", after=["2", 0])}
    with examples.client() as client:
        run = client.run(prompt, extra_data={"preview_method": method}).ok()
        # A node may choose another method; that holds until the prompt ends.
        assert [run.outputs[key]["previewer"] for key in "123"] == [[previewer], [kind], [kind]]
        run = client.run({"1": prompt["1"]}, extra_data={"preview_method": method}).ok()
        assert run.outputs["1"]["previewer"] == [previewer]


def test_the_callback_of_a_python_sampler_moves_the_bar_with_a_picture(examples):
    if examples.home == "stand-in checkout":
        pytest.skip("the stand-in has no latent_preview")
    with examples.client(flags={"supports_preview_metadata": True}) as client:
        time.sleep(0.2)
        run = client.run({"9": node("TestSample", steps=2)}, extra_data={"preview_method": "latent2rgb"}).ok()
    assert [(entry["node"], entry["value"], entry["max"]) for entry in run.events("progress")] == [("9", 1, 2), ("9", 2, 2)]
    assert run.outputs["9"]["kept"] == [[1, 4, 8, 16]]
    pictures = run.binary(4)
    assert len(pictures) == 2
    length = int.from_bytes(pictures[0][:4], "big")
    assert json.loads(pictures[0][4 : 4 + length])["node_id"] == "9"


def test_an_unknown_preview_method_is_an_error_that_names_those_that_there_are(examples):
    if examples.home != "stand-alone":
        pytest.skip("ComfyUI takes an unknown one for the default")
    with examples.client() as client:
        run = client.run({"1": node("TestPreviewer", method="best", after=0)})
    assert "'best' is none of default, none, auto, latent2rgb, taesd" in run.error["exception_message"]
