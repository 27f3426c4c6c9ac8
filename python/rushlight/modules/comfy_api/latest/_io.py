"""Schemas, sockets and the base of node classes."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Callable, Optional

from comfy_execution.graph_utils import ExecutionBlocker  # noqa: F401


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


class HiddenHolder:
    """Values of the hidden inputs that a node asked for; the others are ``None``."""

    def __init__(self, values: "Optional[dict]" = None):
        for kind in Hidden:
            setattr(self, kind.name, (values or {}).get(kind.value))


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


class MultiType:
    """An input that takes several types."""

    io_type = "*"
    Type = Any

    class Input(Input):
        def __init__(self, id, types, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None,
                     raw_link=None, advanced=None):
            widget = id if isinstance(id, Input) else None
            name = widget.id if widget is not None else id
            super().__init__(name, display_name, optional or bool(widget and widget.optional), tooltip, lazy,
                             extra_dict, raw_link, advanced)
            if widget is not None:
                self.options = {**widget.options, **self.options}
            names = [widget.get_io_type()] if widget is not None else []
            names += [kind if isinstance(kind, str) else kind.io_type for kind in types]
            self.io_type = ",".join(dict.fromkeys(names))


class MatchType:
    """Sockets that take the same type as each other."""

    io_type = "COMFY_MATCHTYPE_V3"
    Type = Any

    class Template:
        """What the sockets share."""

        def __init__(self, template_id, allowed_types=None):
            kinds = [AnyType] if allowed_types is None else allowed_types
            kinds = kinds if isinstance(kinds, (list, tuple)) else [kinds]
            self.template_id, self.allowed_types = template_id, list(kinds)

        def as_dict(self):
            return {"template_id": self.template_id, "allowed_types": ",".join(kind.io_type for kind in self.allowed_types)}

    class Input(Input):
        io_type = "COMFY_MATCHTYPE_V3"

        def __init__(self, id, template, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None,
                     raw_link=None, advanced=None):
            super().__init__(id, display_name, optional, tooltip, lazy, extra_dict, raw_link, advanced,
                             template=template.as_dict())
            self.template = template

    class Output(Output):
        io_type = "COMFY_MATCHTYPE_V3"

        def __init__(self, template, id=None, display_name=None, tooltip=None, is_output_list=False):
            super().__init__(id, display_name, tooltip, is_output_list)
            self.template = template


def _groups(inputs) -> dict:
    made: dict = {"required": {}}
    for entry in inputs:
        made.setdefault("optional" if entry.optional else "required", {})[entry.id] = entry.config()
    return made


class Autogrow:
    """Inputs that a user adds as needed; the node gets a dict of them."""

    io_type = "COMFY_AUTOGROW_V3"
    Type = dict

    class TemplatePrefix:
        """Inputs named by a prefix and a number."""

        def __init__(self, input, prefix, min=1, max=10):
            self.input, self.prefix, self.min, self.max = input, prefix, min, max

        def as_dict(self):
            return {"input": _groups([self.input]), "prefix": self.prefix, "min": self.min, "max": self.max}

    class TemplateNames:
        """Inputs with given names."""

        def __init__(self, input, names, min=1):
            self.input, self.names, self.min = input, list(names), min

        def as_dict(self):
            return {"input": _groups([self.input]), "names": self.names, "min": self.min}

    class Input(Input):
        io_type = "COMFY_AUTOGROW_V3"

        def __init__(self, id, template, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None,
                     raw_link=None, advanced=None):
            super().__init__(id, display_name, optional, tooltip, lazy, extra_dict, raw_link, advanced,
                             template=template.as_dict())
            self.template = template


class DynamicCombo:
    """A choice that brings inputs of its own; the node gets a dict of the choice and them."""

    io_type = "COMFY_DYNAMICCOMBO_V3"
    Type = dict

    class Option:
        """One choice."""

        def __init__(self, key, inputs):
            self.key, self.inputs = key, list(inputs)

        def as_dict(self):
            return {"key": self.key, "inputs": _groups(self.inputs)}

    class Input(Input):
        io_type = "COMFY_DYNAMICCOMBO_V3"

        def __init__(self, id, options, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None,
                     raw_link=None, advanced=None):
            super().__init__(id, display_name, optional, tooltip, lazy, extra_dict, raw_link, advanced,
                             options=[option.as_dict() for option in options])


@dataclass
class Schema:
    """What a node takes and gives."""

    node_id: str
    display_name: Optional[str] = None
    category: str = "sd"
    inputs: list = field(default_factory=list)
    outputs: list = field(default_factory=list)
    hidden: list = field(default_factory=list)
    description: str = ""
    search_aliases: list = field(default_factory=list)
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_dev_only: bool = False
    is_api_node: bool = False
    price_badge: Any = None
    not_idempotent: bool = False
    enable_expand: bool = False
    accept_all_inputs: bool = False
    essentials_category: Optional[str] = None

    def validate(self) -> None:
        """Raises if two inputs or two outputs have one id."""
        for kind, entries in (("inputs", self.inputs), ("outputs", self.outputs)):
            ids = [entry.id for entry in entries if entry.id is not None]
            if len(ids) != len(set(ids)):
                raise ValueError(f"{self.node_id}: ids of {kind} must differ: {ids}")

    def finalize(self) -> None:
        """Output nodes get the prompt and the workflow, which they save."""
        self.hidden = list(self.hidden or [])
        if self.is_output_node:
            for kind in (Hidden.prompt, Hidden.extra_pnginfo):
                if kind not in self.hidden:
                    self.hidden.append(kind)
        for place, output in enumerate(self.outputs):
            if output.id is None:
                output.id = f"_{place}_{output.get_io_type()}_"

    def get_v1_info(self, cls) -> dict:
        """The ``/object_info`` entry."""
        inputs = _groups(self.inputs)
        if self.hidden:
            inputs["hidden"] = {kind.name: [kind.value] for kind in self.hidden}
        names = [output.display_name or output.get_io_type() for output in self.outputs]
        tooltips = [output.tooltip for output in self.outputs]
        matches = [output.template.template_id if isinstance(output, MatchType.Output) else None for output in self.outputs]
        info = {
            "input": inputs,
            "input_order": {key: list(group) for key, group in inputs.items()},
            "is_input_list": self.is_input_list,
            "output": [output.get_io_type() for output in self.outputs],
            "output_is_list": [output.is_output_list for output in self.outputs],
            "output_name": names,
            "output_tooltips": tooltips,
            "output_matchtypes": matches if any(matches) else None,
            "name": self.node_id,
            "display_name": self.display_name,
            "category": self.category,
            "description": self.description,
            "output_node": self.is_output_node,
            "deprecated": self.is_deprecated,
            "experimental": self.is_experimental,
            "api_node": self.is_api_node,
            "python_module": getattr(cls, "RELATIVE_PYTHON_MODULE", "nodes"),
        }
        if self.search_aliases:
            info["search_aliases"] = list(self.search_aliases)
        return info


class NodeOutput:
    """What ``execute`` returns."""

    def __init__(self, *args, ui=None, expand=None, block_execution=None):
        self.args = args
        self.ui, self.expand, self.block_execution = ui, expand, block_execution

    @property
    def result(self):
        return self.args if self.args else None

    @classmethod
    def from_dict(cls, data: dict) -> "NodeOutput":
        return cls(*data.get("result", ()), ui=data.get("ui"), expand=data.get("expand"))

    def __getitem__(self, index):
        return self.args[index]


class ComfyNode:
    """Base of node classes."""

    _RUSHLIGHT_BASE = True
    hidden: HiddenHolder = HiddenHolder()
    RELATIVE_PYTHON_MODULE = None
    SCHEMA: Optional[Schema] = None

    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError(f"{cls.__name__} must define define_schema")

    @classmethod
    def execute(cls, **kwargs) -> NodeOutput:
        raise NotImplementedError(f"{cls.__name__} must define execute")

    @classmethod
    def validate_inputs(cls, **kwargs):
        return True

    @classmethod
    def fingerprint_inputs(cls, **kwargs):
        return None

    @classmethod
    def check_lazy_status(cls, **kwargs):
        return [name for name, value in kwargs.items() if value is None]

    @classmethod
    def GET_SCHEMA(cls) -> Schema:
        """The schema, made anew: lists of files may have changed."""
        schema = cls.define_schema()
        schema.validate()
        schema.finalize()
        return schema

    @classmethod
    def GET_NODE_INFO_V1(cls) -> dict:
        return cls.GET_SCHEMA().get_v1_info(cls)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        schema = cls.GET_SCHEMA()
        made = {group: {name: tuple(config) for name, config in entries.items()}
                for group, entries in _groups(schema.inputs).items()}
        if schema.hidden:
            made["hidden"] = {kind.name: (kind.value,) for kind in schema.hidden}
        return made

    @classmethod
    def RUSHLIGHT_CLONE(cls, hidden: dict):
        """A class of its own for one call, with that call's hidden inputs."""
        return type(cls.__name__, (cls,), {"hidden": HiddenHolder(hidden), "__module__": cls.__module__})


class _Described:
    """A V1 attribute read from the schema."""

    def __init__(self, read: Callable):
        self.read = read

    def __get__(self, instance, owner):
        return self.read(owner.GET_SCHEMA())


for _name, _read in {
    "RETURN_TYPES": lambda schema: tuple(output.get_io_type() for output in schema.outputs),
    "RETURN_NAMES": lambda schema: tuple(output.display_name or output.get_io_type() for output in schema.outputs),
    "OUTPUT_IS_LIST": lambda schema: tuple(output.is_output_list for output in schema.outputs),
    "CATEGORY": lambda schema: schema.category,
    "OUTPUT_NODE": lambda schema: schema.is_output_node,
    "INPUT_IS_LIST": lambda schema: schema.is_input_list,
    "DESCRIPTION": lambda schema: schema.description,
    "FUNCTION": lambda schema: "execute",
}.items():
    setattr(ComfyNode, _name, _Described(_read))


def add_to_dict_v1(entry: Input, into: dict) -> None:
    """Adds an input to V1 groups."""
    into.setdefault("optional" if entry.optional else "required", {})[entry.id] = tuple(copy.copy(entry.config()))
