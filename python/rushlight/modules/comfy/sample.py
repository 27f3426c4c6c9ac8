"""``comfy.sample``: noise, and the names of functions that need the PyTorch engine."""

from __future__ import annotations

from rushlight.host import errors, imports


def prepare_noise(latent_image, seed, noise_inds=None):
    """PyTorch's CPU noise for a latent; pictures with the same index in ``noise_inds`` get the same noise."""
    torch = imports.library("torch", "comfy.sample.prepare_noise")
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
    """An empty latent in the channels that a model takes. Native models do not say how many those are, but native samplers
    fit empty latents themselves: such a latent stays as it is. Others would have to be converted."""
    if bool((latent_image != 0).any()):
        return latent_image
    if getattr(model, "kind", None) == "MODEL":
        return latent_image
    raise errors.NodeHomeError("comfy.sample.fix_empty_latent_channels for a model of Python's")


__getattr__ = errors.module_getattr(
    "comfy.sample", functions=("sample", "sample_custom", "prepare_mask", "cleanup_additional_models")
)
