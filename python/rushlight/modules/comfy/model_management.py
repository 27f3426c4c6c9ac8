"""``comfy.model_management``: devices, memory and interrupts, as custom nodes ask for them."""

from __future__ import annotations

import enum
import gc
import logging

from rushlight.host import errors, imports, running, state

RUSHLIGHT = True
"""Says that interrupts are the server's own."""


class InterruptProcessingException(Exception):
    """The running prompt was interrupted."""


class VRAMState(enum.Enum):
    """How graphics memory is used."""

    DISABLED = 0
    NO_VRAM = 1
    LOW_VRAM = 2
    NORMAL_VRAM = 3
    HIGH_VRAM = 4
    SHARED = 5


class CPUState(enum.Enum):
    """What computes."""

    GPU = 0
    CPU = 1
    MPS = 2


def _torch():
    return imports.library("torch", "this part of comfy.model_management")


def _has(kind: str) -> bool:
    try:
        import torch
    except ImportError:
        return False
    if kind == "cuda":
        return torch.cuda.is_available()
    backend = getattr(torch.backends, kind, None)
    return backend is not None and backend.is_available()


try:
    import torch as _module

    OOM_EXCEPTION = getattr(_module, "OutOfMemoryError", None) or _module.cuda.OutOfMemoryError
except Exception:
    OOM_EXCEPTION = MemoryError

XFORMERS_IS_AVAILABLE = False
XFORMERS_ENABLED_VAE = False
current_loaded_models: list = []


def get_torch_device():
    """The device that Python nodes compute on."""
    torch = _torch()
    if state.options.get("cpu"):
        return torch.device("cpu")
    if _has("cuda"):
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps") if _has("mps") else torch.device("cpu")


def __getattr__(name):
    # Set on first use, so that importing the module does not ask for devices.
    if name == "vram_state":
        return VRAMState.DISABLED if not _has("cuda") else VRAMState.NORMAL_VRAM
    if name == "cpu_state":
        return CPUState.GPU if _has("cuda") else CPUState.MPS if _has("mps") else CPUState.CPU
    if name in ("total_vram", "total_ram"):
        size = get_total_memory(_torch().device("cpu") if name == "total_ram" else None)
        return size / (1 << 20)
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(
        f"module 'comfy.model_management' has no attribute '{name}' in stand-alone Rushlight; in a ComfyUI checkout "
        "(rushlight serve --comfyui-dir PATH) it may"
    )


def get_torch_device_name(device):
    return str(device)


def _offload():
    return _torch().device("cpu")


def intermediate_device():
    return _offload()


def unet_offload_device():
    return _offload()


def unet_inital_load_device(parameters, dtype):
    return _offload()


def text_encoder_device():
    return get_torch_device()


def text_encoder_offload_device():
    return _offload()


def vae_device():
    return get_torch_device()


def vae_offload_device():
    return _offload()


def vae_dtype(device=None, allowed_dtypes=()):
    return _torch().float32


def unet_dtype(device=None, model_params=0, supported_dtypes=None, weight_dtype=None):
    torch = _torch()
    return torch.float16 if should_use_fp16(device, model_params) else torch.float32


def text_encoder_dtype(device=None):
    return unet_dtype(device)


def unet_manual_cast(weight_dtype, inference_device, supported_dtypes=None):
    return None


def maximum_vram_for_weights(device=None):
    return get_total_memory(device) * 0.88


def get_autocast_device(device):
    return getattr(device, "type", "cuda")


def is_device_type(device, kind):
    return getattr(device, "type", None) == kind


def is_device_cpu(device):
    return is_device_type(device, "cpu")


def is_device_mps(device):
    return is_device_type(device, "mps")


def is_device_cuda(device):
    return is_device_type(device, "cuda")


def is_nvidia():
    return _has("cuda") and bool(_torch().version.cuda)


def is_amd():
    return _has("cuda") and bool(getattr(_torch().version, "hip", None))


def is_intel_xpu():
    return False


def is_ascend_npu():
    return False


def is_mlu():
    return False


def is_directml_enabled():
    return False


directml_enabled = False


def mps_mode():
    return _has("mps") and not _has("cuda")


def cpu_mode():
    return not _has("cuda") and not _has("mps")


