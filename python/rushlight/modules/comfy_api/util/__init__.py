"""Names of video formats."""

from comfy_api.latest._types import VideoCodec, VideoContainer

__all__ = ["VideoCodec", "VideoContainer"]
