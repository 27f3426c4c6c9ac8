"""A few classes of core names with types of the engine's own."""

import comfy.model_management
import comfy.utils

NODE_CLASS_MAPPINGS = {}
NODE_DISPLAY_NAME_MAPPINGS = {"PyOnlyModelMerge": "Merge (Python)"}
EXTENSION_WEB_DIRS = {}
MAX_RESOLUTION = 16384


def node(cls):
    NODE_CLASS_MAPPINGS[cls.__name__] = cls
    return cls


@node
class CheckpointLoaderSimple:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"ckpt_name": (["rushlight-tiny.safetensors"],)}}

    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    FUNCTION = "load_checkpoint"
    CATEGORY = "loaders"

    def load_checkpoint(self, ckpt_name):
        return ({"python": "model"}, {"python": "clip"}, {"python": "vae"})


@node
class EmptyLatentImage:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"width": ("INT", {"default": 512}), "height": ("INT", {"default": 512}),
                             "batch_size": ("INT", {"default": 1})}}

    RETURN_TYPES = ("LATENT",)
    FUNCTION = "generate"
    CATEGORY = "latent"

    def generate(self, width, height, batch_size):
        raise RuntimeError("the Python EmptyLatentImage ran")


@node
class PyOnlyModelMerge:
    """Has no native twin, so what is joined to it by models runs in Python."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "merge"
    CATEGORY = "advanced"

    def merge(self, model):
        return ({**model, "merged": True},)


@node
class PyShowModel:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    RETURN_TYPES = ()
    FUNCTION = "show"
    CATEGORY = "advanced"
    OUTPUT_NODE = True

    def show(self, model):
        bar = comfy.utils.ProgressBar(2)
        bar.update(1)
        bar.update(1)
        comfy.model_management.throw_exception_if_processing_interrupted()
        return {"ui": {"text": [str(sorted(model))]}}


@node
class PyLoop:
    """Looks at the checkout's own interrupt flag only."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seconds": ("FLOAT", {"default": 30.0})}}

    RETURN_TYPES = ()
    FUNCTION = "loop"
    CATEGORY = "advanced"
    OUTPUT_NODE = True

    def loop(self, seconds):
        import time

        for _ in range(int(seconds * 100)):
            time.sleep(0.01)
            comfy.model_management.throw_exception_if_processing_interrupted()
        return ()


async def init_extra_nodes(init_custom_nodes=True, init_api_nodes=True):
    assert not init_custom_nodes, "custom nodes are the server's to load"
    from comfy_extras import nodes_extra

    NODE_CLASS_MAPPINGS.update(nodes_extra.NODE_CLASS_MAPPINGS)