def is_wsl():
    import platform

    return "microsoft" in platform.release().lower()


def dtype_size(dtype):
    return _torch().empty((), dtype=dtype).element_size()


def should_use_fp16(device=None, model_params=0, prioritize_performance=True, manual_cast=False):
    return device is not None and not is_device_cpu(device) and _has("cuda")


def should_use_bf16(device=None, model_params=0, prioritize_performance=True, manual_cast=False):
    return should_use_fp16(device) and _torch().cuda.is_bf16_supported()


def supports_fp8_compute(device=None):
    return False


def device_supports_non_blocking(device):
    return is_device_cuda(device)


def device_should_use_non_blocking(device):
    return False


def supports_cast(device, dtype):
    return True


def supports_dtype(device, dtype):
    return True


def cast_to_device(tensor, device, dtype, copy=False):
    return tensor.to(device=device, dtype=dtype, copy=copy)


def cast_to(weight, dtype=None, device=None, non_blocking=False, copy=False, stream=None):
    return weight.to(device=device, dtype=dtype, non_blocking=non_blocking, copy=copy)


def xformers_enabled():
    return False


def xformers_enabled_vae():
    return False


def pytorch_attention_enabled():
    return True


def pytorch_attention_enabled_vae():
    return True


def pytorch_attention_flash_attention():
    return False


def sage_attention_enabled():
    return False


def flash_attention_enabled():
    return False


def _system_memory():
    try:
        import psutil

        memory = psutil.virtual_memory()
        return memory.total, memory.available
    except ImportError:
        import os

        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")


def get_total_memory(dev=None, torch_total_too=False):
    if dev is None and _has("cuda") or is_device_cuda(dev):
        total = _torch().cuda.mem_get_info(dev)[1]
    else:
        total = _system_memory()[0]
    return (total, total) if torch_total_too else total


def get_free_memory(dev=None, torch_free_too=False):
    if dev is None and _has("cuda") or is_device_cuda(dev):
        free = _torch().cuda.mem_get_info(dev)[0]
    else:
        free = _system_memory()[1]
    return (free, free) if torch_free_too else free


def minimum_inference_memory():
    return 1 << 30


def extra_reserved_memory():
    return 400 << 20


def free_memory(memory_required, device, keep_loaded=(), for_dynamic=False):
    """Ask the server to give models back when it can."""
    state.app.free(True, False)
    return []


def loaded_models(only_currently_used=False):
    """Native models are not listed here."""
    return []


def load_models_gpu(models, memory_required=0, force_patch_weights=False, minimum_memory_required=None,
                    force_full_load=False):
    if models:
        raise errors.NodeHomeError("comfy.model_management.load_models_gpu")


def load_model_gpu(model):
    raise errors.NodeHomeError("comfy.model_management.load_model_gpu")


def cleanup_models():
    """Python holds no models."""


def cleanup_models_gc():
    gc.collect()


def unload_all_models():
    """Ask the server to unload its models when the running prompt has ended."""
    state.app.free(True, False)


def soft_empty_cache(force=False):
    """Give PyTorch's unused memory back."""
    import sys

    torch = sys.modules.get("torch")
    if torch is not None and _has("cuda"):
        torch.cuda.empty_cache()
    elif torch is not None and _has("mps"):
        torch.mps.empty_cache()


def lora_compute_dtype(device):
    return _torch().float32


def force_channels_last():
    return False


def force_upcast_attention_dtype():
    return None


def resolve_lowvram_weight(weight, model, key):
    return weight


def module_size(module):
    return sum(tensor.nelement() * tensor.element_size() for tensor in module.state_dict().values())


# Interrupts


def interrupt_current_processing(value=True):
    """End the running prompt. An interrupt cannot be taken back: the run is ending already."""
    context = running.current()
    if value and context is not None:
        context.cancel()
    elif context is not None and context.cancelled:
        logging.warning("comfy.model_management.interrupt_current_processing(False): the run is ending already")


def processing_interrupted():
    """Whether the running prompt is to end."""
    context = running.current()
    return context is not None and context.cancelled


def throw_exception_if_processing_interrupted():
    """Raise if the running prompt is to end."""
    if processing_interrupted():
        raise InterruptProcessingException()
