"""Inputs that take several types, match each other, grow, or depend on a choice."""

from __future__ import annotations

from typing import Any

from ._sockets import AnyType, Input, Output


def input_groups(inputs) -> dict:
    made: dict = {"required": {}}
    for entry in inputs:
        made.setdefault("optional" if entry.optional else "required", {})[entry.id] = entry.config()
    return made


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


class Autogrow:
    """Inputs that a user adds as needed; the node gets a dict of them."""

    io_type = "COMFY_AUTOGROW_V3"
    Type = dict

    class TemplatePrefix:
        """Inputs named by a prefix and a number."""

        def __init__(self, input, prefix, min=1, max=10):
            self.input, self.prefix, self.min, self.max = input, prefix, min, max

        def as_dict(self):
            return {"input": input_groups([self.input]), "prefix": self.prefix, "min": self.min, "max": self.max}

    class TemplateNames:
        """Inputs with given names."""

        def __init__(self, input, names, min=1):
            self.input, self.names, self.min = input, list(names), min

        def as_dict(self):
            return {"input": input_groups([self.input]), "names": self.names, "min": self.min}

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
            return {"key": self.key, "inputs": input_groups(self.inputs)}

    class Input(Input):
        io_type = "COMFY_DYNAMICCOMBO_V3"

        def __init__(self, id, options, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None,
                     raw_link=None, advanced=None):
            super().__init__(id, display_name, optional, tooltip, lazy, extra_dict, raw_link, advanced,
                             options=[option.as_dict() for option in options])
