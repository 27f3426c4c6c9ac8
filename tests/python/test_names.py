"""Every name that published packs import from the host is there, stand-alone and in a checkout's place."""

from serving import node

NAMES = {
    "server": "PromptServer BinaryEventTypes",
    "server.PromptServer.instance": (
        "send_sync send_progress_text client_id last_node_id last_prompt_id routes app loop prompt_queue number "
        "add_on_prompt_handler sockets supports send queue_updated trigger_on_prompt"
    ),
    "server.PromptServer.instance.prompt_queue": (
        "get_current_queue get_tasks_remaining get_history put delete_queue_item wipe_queue currently_running"
    ),
    "nodes": (
        "NODE_CLASS_MAPPINGS NODE_DISPLAY_NAME_MAPPINGS EXTENSION_WEB_DIRS MAX_RESOLUTION interrupt_processing "
        "before_node_execution SaveImage LoadImage PreviewImage CLIPTextEncode KSampler common_ksampler VAEDecode VAEEncode "
        "CheckpointLoaderSimple LoraLoader EmptyLatentImage ImageScale"
    ),
    "nodes.SaveImage()": "save_images output_dir type prefix_append",
    "execution": "PromptExecutor validate_prompt PromptQueue",
    "folder_paths": (
        "base_path models_dir output_directory folder_names_and_paths get_filename_list get_full_path "
        "get_full_path_or_raise get_folder_paths add_model_folder_path get_input_directory get_output_directory "
        "get_temp_directory get_user_directory get_annotated_filepath exists_annotated_filepath annotated_filepath "
        "get_save_image_path filter_files_content_types recursive_search supported_pt_extensions get_directory_by_type "
        "get_public_user_directory"
    ),
    "comfy.utils": (
        "ProgressBar set_progress_bar_global_hook PROGRESS_BAR_ENABLED common_upscale load_torch_file tiled_scale "
        "repeat_to_batch_size"
    ),
    "comfy.model_management": (
        "get_torch_device intermediate_device throw_exception_if_processing_interrupted interrupt_current_processing "
        "processing_interrupted InterruptProcessingException soft_empty_cache unload_all_models get_free_memory "
        "should_use_fp16 unet_offload_device vae_device OOM_EXCEPTION is_device_mps"
    ),
    "comfy.samplers.KSampler": "SAMPLERS SCHEDULERS",
    "comfy.sample": "",
    "comfy.cli_args": "args",
    "comfy.comfy_types": "IO ComfyNodeABC InputTypeDict",
    "comfy_execution.graph_utils": "GraphBuilder is_link ExecutionBlocker",
    "comfy_execution.graph": "ExecutionBlocker",
    "comfy_execution.progress": "get_progress_state",
    "comfy_execution.utils": "get_executing_context",
    "latent_preview": "prepare_callback get_previewer MAX_PREVIEW_RESOLUTION",
    "comfyui_version": "__version__",
    "comfy_api.latest": "io ui ComfyExtension ComfyAPI ComfyAPISync",
    "comfy_api.v0_0_1": "",
    "comfy_api.v0_0_2": "io ui ComfyExtension",
    "comfy_api.latest.io": (
        "Schema NodeOutput ComfyNode Hidden Custom Int Float String Boolean Combo MultiCombo Image Mask Latent Conditioning "
        "Sampler Sigmas Noise Guider Clip ControlNet Vae Model ClipVision StyleModel Audio Video SVG LoraModel AnyType "
        "MultiType MatchType Autogrow DynamicCombo"
    ),
    "comfy_api.latest.ui": "PreviewImage PreviewMask PreviewAudio PreviewText PreviewVideo SavedImages",
    "node_helpers": "conditioning_set_values",
}


def test_names_that_packs_import_are_there(examples):
    names = [f"{module}.{name}".rstrip(".") for module, listed in NAMES.items() for name in listed.split() or [""]]
    with examples.client() as client:
        run = client.run({"1": node("TestNames", names="\n".join(names))}).ok()
    missing = run.outputs["1"]["missing"]
    if examples.home == "stand-in checkout":
        # What it does not have itself is no one's to add.
        missing = [name for name in missing if name.startswith(("server", "execution", "comfy_api"))]
    assert missing == []
