"""``comfy``: the parts of upstream's engine that custom nodes need at import. The engine itself is native."""

_ENGINE = (
    "sd", "model_patcher", "model_base", "controlnet", "lora", "ops", "k_diffusion", "ldm", "clip_vision", "sd1_clip",
    "sdxl_clip", "model_detection", "model_sampling", "latent_formats", "conds", "hooks", "patcher_extension", "cldm",
    "sampler_helpers", "diffusers_load", "float", "quant_ops", "supported_models", "gligen", "t2i_adapter", "taesd",
    "text_encoders", "weight_adapter", "lora_convert", "samplers_extra", "context_windows",
)


def __getattr__(name):
    if name in _ENGINE:
        from rushlight.host.errors import NodeHomeError

        raise NodeHomeError(f"comfy.{name}")
    raise AttributeError(f"module 'comfy' has no attribute '{name}'")


class _EngineFinder:
    """Importing a part of the engine says what to do instead of "no such module"."""

    @staticmethod
    def find_spec(fullname, path=None, target=None):
        parts = fullname.split(".")
        if parts[0] == "comfy" and len(parts) > 1 and parts[1] in _ENGINE:
            from rushlight.host.errors import NodeHomeError

            error = NodeHomeError(fullname)
            # Packs that make such an import optional catch ImportError.
            raise ModuleNotFoundError(str(error), name=fullname)
        return None


def _install():
    import sys

    if _EngineFinder not in sys.meta_path:
        sys.meta_path.append(_EngineFinder)


_install()
