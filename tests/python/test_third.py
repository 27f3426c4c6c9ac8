"""The third generation: what its nodes show, save and report."""

import json
import os
import time
import wave

import pytest
from PIL import Image
from serving import has, node


@pytest.fixture
def saving(examples):
    if examples.home == "stand-in checkout":
        pytest.skip("the stand-in's folder_paths names no files")
    return examples


def show(server, how):
    with server.client() as client:
        return client.run({"1": node("TestV3Show", how=how)}, extra_data={"extra_pnginfo": {"workflow": {"w": 1}}}).ok().outputs["1"]


def path_of(server, entry):
    return os.path.join(server.base, entry["type"], entry["subfolder"], entry["filename"])


@pytest.mark.parametrize(("how", "count", "size"), [("image", 2, (6, 4)), ("mask", 1, (6, 4))])
def test_previews_are_pictures_in_the_temp_folder(saving, how, count, size):
    shown = show(saving, how)
    assert shown["animated"] == [False] and len(shown["images"]) == count
    for entry in shown["images"]:
        assert entry["type"] == "temp" and Image.open(path_of(saving, entry)).size == size


def test_texts_videos_and_models_are_shown_as_they_are(examples):
    assert show(examples, "text") == {"text": ["a text"]}
    assert show(examples, "video") == {
        "images": [{"filename": "v.mp4", "subfolder": "sub", "type": "output"}], "animated": [True]
    }
    assert show(examples, "3d")["result"][0] == "model.glb"


def test_saved_pictures_carry_the_prompt_and_the_workflow(saving):
    saved = show(saving, "saved images")["images"]
    assert len(saved) == 2 and {(entry["type"], entry["subfolder"]) for entry in saved} == {("output", "third")}
    texts = Image.open(path_of(saving, saved[0])).text
    assert json.loads(texts["workflow"]) == {"w": 1} and "TestV3Show" in texts["prompt"]


@pytest.mark.parametrize("how", ["animated png", "animated webp"])
def test_animations_have_their_frames(saving, how):
    shown = show(saving, how)
    picture = Image.open(path_of(saving, shown["images"][0]))
    # Equal frames become one in a WebP.
    assert shown["animated"] == [True] and picture.size == (6, 4) and picture.format == how.split()[1].upper()


def test_a_preview_of_a_sound_can_be_played(saving):
    entry = show(saving, "audio")["audio"][0]
    assert entry["type"] == "temp"
    if entry["filename"].endswith(".wav"):
        with wave.open(path_of(saving, entry)) as sound:
            assert (sound.getframerate(), sound.getnchannels(), sound.getnframes()) == (8000, 1, 4000)
    else:
        assert os.path.getsize(path_of(saving, entry)) > 1000


@pytest.mark.parametrize(("format", "rate", "channels", "saved_rate", "quality"), [
    ("wav", 22050, 2, 22050, "128k"), ("flac", 44100, 2, 44100, "128k"), ("flac", 44100, 1, 44100, "128k"),
    ("mp3", 44100, 2, 44100, "128k"), ("mp3", 44100, 1, 44100, "V0"), ("opus", 44100, 2, 48000, "96k"),
    ("opus", 16000, 1, 16000, "64k"),
])
def test_sounds_are_saved_in_each_format_with_their_rate_channels_and_volume(
    saving, python, format, rate, channels, saved_rate, quality
):
    if not has(python, "av"):
        pytest.skip(f"{python} has no PyAV to read the file with")
    if format == "wav" and saving.home == "ComfyUI":
        pytest.skip("ComfyUI does not save WAV files")
    with saving.client() as client:
        run = client.run({
            "1": node("TestV3SaveSound", format=format, rate=rate, channels=channels, quality=quality),
            "2": node("TestReadSound", path=["1", 0]),
        }).ok()
    entry = run.outputs["1"]["audio"][0]
    assert entry["subfolder"] == "third" and entry["filename"].endswith("." + format)
    found = {key: value[0] for key, value in run.outputs["2"].items()}
    assert found["rate"] == (48000 if format == "opus" else saved_rate)
    assert found["channels"] == channels and found["seconds"] == pytest.approx(0.5, abs=0.06)
    assert found["loudest"] == pytest.approx(0.5, abs=0.03)
    if format in ("flac", "mp3", "opus"):
        assert "TestV3SaveSound" in found["prompt"]


def test_a_sound_format_that_there_is_not_is_an_error_that_names_those_that_there_are(saving):
    if saving.home == "ComfyUI":
        pytest.skip("ComfyUI's own error")
    with saving.client() as client:
        error = client.run({"1": node("TestV3SaveSound", format="ogg", rate=8000, channels=1, quality="128k")}).error
    assert "wav, flac, mp3 or opus, not ogg" in error["exception_message"]


def test_other_formats_than_wav_without_pyav_say_what_to_install(saving, python):
    if has(python, "av"):
        pytest.skip(f"{python} has PyAV")
    with saving.client() as client:
        error = client.run({"1": node("TestV3SaveSound", format="mp3", rate=8000, channels=1, quality="128k")}).error
    assert "needs PyAV: pip install av" in error["exception_message"]


@pytest.mark.parametrize("class_type", ["TestV3Progress", "TestV3ProgressAsync"])
def test_both_apis_move_the_bar_of_their_node_with_a_picture(examples, class_type):
    with examples.client(flags={"supports_preview_metadata": True}) as client:
        time.sleep(0.2)
        run = client.run({"4": node(class_type, steps=2)}).ok()
    assert [(entry["node"], entry["value"], entry["max"]) for entry in run.events("progress")] == [("4", 1, 2), ("4", 2, 2)]
    pictures = run.binary(4)
    assert len(pictures) == 2
    length = int.from_bytes(pictures[0][:4], "big")
    assert json.loads(pictures[0][4 : 4 + length])["node_id"] == "4"


def test_videos_are_made_in_a_checkout_and_say_so_elsewhere(examples):
    with examples.client() as client:
        made = client.run({"1": node("TestV3Video", kind="pictures")})
        file = client.run({"1": node("TestV3Video", kind="file")})
    if examples.home == "ComfyUI":
        assert made.ok().outputs["1"]["text"] == ["(32, 16)"] and file.error
        return
    assert "VideoFromComponents needs ComfyUI's PyTorch engine" in made.error["exception_message"]
    assert "VideoFromFile needs ComfyUI's PyTorch engine" in file.error["exception_message"]
