"""``comfy``: the parts of upstream's engine that custom nodes need at import. The engine itself is native."""

import sys

from rushlight.host import errors

_ENGINE = (
    "sd", "model_patcher", "model_base", "controlnet", "lora", "ops", "k_diffusion", "ldm", "clip_vision", "sd1_clip",
    "sdxl_clip", "model_detection", "model_sampling", "latent_formats", "conds", "hooks", "patcher_extension", "cldm",
    "sampler_helpers", "diffusers_load", "float", "quant_ops", "supported_models", "gligen", "t2i_adapter", "taesd",
    "text_encoders", "weight_adapter", "lora_convert", "samplers_extra", "context_windows",
)


__getattr__ = errors.module_getattr("comfy", _ENGINE)


class _EngineFinder:
    """Importing a part of the engine says what to do instead of "no such module"."""

    @staticmethod
    def find_spec(fullname, path=None, target=None):
        parts = fullname.split(".")
        if parts[0] != "comfy" or len(parts) < 2:
            return None
        if parts[1] in _ENGINE or parts[-1] in getattr(sys.modules.get(".".join(parts[:-1])), "ENGINE_NAMES", ()):
            # An ImportError without a name: `from comfy import sd` would swallow one with it, and what it says.
            raise errors.NodeHomeImportError(fullname)
        return None


if not any(finder.__name__ == "_EngineFinder" for finder in sys.meta_path if isinstance(finder, type)):
    sys.meta_path.append(_EngineFinder)
