"""``nodes``: the core node classes, as custom nodes use them.

Every native class of the server is here under its name: calling it from Python runs the native node as part of the
node that is running. ``SaveImage`` and ``PreviewImage``, which packs subclass, are written in Python.
"""

from __future__ import annotations

import random

from rushlight.host import imports, native, state

MAX_RESOLUTION = 16384

NODE_CLASS_MAPPINGS: dict = {}
NODE_DISPLAY_NAME_MAPPINGS: dict = {}
EXTENSION_WEB_DIRS: dict = {}
LOADED_MODULE_DIRS: dict = {}


def before_node_execution():
    """Raise if the running prompt is to end."""
    import comfy.model_management

    comfy.model_management.throw_exception_if_processing_interrupted()


def interrupt_processing(value=True):
    """End the running prompt."""
    import comfy.model_management

    comfy.model_management.interrupt_current_processing(value)


class SaveImage:
    """Writes pictures to the output folder with the workflow in them."""

    def __init__(self):
        import folder_paths

        self.output_dir = folder_paths.get_output_directory()
        self.type = "output"
        self.prefix_append = ""
        self.compress_level = 4

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "The images to save."}),
                "filename_prefix": ("STRING", {"default": "ComfyUI"}),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    RETURN_TYPES = ()
    FUNCTION = "save_images"
    OUTPUT_NODE = True
    CATEGORY = "image"
    DESCRIPTION = "Saves the input images to your ComfyUI output directory."

    def save_images(self, images, filename_prefix="ComfyUI", prompt=None, extra_pnginfo=None):
        import json
        import os

        import folder_paths
        from comfy.cli_args import args

        numpy = imports.library("numpy", "nodes.SaveImage")
        Image = imports.library("PIL.Image", "nodes.SaveImage")
        PngInfo = imports.library("PIL.PngImagePlugin", "nodes.SaveImage").PngInfo
        filename_prefix += self.prefix_append
        height, width = images[0].shape[0], images[0].shape[1]
        folder, filename, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, self.output_dir, width, height
        )
        saved = []
        for number, image in enumerate(images):
            array = image.cpu().numpy() if hasattr(image, "cpu") else numpy.asarray(image)
            picture = Image.fromarray(numpy.clip(255.0 * array, 0, 255).astype(numpy.uint8))
            metadata = None
            if not args.disable_metadata:
                metadata = PngInfo()
                if prompt is not None:
                    metadata.add_text("prompt", json.dumps(prompt))
                for key, value in (extra_pnginfo or {}).items():
                    metadata.add_text(key, json.dumps(value))
            name = f"{filename.replace('%batch_num%', str(number))}_{counter:05}_.png"
            picture.save(os.path.join(folder, name), pnginfo=metadata, compress_level=self.compress_level)
            saved.append({"filename": name, "subfolder": subfolder, "type": self.type})
            counter += 1
        return {"ui": {"images": saved}}


class PreviewImage(SaveImage):
    """Writes pictures to the temp folder."""

    def __init__(self):
        super().__init__()
        import folder_paths

        self.output_dir = folder_paths.get_temp_directory()
        self.type = "temp"
        self.prefix_append = "_temp_" + "".join(random.choice("abcdefghijklmnopqrstupvxyz") for _ in range(5))
        self.compress_level = 1

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"images": ("IMAGE",)},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }


def common_ksampler(
    model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent, denoise=1.0, disable_noise=False,
    start_step=None, last_step=None, force_full_denoise=False,
):
    """Sample a latent with the native sampler node."""
    if not disable_noise and start_step is None and last_step is None and not force_full_denoise:
        return native.call("KSampler", {
            "model": model, "seed": seed, "steps": steps, "cfg": cfg, "sampler_name": sampler_name,
            "scheduler": scheduler, "positive": positive, "negative": negative, "latent_image": latent,
            "denoise": denoise,
        })
    if denoise != 1.0:
        raise ValueError("common_ksampler: denoise together with start_step or last_step is not supported natively")
    return native.call("KSamplerAdvanced", {
        "model": model, "add_noise": "disable" if disable_noise else "enable", "noise_seed": seed, "steps": steps,
        "cfg": cfg, "sampler_name": sampler_name, "scheduler": scheduler, "positive": positive, "negative": negative,
        "latent_image": latent, "start_at_step": start_step or 0, "end_at_step": 10000 if last_step is None else last_step,
        "return_with_leftover_noise": "disable" if force_full_denoise else "enable",
    })


NODE_CLASS_MAPPINGS.update(native.classes())
NODE_DISPLAY_NAME_MAPPINGS.update(native.display_names())
NODE_CLASS_MAPPINGS.update({"SaveImage": SaveImage, "PreviewImage": PreviewImage})
globals().update(NODE_CLASS_MAPPINGS)


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    known = "" if state.app is None else " (it is not among the native nodes)"
    raise AttributeError(f"module 'nodes' has no attribute '{name}'{known}; in a ComfyUI checkout (--comfyui-dir) it may")
