"""Values cross between Python and the engine."""

import os

import pytest
from serving import node


@pytest.mark.parametrize(("layout", "ends", "shared"), [
    ("plain", [0.25, 0.75], True),
    ("half", [0.25, 0.75], False),
    ("flipped", [0.75, 0.25], None),
])
def test_pictures_cross_without_a_copy_where_they_can_and_right_where_they_cannot(examples, layout, ends, shared):
    with examples.client() as client:
        run = client.run({
            "1": node("ExampleMakePicture", value=0.75, size=64, layout=layout),
            "2": node("ExampleLookAtPicture", image=["1", 0], made_at=["1", 1]),
        }).ok()
    assert run.outputs["2"]["ends"] == pytest.approx(ends)
    assert run.outputs["2"]["shape"] == [1, 64, 64, 3]
    if shared is not None:
        assert run.outputs["2"]["same_memory"] == [shared]


def test_python_pictures_go_through_native_nodes_and_back(examples):
    with examples.client() as client:
        run = client.run({
            "1": node("ExampleMakePicture", value=0.75, size=16, layout="plain"),
            "2": node("ImageInvert", image=["1", 0]),
            "3": node("ExampleLookAtPicture", image=["2", 0]),
            "4": node("ExampleInvertByCore", image=["1", 0]),
            "5": node("ExampleLookAtPicture", image=["4", 0]),
        }).ok()
    assert run.outputs["3"]["ends"] == pytest.approx([0.75, 0.25])
    assert run.outputs["5"]["ends"] == pytest.approx([0.75, 0.25])


def test_any_type_sockets_take_everything(examples):
    with examples.client() as client:
        run = client.run({
            "1": node("ExampleMakePicture", value=0.5, size=64, layout="plain"),
            "2": node("ExampleMakeHandle", name="h"),
            "3": node("ExampleDescribe", picture=["1", 0], number=["1", 1], handle=["2", 0], constant="text"),
            "4": node("ExampleDescribe", passed_on=["3", 0]),
        }).ok()
    kinds = dict(line.split("=") for line in run.outputs["3"]["text"])
    assert kinds["handle"] == "Handle" and kinds["number"] == "int"
    assert kinds["picture"] in ("ndarray", "Tensor")
    assert len(run.outputs["4"]["text"]) == 1


def test_opaque_objects_live_as_long_as_the_cache_holds_them(examples):
    with examples.client() as client:
        run = client.run({
            "1": node("ExampleMakeHandle", name="kept"),
            "2": node("ExampleCountHandles", handle=["1", 0]),
        }).ok()
        before = run.outputs["2"]["alive"][0]
        assert before == 1
        # The next prompt does not use it: the classic cache lets it go.
        client.run({"1": node("ExampleText", text="something else")}).ok()
        after = client.run({"2": node("ExampleCountHandles")}).ok().outputs["2"]["alive"][0]
    assert after == 0


def test_a_subclass_of_a_core_class_saves_with_the_prompt_in_it(examples):
    from PIL import Image

    with examples.client() as client:
        run = client.run({
            "1": node("ExampleMakePicture", value=0.75, size=16, layout="plain"),
            "2": node("ExampleSaveTwice", images=["1", 0], filename_prefix="sub/pic"),
        }, extra_data={"extra_pnginfo": {"workflow": {"a": 1}}}).ok()
    saved = run.outputs["2"]["images"][0]
    assert saved["filename"].startswith("pic_twice_0000") and saved["subfolder"] == "sub" and saved["type"] == "output"
    picture = Image.open(os.path.join(examples.base, "output", "sub", saved["filename"]))
    assert '"ExampleSaveTwice"' in picture.text["prompt"] and picture.text["workflow"] == '{"a": 1}'


def test_core_classes_are_called_from_the_modules_that_have_them(examples):
    if examples.home == "stand-in checkout":
        pytest.skip("the stand-in has no comfy_extras.nodes_mask")
    with examples.client() as client:
        run = client.run({
            "1": node("SolidMask", value=0.25, width=8, height=8), "2": node("TestCallCore", mask=["1", 0]),
        }).ok()
    assert run.outputs["2"]["first"] == [0.25, 0.25, 0.75]
