"""Options of `rushlight serve` do what they say, through the real program."""

from __future__ import annotations

import io
import subprocess

import pytest
import requests
from PIL import Image

from harness import BINARY, Server, Socket, text_to_image

# Every flag of ComfyUI 0.8.0, each as a start script may write it.
UPSTREAM_FLAGS = """
--listen 127.0.0.1|--max-upload-size 50|--enable-cors-header *|--extra-model-paths-config x.yaml|--output-directory o
--temp-directory t|--input-directory i|--user-directory u|--disable-auto-launch|--cuda-device 0|--default-device 0
--cuda-malloc|--disable-cuda-malloc|--force-fp32|--force-fp16|--fp32-unet|--fp64-unet|--bf16-unet|--fp16-unet
--fp8_e4m3fn-unet|--fp8_e5m2-unet|--fp8_e8m0fnu-unet|--fp16-vae|--fp32-vae|--bf16-vae|--cpu-vae
--fp8_e4m3fn-text-enc|--fp8_e5m2-text-enc|--fp16-text-enc|--fp32-text-enc|--bf16-text-enc|--force-channels-last
--directml|--oneapi-device-selector x|--disable-ipex-optimize|--supports-fp8-compute|--preview-method auto
--preview-size 256|--cache-classic|--cache-lru 5|--cache-none|--cache-ram 2|--use-split-cross-attention
--use-quad-cross-attention|--use-pytorch-cross-attention|--use-sage-attention|--use-flash-attention|--disable-xformers
--force-upcast-attention|--dont-upcast-attention|--enable-manager|--disable-manager-ui|--enable-manager-legacy-ui
--gpu-only|--highvram|--normalvram|--lowvram|--novram|--cpu|--reserve-vram 1.5|--async-offload|--disable-async-offload
--force-non-blocking|--default-hashing-function sha256|--disable-smart-memory|--disable-pinned-memory|--deterministic
--fast|--fast fp16_accumulation|--mmap-torch-files|--disable-mmap|--dont-print-server|--windows-standalone-build
--disable-metadata|--disable-all-custom-nodes|--disable-api-nodes|--multi-user|--verbose|--verbose DEBUG|--log-stdout
--front-end-version x@1|--enable-compress-response-body|--comfy-api-base https://x|--database-url sqlite:///x.db
""".replace("\n", "|").strip("|").split("|")


