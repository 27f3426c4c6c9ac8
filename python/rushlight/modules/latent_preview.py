"""``latent_preview``: pictures of unfinished latents."""

from __future__ import annotations

from comfy.cli_args import LatentPreviewMethod, args  # noqa: F401
from rushlight.host import imports, progress, running

MAX_PREVIEW_RESOLUTION = 512
_override: "str | None" = None


class LatentPreviewer:
    """Makes pictures of latents; subclasses say how."""

    def decode_latent_to_preview(self, x0):
        raise NotImplementedError

    def decode_latent_to_preview_image(self, preview_format, x0):
        return (preview_format, self.decode_latent_to_preview(x0), MAX_PREVIEW_RESOLUTION)


class Latent2RGBPreviewer(LatentPreviewer):
    """A linear map from latent channels to colours."""

    def __init__(self, latent_rgb_factors, latent_rgb_factors_bias=None, latent_rgb_factors_reshape=None):
        self.factors, self.bias, self.reshape = latent_rgb_factors, latent_rgb_factors_bias, latent_rgb_factors_reshape

    def decode_latent_to_preview(self, x0):
        numpy = imports.library("numpy", "latent_preview.Latent2RGBPreviewer")
        Image = imports.library("PIL.Image", "latent_preview.Latent2RGBPreviewer")
        latent = x0.detach().float().cpu().numpy() if hasattr(x0, "detach") else numpy.asarray(x0, dtype="float32")
        if self.reshape is not None:
            latent = numpy.asarray(self.reshape(latent))
        if latent.ndim == 5:
            latent = latent[:, :, 0]
        picture = numpy.moveaxis(latent[0], 0, -1) @ numpy.asarray(self.factors, dtype="float32")
        if self.bias is not None:
            picture = picture + numpy.asarray(self.bias, dtype="float32")
        return Image.fromarray((((picture + 1.0) / 2.0).clip(0, 1) * 255.0).astype("uint8"))


class TAESDPreviewerImpl(LatentPreviewer):
    """A small decoder that maps a latent to a picture."""

    def __init__(self, taesd):
        self.taesd = taesd

    def decode_latent_to_preview(self, x0):
        Image = imports.library("PIL.Image", "latent_preview.TAESDPreviewerImpl")
        picture = self.taesd.decode(x0[:1])[0].movedim(0, -1)
        return Image.fromarray((((picture + 1.0) / 2.0).clamp(0, 1) * 255.0).byte().cpu().numpy())


def get_previewer(device, latent_format, **_):
    """A previewer for a latent format that has colour factors, or ``None`` when previews are off."""
    context = running.current()
    method = _override or (None if context is None else context.preview_method)
    if method == "none":
        return None
    factors = getattr(latent_format, "latent_rgb_factors", None)
    return None if factors is None else Latent2RGBPreviewer(factors, getattr(latent_format, "latent_rgb_factors_bias", None))


def prepare_callback(model, steps, x0_output_dict=None):
    """A sampler callback that moves the running node's bar."""
    previewer = get_previewer(None, getattr(getattr(model, "model", None), "latent_format", None))

    def callback(step, x0, x, total_steps):
        if x0_output_dict is not None:
            x0_output_dict["x0"] = x0
        preview = previewer.decode_latent_to_preview_image("JPEG", x0) if previewer is not None else None
        progress.report_running(step + 1, total_steps, preview)

    return callback


def set_preview_method(override=None):
    """What previews of Python samplers are made by for the rest of the prompt: a method's name, or ``default`` for the
    prompt's own.

    Previews of native samplers go by the prompt and ``--preview-method``.
    """
    global _override
    names = [method.value for method in LatentPreviewMethod]
    if override is not None and override != "default" and override not in names:
        raise ValueError(f"the preview method '{override}' is none of default, {', '.join(names)}")
    _override = None if override in (None, "default") else override
