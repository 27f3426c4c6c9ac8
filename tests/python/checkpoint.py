"""A Stable Diffusion 1.x checkpoint that ComfyUI recognises, with random weights.

Widths are the real ones (ComfyUI goes by them), levels and blocks as few as possible: 370 million parameters, 0.7 GB.
The key layouts are those of the small models in ``tests/data/goldens/models.json``, widened.
"""

from __future__ import annotations

import json
import math
import pathlib
import re
import struct

import numpy
from serving import ROOT

MODELS = ROOT / "tests" / "data" / "goldens" / "models.json"


def shapes() -> dict:
    """Key → shape of every tensor."""
    models = json.loads(MODELS.read_text())
    made = {}
    for key, shape in models["unet_sd15"]["tensors"].items():
        wide = [10 * size if size >= 32 else size for size in shape]
        if re.search(r"attn2\.to_[kv]\.weight$", key):
            wide[1] = 768
        made[key] = wide
    for key, shape in models["vae"]["tensors"].items():
        made[key] = [4 * size if size >= 32 else size for size in shape]
    for key, shape in models["clip_l"]["tensors"].items():
        wide = [{128: 768, 256: 3072}.get(size, size) for size in shape]
        layer = re.search(r"\.layers\.(\d+)\.", key)
        for number in range(12) if layer is None or layer.group(1) == "0" else ():
            made[re.sub(r"\.layers\.0\.", f".layers.{number}.", key)] = wide
    return made


def write(path: pathlib.Path, seed: int = 5) -> None:
    """Writes the file."""
    table = shapes()
    header, offset = {}, 0
    for key, shape in table.items():
        size = 2 * math.prod(shape)
        header[key] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = numpy.random.default_rng(seed)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for key, shape in table.items():
            values = generator.standard_normal(math.prod(shape), dtype=numpy.float32)
            if len(shape) < 2:
                values = values * 0.1 + (1.0 if key.endswith(".weight") else 0.0)
            elif "embedding" not in key:
                values *= 0.7 / math.sqrt(math.prod(shape[1:]))
            file.write(values.astype("<f2").tobytes())
