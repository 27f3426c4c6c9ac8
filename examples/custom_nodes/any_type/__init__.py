"""Sockets that take everything, inputs of any name, tensors and opaque values."""

import gc
import time
import weakref

import nodes

try:
    import torch
except ImportError:
    torch = None
import numpy


class AnyType(str):
    """A type that is no other type's opposite."""

    def __ne__(self, other):
        return False


class FlexibleInputs(dict):
    """Optional inputs of any name."""

    def __contains__(self, key):
        return True

    def __getitem__(self, key):
        return (AnyType("*"),)


class Describe:
    """Names the types of whatever is linked to it."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}, "optional": FlexibleInputs()}

    RETURN_TYPES = (AnyType("ANYTHING"),)
    FUNCTION = "describe"
    CATEGORY = "examples"
    OUTPUT_NODE = True

    def describe(self, **kwargs):
        lines = [f"{name}={type(value).__name__}" for name, value in sorted(kwargs.items())]
        return {"ui": {"text": lines}, "result": (next(iter(kwargs.values()), None),)}


class Handle:
    """An object that only Python knows."""

    alive = weakref.WeakSet()

    def __init__(self, name):
        self.name = name
        Handle.alive.add(self)


class MakeHandle:
    """Gives an opaque object."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING", {"default": "handle"})}}

    RETURN_TYPES = ("EXAMPLE_HANDLE",)
    FUNCTION = "make"
    CATEGORY = "examples"

    def make(self, name):
        return (Handle(name),)


class CountHandles:
    """How many opaque objects are alive."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}, "optional": {"handle": ("EXAMPLE_HANDLE",)}}

    @classmethod
    def IS_CHANGED(cls, **kwargs):
        return float("nan")

    RETURN_TYPES = ("INT",)
    FUNCTION = "count"
    CATEGORY = "examples"
    OUTPUT_NODE = True

    def count(self, handle=None):
        gc.collect()
        return {"ui": {"alive": [len(Handle.alive)]}, "result": (len(Handle.alive),)}


class MakePicture:
    """A picture of one colour, as a tensor of this side."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("FLOAT", {"default": 0.5}), "size": ("INT", {"default": 64}),
                             "layout": (["plain", "half", "flipped"],)}}

    RETURN_TYPES = ("IMAGE", "INT")
    FUNCTION = "make"
    CATEGORY = "examples"

    def make(self, value, size, layout):
        picture = numpy.full((1, size, size, 3), value, dtype=numpy.float32)
        picture[:, :, : size // 2] = 0.25
        if layout == "half":
            picture = picture.astype(numpy.float16)
        if layout == "flipped":
            picture = picture[:, :, ::-1]
        if torch is not None:
            picture = torch.from_numpy(numpy.ascontiguousarray(picture))
        return (picture, address(picture))


def address(picture):
    """Where a tensor's memory begins."""
    return picture.data_ptr() if hasattr(picture, "data_ptr") else picture.ctypes.data


class LookAtPicture:
    """Where a picture's memory is, and its mean."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}, "optional": {"made_at": ("INT", {"forceInput": True})}}

    RETURN_TYPES = ("FLOAT",)
    FUNCTION = "look"
    CATEGORY = "examples"
    OUTPUT_NODE = True

    def look(self, image, made_at=None):
        left, right = float(image[0, 0, 0, 0]), float(image[0, 0, -1, 0])
        same = made_at is not None and address(image) == made_at
        return {"ui": {"same_memory": [same], "ends": [left, right], "shape": list(image.shape)}, "result": (left,)}


class SaveTwice(nodes.SaveImage):
    """A subclass of a core class."""

    CATEGORY = "examples"

    def __init__(self):
        super().__init__()
        self.prefix_append = "_twice"


class InvertByCore:
    """Calls a core class."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "examples"

    def run(self, image):
        return nodes.NODE_CLASS_MAPPINGS["ImageInvert"]().invert(image)


class Broken:
    """Cannot describe itself, so it is left out and the others go on."""

    @classmethod
    def INPUT_TYPES(cls):
        raise RuntimeError("no inputs today")

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "examples"


class TimeStamp:
    """Runs every time: its IS_CHANGED raises."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    @classmethod
    def IS_CHANGED(cls):
        raise RuntimeError("counts as changed")

    RETURN_TYPES = ("FLOAT",)
    FUNCTION = "now"
    CATEGORY = "examples"
    OUTPUT_NODE = True

    def now(self):
        return {"ui": {"time": [time.time()]}, "result": (time.time(),)}


NODE_CLASS_MAPPINGS = {
    "ExampleDescribe": Describe, "ExampleMakeHandle": MakeHandle, "ExampleCountHandles": CountHandles,
    "ExampleMakePicture": MakePicture, "ExampleLookAtPicture": LookAtPicture, "ExampleSaveTwice": SaveTwice,
    "ExampleInvertByCore": InvertByCore, "ExampleBroken": Broken, "ExampleTimeStamp": TimeStamp,
}
