"""A checkpoint of the original layout as a folder of diffusers' layout, for tests of loaders.

The names are those of diffusers' `UNet2DConditionModel` and `AutoencoderKL`, written down here apart from the server's
own tables.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import safetensors_lite

RES_BLOCK = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.0": "norm2",
    "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
}
UNET_ENDS = {
    "time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2", "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out", "out.2": "conv_out", "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0", "middle_block.2": "mid_block.resnets.1",
}
VAE_PARTS = {
    "mid.block_1": "mid_block.resnets.0", "mid.block_2": "mid_block.resnets.1", "mid.attn_1": "mid_block.attentions.0",
    "norm_out": "conv_norm_out",
}
VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def _renamed(name: str, table: dict[str, str]) -> str:
    for old, new in table.items():
        if name == old or name.startswith(old + "."):
            return new + name[len(old):]
    return name


def unet_name(name: str, blocks: int) -> str:
    """`blocks` is how many residual blocks a level of the first half has."""
    found = re.fullmatch(r"(input|output)_blocks\.(\d+)\.(\d)\.(.+)", name)
    if found is None or name.startswith("input_blocks.0."):
        prefix = _renamed(name, UNET_ENDS)
        module = re.fullmatch(r"(mid_block\.resnets\.\d\.)(.+)", prefix)
        return module[1] + _renamed(module[2], RES_BLOCK) if module else prefix
    half, index, place, rest = found[1], int(found[2]), int(found[3]), found[4]
    level, block = divmod(index - 1 if half == "input" else index, blocks + 1)
    side = "down" if half == "input" else "up"
    if rest.startswith(("op.", "conv.")):
        return f"{side}_blocks.{level}.{side}samplers.0.conv.{rest.split('.', 1)[1]}"
    if place == 0:
        return f"{side}_blocks.{level}.resnets.{block}.{_renamed(rest, RES_BLOCK)}"
    return f"{side}_blocks.{level}.attentions.{block}.{rest}"


def vae_name(name: str, levels: int) -> str:
    half, _, rest = name.partition(".")
    if half not in ("encoder", "decoder"):
        return name
    found = re.fullmatch(r"(down|up)\.(\d)\.(.+)", rest)
    if found:
        level = int(found[2]) if half == "encoder" else levels - 1 - int(found[2])
        inner = re.sub(r"^block\.", "resnets.", found[3]).replace("nin_shortcut", "conv_shortcut")
        inner = re.sub(r"^(down|up)sample\.", r"\1samplers.0.", inner)
        return f"{half}.{found[1]}_blocks.{level}.{inner}"
    if rest.startswith("mid.attn_1."):
        return f"{half}.mid_block.attentions.0.{_renamed(rest.removeprefix('mid.attn_1.'), VAE_ATTENTION)}"
    return f"{half}.{_renamed(rest, VAE_PARTS)}"


def write(checkpoint: Path, folder: Path, blocks: int, levels: int) -> None:
    """Writes the three parts of a Stable Diffusion 1.x checkpoint whose UNet has `blocks` residual blocks a level and
    whose VAE has `levels` levels."""
    parts: dict[str, dict] = {"unet": {}, "vae": {}, "text_encoder": {}}
    for name, (dtype, shape, data) in safetensors_lite.read(checkpoint).items():
        if name.startswith("model.diffusion_model."):
            parts["unet"][unet_name(name.removeprefix("model.diffusion_model."), blocks)] = (dtype, shape, data)
        elif name.startswith("first_stage_model."):
            new = vae_name(name.removeprefix("first_stage_model."), levels)
            # Attention of diffusers' VAE is linear layers, not convolutions of one place.
            shape = shape[:2] if ".attentions." in new else shape
            parts["vae"][new] = (dtype, shape, data)
        else:
            parts["text_encoder"][name.removeprefix("cond_stage_model.transformer.")] = (dtype, shape, data)
    for part, tensors in parts.items():
        (folder / part).mkdir(parents=True)
        name = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        safetensors_lite.write(folder / part / f"{name}.safetensors", tensors)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
