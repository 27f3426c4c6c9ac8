"""A few classes of core names with types of the engine's own."""

import json
import os

import comfy.model_management
import comfy.utils
import folder_paths

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


@node
class ImageInvert:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "invert"
    CATEGORY = "image"

    def invert(self, image):
        return (1.0 - image,)


@node
class SaveImage:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",), "filename_prefix": ("STRING", {"default": "ComfyUI"})},
                "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}}

    RETURN_TYPES = ()
    FUNCTION = "save_images"
    CATEGORY = "image"
    OUTPUT_NODE = True

    def __init__(self):
        self.output_dir = folder_paths.get_output_directory()
        self.type = "output"
        self.prefix_append = ""

    def save_images(self, images, filename_prefix="ComfyUI", prompt=None, extra_pnginfo=None):
        import numpy
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        subfolder, name = os.path.split(filename_prefix + self.prefix_append)
        os.makedirs(os.path.join(self.output_dir, subfolder), exist_ok=True)
        texts = PngInfo()
        texts.add_text("prompt", json.dumps(prompt))
        for key, value in (extra_pnginfo or {}).items():
            texts.add_text(key, json.dumps(value))
        saved = []
        for number, image in enumerate(images):
            picture = Image.fromarray((numpy.asarray(image) * 255).astype(numpy.uint8))
            filename = f"{name}_{number + 1:05}_.png"
            picture.save(os.path.join(self.output_dir, subfolder, filename), pnginfo=texts)
            saved.append({"filename": filename, "subfolder": subfolder, "type": self.type})
        return {"ui": {"images": saved}}


async def init_extra_nodes(init_custom_nodes=True, init_api_nodes=True):
    assert not init_custom_nodes, "custom nodes are the server's to load"
    from comfy_extras import nodes_extra

    NODE_CLASS_MAPPINGS.update(nodes_extra.NODE_CLASS_MAPPINGS)
