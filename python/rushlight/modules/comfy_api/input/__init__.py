"""Types of inputs."""

from comfy_api.latest._types import AudioInput, LatentInput, VideoInput

__all__ = ["AudioInput", "LatentInput", "VideoInput"]
