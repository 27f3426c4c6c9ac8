"""Packs are found, imported and reported."""

from serving import Server, node


def test_every_example_class_is_in_object_info(examples):
    info = examples.get("/object_info")
    for name in ("ExampleCountSlowly", "ExampleText", "ExampleWaitAsync", "ExampleSwitch", "ExampleV3Repeat"):
        assert name in info, name
    assert info["ExampleCountSlowly"]["display_name"] == "Count slowly"
    assert info["ExampleCountSlowly"]["python_module"] == "custom_nodes.progress_text"


def test_a_class_that_cannot_describe_itself_is_left_out_and_the_rest_go_on(examples):
    info = examples.get("/object_info")
    assert "ExampleBroken" not in info
    assert "ExampleDescribe" in info
    assert "no inputs today" in examples.output


def test_a_class_is_shown_as_it_declares_itself(examples):
    info = examples.get("/object_info/ExampleCountSlowly")["ExampleCountSlowly"]
    assert info["input"]["required"]["steps"] == ["INT", {"default": 5, "min": 1, "max": 1000}]
    assert info["input"]["hidden"] == {"unique_id": "UNIQUE_ID"}
    assert info["input_order"] == {"required": ["steps", "seconds", "preview"], "hidden": ["unique_id"]}
    assert info["output"] == ["INT"] and info["output_node"] is True
    assert "deprecated" not in info
    bare = examples.get("/object_info/ExampleLookAtPicture")["ExampleLookAtPicture"]
    assert bare["input"]["required"]["image"] == ["IMAGE"]


def test_a_v3_class_is_shown_as_upstream_shows_it(examples):
    info = examples.get("/object_info/ExampleV3Repeat")["ExampleV3Repeat"]
    assert info["input"]["required"]["text"] == ["STRING", {"default": "la", "multiline": True}]
    assert info["input"]["required"]["case"] == [
        "COMBO", {"default": "lower", "multiselect": False, "options": ["lower", "upper"]}
    ]
    assert info["output_name"] == ["repeated"]
    assert (info["deprecated"], info["experimental"], info["api_node"]) == (False, False, False)
    join = examples.get("/object_info/ExampleV3Join")["ExampleV3Join"]
    assert join["input"]["required"]["texts"][0] == "COMFY_AUTOGROW_V3"


def test_failed_imports_are_told_with_their_traceback(examples):
    assert "no_such_module_at_all" in examples.output
    assert "IMPORT FAILED" in examples.output
    assert "bad_exit" in examples.output


def test_disabled_packs_are_not_loaded_and_prestartup_scripts_run_first(examples):
    assert "loaded though disabled" not in examples.output
    assert "Prestartup script of early" in examples.output
    assert "early: " not in examples.output or "AssertionError" not in examples.output


def test_web_folders_are_listed_and_served(examples):
    listed = examples.get("/extensions")
    assert "/extensions/web_route/example.js" in listed
    assert "/extensions/web_only/w.js" in listed
    status, text, _ = examples.request("/extensions/web_route/example.js", raw=True)
    assert status == 200 and b"example pack" in text


def test_templates_and_locales_of_packs_are_served(examples):
    assert examples.get("/workflow_templates")["web_route"] == ["text"]
    assert examples.get("/i18n")["en"]["nodeDefs"]["ExampleText"]["display_name"] == "Show a text"


def test_what_nodes_print_reaches_the_log(examples):
    with examples.client() as client:
        client.run({"1": {"class_type": "ExampleText", "inputs": {"text": "printed by a node"}}}).ok()
    assert "printed by a node" in examples.get("/internal/logs")


def test_a_prompt_that_comes_while_packs_are_loading_waits_for_its_class(python, tmp_path):
    (tmp_path / "custom_nodes").mkdir()
    (tmp_path / "custom_nodes" / "slow.py").write_text(
        "import time\ntime.sleep(2)\n"
        "class Slow:\n    RETURN_TYPES = ()\n    FUNCTION = 'run'\n    CATEGORY = 'x'\n    OUTPUT_NODE = True\n"
        "    @classmethod\n    def INPUT_TYPES(cls):\n        return {'required': {}}\n"
        "    def run(self):\n        return ()\n"
        "NODE_CLASS_MAPPINGS = {'Slow': Slow}\n"
    )
    server = Server(python, tmp_path)
    try:
        with server.client() as client:
            client.run({"1": node("Slow")}).ok()
    finally:
        server.stop()
