"""Model files with random weights that any server recognises: small where the family allows it.

Tensors have the names and shapes of published files, so that what a server makes of them can be compared with what
another makes of the same file. Their numbers come from a generator seeded with the tensor's name: files are the same
on every run.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np

Shapes = dict[str, tuple[int, ...]]


def _affine(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, out: int, width: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, width), **({f"{name}.bias": (out,)} if bias else {})}


def _conv(name: str, out: int, width: int, size: int = 3) -> Shapes:
    return {f"{name}.weight": (out, width, size, size), f"{name}.bias": (out,)}


def _res_block(name: str, width: int, out: int, emb: int) -> Shapes:
    shapes = {
        **_affine(f"{name}.in_layers.0", width),
        **_conv(f"{name}.in_layers.2", out, width),
        **_linear(f"{name}.emb_layers.1", out, emb),
        **_affine(f"{name}.out_layers.0", out),
        **_conv(f"{name}.out_layers.3", out, out),
    }
    return shapes if width == out else {**shapes, **_conv(f"{name}.skip_connection", out, width, 1)}


def _transformer(name: str, width: int, context: int, linear: bool) -> Shapes:
    block = f"{name}.transformer_blocks.0"
    project = _linear if linear else lambda name, out, width: _conv(name, out, width, 1)
    shapes = {**_affine(f"{name}.norm", width), **project(f"{name}.proj_in", width, width), **project(f"{name}.proj_out", width, width)}
    for attention, keys in (("attn1", width), ("attn2", context)):
        shapes |= _linear(f"{block}.{attention}.to_q", width, width, bias=False)
        shapes |= _linear(f"{block}.{attention}.to_k", width, keys, bias=False)
        shapes |= _linear(f"{block}.{attention}.to_v", width, keys, bias=False)
        shapes |= _linear(f"{block}.{attention}.to_out.0", width, width)
    for norm in ("norm1", "norm2", "norm3"):
        shapes |= _affine(f"{block}.{norm}", width)
    return {**shapes, **_linear(f"{block}.ff.net.0.proj", width * 8, width), **_linear(f"{block}.ff.net.2", width, width * 4)}


class UNetShape:
    """What differs between UNets: the defaults are Stable Diffusion 1.x cut down to three levels."""

    def __init__(self, channels=320, factors=(1, 2, 4), blocks=1, attention=(True, True, False), context=768, inputs=4, linear=False):
        self.channels, self.factors, self.blocks, self.attention = channels, factors, blocks, attention
        self.context, self.inputs, self.linear = context, inputs, linear

    def _block(self, name: str, width: int, out: int, attention: bool) -> Shapes:
        shapes = _res_block(f"{name}.0", width, out, self.channels * 4)
        return {**shapes, **_transformer(f"{name}.1", out, self.context, self.linear)} if attention else shapes

    def encoder(self, prefix: str) -> tuple[Shapes, list[int]]:
        """The half that control networks copy, and the widths of its skip connections."""
        emb = self.channels * 4
        shapes = {**_linear(f"{prefix}time_embed.0", emb, self.channels), **_linear(f"{prefix}time_embed.2", emb, emb)}
        shapes |= _conv(f"{prefix}input_blocks.0.0", self.channels, self.inputs)
        widths, width = [self.channels], self.channels
        for level, (factor, attention) in enumerate(zip(self.factors, self.attention)):
            for _ in range(self.blocks):
                shapes |= self._block(f"{prefix}input_blocks.{len(widths)}", width, self.channels * factor, attention)
                width = self.channels * factor
                widths.append(width)
            if level + 1 < len(self.factors):
                shapes |= _conv(f"{prefix}input_blocks.{len(widths)}.0.op", width, width)
                widths.append(width)
        shapes |= self._block(f"{prefix}middle_block", width, width, True)
        return {**shapes, **_res_block(f"{prefix}middle_block.2", width, width, emb)}, widths

    def unet(self, prefix: str = "model.diffusion_model.") -> Shapes:
        shapes, skips = self.encoder(prefix)
        width, index = skips[-1], 0
        for level, (factor, attention) in reversed(list(enumerate(zip(self.factors, self.attention)))):
            for block in range(self.blocks + 1):
                name = f"{prefix}output_blocks.{index}"
                shapes |= self._block(name, width + skips.pop(), self.channels * factor, attention)
                width = self.channels * factor
                if level and block == self.blocks:
                    shapes |= _conv(f"{name}.{2 if attention else 1}.conv", width, width)
                index += 1
        return {**shapes, **_affine(f"{prefix}out.0", width), **_conv(f"{prefix}out.2", 4, width)}

    def control(self, prefix: str = "control_model.") -> Shapes:
        shapes, widths = self.encoder(prefix)
        for index, width in enumerate(widths):
            shapes |= _conv(f"{prefix}zero_convs.{index}.0", width, width, 1)
        shapes |= _conv(f"{prefix}middle_block_out.0", widths[-1], widths[-1], 1)
        hint = [3, 16, 16, 32, 32, 96, 96, 256, self.channels]
        for index, (before, after) in enumerate(zip(hint, hint[1:])):
            shapes |= _conv(f"{prefix}input_hint_block.{index * 2}", after, before)
        return shapes


def clip_l(prefix: str = "cond_stage_model.transformer.text_model.") -> Shapes:
    """CLIP-L's text encoder."""
    width = 768
    shapes: Shapes = {
        f"{prefix}embeddings.token_embedding.weight": (49408, width),
        f"{prefix}embeddings.position_embedding.weight": (77, width),
    }
    return {**shapes, **_clip_layers(f"{prefix}encoder.layers", 12, width), **_affine(f"{prefix}final_layer_norm", width)}


