"""Types of values."""

from __future__ import annotations

from enum import Enum
from typing import Any, TypedDict

from rushlight.host import errors


class AudioInput(TypedDict):
    """AUDIO."""

    waveform: Any
    sample_rate: int


class LatentInput(TypedDict):
    """LATENT."""

    samples: Any


ImageInput = Any
MaskInput = Any


class VideoComponents:
    """Pictures and sound of a video."""

    def __init__(self, images, frame_rate, audio=None, metadata=None):
        self.images, self.frame_rate, self.audio, self.metadata = images, frame_rate, audio, metadata


class VideoCodec(str, Enum):
    """Video codecs."""

    AUTO = "auto"
    H264 = "h264"


class VideoContainer(str, Enum):
    """Video containers."""

    AUTO = "auto"
    MP4 = "mp4"


class VideoInput:
    """A video; subclasses say where it comes from."""


class Input:
    """Names of input types."""

    Image = Any
    Mask = Any
    Audio = AudioInput
    Latent = LatentInput
    Video = VideoInput


class _Video(VideoInput):
    def __init__(self, *args, **kwargs):
        raise errors.NodeHomeError(f"comfy_api.latest.InputImpl.{type(self).__name__}")


class VideoFromFile(_Video):
    """A video file. ComfyUI's own code reads it: there is none stand-alone."""


class VideoFromComponents(_Video):
    """A video of pictures and sound. ComfyUI's own code writes it: there is none stand-alone."""


class InputImpl:
    """Implementations of input types."""

    VideoFromFile = VideoFromFile
    VideoFromComponents = VideoFromComponents
