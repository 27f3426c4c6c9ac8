"""Native node classes as Python classes."""

from __future__ import annotations

from . import running, state

# Names of the methods by which packs call core classes.
_METHODS = {
    "VAEEncode": "encode", "VAEDecode": "decode", "VAEDecodeTiled": "decode", "VAEEncodeTiled": "encode",
    "VAEEncodeForInpaint": "encode", "CLIPTextEncode": "encode", "InpaintModelConditioning": "encode",
    "LoraLoader": "load_lora", "LoraLoaderModelOnly": "load_lora_model_only", "CLIPSetLastLayer": "set_last_layer",
    "ConditioningCombine": "combine", "ConditioningConcat": "concat", "ConditioningAverage": "addWeighted",
    "ConditioningSetMask": "append", "ConditioningSetArea": "append", "ConditioningSetTimestepRange": "set_range",
    "ConditioningZeroOut": "zero_out", "ControlNetApply": "apply_controlnet",
    "ControlNetApplyAdvanced": "apply_controlnet", "ControlNetLoader": "load_controlnet",
    "CheckpointLoaderSimple": "load_checkpoint", "UNETLoader": "load_unet", "VAELoader": "load_vae",
    "CLIPLoader": "load_clip", "DualCLIPLoader": "load_clip", "CLIPVisionLoader": "load_clip",
    "EmptyLatentImage": "generate", "LatentUpscale": "upscale", "LatentUpscaleBy": "upscale",
    "LatentFromBatch": "frombatch", "RepeatLatentBatch": "repeat", "LatentComposite": "composite",
    "ImageScale": "upscale", "ImageScaleBy": "upscale", "ImageBatch": "batch", "ImageInvert": "invert",
    "KSampler": "sample", "KSamplerAdvanced": "sample", "LoadImage": "load_image", "LoadImageMask": "load_image",
    "SaveLatent": "save", "LoadLatent": "load", "ImageUpscaleWithModel": "upscale", "MaskToImage": "mask_to_image",
    "AlignYourStepsScheduler": "get_sigmas", "BasicScheduler": "get_sigmas", "GITSScheduler": "get_sigmas",
    "BasicGuider": "get_guider", "SamplerCustom": "sample", "SamplerCustomAdvanced": "sample",
    "DifferentialDiffusion": "apply", "FluxGuidance": "append", "CLIPTextEncodeSDXL": "encode",
    "CLIPTextEncodeSDXLRefiner": "encode",
}
_UPSCALE_METHODS = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]


def call(name: str, inputs: dict) -> tuple:
    """Run a native node as part of the running one; gives its outputs."""
    context = running.current()
    if context is None:
        raise RuntimeError(f"{name} can only be called while a node runs")
    return tuple(state.app.call_native(context, name, inputs)[0])


def _call_with_ui(name: str, inputs: dict):
    context = running.current()
    if context is None:
        raise RuntimeError(f"{name} can only be called while a node runs")
    values, ui = state.app.call_native(context, name, inputs)
    return {"ui": ui, "result": tuple(values)} if ui else tuple(values)


def _class(name: str, info: dict) -> type:
    order = [key for group in ("required", "optional") for key in info["input_order"].get(group, [])]

    def run(self, *args, **kwargs):
        if len(args) > len(order):
            raise TypeError(f"{name} takes {len(order)} inputs, got {len(args)}")
        return _call_with_ui(name, {**dict(zip(order, args)), **kwargs})

    def input_types(cls):
        return (state.app.native_schema(name) or info)["input"]

    def execute(cls, *args, **kwargs):
        from comfy_api.latest import io

        made = run(None, *args, **kwargs)
        return io.NodeOutput.from_dict(made) if isinstance(made, dict) else io.NodeOutput(*made)

    method = _METHODS.get(name, "execute")
    members = {
        # Called on the class, as that of the third generation is, or on an instance.
        "execute": classmethod(execute),
        **({method: run} if method != "execute" else {}),
        "INPUT_TYPES": classmethod(input_types),
        "RETURN_TYPES": tuple(info["output"]),
        "RETURN_NAMES": tuple(info["output_name"]),
        "OUTPUT_IS_LIST": tuple(info["output_is_list"]),
        "FUNCTION": method,
        "CATEGORY": info["category"],
        "DESCRIPTION": info["description"],
        "OUTPUT_NODE": info["output_node"],
        "INPUT_IS_LIST": info["is_input_list"],
        "RELATIVE_PYTHON_MODULE": info["python_module"],
        "RUSHLIGHT_NATIVE": True,
        "__doc__": f"The native node {name}.",
        "__module__": "nodes",
    }
    if name in ("ImageScale", "ImageScaleBy"):
        members["upscale_methods"] = list(_UPSCALE_METHODS)
    return type(name if name.isidentifier() else "NativeNode", (), members)


def classes() -> dict:
    """Name → class of every native node."""
    if state.app is None:
        return {}
    made = {}
    for name in state.app.native_names():
        info = state.app.native_schema(name)
        if info is not None:
            made[name] = _class(name, info)
    return made


def in_module(module: str) -> dict:
    """Name → class of the native nodes that ComfyUI has in a module."""
    import nodes

    return {
        name: cls for name, cls in nodes.NODE_CLASS_MAPPINGS.items()
        if getattr(cls, "RUSHLIGHT_NATIVE", False) and cls.RELATIVE_PYTHON_MODULE == module
    }