def _clip_layers(prefix: str, count: int, width: int) -> Shapes:
    shapes: Shapes = {}
    for index in range(count):
        layer = f"{prefix}.{index}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{layer}.self_attn.{part}", width, width)
        shapes |= _affine(f"{layer}.layer_norm1", width) | _affine(f"{layer}.layer_norm2", width)
        shapes |= _linear(f"{layer}.mlp.fc1", width * 4, width) | _linear(f"{layer}.mlp.fc2", width, width * 4)
    return shapes


def vae(prefix: str = "first_stage_model.") -> Shapes:
    """The autoencoder of Stable Diffusion."""
    shapes = {**_conv(f"{prefix}quant_conv", 8, 8, 1), **_conv(f"{prefix}post_quant_conv", 4, 4, 1)}

    def block(name: str, width: int, out: int) -> int:
        shapes.update({**_affine(f"{name}.norm1", width), **_conv(f"{name}.conv1", out, width), **_affine(f"{name}.norm2", out), **_conv(f"{name}.conv2", out, out)})
        if width != out:
            shapes.update(_conv(f"{name}.nin_shortcut", out, width, 1))
        return out

    def ends(half: str, first: tuple[int, int], last: tuple[int, int]) -> None:
        shapes.update({**_conv(f"{half}.conv_in", *first), **_affine(f"{half}.norm_out", last[1]), **_conv(f"{half}.conv_out", *last)})
        block(f"{half}.mid.block_1", 512, 512)
        block(f"{half}.mid.block_2", 512, 512)
        shapes.update(_affine(f"{half}.mid.attn_1.norm", 512))
        for part in ("q", "k", "v", "proj_out"):
            shapes.update(_conv(f"{half}.mid.attn_1.{part}", 512, 512, 1))

    encoder, decoder = f"{prefix}encoder", f"{prefix}decoder"
    ends(encoder, (128, 3), (8, 512))
    width = 128
    for level, out in enumerate((128, 256, 512, 512)):
        for index in range(2):
            width = block(f"{encoder}.down.{level}.block.{index}", width, out)
        if level < 3:
            shapes.update(_conv(f"{encoder}.down.{level}.downsample.conv", width, width))
    ends(decoder, (512, 4), (3, 128))
    width = 512
    for level, out in ((3, 512), (2, 512), (1, 256), (0, 128)):
        for index in range(3):
            width = block(f"{decoder}.up.{level}.block.{index}", width, out)
        if level:
            shapes.update(_conv(f"{decoder}.up.{level}.upsample.conv", width, width))
    return shapes


def numbers(name: str, shape: tuple[int, ...], salt: int = 0) -> np.ndarray:
    """The tensor called `name`: of a size that keeps activations near 1."""
    uniform = np.random.default_rng([salt, zlib.crc32(name.encode())]).random(shape, np.float32) * 2 - 1
    if len(shape) == 1:
        return uniform * np.float32(0.17) + (1 if name.endswith(".weight") else 0)
    return uniform * np.float32(0.9 * 3**0.5 / np.prod(shape[1:]) ** 0.5)


DTYPES = {np.dtype(np.float16): "F16", np.dtype(np.float32): "F32", np.dtype(np.int64): "I64"}


def save(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Writes a safetensors file."""
    header, offset = {}, 0
    for key, tensor in tensors.items():
        header[key] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor).tobytes())


def load(path: Path) -> dict[str, np.ndarray]:
    """Reads a safetensors file of the types that :func:`save` writes."""
    names = {name: dtype for dtype, name in DTYPES.items()}
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    data = raw[8 + length :]
    return {key: np.frombuffer(data[slice(*entry["data_offsets"])], names[entry["dtype"]]).reshape(entry["shape"]) for key, entry in header.items()}


def make(path: Path, shapes: Shapes, salt: int = 0, dtype=np.float16) -> None:
    """Writes a file of tensors of these shapes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, {name: numbers(name, shape, salt).astype(dtype) for name, shape in shapes.items()})
