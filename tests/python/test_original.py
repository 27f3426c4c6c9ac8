"""Inside a real ComfyUI checkout, with the original server beside ours.

Needs ``COMFYUI_DIR`` and a Python (``RUSHLIGHT_TEST_PYTHON``) that has our wheel and what ComfyUI needs: PyTorch and
its requirements. Nothing is written into the checkout.
"""

import contextlib
import json
import os

import checkpoint
import original
import pytest
from original import GraphMaker, difference, results
from serving import Server, has, node

CHECKOUT = original.checkout_folder()
pytestmark = pytest.mark.skipif(
    CHECKOUT is None, reason="COMFYUI_DIR is not set: nothing is compared with the original ComfyUI"
)

ALLOWED = {
    # The checkpoint inside the program is offered beside the files that both servers see.
    ("CheckpointLoaderSimple", "input"): "rushlight-tiny.safetensors",
    ("unCLIPCheckpointLoader", "input"): "rushlight-tiny.safetensors",
}
"""Fields of ``/object_info`` that may differ: (class, field) → the one choice that ours has and the original lacks."""


@pytest.fixture(scope="module")
def torch_python(python):
    if not has(python, "torch", "aiohttp"):
        pytest.skip(f"{python} has no PyTorch: set RUSHLIGHT_TEST_PYTHON to one in which ComfyUI runs")
    return python


@pytest.fixture(scope="module")
def servers(torch_python, tmp_path_factory):
    """The original, ours, and ours with ``--prefer-python``, each with a base folder of its own."""
    bases = [tmp_path_factory.mktemp(name) for name in ("original", "native", "preferring")]
    for base in bases:
        for folder in ("input", "custom_nodes", "models/checkpoints"):
            (base / folder).mkdir(parents=True)
    started = []
    try:
        started.append(original.original(torch_python, CHECKOUT, bases[0]))
        ours = ["--cpu", "--fp32-text-enc", "--comfyui-dir", CHECKOUT]
        started.append(Server(torch_python, bases[1], *ours))
        started.append(Server(torch_python, bases[2], *ours, "--prefer-python"))
        yield dict(zip(("original", "native", "python"), started))
    finally:
        for server in started:
            server.stop()


def _object_info(server) -> dict:
    # A number beyond 64 bits is written as 1.8e19 here and digit by digit there; clients read the same double.
    status, text, _ = server.request("/object_info", raw=True)
    assert status == 200
    return json.loads(text, parse_int=lambda digits: int(digits) if abs(int(digits)) < 2**63 else float(digits))


def test_object_info_is_that_of_the_original(servers):
    theirs, ours = (_object_info(servers[name]) for name in ("original", "native"))
    assert len(theirs) > 400
    assert not set(theirs) - set(ours)
    differences = []
    for name, info in theirs.items():
        for field in info.keys() | ours[name].keys():
            left, right = info.get(field, "<absent>"), ours[name].get(field, "<absent>")
            allowed = ALLOWED.get((name, field))
            if allowed is not None:
                right = json.loads(json.dumps(right).replace(f'"{allowed}", ', "").replace(f'"{allowed}"', ""))
            if left != right:
                differences.append(f"{name}.{field}: {left} / {right}")
    assert not differences, "\n".join(differences)
    print(f"{len(theirs)} classes of the original, {len(set(ours) - set(theirs))} more here")


KNOWN = {
    "MergeTextLists": "the original wraps the merged list in one more list, which no node that takes texts can read",
}
"""Nodes whose native result is another than the original's, and why."""


