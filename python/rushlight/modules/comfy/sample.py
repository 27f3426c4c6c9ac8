"""``comfy.sample``: noise, and the names of functions that need the PyTorch engine."""

from __future__ import annotations

from rushlight.host import errors

try:
    import numpy as np
except ImportError:
    np = None


def prepare_noise(latent_image, seed, noise_inds=None):
    """PyTorch's CPU noise for a latent; pictures with the same index in ``noise_inds`` get the same noise."""
    import torch

    generator = torch.manual_seed(seed)
    if noise_inds is None:
        return torch.randn(latent_image.size(), dtype=latent_image.dtype, layout=latent_image.layout,
                           generator=generator, device="cpu")
    wanted = [int(index) for index in noise_inds]
    made = {}
    for index in range(max(wanted) + 1):
        noise = torch.randn([1] + list(latent_image.size())[1:], dtype=latent_image.dtype,
                            layout=latent_image.layout, generator=generator, device="cpu")
        if index in wanted:
            made[index] = noise
    return torch.cat([made[index] for index in wanted], axis=0)


def fix_empty_latent_channels(model, latent_image, downscale_ratio_spacial=None):
    """Native samplers fit empty latents themselves."""
    return latent_image


def _need(name):
    def function(*args, **kwargs):
        raise errors.NodeHomeError(f"comfy.sample.{name}")

    function.__name__ = name
    return function


sample = _need("sample")
sample_custom = _need("sample_custom")
prepare_mask = _need("prepare_mask")
cleanup_additional_models = _need("cleanup_additional_models")
