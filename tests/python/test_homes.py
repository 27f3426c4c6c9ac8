"""What comes first when a server starts, and what is imported at all."""

import os

import pytest
from serving import HOMES, Server, home, node

EARLY = '''
import os, sys
assert "torch" not in sys.modules, "PyTorch was imported"
assert "nodes" not in sys.modules, "the core classes were imported"
assert "comfy.model_management" not in sys.modules, "the engine was imported"
os.environ["SET_BEFORE_ALL"] = "yes"
os.chdir("/")
print("the prestartup script ran first")
'''
PACK = '''
import os, sys


class Seen:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def run(self):
        import nodes

        names = [name for name in ("aiohttp", "torch", "numpy", "PIL") if name in sys.modules]
        return {"ui": {"modules": names, "nodes": [nodes.__file__], "set": [os.environ.get("SET_BEFORE_ALL")]}}


NODE_CLASS_MAPPINGS = {"Seen": Seen}
'''


def add_pack(base, early=True):
    pack = base / "custom_nodes" / "seen"
    pack.mkdir(parents=True)
    (pack / "__init__.py").write_text(PACK)
    if early:
        (pack / "prestartup_script.py").write_text(EARLY)


def seen(server):
    with server.client() as client:
        return client.run({"1": node("Seen")}, timeout=300).ok().outputs["1"]


@pytest.mark.parametrize("kind", HOMES)
def test_prestartup_scripts_run_before_any_engine_is_imported(python, tmp_path, kind):
    base, arguments = home(kind, tmp_path, python)
    add_pack(base)
    server = Server(python, base, *arguments, env={"PYTHONDONTWRITEBYTECODE": "1"})
    try:
        found = seen(server)
        assert found["set"] == ["yes"]
        assert "the prestartup script ran first" in server.output and "Prestartup script of seen failed" not in server.output
        assert kind == "stand-alone" or found["nodes"] == [os.path.join(arguments[-1], "nodes.py")]
    finally:
        server.stop()


def test_aiohttp_is_imported_only_for_packs_with_routes(python, tmp_path):
    add_pack(tmp_path, early=False)
    server = Server(python, tmp_path)
    try:
        assert seen(server)["modules"] == []
    finally:
        server.stop()


def test_a_checkout_that_the_server_is_started_in_gets_its_flags_and_needs_no_option(python, tmp_path):
    folder, _ = home("stand-in checkout", tmp_path, python)
    add_pack(folder)
    command = [python, "-m", "rushlight", "serve", "--port", "0", "--lowvram"]
    server = Server(python, folder, command=command, cwd=folder)
    try:
        found = seen(server)
        # A script changed the current folder before the checkout's modules were imported.
        assert found["nodes"] == [str(folder / "nodes.py")]
        assert "have no effect" not in server.output
        assert "PyOnlyModelMerge" in server.get("/object_info")
    finally:
        server.stop()


def test_a_folder_that_is_no_checkout_is_refused_at_the_start(python, tmp_path):
    with pytest.raises(RuntimeError, match="--comfyui-dir .*no nodes.py, folder_paths.py and comfy/ there"):
        Server(python, tmp_path, "--comfyui-dir", str(tmp_path / "nowhere"))


def test_flags_of_an_engine_that_is_not_there_are_said_to_have_no_effect(python, tmp_path):
    server = Server(python, tmp_path, "--lowvram")
    try:
        assert "have no effect here: --lowvram" in server.output
    finally:
        server.stop()


@pytest.mark.parametrize(("arguments", "loaded"), [
    (["--disable-all-custom-nodes"], set()),
    (["--disable-all-custom-nodes", "--whitelist-custom-nodes", "seen", "none"], {"Seen"}),
    ([], {"Seen", "Other"}),
])
def test_packs_are_left_out_when_asked(python, tmp_path, arguments, loaded):
    add_pack(tmp_path, early=False)
    other = PACK.replace('{"Seen": Seen}', '{"Other": Seen}')
    (tmp_path / "custom_nodes" / "other.py").write_text(other)
    server = Server(python, tmp_path, *arguments)
    try:
        assert {"Seen", "Other"} & set(server.get("/object_info")) == loaded
    finally:
        server.stop()


def test_the_console_script_is_the_same_server(python, tmp_path):
    script = os.path.join(os.path.dirname(python), "rushlight")
    if not os.path.exists(script):
        pytest.skip(f"{script} is not there: the wheel was not installed beside {python}")
    add_pack(tmp_path, early=False)
    command = [script, "serve", "--port", "0", "--base-directory", str(tmp_path)]
    server = Server(python, tmp_path, command=command)
    try:
        assert seen(server)["modules"] == []
    finally:
        server.stop()
    assert server.process.returncode == 0
