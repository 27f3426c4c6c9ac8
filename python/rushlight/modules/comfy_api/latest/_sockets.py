"""Socket types: what inputs and outputs of a schema are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Optional


class FolderType(str, Enum):
    """Folders of files."""

    input = "input"
    output = "output"
    temp = "temp"


class UploadType(str, Enum):
    """What a combo lets a user upload."""

    image = "image_upload"
    audio = "audio_upload"
    video = "video_upload"
    model = "file_upload"


class NumberDisplay(str, Enum):
    """How a number is edited."""

    number = "number"
    slider = "slider"
    gradient_slider = "gradientslider"
    color = "color"


class ControlAfterGenerate(str, Enum):
    """What happens to a value after a run."""

    fixed = "fixed"
    increment = "increment"
    decrement = "decrement"
    randomize = "randomize"


class Hidden(str, Enum):
    """Inputs that the server fills."""

    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"
    auth_token_comfy_org = "AUTH_TOKEN_COMFY_ORG"
    api_key_comfy_org = "API_KEY_COMFY_ORG"


def _json(value):
    return value.value if isinstance(value, Enum) else value


def _kept(**options) -> dict:
    return {key: _json(value) for key, value in options.items() if value is not None}


class Input:
    """An input of a schema."""

    io_type = "*"

    def __init__(self, id: str, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None,
                 raw_link=None, advanced=None, **options):
        self.id, self.optional = id, optional
        self.display_name, self.tooltip, self.lazy = display_name, tooltip, lazy
        self.extra_dict = extra_dict or {}
        self.options = _kept(display_name=display_name, tooltip=tooltip, lazy=lazy, rawLink=raw_link, advanced=advanced)
        self.options.update(_kept(**options))

    def get_io_type(self) -> str:
        return self.io_type

    def as_dict(self) -> dict:
        return {**self.options, **self.extra_dict}

    def config(self) -> list:
        """``[TYPE, {options}]``."""
        return [self.get_io_type(), self.as_dict()]


class WidgetInput(Input):
    """An input that has a widget."""

    def __init__(self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, socketless=None,
                 widget_type=None, force_input=None, extra_dict=None, raw_link=None, advanced=None, **options):
        super().__init__(id, display_name, optional, tooltip, lazy, extra_dict, raw_link, advanced, default=default,
                         socketless=socketless, widgetType=widget_type, forceInput=force_input, **options)
        self.default = default


class Output:
    """An output of a schema."""

    io_type = "*"

    def __init__(self, id=None, display_name=None, tooltip=None, is_output_list=False):
        self.id, self.display_name, self.tooltip, self.is_output_list = id, display_name, tooltip, is_output_list

    def get_io_type(self) -> str:
        return self.io_type


class ComfyType:
    """A socket type with its ``Input`` and ``Output``."""

    Type = Any
    io_type = "*"


def _socket(name: str, widget: bool = False) -> type:
    members = {"io_type": name, "Type": Any}
    members["Input"] = type("Input", (WidgetInput if widget else Input,), {"io_type": name})
    members["Output"] = type("Output", (Output,), {"io_type": name})
    return type(name.title().replace("_", ""), (ComfyType,), members)


def comfytype(io_type: str, **_):
    """Decorator: makes a class a socket type."""
    def decorate(cls):
        cls.io_type = io_type
        for kind, base in (("Input", Input), ("Output", Output)):
            own = vars(cls).get(kind)
            bases = (base,) if own is None else (own,) if issubclass(own, base) else (own, base)
            setattr(cls, kind, type(kind, bases, {"io_type": io_type}))
        return cls
    return decorate


def Custom(io_type: str) -> type:
    """A socket type of that name."""
    return _socket(io_type)


class Int(_socket("INT", widget=True)):
    """Whole numbers."""

    class Input(WidgetInput):
        io_type = "INT"

        def __init__(self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, min=None,
                     max=None, step=None, control_after_generate=None, display_mode=None, socketless=None,
                     force_input=None, extra_dict=None, raw_link=None, advanced=None):
            super().__init__(id, display_name, optional, tooltip, lazy, default, socketless, None, force_input,
                             extra_dict, raw_link, advanced, min=min, max=max, step=step,
                             control_after_generate=control_after_generate, display=display_mode)


class Float(_socket("FLOAT", widget=True)):
    """Numbers."""

    class Input(WidgetInput):
        io_type = "FLOAT"

        def __init__(self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, min=None,
                     max=None, step=None, round=None, display_mode=None, gradient_stops=None, socketless=None,
                     force_input=None, extra_dict=None, raw_link=None, advanced=None):
            super().__init__(id, display_name, optional, tooltip, lazy, default, socketless, None, force_input,
                             extra_dict, raw_link, advanced, min=min, max=max, step=step, round=round,
                             display=display_mode, gradient_stops=gradient_stops)


class String(_socket("STRING", widget=True)):
    """Text."""

    class Input(WidgetInput):
        io_type = "STRING"

        def __init__(self, id, display_name=None, optional=False, tooltip=None, lazy=None, multiline=False,
                     placeholder=None, default=None, dynamic_prompts=None, socketless=None, force_input=None,
                     extra_dict=None, raw_link=None, advanced=None):
            super().__init__(id, display_name, optional, tooltip, lazy, default, socketless, None, force_input,
                             extra_dict, raw_link, advanced, multiline=multiline, placeholder=placeholder,
                             dynamicPrompts=dynamic_prompts)


class Boolean(_socket("BOOLEAN", widget=True)):
    """Yes or no."""

    class Input(WidgetInput):
        io_type = "BOOLEAN"

        def __init__(self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, label_on=None,
                     label_off=None, socketless=None, force_input=None, extra_dict=None, raw_link=None, advanced=None):
            super().__init__(id, display_name, optional, tooltip, lazy, default, socketless, None, force_input,
                             extra_dict, raw_link, advanced, label_on=label_on, label_off=label_off)


def _options(options):
    if isinstance(options, type) and issubclass(options, Enum):
        return [member.value for member in options]
    return None if options is None else [_json(option) for option in options]


class Combo(_socket("COMBO", widget=True)):
    """A choice."""

    class Input(WidgetInput):
        io_type = "COMBO"

        def __init__(self, id, options=None, display_name=None, optional=False, tooltip=None, lazy=None, default=None,
                     control_after_generate=None, upload=None, image_folder=None, remote=None, socketless=None,
                     extra_dict=None, raw_link=None, advanced=None):
            uploads = {} if upload is None else {_json(upload): True}
            super().__init__(id, display_name, optional, tooltip, lazy, _json(default), socketless, None, None,
                             extra_dict, raw_link, advanced, multiselect=False, options=_options(options),
                             control_after_generate=control_after_generate, image_folder=image_folder,
                             remote=remote.as_dict() if remote is not None else None, **uploads)

    class Output(Output):
        io_type = "COMBO"

        def __init__(self, id=None, display_name=None, options=None, tooltip=None, is_output_list=False):
            super().__init__(id, display_name, tooltip, is_output_list)
            self.options = _options(options) or []


class MultiCombo(_socket("COMBO", widget=True)):
    """Several choices of a list."""

    class Input(WidgetInput):
        io_type = "COMBO"

        def __init__(self, id, options, display_name=None, optional=False, tooltip=None, lazy=None, default=None,
                     placeholder=None, chip=None, control_after_generate=None, socketless=None, extra_dict=None,
                     raw_link=None, advanced=None):
            super().__init__(id, display_name, optional, tooltip, lazy, default, socketless, None, None, extra_dict,
                             raw_link, advanced, multiselect=True, options=_options(options),
                             placeholder=placeholder, chip=chip, control_after_generate=control_after_generate)


@dataclass
class RemoteOptions:
    """A list of choices that the frontend gets from a route."""

    route: str
    refresh_button: bool
    control_after_refresh: str = "first"
    timeout: Optional[int] = None
    max_retries: Optional[int] = None
    refresh: Optional[int] = None

    def as_dict(self):
        return _kept(**vars(self))


Image, Mask, Latent, Conditioning = map(_socket, ("IMAGE", "MASK", "LATENT", "CONDITIONING"))
Sampler, Sigmas, Noise, Guider = map(_socket, ("SAMPLER", "SIGMAS", "NOISE", "GUIDER"))
Clip, ControlNet, Vae, Model = map(_socket, ("CLIP", "CONTROL_NET", "VAE", "MODEL"))
ClipVision, ClipVisionOutput = _socket("CLIP_VISION"), _socket("CLIP_VISION_OUTPUT")
StyleModel, Gligen, UpscaleModel = _socket("STYLE_MODEL"), _socket("GLIGEN"), _socket("UPSCALE_MODEL")
LatentUpscaleModel, ModelPatch = _socket("LATENT_UPSCALE_MODEL"), _socket("MODEL_PATCH")
AudioEncoder, AudioEncoderOutput = _socket("AUDIO_ENCODER"), _socket("AUDIO_ENCODER_OUTPUT")
Audio, Video, SVG, LoraModel = map(_socket, ("AUDIO", "VIDEO", "SVG", "LORA_MODEL"))
LossMap, Voxel, Mesh, Hooks = map(_socket, ("LOSS_MAP", "VOXEL", "MESH", "HOOKS"))
HookKeyframes, TimestepsRange = _socket("HOOK_KEYFRAMES"), _socket("TIMESTEPS_RANGE")
LatentOperation, FlowControl = _socket("LATENT_OPERATION"), _socket("FLOW_CONTROL")
Accumulation, Load3D, Load3DCamera = _socket("ACCUMULATION"), _socket("LOAD_3D"), _socket("LOAD3D_CAMERA")
Load3DAnimation, Photomaker, Point = _socket("LOAD_3D_ANIMATION"), _socket("PHOTOMAKER"), _socket("POINT")
FaceAnalysis, BBOX, SEGS = _socket("FACE_ANALYSIS"), _socket("BBOX"), _socket("SEGS")
Webcam, AudioRecord, WanCameraEmbedding = _socket("WEBCAM"), _socket("AUDIO_RECORD"), _socket("WAN_CAMERA_EMBEDDING")
AnyType, Tracks, Color, BoundingBox = _socket("*"), _socket("TRACKS"), _socket("COLOR"), _socket("BOUNDING_BOX")
