"""``node_helpers``: small helpers for conditioning and pictures."""

from __future__ import annotations

from rushlight.host import imports


def conditioning_set_values(conditioning, values=None, append=False):
    """The conditioning with further keys in each entry's options."""
    made = []
    for entry in conditioning:
        options = dict(entry[1])
        for key, value in (values or {}).items():
            if append and options.get(key) is not None:
                value = options[key] + value
            options[key] = value
        made.append([entry[0], options])
    return made


def pillow(function, argument):
    """Call a Pillow function; truncated files are read as far as they go."""
    from PIL import ImageFile, UnidentifiedImageError

    before = None
    try:
        return function(argument)
    except (OSError, UnidentifiedImageError, ValueError):
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        return function(argument)
    finally:
        if before is not None:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


def image_alpha_fix(destination, source):
    """Two pictures with the same number of channels: the source loses its alpha or gets one."""
    have, want = source.shape[-1], destination.shape[-1]
    if have > want:
        return destination, source[..., :want]
    if have < want:
        torch = imports.library("torch", "node_helpers.image_alpha_fix")
        source = torch.nn.functional.pad(source, (0, want - have))
        source[..., -1] = 1.0
    return destination, source


def hasher():
    """The hash that fingerprints use."""
    import hashlib

    return hashlib.sha256


def string_to_torch_dtype(name):
    """A torch dtype by its short name, ``None`` for others."""
    torch = imports.library("torch", "node_helpers.string_to_torch_dtype")
    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}.get(name)
