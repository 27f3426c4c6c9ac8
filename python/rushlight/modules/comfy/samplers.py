"""``comfy.samplers``: the names of samplers and schedulers. Sampling is native; see ``nodes.common_ksampler``."""

from __future__ import annotations

from typing import Callable, NamedTuple

from rushlight.host import errors, state


def _choices(name: str, fallback: list) -> list:
    info = None if state.app is None else state.app.native_schema("KSampler")
    kind = (info or {}).get("input", {}).get("required", {}).get(name)
    if not kind:
        return fallback
    return list(kind[0]) if isinstance(kind[0], list) else list(kind[1].get("options", fallback))


SAMPLER_NAMES = _choices("sampler_name", [
    "euler", "euler_ancestral", "heun", "dpm_2", "dpm_2_ancestral", "lms", "dpmpp_2s_ancestral", "dpmpp_sde",
    "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde", "ddpm", "lcm", "ddim", "uni_pc", "uni_pc_bh2",
])
KSAMPLER_NAMES = [name for name in SAMPLER_NAMES if name not in ("ddim", "uni_pc", "uni_pc_bh2")]
SCHEDULER_NAMES = _choices("scheduler", [
    "simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal", "linear_quadratic",
    "kl_optimal",
])


class SchedulerHandler(NamedTuple):
    """How a scheduler makes sigmas."""

    handler: Callable
    use_ms: bool = True


SCHEDULER_HANDLERS: dict = {
    name: SchedulerHandler(errors.needs_engine(f"comfy.samplers.SCHEDULER_HANDLERS['{name}'].handler"))
    for name in SCHEDULER_NAMES
}
"""Names are kept here as in ComfyUI; native schedulers cannot be called from Python."""


class KSampler:
    """Carries the lists of names; an instance needs the PyTorch engine."""

    SAMPLERS = SAMPLER_NAMES
    SCHEDULERS = SCHEDULER_NAMES
    DISCARD_PENULTIMATE_SIGMA_SAMPLERS = {"dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"}

    def __init__(self, *args, **kwargs):
        raise errors.NodeHomeError("comfy.samplers.KSampler(...)")


class _Engine:
    def __init__(self, *args, **kwargs):
        raise errors.NodeHomeError(f"comfy.samplers.{type(self).__name__}")


class CFGGuider(_Engine):
    """Guidance on the PyTorch engine."""


class Sampler(_Engine):
    """A sampler on the PyTorch engine."""


class KSAMPLER(Sampler):
    """A sampler function on the PyTorch engine."""


class KSamplerX0Inpaint(_Engine):
    """Inpainting on the PyTorch engine."""


__getattr__ = errors.module_getattr("comfy.samplers", functions=(
    "sample", "sampling_function", "calculate_sigmas", "sampler_object", "ksampler", "calc_cond_batch", "cfg_function",
    "get_area_and_mult", "can_concat_cond", "cond_cat", "pre_run_control",
))
