"""Published packs of nodes, loaded as they are: ``RUSHLIGHT_TEST_PACKS=1`` downloads them from PyPI.

All of them are permissively licensed. One wheel leaves out the file in its source tree that names its classes; the
line that it needs is here. The others are the published files as they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from PIL import Image
from serving import HOMES, ROOT, Server, has, home, node

pytestmark = pytest.mark.skipif(
    not os.environ.get("RUSHLIGHT_TEST_PACKS"), reason="RUSHLIGHT_TEST_PACKS is not set: nothing is downloaded"
)

PACKS = {
    # Distribution: (licence, folder in the wheel, folder of the pack, its __init__.py or None, classes)
    "comfyui-ib-customnodes==0.2.3": ("MIT", "ComfyUI_Ib_CustomNodes", "ComfyUI_Ib_CustomNodes", None, 4),
    "kumiho-comfyui==1.0.2": ("MIT", "kumiho_nodes", "kumiho_nodes", None, 7),
    "comfyui-fluxflow==0.8.0": ("MIT", "comfyui_fluxflow", "comfyui_fluxflow", None, 7),
    "comfyui-orbitquant==0.9.0": ("Apache-2.0", "comfyui_orbitquant", "comfyui_orbitquant", None, 11),
    "comfyui-arc-save==1.1.1": (
        "MIT", "nodes", "arc/nodes", "from .nodes.arc_save import NODE_CLASS_MAPPINGS\n", 1,
    ),
    "comfyui-siberianodes==1.0.0": ("MIT", "comfyui_siberianodes-1.0.0", "comfyui_siberianodes", None, 5),
    "zmongo-nodes==0.1.3": ("Apache-2.0", ".", "zmongo_nodes", None, 91),
}
# The wheel is not the whole pack: the source distribution is.
SOURCES = ["comfyui-siberianodes==1.0.0"]
NEEDS = [
    "fluxflow", "orbitquant", "kumiho", "diffusers", "grpcio", "protobuf", "importlib_metadata", "zipp", "requests",
    "urllib3", "idna", "certifi", "charset_normalizer", "ollama", "httpx", "httpcore", "h11", "anyio", "sniffio",
]


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory):
    """Folder of packs, and folder of what they need."""
    base = tmp_path_factory.mktemp("packs")
    wheels, packs, needs = base / "wheels", base / "custom_nodes", base / "needs"
    pip = [sys.executable, "-m", "pip"]
    download = [*pip, "download", "-q", "--no-deps", "-d", str(wheels)]
    subprocess.run([*download, *(name for name in PACKS if name not in SOURCES)], check=True)
    subprocess.run([*download, "--no-binary", ",".join(name.split("==")[0] for name in SOURCES), *SOURCES], check=True)
    subprocess.run([*pip, "install", "-q", "--no-deps", "--target", str(needs), *NEEDS], check=True)
    for name, (_, inside, folder, init, _) in PACKS.items():
        archive = next(wheels.glob(name.split("==")[0].replace("-", "_") + "-*"))
        unpacked = base / "unpacked" / name
        shutil.unpack_archive(archive, unpacked, "gztar" if name in SOURCES else "zip")
        shutil.copytree(unpacked / inside, packs / folder)
        if init is not None:
            (packs / folder).parent.joinpath("__init__.py").write_text(init)
        elif name not in SOURCES and inside != ".":
            # They import themselves by name, too.
            shutil.copytree(unpacked / inside, needs / inside, dirs_exist_ok=True)
    return packs, needs


@pytest.fixture(scope="module", params=[home for home in HOMES if home != "stand-in checkout"])
def server(request, python, downloaded, tmp_path_factory):
    if not has(python, "torch", "transformers"):
        pytest.skip(f"{python} has no PyTorch and transformers, which the packs need")
    packs, needs = downloaded
    base = tmp_path_factory.mktemp("base")
    base, arguments = home(request.param, base, python)
    shutil.copytree(packs, base / "custom_nodes", dirs_exist_ok=True)
    server = Server(python, base, *arguments, env={"PYTHONPATH": str(needs)})
    yield server
    server.stop()


def test_published_packs_load_unmodified(server):
    info = server.request("/object_info", timeout=300)[1]
    found: dict = {}
    for entry in info.values():
        found[entry["python_module"]] = found.get(entry["python_module"], 0) + 1
    expected = {
        "custom_nodes." + folder.split("/")[0]: count for _, _, folder, _, count in PACKS.values()
    }
    assert {module: found.get(module) for module in expected} == expected, server.output
    assert "IMPORT FAILED" not in server.output


def test_nodes_of_published_packs_run(server):
    picture = ROOT / "models" / "sheet.png"
    with server.client() as client:
        run = client.run({
            "1": node("LoadImageFromPath", image=str(picture)),
            "2": node("ImageToPIL", images=["1", 0]),
            "3": node("PILToImage", images=["2", 0]),
            "4": node("SaveImage", images=["3", 0], filename_prefix="packs"),
            "5": node("SiberiaUniversalDisplayNode", anything="shown by a pack"),
        }).ok()
    saved = Image.open(server.base / "output" / run.outputs["4"]["images"][0]["filename"])
    assert saved.convert("RGB").tobytes() == Image.open(picture).convert("RGB").tobytes()
    assert "shown by a pack" in str(run.outputs["5"])
