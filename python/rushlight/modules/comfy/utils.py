"""``comfy.utils``: progress bars, model files and resizing."""

from __future__ import annotations

import math

from rushlight.host import errors, imports, native, progress, running

PROGRESS_BAR_ENABLED = True
PROGRESS_BAR_HOOK = progress.report_running
"""What bars call; also those of native nodes, if a pack sets another one."""


def set_progress_bar_enabled(enabled):
    """Turn all bars on or off."""
    global PROGRESS_BAR_ENABLED
    PROGRESS_BAR_ENABLED = enabled


def set_progress_bar_global_hook(function):
    """Call ``function(value, total, preview, node_id=…)`` in place of telling the server: it may call the one before."""
    global PROGRESS_BAR_HOOK
    PROGRESS_BAR_HOOK = function
    progress.share()


class ProgressBar:
    """Progress of the node that makes it."""

    def __init__(self, total, node_id=None):
        self.total = total
        self.current = 0
        self.node_id = node_id
        self.hook = PROGRESS_BAR_HOOK
        self._context = running.current()

    def update_absolute(self, value, total=None, preview=None):
        """Move to ``value``; ``preview`` is ``(format, PIL image, size)``."""
        if total is not None:
            self.total = total
        self.current = min(value, self.total)
        if not PROGRESS_BAR_ENABLED:
            return
        # A pack may have set none at all.
        if self.hook is not None and self.hook is not progress.report_running:
            self.hook(self.current, self.total, preview, node_id=self.node_id)
            return
        # A bar keeps the node it was made in, also in threads that know no node.
        context = running.current_of_caller() or self._context
        if context is not None:
            progress.report(context, self.current, self.total, preview, self.node_id)

    def update(self, value):
        """Move by ``value``."""
        self.update_absolute(self.current + value)


# Files


def load_torch_file(ckpt, safe_load=False, device=None, return_metadata=False):
    """The tensors of a file; pickles are read as tensors only."""
    torch = imports.library("torch", "comfy.utils.load_torch_file")
    device = device if device is not None else torch.device("cpu")
    metadata = None
    if str(ckpt).lower().endswith((".safetensors", ".sft")):
        safetensors = imports.library("safetensors", "comfy.utils.load_torch_file")
        with safetensors.safe_open(ckpt, framework="pt", device=str(device)) as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            metadata = file.metadata() if return_metadata else None
    else:
        tensors = torch.load(ckpt, map_location=device, weights_only=True)
        if "state_dict" in tensors:
            tensors = tensors["state_dict"]
        elif len(tensors) == 1 and isinstance(next(iter(tensors.values())), dict):
            tensors = next(iter(tensors.values()))
    return (tensors, metadata) if return_metadata else tensors


def save_torch_file(sd, ckpt, metadata=None):
    """Write tensors to a safetensors file."""
    imports.library("torch", "comfy.utils.save_torch_file")
    imports.library("safetensors.torch", "comfy.utils.save_torch_file").save_file(sd, ckpt, metadata=metadata)