@pytest.mark.parametrize("flags", [flag.split() for flag in UPSTREAM_FLAGS], ids=" ".join)
def test_every_flag_of_comfyui_starts_the_server(tmp_path, flags):
    if flags[0] == "--extra-model-paths-config":
        (tmp_path / "x.yaml").write_text("")
    done = subprocess.run([BINARY, "serve", "--port", "0", *flags, "--quick-test-for-ci"], cwd=tmp_path, timeout=60,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("size", [64, 200])
def test_previews_fit_the_asked_size(start_server, size):
    server = start_server("--preview-method", "latent2rgb", "--preview-size", str(size))
    socket = Socket(server.port, "me", flags={})
    server.sockets.append(socket)
    frames = socket.until_done(server.submit(text_to_image(steps=3), "me"))
    previews = [frame for frame in frames if isinstance(frame, bytes)]
    assert previews and all(frame[:8] == bytes([0, 0, 0, 1, 0, 0, 0, 1]) for frame in previews)
    assert {Image.open(io.BytesIO(frame[8:])).size for frame in previews} == {(size, size)}


def test_without_previews_none_are_sent_unless_the_prompt_asks(start_server):
    server = start_server()
    socket = Socket(server.port, "me", flags={})
    server.sockets.append(socket)

    def previews(seed, method):
        extra = {} if method is None else {"preview_method": method}
        frames = socket.until_done(server.submit(text_to_image(steps=2, seed=seed), "me", extra_data=extra))
        return sum(isinstance(frame, bytes) for frame in frames)

    assert [previews(seed, method) > 0 for seed, method in enumerate([None, "default", "none", "auto", "latent2rgb"])] \
        == [False, False, False, True, True]


def saved(server: Server, node: str = "9") -> bytes:
    entry = server.wait(server.submit(text_to_image(steps=1)))
    item = entry["outputs"][node]["images"][0]
    return server.get("/view", params=item).content


def chunks(png: bytes) -> list[bytes]:
    place, names = 8, []
    while place < len(png):
        length = int.from_bytes(png[place:place + 4], "big")
        names.append(png[place + 4:place + 8])
        place += 12 + length
    return names


def test_metadata_is_left_out_when_asked(start_server, tmp_path):
    with_it, without = tmp_path / "with", tmp_path / "without"
    with_it.mkdir(), without.mkdir()
    assert b"tEXt" in chunks(saved(start_server(base=with_it)))
    assert b"tEXt" not in chunks(saved(start_server("--disable-metadata", base=without)))


def test_previews_are_deflated_fast_and_saved_pictures_better(start_server):
    server = start_server()
    graph = text_to_image(steps=1)
    graph["10"] = {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}
    entry = server.wait(server.submit(graph))
    saved, preview = (server.get("/view", params=entry["outputs"][node]["images"][0]).content for node in ["9", "10"])
    assert Image.open(io.BytesIO(saved)).tobytes() == Image.open(io.BytesIO(preview)).tobytes()
    # The two highest bits of zlib's second byte tell the effort: 0 for level 1.
    assert preview[preview.index(b"IDAT") + 5] >> 6 == 0 < saved[saved.index(b"IDAT") + 5] >> 6
    assert len(saved) < len(preview)


def test_temp_is_emptied_at_start_and_stop(start_server, tmp_path):
    (tmp_path / "temp").mkdir()
    (tmp_path / "temp" / "old.png").write_text("old")
    server = start_server()
    assert not (tmp_path / "temp" / "old.png").exists()
    (tmp_path / "temp" / "new.png").write_text("new")
    server.stop()
    assert not (tmp_path / "temp" / "new.png").exists()


def test_a_queue_in_memory_leaves_nothing_on_disk(start_server, tmp_path):
    server = start_server("--database-url", "memory")
    server.wait(server.submit(text_to_image(steps=1)))
    server.stop()
    assert not list(tmp_path.rglob("*.db*"))


def test_a_database_may_be_anywhere(start_server, tmp_path):
    server = start_server("--database-url", f"sqlite:///{tmp_path}/other/queue.db")
    done = server.submit(text_to_image(steps=1))
    server.wait(done)
    server.stop()
    assert list(server.start().get("/history").json()) == [done]


def test_the_upload_limit_is_the_asked_one(start_server):
    server = start_server("--max-upload-size", "0.5")
    def upload(size):
        return requests.post(server.url + "/upload/image", files={"image": ("a.png", b"x" * size)}, timeout=60)
    assert upload(400_000).status_code == 200
    assert upload(600_000).status_code == 413
    assert server.get("/features").json()["max_upload_size"] == 512 << 10


def test_templates_and_documentation_come_from_installed_packages(start_server, tmp_path, monkeypatch):
    site = tmp_path / "venv" / "lib" / "python3.11" / "site-packages"
    for file in ["comfyui_workflow_templates/templates/a.json", "comfyui_embedded_docs/docs/KSampler/en.md"]:
        (site / file).parent.mkdir(parents=True)
        (site / file).write_text(file)
    (site / "comfyui_workflow_templates-1.2.3.dist-info").mkdir()
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "venv"))
    server = start_server()
    assert server.get("/templates/a.json").text == "comfyui_workflow_templates/templates/a.json"
    assert server.get("/docs/KSampler/en.md").text == "comfyui_embedded_docs/docs/KSampler/en.md"
    assert server.get("/templates/..%2F..%2Fa.json").status_code in (400, 403, 404)
    assert server.get("/system_stats").json()["system"]["installed_templates_version"] == "1.2.3"
