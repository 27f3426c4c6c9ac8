"""What Python makes is the same for Python, and is understood or refused by native nodes: nothing is lost on the way."""

import shutil

import pytest
from serving import ROOT, node


def shown(run, node_id):
    return {key: value[0] for key, value in run.outputs[node_id].items()}


@pytest.fixture
def native(examples):
    if examples.home == "ComfyUI":
        pytest.skip("there, groups with Python nodes run in Python")
    return examples


def test_a_conditioning_of_python_is_the_same_object_for_python(examples):
    with examples.client() as client:
        run = client.run({
            "1": node("TestMakeConditioning", name="same", options="hooks gligen my_pack attention_mask control gone"),
            "2": node("TestLookAtConditioning", conditioning=["1", 0], name="same"),
        }).ok()
    seen = shown(run, "2")
    assert seen["same"] and seen["dtype"].endswith("int64")
    assert seen["kinds"].pop("attention_mask") in ("ndarray", "Tensor")
    assert seen["kinds"] == {"hooks": "Hooks", "gligen": "tuple", "my_pack": "dict", "control": "Hooks", "gone": "NoneType"}


def test_native_nodes_understand_the_options_that_they_know(native):
    with native.client() as client:
        run = client.run({
            "1": node("TestMakeConditioning", name="known", options="strength area mask mask_strength attention_mask gone"),
            "2": node("ConditioningSetTimestepRange", conditioning=["1", 0], start=0.25, end=0.5),
            "3": node("TestLookAtConditioning", conditioning=["2", 0]),
        }).ok()
    seen = shown(run, "3")
    assert seen["values"] == {"strength": 0.5, "mask_strength": 0.75, "set_area_to_bounds": False,
                              "start_percent": 0.25, "end_percent": 0.5}
    assert set(seen["kinds"]) == {*seen["values"], "area", "mask", "attention_mask"}, "nothing is added, nothing is lost"
    assert seen["tokens"] == [1, 3, 4]


@pytest.mark.parametrize("option", ["hooks", "gligen", "my_pack", "control"])
def test_an_option_that_the_engine_does_not_know_is_an_error_that_names_it(native, option):
    with native.client() as client:
        run = client.run({
            "1": node("TestMakeConditioning", name="unknown", options=f"strength {option}"),
            "2": node("ConditioningZeroOut", conditioning=["1", 0]),
            "3": node("TestLookAtConditioning", conditioning=["2", 0]),
        })
    assert (run.error["node_id"], run.error["node_type"]) == ("2", "ConditioningZeroOut")
    assert f"option '{option}'" in run.error["exception_message"] and "input 'conditioning'" in run.error["exception_message"]


def test_a_control_network_that_python_deletes_or_replaces_is_gone(native):
    folder = native.base / "models" / "controlnet"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "tests" / "data" / "control" / "union.safetensors", folder)
    prompt = {
        "1": node("TestMakeConditioning", name="controlled", options=""),
        "2": node("ControlNetLoader", control_net_name="union.safetensors"),
        "3": node("EmptyImage", width=16, height=16, batch_size=1, color=0),
        "4": node("ControlNetApply", conditioning=["1", 0], control_net=["2", 0], image=["3", 0], strength=1.0),
        "5": node("TestChangeOptions", conditioning=["4", 0], key="nothing", delete=True),
        "6": node("ConditioningCombine", conditioning_1=["5", 0], conditioning_2=["5", 0]),
        "7": node("TestLookAtConditioning", conditioning=["6", 0]),
    }
    with native.client() as client:
        kept = shown(client.run(prompt).ok(), "7")
        assert kept["kinds"]["control"] == "NativeValue" and kept["count"] == 2
        prompt["5"] = node("TestChangeOptions", conditioning=["4", 0], key="control", delete=True)
        assert "control" not in shown(client.run(prompt).ok(), "7")["kinds"]
        prompt["5"] = node("TestChangeOptions", conditioning=["4", 0], key="control", delete=False)
        error = client.run(prompt).error
    assert error["node_id"] == "6" and "option 'control'" in error["exception_message"]


def test_what_travels_with_a_latent_crosses(native):
    with native.client() as client:
        run = client.run({
            "1": node("TestMakeLatent", name="full", options="noise_mask batch_index type"),
            "2": node("LatentFromBatch", samples=["1", 0], batch_index=1, length=1),
            "3": node("TestLookAtLatent", latent=["2", 0]),
        }).ok()
    seen = shown(run, "3")
    assert (seen["shape"], seen["first"], seen["mask"]) == ([1, 4, 8, 8], 256.0, 0.5)
    assert seen["rest"] == {"batch_index": [5], "type": "audio"}


def test_a_latent_with_a_value_of_a_pack_is_the_same_object_for_python_and_refused_natively(native):
    prompt = {"1": node("TestMakeLatent", name="own", options="own"),
              "2": node("TestLookAtLatent", latent=["1", 0], name="own")}
    with native.client() as client:
        seen = shown(client.run(prompt).ok(), "2")
        assert seen["same"] and seen["keys"] == ["own", "samples"]
        prompt["2"] = node("LatentFlip", samples=["1", 0], flip_method="x-axis: vertically")
        prompt["3"] = node("TestLookAtLatent", latent=["2", 0])
        error = client.run(prompt).error
    assert error["node_id"] == "2" and "'own': Hooks" in error["exception_message"]


@pytest.mark.parametrize(("kind", "class_type", "inputs", "shape", "first"), [
    ("mask", "InvertMask", {"mask": ["1", 0]}, [1, 4, 6], [0.75] * 3),
    ("flat mask", "InvertMask", {"mask": ["1", 0]}, [1, 4, 6], [0.75] * 3),
    ("sigmas", "FlipSigmas", {"sigmas": ["1", 0]}, [3], [0.0001, 2.0, 3.0]),
    ("audio", "TrimAudioDuration", {"audio": ["1", 0], "start_index": 0.0, "duration": 1.0}, [1, 2, 50], [0.5] * 3),
    ("number", "EmptyImage", {"width": ["1", 0], "height": 4, "batch_size": 1, "color": 0}, [1, 4, 8, 3], [0.0] * 3),
    ("picture", "ImageInvert", {"image": ["1", 0]}, [1, 4, 6, 3], [0.75] * 3),
])
def test_values_from_a_socket_of_any_type_are_read_as_the_native_node_declares_them(native, kind, class_type, inputs, shape, first):
    with native.client() as client:
        run = client.run({
            "1": node("TestMakeTensor", kind=kind), "2": node(class_type, **inputs),
            "3": node("TestLookAtTensor", value=["2", 0]),
        }).ok()
    seen = shown(run, "3")
    assert seen["shape"] == shape and seen["first"] == pytest.approx(first)
    if kind == "audio":
        assert seen["rate"] == 50


def test_a_value_that_is_none_of_the_engines_is_refused_with_its_type(native):
    with native.client() as client:
        error = client.run({
            "1": node("TestMakeTensor", kind="wrong"), "2": node("InvertMask", mask=["1", 0]),
            "3": node("TestLookAtTensor", value=["2", 0]),
        }).error
    assert error["node_id"] == "2" and "must be MASK" in error["exception_message"] and "Hooks" in error["exception_message"]
