"""Values of every kind on their way between Python nodes and native ones."""

import numpy

try:
    import torch
except ImportError:
    torch = None

made = {}
"""Objects that were given, by name: kept, so that an id stays one object's."""


def tensor(values, dtype="float32"):
    array = numpy.asarray(values, dtype=dtype)
    return array if torch is None else torch.from_numpy(array)


class Hooks:
    """An option that only a pack knows."""


def output(**ui):
    return {"ui": {key: [value] for key, value in ui.items()}}


class MakeConditioning:
    """A conditioning with the options that are asked for."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING", {}), "options": ("STRING", {"default": ""})}}

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, name, options):
        values = {
            "pooled_output": tensor(numpy.ones((1, 4))), "hooks": Hooks(), "gligen": ("position", Hooks(), []),
            "strength": 0.5, "area": (8, 8, 0, 8), "mask": tensor(numpy.ones((1, 8, 8))), "mask_strength": 0.75,
            "attention_mask": tensor(numpy.ones((1, 3)), "int64"), "my_pack": {"note": 7}, "control": Hooks(), "gone": None,
        }
        made[name] = [[tensor(numpy.zeros((1, 3, 4))), {key: values[key] for key in options.split()}]]
        return (made[name],)


class ChangeOptions:
    """Sets an option, or deletes it."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"conditioning": ("CONDITIONING",), "key": ("STRING", {}), "delete": ("BOOLEAN", {})}}

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, conditioning, key, delete):
        changed = [[tokens, dict(options)] for tokens, options in conditioning]
        for _, options in changed:
            if delete:
                options.pop(key, None)
            else:
                options[key] = Hooks()
        return (changed,)


class LookAtConditioning:
    """What a conditioning holds, and whether it is the very object of that name."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"conditioning": ("CONDITIONING",)}, "optional": {"name": ("STRING", {"default": ""})}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def run(self, conditioning, name=""):
        options = conditioning[0][1]
        kinds = {key: type(value).__name__ for key, value in options.items()}
        shown = {key: value for key, value in options.items() if isinstance(value, (bool, int, float, str))}
        mask = options.get("attention_mask")
        return output(same=conditioning is made.get(name), kinds=kinds, values=shown, count=len(conditioning),
                      tokens=list(conditioning[0][0].shape), dtype=None if mask is None else str(mask.dtype))


class MakeLatent:
    """A latent with all that may travel with it."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING", {}), "options": ("STRING", {"default": ""})}}

    RETURN_TYPES = ("LATENT",)
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, name, options):
        mask = tensor(numpy.full((2, 1, 8, 8), 0.5))
        values = {"noise_mask": mask, "batch_index": [3, 5], "type": "audio", "own": Hooks()}
        samples = numpy.arange(2 * 4 * 8 * 8, dtype="float32").reshape(2, 4, 8, 8)
        made[name] = {"samples": tensor(samples), **{key: values[key] for key in options.split()}}
        return (made[name],)


class LookAtLatent:
    """What a latent holds."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",)}, "optional": {"name": ("STRING", {"default": ""})}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def run(self, latent, name=""):
        mask = latent.get("noise_mask")
        rest = {key: value for key, value in latent.items() if key not in ("samples", "noise_mask", "own")}
        return output(same=latent is made.get(name), keys=sorted(latent), shape=list(latent["samples"].shape), rest=rest,
                      first=float(latent["samples"][0, 0, 0, 0]), mask=None if mask is None else float(mask.reshape(-1)[0]))


class MakeTensor:
    """A mask, a sound, sigmas, or numbers that are not Python's own."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"kind": (["mask", "flat mask", "sigmas", "audio", "number", "picture", "wrong"],)}}

    RETURN_TYPES = ("*",)
    FUNCTION = "run"
    CATEGORY = "tests"

    def run(self, kind):
        return ({
            "mask": tensor(numpy.full((1, 4, 6), 0.25)), "flat mask": tensor(numpy.full((4, 6), 0.25)),
            "sigmas": tensor([3.0, 2.0, 0.0]),
            "audio": {"waveform": tensor(numpy.full((1, 2, 100), 0.5)), "sample_rate": 50},
            "number": numpy.int64(8), "picture": tensor(numpy.full((1, 4, 6, 3), 0.25)), "wrong": Hooks(),
        }[kind],)


class LookAtTensor:
    """The shape and the first values of whatever it is."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",)}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):
        return True

    def run(self, value):
        rate = value["sample_rate"] if isinstance(value, dict) else None
        value = value["waveform"] if isinstance(value, dict) else value
        return output(shape=list(value.shape), first=[float(number) for number in value.reshape(-1)[:3]], rate=rate)


NODE_CLASS_MAPPINGS = {
    "TestMakeConditioning": MakeConditioning, "TestChangeOptions": ChangeOptions,
    "TestLookAtConditioning": LookAtConditioning, "TestMakeLatent": MakeLatent, "TestLookAtLatent": LookAtLatent,
    "TestMakeTensor": MakeTensor, "TestLookAtTensor": LookAtTensor,
}
