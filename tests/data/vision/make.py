"""Writes the files of this folder: random picture encoders and style models, and what transformers, PyTorch and diffusers
compute with them. Run: python make.py (needs torch, transformers, diffusers, safetensors, pillow, numpy)."""

from pathlib import Path

import torch
from diffusers import DDPMScheduler
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

HERE = Path(__file__).parent
SIDE = 42


def halves(module: nn.Module) -> nn.Module:
    """The module with weights that half precision holds exactly."""
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data = tensor.data.half().float()
    return module


def write(name: str, weights: dict, **io):
    tensors = {key: value.half().contiguous() for key, value in weights.items() if value.is_floating_point()}
    tensors |= {f"io.{key}": value.detach().float().contiguous() for key, value in io.items()}
    save_file(tensors, HERE / f"{name}.safetensors")


def clip_vision():
    torch.manual_seed(1)
    config = CLIPVisionConfig(
        hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=2, image_size=SIDE,
        patch_size=14, projection_dim=24, hidden_act="quick_gelu",
    )
    model = CLIPVisionModelWithProjection(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    halves(model)
    pixels = torch.randn(2, 3, SIDE, SIDE)
    out = model(pixels, output_hidden_states=True)
    # A wide picture as the usual preparation leaves it. Smooth: it cuts off what overshoots between its two directions.
    y, x, c = torch.meshgrid(torch.arange(60.0), torch.arange(100.0), torch.arange(3.0), indexing="ij")
    picture = ((0.5 + 0.4 * torch.sin(x / 7 + c) * torch.cos(y / 5 - c)) * 255).byte()
    processor = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    prepared = processor(Image.fromarray(picture.numpy()), return_tensors="pt")["pixel_values"]
    write(
        "clip_vision", model.state_dict(), pixels=pixels, last=out.hidden_states[-1],
        penultimate=out.hidden_states[-2], embedding=out.image_embeds, picture=picture[None] / 255, prepared=prepared,
    )


class Block(nn.Module):
    """A residual attention block of the style adapter of T2I-Adapter (Apache-2.0)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, width * 4), "c_proj": nn.Linear(width * 4, width)})
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        y = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](y * torch.sigmoid(1.702 * y))


class StyleAdapter(nn.Module):
    """The style adapter of T2I-Adapter (Apache-2.0)."""

    def __init__(self, width=64, context=20, layers=2, tokens=4):
        super().__init__()
        scale = width**-0.5
        self.transformer_layes = nn.Sequential(*[Block(width, 8) for _ in range(layers)])
        self.style_embedding = nn.Parameter(torch.randn(1, tokens, width) * scale)
        self.ln_post = nn.LayerNorm(width)
        self.ln_pre = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, context))

    def forward(self, x):
        tokens = self.style_embedding.shape[1]
        style = self.style_embedding.expand(x.shape[0], -1, -1)
        x = self.ln_pre(torch.cat([x, style], dim=1)).permute(1, 0, 2)
        x = self.transformer_layes(x).permute(1, 0, 2)
        return self.ln_post(x[:, -tokens:, :]) @ self.proj


def styles():
    torch.manual_seed(2)
    adapter = halves(StyleAdapter().eval())
    states = torch.randn(2, 10, 64)
    write("style_adapter", adapter.state_dict(), states=states, tokens=adapter(states))
    redux = halves(nn.ModuleDict({"redux_up": nn.Linear(16, 36), "redux_down": nn.Linear(36, 12)}))
    states = torch.randn(1, 5, 16)
    tokens = redux["redux_down"](nn.functional.silu(redux["redux_up"](states)))
    write("redux", redux.state_dict(), states=states, tokens=tokens)


def unclip():
    torch.manual_seed(3)
    normalizer = StableUnCLIPImageNormalizer(embedding_dim=16)
    normalizer.mean.data = torch.randn(1, 16).half().float()
    normalizer.std.data = (torch.rand(1, 16) + 0.5).half().float()
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", num_train_timesteps=1000)
    embedding = torch.randn(1, 16)
    io = {"embedding": embedding}
    for level in (0, 300, 999):
        noise = torch.randn(1, 16, generator=torch.Generator().manual_seed(17))
        levels = torch.tensor([level])
        noisy = normalizer.unscale(scheduler.add_noise(normalizer.scale(embedding), noise, levels))
        sines = get_timestep_embedding(levels, 16, flip_sin_to_cos=True, downscale_freq_shift=0)
        io[f"vector.{level}"] = torch.cat([noisy, sines], dim=1)
    write("unclip", {"noise_augmentor.data_mean": normalizer.mean, "noise_augmentor.data_std": normalizer.std}, **io)


if __name__ == "__main__":
    with torch.no_grad():
        clip_vision()
        styles()
        unclip()
