"""``comfy.cli_args``: the options of this start under upstream's names."""

from __future__ import annotations

import enum
from types import SimpleNamespace

from rushlight.host import state


class LatentPreviewMethod(enum.Enum):
    """How step previews are made."""

    NoPreviews = "none"
    Auto = "auto"
    Latent2RGB = "latent2rgb"
    TAESD = "taesd"


class PerformanceFeature(enum.Enum):
    """Names that ``--fast`` takes."""

    Fp16Accumulation = "fp16_accumulation"
    Fp8MatrixMultiplication = "fp8_matrix_mult"
    CublasOps = "cublas_ops"
    AutoTune = "autotune"


_DEFAULTS = {
    "listen": "127.0.0.1", "port": 8188, "tls_keyfile": None, "tls_certfile": None, "enable_cors_header": None,
    "max_upload_size": 100, "base_directory": None, "extra_model_paths_config": None, "output_directory": None,
    "temp_directory": None, "input_directory": None, "user_directory": None, "auto_launch": False,
    "disable_auto_launch": True, "cuda_device": None, "default_device": None, "cuda_malloc": False,
    "disable_cuda_malloc": False, "force_fp32": False, "force_fp16": False, "fp32_unet": False, "fp64_unet": False,
    "bf16_unet": False, "fp16_unet": False, "fp8_e4m3fn_unet": False, "fp8_e5m2_unet": False, "fp16_vae": False,
    "fp32_vae": False, "bf16_vae": False, "cpu_vae": False, "fp8_e4m3fn_text_enc": False, "fp16_text_enc": False,
    "fp32_text_enc": False, "force_channels_last": False, "directml": None, "preview_size": 512, "cache_classic": True,
    "cache_lru": 0, "cache_none": False, "cache_ram": 0, "use_split_cross_attention": False,
    "use_quad_cross_attention": False, "use_pytorch_cross_attention": False, "use_sage_attention": False,
    "use_flash_attention": False, "disable_xformers": False, "force_upcast_attention": False,
    "dont_upcast_attention": False, "gpu_only": False, "highvram": False, "normalvram": False, "lowvram": False,
    "novram": False, "cpu": False, "reserve_vram": None, "async_offload": None, "disable_smart_memory": False,
    "deterministic": False, "fast": set(), "disable_metadata": False, "disable_all_custom_nodes": False,
    "whitelist_custom_nodes": [], "disable_api_nodes": False, "multi_user": False, "verbose": "INFO",
    "log_stdout": False, "front_end_version": "", "front_end_root": None, "enable_compress_response_body": False,
    "quick_test_for_ci": False, "windows_standalone_build": False, "disable_mmap": False, "mmap_torch_files": False,
    "default_hashing_function": "sha256", "supports_fp8_compute": False, "database_url": None, "enable_manager": False,
    "preview_method": "none", "comfy_api_base": "https://api.comfy.org",
}


def _read() -> SimpleNamespace:
    values = {**_DEFAULTS, **(state.options.get("args") or {})}
    for key in ("port", "listen", "disable_all_custom_nodes", "whitelist_custom_nodes"):
        if state.options.get(key) is not None:
            values[key] = state.options[key]
    try:
        values["preview_method"] = LatentPreviewMethod(values["preview_method"])
    except ValueError:
        values["preview_method"] = LatentPreviewMethod.NoPreviews
    return SimpleNamespace(**values)


args = _read()
