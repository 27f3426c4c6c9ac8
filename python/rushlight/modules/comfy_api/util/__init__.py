"""Videos: their parts and the names of formats."""

from comfy_api.latest._types import VideoCodec, VideoComponents, VideoContainer

__all__ = ["VideoCodec", "VideoComponents", "VideoContainer"]
