"""What node classes say of themselves, for the server."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from . import constants, state

_HIDDEN = {
    "UNIQUE_ID": "unique_id",
    "PROMPT": "prompt",
    "EXTRA_PNGINFO": "extra_pnginfo",
    "DYNPROMPT": "dynprompt",
    "AUTH_TOKEN_COMFY_ORG": "auth_token_comfy_org",
    "API_KEY_COMFY_ORG": "api_key_comfy_org",
}
_PROBE = "RUSHLIGHT_PROBE"
# Keys of V3 that clients see exactly as the class gives them, absent names included.
_AS_SHOWN = ("input", "input_order", "output", "output_is_list", "output_name", "display_name")
_DYNAMIC = ("COMFY_AUTOGROW_V3", "COMFY_DYNAMICCOMBO_V3", "COMFY_DYNAMICSLOT_V3")


def is_v3(cls) -> bool:
    """Whether a class is of the third generation."""
    return hasattr(cls, "define_schema") and hasattr(cls, "GET_NODE_INFO_V1")


def own_method(cls, name: str):
    """A method that the class or one of its bases outside the API defines, bound to the class, or ``None``."""
    for base in cls.__mro__:
        if name in vars(base):
            return None if "_RUSHLIGHT_BASE" in vars(base) or _is_api_base(base) else getattr(cls, name)
    return None


def _is_api_base(base) -> bool:
    return base.__module__.startswith("comfy_api.") and base.__name__.lstrip("_").startswith("ComfyNode")


def class_clone(cls, hidden: dict):
    """The class that a call runs on: its ``hidden`` holds what this node asked for."""
    clone = getattr(cls, "RUSHLIGHT_CLONE", None)
    if clone is not None:
        return clone(hidden)
    return _upstream_clone(cls, hidden)


def _upstream_clone(cls, hidden: dict):
    from comfy_api.latest import io

    kinds = {kind.value if hasattr(kind, "value") else kind: kind for kind in getattr(io, "Hidden", ())}
    data = {kinds.get(kind, kind): value for kind, value in hidden.items()}
    return cls.PREPARE_CLASS_CLONE({"hidden_inputs": data})


def matches_anything(ty) -> bool:
    """Whether a type is a text that says of every text that it is no other (the "any type" trick), or no text."""
    if isinstance(ty, str):
        return str.__str__(ty) == "*" or (type(ty) is not str and not unequal(ty, _PROBE))
    return not isinstance(ty, (list, tuple))


def compares_itself(ty) -> bool:
    """Whether a type is a text with operators of its own that does not match every text."""
    if type(ty) is str or not isinstance(ty, str) or matches_anything(ty):
        return False
    cls = type(ty)
    return cls.__ne__ is not str.__ne__ or cls.__eq__ is not str.__eq__


def unequal(ty, other) -> bool:
    """What ``!=`` says of two types; one that raises is unequal."""
    try:
        return bool(ty != other)
    except Exception:
        return True


def type_name(ty) -> str:
    """A type as text: members of text enums are their value."""
    if isinstance(ty, str):
        value = getattr(ty, "value", None)
        return str.__str__(value if isinstance(value, str) else ty)
    return "*"


def jsonable(value, depth: int = 0):
    """The nearest thing that JSON holds."""
    if depth > 50:
        return None
    if value is None or isinstance(value, (bool, int, float)):
        if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
            return None if value != value else (sys.float_info.max if value > 0 else -sys.float_info.max)
        return value
    if isinstance(value, str):
        return type_name(value)
    if isinstance(value, dict):
        return {str(k): jsonable(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item, depth + 1) for item in value]
    if hasattr(value, "item") and getattr(value, "size", 0) == 1:
        return jsonable(value.item(), depth + 1)
    if hasattr(value, "tolist"):
        return jsonable(value.tolist(), depth + 1)
    if hasattr(value, "as_dict"):
        return jsonable(value.as_dict(), depth + 1)
    return str(value)


def nest_dynamic(arguments: dict, dynamic) -> dict:
    """``images.image0`` becomes ``images={"image0": …}``; a dynamic combo's choice stands under its own name."""
    if not dynamic:
        return arguments
    nested: dict = {}
    for name, value in arguments.items():
        head, _, rest = name.partition(".")
        if head not in dynamic:
            nested[name] = value
            continue
        place = nested.setdefault(head, {})
        if not rest:
            place[head] = value
            continue
        parts = rest.split(".")
        for part in parts[:-1]:
            inner = place.get(part)
            if not isinstance(inner, dict):
                inner = {} if inner is None else {part: inner}
                place[part] = inner
            place = inner
        if isinstance(place.get(parts[-1]), dict):
            place[parts[-1]][parts[-1]] = value
        else:
            place[parts[-1]] = value
    for name in dynamic:
        nested.setdefault(name, {})
    return nested


