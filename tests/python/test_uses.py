"""What the functions that packs call give: the same stand-alone and in ComfyUI."""

import pytest
from serving import has, node

FILES = {
    "models/loras/uses/a.safetensors": b"x", "models/loras/uses/b.txt": b"x", "input/uses.png": b"x",
    "output/uses/p5_00003_.png": b"x", "output/uses/p5x_00009_.png": b"x",
}
BASE = "{base}"

FOLDERS = [
    ("folder_paths.get_full_path('loras', 'uses/a.safetensors')", f"{BASE}/models/loras/uses/a.safetensors"),
    ("folder_paths.get_full_path('loras', '../../../etc/passwd')", None),
    ("folder_paths.get_full_path('no such key', 'x')", None),
    ("folder_paths.get_full_path_or_raise('loras', 'uses/a.safetensors')", f"{BASE}/models/loras/uses/a.safetensors"),
    ("error(folder_paths.get_full_path_or_raise, 'loras', 'none.safetensors')", "FileNotFoundError"),
    ("[n for n in folder_paths.get_filename_list('loras') if 'uses' in n]", ["uses/a.safetensors"]),
    ("error(folder_paths.get_filename_list, 'no such key')", "KeyError"),
    ("folder_paths.get_folder_paths('loras')[0]", f"{BASE}/models/loras"),
    ("folder_paths.folder_names_and_paths['loras'][0][0]", f"{BASE}/models/loras"),
    ("[folder_paths.base_path, folder_paths.models_dir]", [BASE, f"{BASE}/models"]),
    ("folder_paths.get_input_directory()", f"{BASE}/input"),
    ("folder_paths.get_output_directory()", f"{BASE}/output"),
    ("folder_paths.get_temp_directory()", f"{BASE}/temp"),
    ("folder_paths.get_user_directory()", f"{BASE}/user"),
    ("[folder_paths.get_directory_by_type(t) for t in ('input', 'temp', 'none')]", [f"{BASE}/input", f"{BASE}/temp", None]),
    ("[folder_paths.get_public_user_directory(u) for u in ('default', '__system')]", [f"{BASE}/user/default", None]),
    ("folder_paths.annotated_filepath('x.png [output]')", ["x.png", f"{BASE}/output"]),
    ("folder_paths.annotated_filepath('x.png')", ["x.png", None]),
    ("folder_paths.get_annotated_filepath('a.png [temp]')", f"{BASE}/temp/a.png"),
    ("folder_paths.get_annotated_filepath('a.png')", f"{BASE}/input/a.png"),
    ("[folder_paths.exists_annotated_filepath(n) for n in ('uses.png', 'none.png')]", [True, False]),
    ("folder_paths.get_save_image_path('uses/p%width%', folder_paths.get_output_directory(), 5, 6)",
     [f"{BASE}/output/uses", "p5", 4, "uses", "uses/p5"]),
    ("folder_paths.get_save_image_path('new', folder_paths.get_output_directory())[1:]", ["new", 1, "", "new"]),
    ("folder_paths.filter_files_content_types(['a.png', 'b.wav', 'c.mp4', 'd.txt'], ['image', 'audio'])", ["a.png", "b.wav"]),
    ("sorted(folder_paths.recursive_search(folder_paths.models_dir + '/loras/uses')[0])", ["a.safetensors", "b.txt"]),
    ("sorted(folder_paths.recursive_search(folder_paths.models_dir + '/loras', ['uses'])[0])", []),
    ("{'.safetensors', '.ckpt', '.pt'} <= folder_paths.supported_pt_extensions", True),
    ("[folder_paths.add_model_folder_path('uses_key', '/uses'), folder_paths.get_folder_paths('uses_key')]", [None, ["/uses"]]),
]
TENSORS = [
    ("comfy.utils.repeat_to_batch_size(ones((2, 3)), 5).shape", [5, 3]),
    ("comfy.utils.repeat_to_batch_size(ramp(4, 1), 2)", [[0.0], [1.0]]),
    ("comfy.utils.common_upscale(ramp(1, 1, 1, 2), 4, 1, 'nearest-exact', 'disabled')", [[[[0.0, 0.0, 1.0, 1.0]]]]),
    ("comfy.utils.common_upscale(ramp(1, 1, 2, 8), 2, 2, 'nearest-exact', 'center')", [[[[3.0, 4.0], [11.0, 12.0]]]]),
    ("close(comfy.utils.common_upscale(ramp(1, 1, 1, 4), 2, 1, 'bilinear', 'disabled'), [0.5, 2.5])", True),
    ("close(comfy.utils.common_upscale(ramp(1, 1, 2, 2), 1, 1, 'area', 'disabled'), [1.5])", True),
    ("comfy.utils.common_upscale(ramp(1, 3, 4, 4) / 48, 8, 6, 'lanczos', 'disabled').shape", [1, 3, 6, 8]),
    ("comfy.utils.common_upscale(ramp(1, 4, 2, 2, 2), 4, 4, 'nearest-exact', 'disabled').shape", [1, 4, 2, 4, 4]),
    ("node_helpers.conditioning_set_values([['c', {'a': 1}]], {'b': 2})", [["c", {"a": 1, "b": 2}]]),
    ("node_helpers.conditioning_set_values([['c', {'a': [1]}]], {'a': [2]}, append=True)", [["c", {"a": [1, 2]}]]),
]
TORCH = [
    ("comfy.model_management.get_torch_device().type", "cpu"),
    ("[f().type for f in (comfy.model_management.intermediate_device, comfy.model_management.unet_offload_device, "
     "comfy.model_management.vae_device)]", ["cpu", "cpu", "cpu"]),
    ("comfy.model_management.is_device_mps(comfy.model_management.get_torch_device())", False),
    ("comfy.model_management.should_use_fp16(comfy.model_management.get_torch_device())", False),
    ("comfy.model_management.get_free_memory(comfy.model_management.get_torch_device()) > 0", True),
    ("sum_of(comfy.utils.tiled_scale(ones((1, 3, 40, 40)), lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3), "
     "tile_x=16, tile_y=16, overlap=4, upscale_amount=2))", 3 * 80 * 80),
]
OTHERS = [
    ("[comfy.model_management.processing_interrupted(), comfy.model_management.throw_exception_if_processing_interrupted()]",
     [False, None]),
    ("issubclass(comfy.model_management.OOM_EXCEPTION, Exception)", True),
    ("issubclass(comfy.model_management.InterruptProcessingException, Exception)", True),
    ("[comfy.model_management.soft_empty_cache(), comfy.model_management.unload_all_models()]", [None, None]),
    ("bar(3, 4, 9)", 10),
    ("comfy.utils.PROGRESS_BAR_ENABLED", True),
    ("[nodes.MAX_RESOLUTION, nodes.before_node_execution()]", [16384, None]),
    ("sorted({'NODE_CLASS_MAPPINGS', 'NODE_DISPLAY_NAME_MAPPINGS', 'EXTENSION_WEB_DIRS'} - set(dir(nodes)))", []),
    ("[nodes.SaveImage().type, nodes.SaveImage().output_dir, nodes.PreviewImage().type, nodes.PreviewImage().output_dir]",
     ["output", f"{BASE}/output", "temp", f"{BASE}/temp"]),
    ("nodes.SaveImage().save_images(ones((1, 2, 2, 3)), 'uses/core')['ui']['images'][0]['subfolder']", "uses"),
    ("{'euler', 'dpmpp_2m', 'uni_pc', 'ddim'} <= set(comfy.samplers.KSampler.SAMPLERS)", True),
    ("{'normal', 'karras', 'simple', 'beta'} <= set(comfy.samplers.KSampler.SCHEDULERS)", True),
    ("[comfy.cli_args.args.disable_metadata, comfy.cli_args.args.preview_method.value]", [False, "none"]),
    ("[comfy.comfy_types.IO.IMAGE, comfy.comfy_types.IO.ANY]", ["IMAGE", "*"]),
    ("[comfy_execution.graph_utils.is_link(v) for v in (['1', 0], ['1'], [1, 0], 'x')]", [True, False, False, False]),
    ("graph()", {"g.1": {"class_type": "A", "inputs": {"value": 1}},
                 "g.named": {"class_type": "B", "inputs": {"link": ["g.1", 0]}, "override_display_id": "7"}}),
    ("len(comfyui_version.__version__.split('.'))", 3),
    ("latent_preview.MAX_PREVIEW_RESOLUTION > 0", True),
    ("[server.last_node_id, server.prompt_queue.get_tasks_remaining()]", ["1", 1]),
    ("[item[1] == server.last_prompt_id for item in server.prompt_queue.get_current_queue()[0]]", [True]),
    ("list(server.prompt_queue.currently_running.values())[0][1] == server.last_prompt_id", True),
    ("[server.prompt_queue.delete_queue_item(lambda item: False), len(server.prompt_queue.get_history(max_items=1)) <= 1]",
     [False, True]),
    ("[server.client_id in server.sockets, type(server.number).__name__, 'custom_nodes_from_web' in server.supports]",
     [True, "int", True]),
    ("server.trigger_on_prompt({'prompt': {}, 'kept': 1})['kept']", 1),
]


@pytest.fixture(scope="module")
def using(examples):
    if examples.home == "stand-in checkout":
        pytest.skip("its modules are its own")
    for name, data in FILES.items():
        path = examples.base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with examples.client() as client:
        yield examples, client


@pytest.mark.parametrize(("code", "made"), FOLDERS + TENSORS + TORCH + OTHERS)
def test_a_function_gives_what_packs_expect(using, python, code, made):
    server, client = using
    if (code, made) in TORCH and not has(python, "torch"):
        pytest.skip(f"{python} has no PyTorch")
    run = client.run({"1": node("TestUse", code=code)})
    assert run.error is None, run.error["exception_message"]
    assert run.outputs["1"]["made"] == [placed(made, str(server.base))]


def placed(value, base):
    """The value with the server's folder in it."""
    if isinstance(value, list):
        return [placed(item, base) for item in value]
    return value.replace(BASE, base) if isinstance(value, str) else value
