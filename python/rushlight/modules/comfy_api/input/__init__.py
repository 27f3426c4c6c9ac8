"""Types of inputs."""

from comfy_api.latest._types import AudioInput, ImageInput, LatentInput, MaskInput, VideoInput

__all__ = ["AudioInput", "ImageInput", "LatentInput", "MaskInput", "VideoInput"]