def expansion(graph, prompt_id: str) -> dict:
    """An expansion's graph as JSON; what JSON cannot hold is kept aside."""
    if hasattr(graph, "finalize"):
        graph = graph.finalize()
    if not isinstance(graph, dict):
        raise TypeError(f"'expand' must be a graph (node id → node), not a {type(graph).__name__}")
    made = {}
    for node_id, node in graph.items():
        inputs = {name: _constant(value, prompt_id) for name, value in node.get("inputs", {}).items()}
        made[str(node_id)] = {**jsonable({k: v for k, v in node.items() if k != "inputs"}), "inputs": inputs}
    return made


def _constant(value, prompt_id: str):
    if isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int):
        return list(value)
    return value if _holds(value) else constants.keep(value, prompt_id)


def _holds(value) -> bool:
    if value is None or isinstance(value, (str, bool, int)):
        return True
    if isinstance(value, float):
        return value == value and abs(value) != float("inf")
    if isinstance(value, list):
        return all(map(_holds, value))
    return isinstance(value, dict) and all(isinstance(k, str) and _holds(v) for k, v in value.items())


class Description:
    """One class's description; what cannot change is read once."""

    def __init__(self, name: str, cls: Any, display_name, python_module: str):
        self.name = name
        self.cls = cls
        self.v3 = is_v3(cls)
        self.display_name = display_name
        self.python_module = python_module
        self.hidden: dict = {}
        self.lazy: set = set()
        self.dynamic: set = set()
        self.own_input_types: dict = {}
        self._inputs: list = []
        if self.v3:
            info = self._v3_info()
            types, lists = info["output"], info["output_is_list"]
        else:
            types = list(getattr(cls, "RETURN_TYPES", ()) or ())
            lists = list(getattr(cls, "OUTPUT_IS_LIST", ()) or ())
        self.raw_types = list(types)
        self.output_types = ["*" if matches_anything(ty) else _output_name(ty) for ty in types]
        self.own_output_types = [compares_itself(ty) for ty in types]
        self.output_is_list = [bool(lists[i]) if i < len(lists) else False for i in range(len(types))]

    def input_names(self) -> list:
        """Names of its declared inputs."""
        return [entry["name"] for entry in self._inputs]

    def make(self) -> dict:
        """The description as it is now: lists of files are read again."""
        return self._make_v3() if self.v3 else self._make_v1()

    # V1

    def _make_v1(self) -> dict:
        cls = self.cls
        groups = cls.INPUT_TYPES()
        shown, order, inputs, any_input = {}, {}, [], False
        own: dict = {}
        for presence in ("required", "optional", "hidden"):
            if presence not in groups:
                continue
            group = groups[presence]
            entries = list(group.items()) if hasattr(group, "items") else []
            shown[presence] = {str(name): jsonable(config) for name, config in entries}
            order[presence] = [str(name) for name, _ in entries]
            inputs += [_input(str(name), presence, config) for name, config in entries]
            for name, config in entries if presence != "hidden" else ():
                raw = config[0] if isinstance(config, (list, tuple)) and config else config
                if compares_itself(raw):
                    own[str(name)] = raw
            any_input = any_input or (presence == "optional" and _takes_any_key(group))
        self._remember(inputs)
        self.own_input_types = own
        names = [str(name) for name in getattr(cls, "RETURN_NAMES", None) or []]
        tooltips = list(getattr(cls, "OUTPUT_TOOLTIPS", None) or [])
        extra = {"input": shown, "input_order": order, "output": jsonable(self.raw_types)}
        if getattr(cls, "RETURN_NAMES", None) is not None:
            extra["output_name"] = names
        if getattr(cls, "OUTPUT_IS_LIST", None) is not None:
            extra["output_is_list"] = jsonable(list(cls.OUTPUT_IS_LIST))
        if tooltips:
            extra["output_tooltips"] = jsonable(tooltips)
        if state.checkout is not None:
            # ComfyUI 0.8 does not show it.
            extra["is_input_list"] = None
        for attribute, key in (("DEPRECATED", "deprecated"), ("EXPERIMENTAL", "experimental"), ("API_NODE", "api_node")):
            if getattr(cls, attribute, False):
                extra[key] = True
        return {
            "name": self.name,
            "display_name": self.display_name or self.name,
            "category": str(getattr(cls, "CATEGORY", "sd")),
            "description": str(getattr(cls, "DESCRIPTION", "") or ""),
            "python_module": str(getattr(cls, "RELATIVE_PYTHON_MODULE", None) or self.python_module),
            "inputs": inputs,
            "outputs": self._outputs(names, tooltips),
            "output_node": bool(getattr(cls, "OUTPUT_NODE", False)),
            "input_is_list": bool(getattr(cls, "INPUT_IS_LIST", False)),
            "not_idempotent": bool(getattr(cls, "NOT_IDEMPOTENT", False)),
            "accepts_any_input": any_input,
            "own_types": list(own),
            "extra": extra,
        }

    def _outputs(self, names, tooltips) -> list:
        made = []
        for place, ty in enumerate(self.output_types):
            raw = self.raw_types[place]
            name = names[place] if place < len(names) else type_name(raw) if isinstance(raw, str) else ty
            tooltip = tooltips[place] if place < len(tooltips) else None
            shown = list(jsonable(raw)) if isinstance(raw, (list, tuple)) else ty
            made.append({"type": shown, "name": name, "is_list": self.output_is_list[place], "tooltip": tooltip})
        return made

    def _remember(self, inputs) -> None:
        self._inputs = [entry for entry in inputs if entry["presence"] != "hidden"]
        self.lazy = {entry["name"] for entry in inputs if entry["options"].get("lazy")}
        self.dynamic = {entry["name"] for entry in inputs if entry["type"] in _DYNAMIC}
        self.hidden = {
            entry["name"]: entry["type"] for entry in inputs if entry["presence"] == "hidden" and entry["type"] in _HIDDEN
        }

    # V3

    def _v3_info(self) -> dict:
        info = self.cls.GET_NODE_INFO_V1()
        return info if isinstance(info, dict) else vars(info)

    def _make_v3(self) -> dict:
        info = jsonable(self._v3_info())
        schema = self.cls.GET_SCHEMA() if hasattr(self.cls, "GET_SCHEMA") else self.cls.define_schema()
        inputs = []
        for presence in ("required", "optional"):
            for name, config in (info["input"].get(presence) or {}).items():
                inputs.append(_input(name, presence, config))
        for kind in getattr(schema, "hidden", None) or ():
            kind = type_name(kind)
            inputs.append({"name": _HIDDEN.get(kind, kind.lower()), "presence": "hidden", "type": kind, "options": {}})
        self._remember(inputs)
        typed = {"input", "input_order", "output", "output_is_list", "output_name", "name", "display_name"}
        typed |= {"description", "python_module", "category", "output_node"}
        extra = {key: value for key, value in info.items() if key not in typed}
        extra.update({key: info[key] for key in _AS_SHOWN if key in info})
        if state.checkout is not None:
            # Shown if the checkout shows it; `None` leaves it out.
            extra.setdefault("is_input_list", None)
        return {
            "name": self.name,
            "display_name": info.get("display_name") or self.name,
            "category": "sd" if info.get("category") is None else info["category"],
            "description": info.get("description") or "",
            "python_module": getattr(self.cls, "RELATIVE_PYTHON_MODULE", None) or self.python_module,
            "inputs": inputs,
            "outputs": self._outputs(info.get("output_name") or [], info.get("output_tooltips") or []),
            "output_node": bool(info.get("output_node")),
            "input_is_list": bool(info.get("is_input_list", getattr(schema, "is_input_list", False))),
            "not_idempotent": bool(getattr(schema, "not_idempotent", False)),
            "accepts_any_input": bool(getattr(schema, "accept_all_inputs", False)),
            "extra": extra if state.checkout is not None else {k: v for k, v in extra.items() if k != "is_input_list"},
        }


def _output_name(ty) -> str:
    return type_name(ty) if isinstance(ty, str) else "COMBO"


def _input(name: str, presence: str, config) -> dict:
    ty, options = "*", {}
    if presence == "hidden":
        ty = config[0] if isinstance(config, (list, tuple)) and config else config
        ty = type_name(ty)
    elif isinstance(config, (list, tuple)) and config:
        raw = config[0]
        if isinstance(raw, (list, tuple)):
            ty = jsonable(raw)
        else:
            ty = "*" if matches_anything(raw) else type_name(raw)
        if len(config) > 1 and isinstance(config[1], dict):
            options = jsonable(config[1])
    elif isinstance(config, str):
        ty = "*" if matches_anything(config) else type_name(config)
    return {"name": name, "presence": presence, "type": ty, "options": options}


def _takes_any_key(group) -> bool:
    if type(group) is dict:
        return False
    try:
        return _PROBE in group
    except Exception:
        return False


def has_parameter(function, name: str) -> bool:
    """Whether a function takes a parameter of that name."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters
