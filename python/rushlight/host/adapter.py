"""Calls node classes of either generation, and describes them for the server."""

from __future__ import annotations

import inspect
import math
import weakref

from . import constants, describing, interrupts, loop, previews, running


class Adapter:
    """One class under one name. The extension module calls it; results are ``(values, ui, expand)``."""

    def __init__(self, name: str, cls: type, display_name: "str | None" = None, python_module: str = "nodes"):
        self.name = name
        self.cls = cls
        self.v3 = describing.is_v3(cls)
        self.description = describing.Description(name, cls, display_name, python_module)
        self.output_types = self.description.output_types
        self.output_is_list = self.description.output_is_list
        self.own_output_types = self.description.own_output_types
        function = getattr(cls, self.function_name, None)
        _known[name] = self
        self.is_async = inspect.iscoroutinefunction(inspect.unwrap(function)) if function is not None else False

    @property
    def function_name(self) -> str:
        """Name of the method that runs the node."""
        return "execute" if self.v3 else getattr(self.cls, "FUNCTION", "")

    def describe(self) -> dict:
        """What :class:`rushlight_graph::NodeSchema` holds."""
        return self.description.make()

    def takes(self, name: str, class_type: str, slot: int, ty) -> "bool | None":
        """Whether the output ``slot`` of a class, of type ``ty``, may be linked to the input of that name.

        ``None`` where the texts of the types decide: also for types that find themselves unequal, as in ComfyUI.
        """
        mine = self.description.own_input_types.get(name)
        if mine is None or describing.unequal(_given_type(class_type, slot, ty), mine):
            return None
        return True

    def gives(self, slot: int, ty) -> "bool | None":
        """As :meth:`takes`, for an output of this class and the type of another class's input."""
        if not self.own_output_types[slot] or describing.unequal(self.description.raw_types[slot], ty):
            return None
        return True

    def new_instance(self):
        """An instance; classes of the third generation have none."""
        return None if self.v3 else self.cls()

    # Calls

    def call(self, context, instance, kwargs):
        """Run the node."""
        interrupts.begin(context)
        previews.follow(context)
        with running.node(context):
            result = self._function(instance, kwargs)(**self._arguments(kwargs))
            if inspect.isawaitable(result):
                result = loop.settle(result)
            return self._result(result, context)

    def begin(self, context, instance, kwargs, call_id, done) -> None:
        """Begin a coroutine; ``done(result, error)`` is called when it ends."""

        coroutine = interrupts.Coroutine()

        async def run():
            coroutine.begin()
            previews.follow(context)
            with running.node(context):
                return self._result(await self._function(instance, kwargs)(**self._arguments(kwargs)), context)

        def ended(future):
            try:
                result, error = future.result(), None
            except BaseException as raised:  # noqa: B036 - sys.exit in a node must not end the loop
                result, error = None, raised
                if context.cancelled:
                    from .errors import interrupted

                    error = interrupted()
            done(result, error)

        import asyncio

        async def guarded():
            # What is no Exception would end the loop's thread.
            try:
                return await run()
            except (SystemExit, KeyboardInterrupt) as error:
                raise _Ended(error) from error

        def unwrap(future):
            ended(_Unwrapped(future))

        coroutine.future = asyncio.run_coroutine_threadsafe(guarded(), loop.get())
        interrupts.watch(call_id, coroutine)
        coroutine.future.add_done_callback(unwrap)

    def _function(self, instance, kwargs):
        if not self.v3:
            function = getattr(instance, self.function_name, None)
            if function is None:
                raise AttributeError(f"{self.cls.__name__} has no method '{self.function_name}' (its FUNCTION)")
            return function
        return self._clone(kwargs).execute

    def _clone(self, kwargs):
        return describing.class_clone(self.cls, self._take_hidden(kwargs))

    def _take_hidden(self, kwargs) -> dict:
        hidden = {}
        for name, kind in self.description.hidden.items():
            if name in kwargs:
                hidden[kind] = kwargs.pop(name)
        return hidden

    def _arguments(self, kwargs) -> dict:
        arguments = {name: constants.resolve(value) for name, value in kwargs.items()}
        return describing.nest_dynamic(arguments, self.description.dynamic) if self.v3 else arguments

    def _result(self, result, context):
        count = len(self.output_types)
        ui = expand = None
        if hasattr(result, "block_execution") and hasattr(result, "ui"):
            result, ui, expand = self._node_output(result)
        elif isinstance(result, dict):
            ui, expand, result = result.get("ui"), result.get("expand"), result.get("result", _NOTHING)
        if type(result).__name__ == "ExecutionBlocker":
            values = [result] * count
        elif result is None or result is _NOTHING:
            values = [None] * count
        elif isinstance(result, (tuple, list)):
            values = list(result)
            if len(values) < count:
                raise ValueError(
                    f"{self.name} returned {len(values)} value{'s' if len(values) != 1 else ''}, "
                    f"but declares {count} outputs ({', '.join(self.output_types)})"
                )
            values = values[:count]
        else:
            raise TypeError(
                f"{self.name} returned a {type(result).__name__}; a node returns a tuple of its outputs, or a dict "
                "with 'result', 'ui' or 'expand'"
            )
        if expand is not None:
            expand = describing.expansion(expand, context.prompt_id)
        return values, _ui(ui), expand

    def _node_output(self, output):
        if output.block_execution is not None:
            from .errors import blocker

            return blocker(output.block_execution), _as_dict(output.ui), None
        values = output.result if getattr(output, "result", None) is not None else getattr(output, "args", ())
        return (tuple(values) if values is not None else ()) or None, _as_dict(output.ui), output.expand

    # What decides whether and how it runs

    def fingerprint(self, context, instance, kwargs):
        """``("unchanged", None)``, ``("value", json)`` or ``("changed", None)``."""
        name = "fingerprint_inputs" if self.v3 else "IS_CHANGED"
        method = describing.own_method(self.cls, name)
        if method is None:
            return "unchanged", None
        with running.node(context):
            if self.v3:
                method = getattr(self._clone(kwargs), name)
            value = loop.settle(method(**self._arguments(kwargs)))
        if isinstance(value, float) and math.isnan(value):
            return "changed", None
        if value != value:
            return "changed", None
        return "value", value if _is_plain(value) else f"{type(value).__name__}:{value!r}"

    def check_lazy(self, context, instance, kwargs):
        """Names of inputs that the node needs now."""
        if self.v3:
            if describing.own_method(self.cls, "check_lazy_status") is None:
                return [name for name, value in kwargs.items() if value is None and name in self.description.lazy]
            method = self._clone(kwargs).check_lazy_status
        else:
            method = getattr(instance, "check_lazy_status", None)
            if method is None:
                return list(self.description.lazy)
        with running.node(context):
            names = loop.settle(method(**self._arguments(kwargs)))
        return [str(name) for name in names or ()]

    def validate(self, kwargs, types):
        """``None`` without a validation of its own, else ``([names it takes over], fault or None)``."""
        method = describing.own_method(self.cls, "validate_inputs" if self.v3 else "VALIDATE_INPUTS")
        if method is None:
            return None
        parameters = inspect.signature(method).parameters
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        names = [name for name, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD]
        arguments = {name: value for name, value in kwargs.items() if takes_all or name in names}
        if "input_types" in names:
            arguments["input_types"] = types
        for name in names:
            if name not in arguments and parameters[name].default is inspect.Parameter.empty and name in types:
                # Its value is not known before the run.
                arguments[name] = None
        takes_over = self.description.input_names() + (["input_types"] if "input_types" in names else [])
        if self.v3:
            arguments = describing.nest_dynamic(arguments, self.description.dynamic)
        answer = loop.settle(method(**arguments))
        takes_over = takes_over if takes_all else names
        if answer is True:
            return takes_over, None
        return takes_over, answer if isinstance(answer, str) else ""


_NOTHING = object()

_known: "weakref.WeakValueDictionary[str, Adapter]" = weakref.WeakValueDictionary()
"""By name of the class."""


def _given_type(class_type: str, slot: int, ty):
    """A type as the class declares it, for operators that look at more than its text."""
    adapter = _known.get(class_type)
    if adapter is not None and slot < len(adapter.own_output_types) and adapter.own_output_types[slot]:
        return adapter.description.raw_types[slot]
    return ty


class _Ended(Exception):
    """Carries what would end the loop's thread."""


class _Unwrapped:
    """A finished future that raises what the coroutine raised."""

    def __init__(self, future):
        self._future = future

    def result(self):
        try:
            return self._future.result()
        except _Ended as ended:
            raise ended.args[0]


def _is_plain(value) -> bool:
    if value is None or isinstance(value, (str, bool, float)):
        return True
    if isinstance(value, int):
        return abs(value) < 1 << 63
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, dict) and all(isinstance(k, str) and _is_plain(v) for k, v in value.items())


def _as_dict(ui):
    return ui.as_dict() if hasattr(ui, "as_dict") else ui


def _ui(ui):
    """Each value as a list, as merging several calls would leave it: a bare text becomes its letters."""
    if ui is None:
        return None
    if not isinstance(ui, dict):
        raise TypeError(f"'ui' must be a dict of lists, not a {type(ui).__name__}")
    return {str(key): describing.jsonable(list(value)) for key, value in ui.items()}
