"""Implementations of input types."""

from comfy_api.latest._types import VideoFromComponents, VideoFromFile

__all__ = ["VideoFromComponents", "VideoFromFile"]