def safetensors_header(safetensors_path, max_size=100 * 1024 * 1024):
    """The header's bytes, or ``None`` if it is longer than ``max_size``."""
    with open(safetensors_path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return None if length > max_size else file.read(length)


def calculate_parameters(sd, prefix=""):
    return sum(tensor.nelement() for key, tensor in sd.items() if key.startswith(prefix))


def weight_dtype(sd, prefix=""):
    counts: dict = {}
    for key, tensor in sd.items():
        if key.startswith(prefix):
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.nelement()
    return max(counts, key=counts.get) if counts else None


def state_dict_key_replace(state_dict, keys_to_replace):
    for old, new in keys_to_replace.items():
        if old in state_dict:
            state_dict[new] = state_dict.pop(old)
    return state_dict


def state_dict_prefix_replace(state_dict, replace_prefix, filter_keys=False):
    made = {} if filter_keys else state_dict
    for old, new in replace_prefix.items():
        for key in [key for key in state_dict if key.startswith(old)]:
            made[new + key[len(old):]] = state_dict.pop(key)
    return made


# Attributes by dotted names


def get_attr(obj, attr):
    for name in attr.split("."):
        obj = getattr(obj, name)
    return obj


def set_attr(obj, attr, value):
    *path, last = attr.split(".")
    owner = get_attr(obj, ".".join(path)) if path else obj
    previous = getattr(owner, last)
    setattr(owner, last, value)
    return previous


def set_attr_param(obj, attr, value):
    torch = imports.library("torch", "comfy.utils.set_attr_param")
    return set_attr(obj, attr, torch.nn.Parameter(value, requires_grad=False))


def copy_to_param(obj, attr, value):
    get_attr(obj, attr).data.copy_(value)


# Batches and sizes


def repeat_to_batch_size(tensor, batch_size, dim=0):
    """The tensor cut or repeated to a batch size."""
    have = tensor.shape[dim]
    if have > batch_size:
        return tensor[tuple(slice(None) for _ in range(dim)) + (slice(0, batch_size),)]
    if have < batch_size:
        times = math.ceil(batch_size / have)
        if hasattr(tensor, "repeat") and hasattr(tensor, "narrow"):
            return tensor.repeat(*([1] * dim + [times] + [1] * (tensor.ndim - 1 - dim))).narrow(dim, 0, batch_size)
        import numpy

        return numpy.take(numpy.concatenate([tensor] * times, axis=dim), range(batch_size), axis=dim)
    return tensor


def resize_to_batch_size(tensor, batch_size):
    """The tensor with its batch stretched or thinned evenly."""
    have = tensor.shape[0]
    if have == batch_size:
        return tensor
    if batch_size <= 1:
        return tensor[:batch_size]
    if have < batch_size:
        picks = [min(int(i * have / batch_size), have - 1) for i in range(batch_size)]
    else:
        picks = [round(i * (have - 1) / (batch_size - 1)) for i in range(batch_size)]
    return tensor[picks]


def crop_center(samples, width, height):
    """The middle part of `[B, C, H, W]` that has the proportions of ``width`` by ``height``."""
    old_height, old_width = samples.shape[-2], samples.shape[-1]
    old_aspect, new_aspect = old_width / old_height, width / height
    x = y = 0
    if old_aspect > new_aspect:
        x = round((old_width - old_width * (new_aspect / old_aspect)) / 2)
    elif old_aspect < new_aspect:
        y = round((old_height - old_height * (old_aspect / new_aspect)) / 2)
    return samples[..., y : old_height - y, x : old_width - x]


def lanczos(samples, width, height):
    """Resize `[B, C, H, W]` pictures in 8 bits by Lanczos' kernel."""
    numpy = imports.library("numpy", "comfy.utils.lanczos")
    Image = imports.library("PIL.Image", "comfy.utils.lanczos")
    is_torch = hasattr(samples, "movedim") and hasattr(samples, "cpu")
    array = samples.detach().float().cpu().numpy() if is_torch else numpy.asarray(samples, dtype=numpy.float32)
    made = []
    for picture in numpy.moveaxis(array, 1, -1):
        picture = numpy.clip(255.0 * picture, 0, 255).astype(numpy.uint8)
        image = Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture)
        resized = numpy.asarray(image.resize((width, height), Image.Resampling.LANCZOS), dtype=numpy.float32) / 255.0
        made.append(numpy.moveaxis(resized if resized.ndim == 3 else resized[..., None], -1, 0))
    stacked = numpy.stack(made)
    if is_torch:
        import torch

        return torch.from_numpy(stacked).to(samples.device, samples.dtype)
    return stacked


def bislerp(samples, width, height):
    """Resize a latent along great circles, by the native node."""
    return native.call("LatentUpscale", {
        "samples": {"samples": samples}, "upscale_method": "bislerp", "width": width * 8, "height": height * 8,
        "crop": "disabled",
    })[0]["samples"]


