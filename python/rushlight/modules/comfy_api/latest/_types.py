"""Types of values."""

from __future__ import annotations

from enum import Enum
from typing import Any, TypedDict


class AudioInput(TypedDict):
    """AUDIO."""

    waveform: Any
    sample_rate: int


class LatentInput(TypedDict):
    """LATENT."""

    samples: Any


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


class InputImpl:
    """Implementations of input types that need PyAV; there are none stand-alone."""
