"""Schemas and the base of node classes."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from ._dynamic import MatchType, input_groups
from ._sockets import Hidden, Input


class HiddenHolder:
    """Values of the hidden inputs that a node asked for; the others are ``None``."""

    def __init__(self, values: "Optional[dict]" = None):
        for kind in Hidden:
            setattr(self, kind.name, (values or {}).get(kind.value))


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
        inputs = input_groups(self.inputs)
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
                for group, entries in input_groups(schema.inputs).items()}
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
