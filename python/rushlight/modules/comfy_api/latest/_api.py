"""What a node may ask of the server that runs it."""

from __future__ import annotations

from rushlight.host import imports, progress


def _encode(image):
    """A preview as ``("JPEG", PIL image, size)``: takes a picture, a tensor `[H, W, C]` or `[1, H, W, C]`, or that."""
    if image is None or isinstance(image, tuple):
        return image
    if hasattr(image, "save"):
        return ("JPEG", image, None)
    numpy = imports.library("numpy", "a preview made of a tensor")
    Image = imports.library("PIL.Image", "a preview made of a tensor")
    array = image.detach().cpu().numpy() if hasattr(image, "detach") else numpy.asarray(image)
    if array.ndim == 4:
        array = array[0]
    return ("JPEG", Image.fromarray(numpy.clip(array * 255.0, 0, 255).astype(numpy.uint8)), None)


class Execution:
    """Progress of the running node, for coroutines."""

    async def set_progress(self, value, max_value, node_id=None, preview_image=None, ignore_size_limit=False):
        progress.report_running(value, max_value, _encode(preview_image), node_id)


class ExecutionSync:
    """Progress of the running node."""

    def set_progress(self, value, max_value, node_id=None, preview_image=None, ignore_size_limit=False):
        progress.report_running(value, max_value, _encode(preview_image), node_id)


class ComfyAPISync:
    """The API for functions."""

    Execution = ExecutionSync

    def __init__(self):
        self.execution = ExecutionSync()


class ComfyAPI:
    """The API for coroutines."""

    VERSION = "latest"
    STABLE = False
    Execution = Execution

    def __init__(self):
        self.execution = Execution()