def test_recorded_nodes_give_the_originals_results_in_python_and_natively(servers):
    info = servers["original"].get("/object_info")
    maker = GraphMaker([server.base / "input" for server in servers.values()])
    ran, skipped, wrong, exact = [], {}, [], 0
    with contextlib.ExitStack() as stack:
        clients = {name: stack.enter_context(server.client()) for name, server in servers.items()}
        for case in maker.cases:
            class_type = case.split("/")[0]
            try:
                prompt = maker.make(case, info[class_type])
            except original.CannotBuild as reason:
                skipped[case] = str(reason)
                continue
            got = {name: _run(client, prompt) for name, client in clients.items()}
            if isinstance(got["original"], str):
                skipped[case] = "the original refuses it: " + got["original"][:200]
                continue
            ran.append(case)
            for name in ("python", "native"):
                if isinstance(got[name], str):
                    wrong.append(f"{case}, {name}: {got[name]}")
                    continue
                same = difference(got["original"], got[name]) is None
                exact += same and name == "native"
                apart = None if same else difference(got["original"], got[name], rounding=name == "native")
                if apart and not (name == "native" and class_type in KNOWN):
                    wrong.append(f"{case}, {name}: {apart}")
    nodes = {case.split("/")[0] for case in ran}
    print(f"{len(ran)} cases of {len(nodes)} nodes, {exact} of them exactly the same natively; left out:", skipped)
    assert len(nodes) >= 40
    assert not wrong, f"{len(wrong)} differences:\n" + "\n".join(wrong)


def _run(client, prompt):
    """What a prompt left, or why it failed."""
    status, body, _ = client.server.request("/prompt", {"prompt": prompt, "client_id": client.sid})
    if status != 200:
        return json.dumps(body)
    client.frames(body["prompt_id"], timeout=120)
    history = client.server.get(f"/history/{body['prompt_id']}")[body["prompt_id"]]
    if history["status"]["status_str"] != "success":
        return json.dumps(history["status"]["messages"])[-600:]
    return results(history["outputs"], client.server.base)


def text_to_image(prefix):
    """A text-to-image prompt."""
    return {
        "1": node("CheckpointLoaderSimple", ckpt_name="sd.safetensors"),
        "2": node("CLIPTextEncode", clip=["1", 1], text="a lighthouse"),
        "3": node("CLIPTextEncode", clip=["1", 1], text=""),
        "4": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "5": node("KSampler", model=["1", 0], positive=["2", 0], negative=["3", 0], latent_image=["4", 0], seed=7,
                  steps=4, cfg=4.0, sampler_name="euler", scheduler="normal", denoise=1.0),
        "6": node("VAEDecode", samples=["5", 0], vae=["1", 2]),
        "7": node("SaveImage", images=["6", 0], filename_prefix=prefix),
    }


@pytest.fixture(scope="module")
def with_model(servers):
    """A checkpoint of the architecture that ComfyUI knows, for all servers."""
    first, *others = (server.base / "models" / "checkpoints" / "sd.safetensors" for server in servers.values())
    checkpoint.write(first)
    for other in others:
        os.link(first, other)
    return servers


def test_models_stay_on_the_engine_that_loaded_them(with_model):
    pictures = {}
    for name, server in with_model.items():
        with server.client() as client:
            run = client.run(text_to_image("t"), timeout=300).ok()
        pictures[name] = results(run.outputs, server.base)
        assert [entry["value"] for entry in run.events("progress") if entry["node"] == "5"][-1] == 4, name
    assert difference(pictures["original"], pictures["python"]) is None
    native, expected = (pictures[name]["7"][0].astype(int) for name in ("native", "original"))
    print(f"native text-to-image differs from PyTorch's by at most {abs(native - expected).max()} of 255")
    assert abs(native - expected).max() <= 2


def test_a_python_only_node_takes_the_models_group_to_python(with_model):
    prompt = text_to_image("merged")
    prompt["8"] = node("FreSca", model=["1", 0], scale_low=1.0, scale_high=1.25, freq_cutoff=20)
    prompt["5"]["inputs"]["model"] = ["8", 0]
    pictures = []
    for name in ("original", "native"):
        with with_model[name].client() as client:
            pictures.append(results(client.run(prompt, timeout=300).ok().outputs, with_model[name].base))
    assert difference(*pictures) is None