def common_upscale(samples, width, height, upscale_method, crop):
    """Resize `[B, C, H, W]`; ``crop`` is ``disabled`` or ``center``."""
    shape = samples.shape
    if len(shape) > 4:
        samples = samples.reshape((shape[0], shape[1], -1, shape[-2], shape[-1]))
        samples = samples.swapaxes(1, 2).reshape((-1, shape[1], shape[-2], shape[-1]))
    if crop == "center":
        samples = crop_center(samples, width, height)
    if upscale_method == "bislerp":
        made = bislerp(samples, width, height)
    elif upscale_method == "lanczos":
        made = lanczos(samples, width, height)
    elif hasattr(samples, "movedim") and hasattr(samples, "cpu"):
        import torch

        made = torch.nn.functional.interpolate(samples, size=(height, width), mode=upscale_method)
    else:
        import numpy

        pictures = numpy.ascontiguousarray(numpy.moveaxis(samples, 1, -1), dtype=numpy.float32)
        made = numpy.moveaxis(native.call("ImageScale", {
            "image": pictures, "upscale_method": upscale_method, "width": width, "height": height, "crop": "disabled",
        })[0], -1, 1)
    if len(shape) > 4:
        made = made.reshape((shape[0], -1, shape[1], height, width)).swapaxes(1, 2)
        made = made.reshape(tuple(shape[:-2]) + (height, width))
    return made


def get_tiled_scale_steps(width, height, tile_x, tile_y, overlap):
    """How many tiles a tiled pass takes."""
    rows = 1 if height <= tile_y else math.ceil((height - overlap) / (tile_y - overlap))
    columns = 1 if width <= tile_x else math.ceil((width - overlap) / (tile_x - overlap))
    return rows * columns


def tiled_scale(samples, function, tile_x=64, tile_y=64, overlap=8, upscale_amount=4, out_channels=3,
                output_device="cpu", pbar=None):
    """Run ``function`` over overlapping tiles of `[B, C, H, W]` and blend the results."""
    torch = imports.library("torch", "comfy.utils.tiled_scale")
    batch, _, height, width = samples.shape
    scale = upscale_amount
    out_height, out_width = round(height * scale), round(width * scale)
    output = torch.empty((batch, out_channels, out_height, out_width), device=output_device)
    for index in range(batch):
        piece = samples[index : index + 1]
        total = torch.zeros((1, out_channels, out_height, out_width), device=output_device)
        weight = torch.zeros_like(total[:, :1])
        for y in _starts(height, tile_y, overlap):
            for x in _starts(width, tile_x, overlap):
                made = function(piece[:, :, y : y + tile_y, x : x + tile_x]).to(output_device)
                mask = _feather(made, round(overlap * scale))
                top, left = round(y * scale), round(x * scale)
                total[:, :, top : top + made.shape[2], left : left + made.shape[3]] += made * mask
                weight[:, :, top : top + made.shape[2], left : left + made.shape[3]] += mask
                if pbar is not None:
                    pbar.update(1)
        output[index : index + 1] = total / weight
    return output


def _starts(size, tile, overlap):
    if size <= tile:
        return [0]
    step = tile - overlap
    return [min(start, size - tile) for start in range(0, size - overlap, step)]


def _feather(made, width):
    import torch

    mask = torch.ones_like(made[:, :1])
    height, across = made.shape[2], made.shape[3]
    for step in range(min(width, height // 2, across // 2)):
        share = (step + 1) / width
        mask[:, :, step, :] *= share
        mask[:, :, height - 1 - step, :] *= share
        mask[:, :, :, step] *= share
        mask[:, :, :, across - 1 - step] *= share
    return mask


def string_to_seed(data):
    """A number from a text (CRC-32)."""
    import zlib

    return zlib.crc32(data.encode() if isinstance(data, str) else bytes(data))


def model_trange(*args, **kwargs):
    """A range that may be shown as a bar."""
    try:
        from tqdm.auto import trange

        return trange(*args, **kwargs)
    except ImportError:
        return range(*(value for value in args))


ENGINE_NAMES = (
    "UNET_MAP_BASIC", "UNET_MAP_ATTENTIONS", "UNET_MAP_RESNET", "TRANSFORMER_BLOCKS", "unet_to_diffusers",
    "flux_to_diffusers", "mmdit_to_diffusers", "clip_text_transformers_convert", "auraflow_to_diffusers",
    "tiled_scale_multidim",
)
"""Tables and functions of ComfyUI's engine."""

# A package without modules: `from comfy.utils import UNET_MAP_BASIC` then says why it cannot.
__path__: list = []
__getattr__ = errors.module_getattr("comfy.utils", ENGINE_NAMES)
