"""Core classes that packs call and subclass: the native nodes under the names and parameters that ComfyUI gives them."""

import json
import os
import pathlib
import subprocess

import pytest
from PIL import Image
from serving import ROOT, has, node

TABLE = json.loads((ROOT / "python" / "rushlight" / "host" / "core_classes.json").read_text())


def names(entries):
    return [entry if isinstance(entry, str) else entry[0] for entry in entries]


def test_every_native_class_is_in_the_table_with_its_inputs_as_parameters(examples):
    if examples.home != "stand-alone":
        pytest.skip("only there every class is a native one")
    info = examples.get("/object_info")
    native = {name for name, entry in info.items() if not entry["python_module"].startswith("custom_nodes")}
    assert native - set(TABLE) == set()
    for name in native:
        required = set(info[name]["input"].get("required", {}))
        given = set(names(TABLE[name]["parameters"]))
        # `blocks.0.` and the like come by keyword.
        assert required <= given or any(entry.startswith("**") for entry in given), name


@pytest.mark.skipif(not os.environ.get("COMFYUI_DIR"), reason="COMFYUI_DIR is not set")
def test_the_table_is_what_a_checkout_says(python, tmp_path):
    if not has(python, "torch"):
        pytest.skip(f"{python} has no PyTorch")
    script = pathlib.Path(__file__).parent / "core_classes.py"
    command = [python, str(script), os.environ["COMFYUI_DIR"], *TABLE]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    different = {name: (entry, theirs.get(name)) for name, entry in TABLE.items() if theirs.get(name) != entry}
    assert not different
    v1 = [name for name, entry in TABLE.items() if entry["function"] != "execute"]
    print(f"{len(TABLE)} classes compared, {len(v1)} of the first generation")


def test_core_classes_are_called_by_position(examples):
    if examples.home != "stand-alone":
        pytest.skip("the small checkpoint is the native engine's")
    with examples.client() as client:
        run = client.run({
            "1": node("CheckpointLoaderSimple", ckpt_name="rushlight-tiny.safetensors"),
            "2": node("TestCallByPosition", model=["1", 0], clip=["1", 1], vae=["1", 2]),
        }).ok()
    assert run.outputs["2"]["shapes"] == [
        ["decoded", [1, 64, 64, 3]], ["encoded", [1, 4, 8, 8]], ["tiled", [1, 64, 64, 3]], ["inpaint", [1, 4, 8, 8]],
        ["sampled", [1, 4, 8, 8]], ["grown", [1, 8, 8]], ["padded", [1, 80, 72, 3]], ["flipped", [1, 4, 8, 8]],
        ["masked", 0.5],
    ]
    assert "missing a required argument: 'text'" in run.outputs["2"]["wrong"][0]
    assert run.outputs["2"]["signature"] == ["(self, vae, samples)"]


def test_a_subclass_of_a_loader_chains_to_its_validation_and_fingerprint(examples):
    if examples.home == "stand-in checkout":
        pytest.skip("the stand-in has no LoadImage")
    folder = examples.base / "input"
    Image.new("RGB", (4, 4), (255, 0, 0)).save(folder / "chained.png")
    prompt = {"1": node("TestLoadImage", image="chained.png"), "2": node("TestLookAtTensor", value=["1", 0])}
    with examples.client() as client:
        assert client.run(prompt).ok().outputs["2"]["first"] == [[1.0, 0.0, 0.0]]
        again = client.run(prompt).ok()
        assert "1" in again.events("execution_cached")[0]["nodes"]
        Image.new("RGB", (5, 4), (0, 255, 0)).save(folder / "chained.png")
        assert client.run(prompt).ok().outputs["2"]["first"] == [[0.0, 1.0, 0.0]]
    prompt["1"] = node("TestLoadImage", image="not there.png")
    status, body, _ = examples.request("/prompt", {"prompt": prompt})
    assert status == 400 and "not there.png" in json.dumps(body["node_errors"]["1"])
