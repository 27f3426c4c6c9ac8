"""Socket types and the shape of a V1 node."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import Any, TypedDict


class IO(str, Enum):
    """Socket types as text."""

    STRING = "STRING"
    IMAGE = "IMAGE"
    MASK = "MASK"
    LATENT = "LATENT"
    BOOLEAN = "BOOLEAN"
    INT = "INT"
    FLOAT = "FLOAT"
    COMBO = "COMBO"
    CONDITIONING = "CONDITIONING"
    SAMPLER = "SAMPLER"
    SIGMAS = "SIGMAS"
    GUIDER = "GUIDER"
    NOISE = "NOISE"
    CLIP = "CLIP"
    CONTROL_NET = "CONTROL_NET"
    VAE = "VAE"
    MODEL = "MODEL"
    LORA_MODEL = "LORA_MODEL"
    LOSS_MAP = "LOSS_MAP"
    CLIP_VISION = "CLIP_VISION"
    CLIP_VISION_OUTPUT = "CLIP_VISION_OUTPUT"
    STYLE_MODEL = "STYLE_MODEL"
    GLIGEN = "GLIGEN"
    UPSCALE_MODEL = "UPSCALE_MODEL"
    AUDIO = "AUDIO"
    WEBCAM = "WEBCAM"
    POINT = "POINT"
    FACE_ANALYSIS = "FACE_ANALYSIS"
    BBOX = "BBOX"
    SEGS = "SEGS"
    VIDEO = "VIDEO"
    ANY = "*"
    NUMBER = "FLOAT,INT"
    PRIMITIVE = "STRING,FLOAT,INT,BOOLEAN"

    def __ne__(self, other):
        if self.value == "*" or other == "*":
            return False
        if not isinstance(other, str):
            return True
        mine, theirs = set(self.value.split(",")), set(str.__str__(other).split(","))
        return not (theirs.issubset(mine) or mine.issubset(theirs))

    def __eq__(self, other):
        return isinstance(other, str) and self.value == str.__str__(getattr(other, "value", other))

    __hash__ = str.__hash__

    def __str__(self):
        return self.value


InputTypeOptions = dict
InputTypeDict = dict


class FileLocator(TypedDict):
    """A file that a frontend can ask for."""

    filename: str
    subfolder: str
    type: str


class ComfyNodeABC(ABC):
    """Base of V1 nodes that want one."""

    DESCRIPTION: str
    CATEGORY: str
    EXPERIMENTAL: bool
    DEPRECATED: bool
    OUTPUT_NODE: bool
    INPUT_IS_LIST: bool
    OUTPUT_IS_LIST: tuple
    RETURN_TYPES: tuple
    RETURN_NAMES: tuple
    OUTPUT_TOOLTIPS: tuple
    FUNCTION: str

    @classmethod
    @abstractmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {}}


class CheckLazyMixin:
    """Asks for every lazy input that is not there yet."""

    def check_lazy_status(self, **kwargs: Any):
        return [name for name, value in kwargs.items() if value is None]
