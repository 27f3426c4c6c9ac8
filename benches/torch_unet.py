"""The UNet of the `unet` bench in plain PyTorch: prints the seconds of its fastest step."""

import argparse
import math
import time

import torch
from torch import nn
from torch.nn import functional as F


class ResBlock(nn.Module):
    def __init__(self, inputs, outputs, time_width):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.emb = nn.Linear(time_width, outputs)
        self.norm2, self.conv2 = nn.GroupNorm(32, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, emb, context):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.emb(F.silu(emb))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    def __init__(self, width, context, heads=8):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.k, self.v = nn.Linear(context, width, bias=False), nn.Linear(context, width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x, context):
        def split(t):
            return t.view(t.shape[0], t.shape[1], self.heads, -1).transpose(1, 2)

        y = F.scaled_dot_product_attention(split(self.q(x)), split(self.k(context)), split(self.v(context)))
        return self.out(y.transpose(1, 2).reshape(x.shape))


class Transformer(nn.Module):
    def __init__(self, width, context):
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.proj_in, self.proj_out = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.attn1, self.attn2 = Attention(width, width), Attention(width, context)
        self.gate, self.ff = nn.Linear(width, width * 8), nn.Linear(width * 4, width)

    def forward(self, x, emb, context):
        b, c, h, w = x.shape
        t = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        y = self.norms[0](t)
        t = t + self.attn1(y, y)
        t = t + self.attn2(self.norms[1](t), context)
        value, gate = self.gate(self.norms[2](t)).chunk(2, dim=-1)
        t = t + self.ff(value * F.gelu(gate))
        return x + self.proj_out(t.transpose(1, 2).reshape(b, c, h, w))


class Plain(nn.Module):
    def __init__(self, module, upsample=False):
        super().__init__()
        self.module, self.upsample = module, upsample

    def forward(self, x, emb, context):
        return self.module(F.interpolate(x, scale_factor=2.0) if self.upsample else x)


class UNet(nn.Module):
    def __init__(self, a):
        super().__init__()
        c, t = a.channels, a.channels * 4
        self.c = c
        self.time = nn.Sequential(nn.Linear(c, t), nn.SiLU(), nn.Linear(t, t))
        self.down = nn.ModuleList([nn.ModuleList([Plain(nn.Conv2d(4, c, 3, padding=1))])])
        skips, width = [c], c
        for level, m in enumerate(a.multipliers):
            for _ in range(a.blocks):
                parts = [ResBlock(width, c * m, t)]
                width = c * m
                if a.transformers[level]:
                    parts.append(Transformer(width, a.context))
                self.down.append(nn.ModuleList(parts))
                skips.append(width)
            if level + 1 < len(a.multipliers):
                self.down.append(nn.ModuleList([Plain(nn.Conv2d(width, width, 3, stride=2, padding=1))]))
                skips.append(width)
        self.mid = nn.ModuleList([ResBlock(width, width, t), Transformer(width, a.context), ResBlock(width, width, t)])
        self.up = nn.ModuleList()
        for level, m in reversed(list(enumerate(a.multipliers))):
            for block in range(a.blocks + 1):
                parts = [ResBlock(width + skips.pop(), c * m, t)]
                width = c * m
                if a.transformers[level]:
                    parts.append(Transformer(width, a.context))
                if level > 0 and block == a.blocks:
                    parts.append(Plain(nn.Conv2d(width, width, 3, padding=1), upsample=True))
                self.up.append(nn.ModuleList(parts))
        self.out = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, 4, 3, padding=1))

    def forward(self, x, t, context):
        half = self.c // 2
        angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
        emb = self.time(torch.cat([angles.cos(), angles.sin()], dim=-1))
        skips = []
        for parts in self.down:
            for part in parts:
                x = part(x, emb, context)
            skips.append(x)
        for part in self.mid:
            x = part(x, emb, context)
        for parts in self.up:
            x = torch.cat([x, skips.pop()], dim=1)
            for part in parts:
                x = part(x, emb, context)
        return self.out(x)


def main():
    numbers = lambda text: [int(n) for n in text.split(",")]  # noqa: E731
    parser = argparse.ArgumentParser()
    for name in ("channels", "blocks", "context", "latent", "repeats"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("multipliers", "transformers"):
        parser.add_argument(f"--{name}", type=numbers, required=True)
    a = parser.parse_args()
    unet = UNet(a).eval()
    x, t = torch.randn(2, 4, a.latent, a.latent), torch.tensor([500.0, 500.0])
    context = torch.randn(2, 77, a.context)
    times = []
    with torch.inference_mode():
        for _ in range(a.repeats + 1):
            start = time.perf_counter()
            unet(x, t, context)
            times.append(time.perf_counter() - start)
    print(min(times[1:]))


main()
