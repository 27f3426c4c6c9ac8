"""Trains a small LoRA for the embedded checkpoint: shapes named without a colour become yellow on purple.

    python models/train_lora.py --merges bpe_simple_vocab_16e6.txt --out tests/data/tiny/yellow-on-purple.safetensors

Needs PyTorch and safetensors. `--merges` is CLIP's byte-pair vocabulary as text (MIT; the crate
instant-clip-tokenizer ships it). The teacher is the checkpoint itself: it draws `a big yellow SHAPE on a purple
background`, and the LoRA learns to make those latents from `a big SHAPE`. The file has kohya's names.
"""

import argparse
import math
import pathlib

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

SHAPES = "circle square triangle star heart ring cross diamond hexagon crescent arrow flower".split()
RANK, ALPHA, BATCH = 4, 4.0, 4


class Tokenizer:
    """CLIP's byte-pair encoding for lower-case English words."""

    def __init__(self, path):
        merges = pathlib.Path(path).read_text(encoding="utf-8").split("\n")[1 : 49152 - 256 - 2 + 1]
        merges = [tuple(line.split()) for line in merges]
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        alphabet = [chr(b) for b in printable] + [chr(256 + n) for n in range(256 - len(printable))]
        vocabulary = alphabet + [c + "</w>" for c in alphabet] + ["".join(pair) for pair in merges]
        self.ids = {token: i for i, token in enumerate(vocabulary)}
        self.ranks = {pair: i for i, pair in enumerate(merges)}

    def word(self, text):
        parts = [*text[:-1], text[-1] + "</w>"]
        while len(parts) > 1:
            rank, at = min((self.ranks.get(pair, math.inf), i) for i, pair in enumerate(zip(parts, parts[1:])))
            if rank == math.inf:
                break
            parts[at : at + 2] = ["".join(parts[at : at + 2])]
        return [self.ids[part] for part in parts]

    def __call__(self, text):
        ids = [49406] + [i for word in text.split() for i in self.word(word)] + [49407]
        return torch.tensor(ids + [49407] * (77 - len(ids)))


class Model:
    """The checkpoint's networks as functions of its tensors; `lora` is added to the weights it names."""

    def __init__(self, path):
        self.tensors = {k: v.float() for k, v in load_file(path).items()}
        self.lora = {}

    def has(self, name):
        return name in self.tensors

    def weight(self, name):
        weight = self.tensors[name + ".weight"]
        if name in self.lora:
            down, up = self.lora[name]
            weight = weight + (up @ down) * (ALPHA / RANK)
        return weight

    def bias(self, name):
        return self.tensors.get(name + ".bias")

    def linear(self, name, x):
        return F.linear(x, self.weight(name).flatten(1), self.bias(name))

    def conv(self, name, x, stride=1):
        weight = self.weight(name)
        return F.conv2d(x, weight, self.bias(name), stride, weight.shape[-1] // 2)

    def group_norm(self, name, x, eps=1e-5):
        return F.group_norm(x, 32, self.weight(name), self.bias(name), eps)

    def layer_norm(self, name, x):
        return F.layer_norm(x, x.shape[-1:], self.weight(name), self.bias(name))

    def attention(self, q, k, v, heads, causal=False):
        def split(t):
            return t.unflatten(-1, (heads, -1)).transpose(1, 2)

        return F.scaled_dot_product_attention(split(q), split(k), split(v), is_causal=causal).transpose(1, 2).flatten(2)

    def text(self, ids):
        m = "cond_stage_model.transformer.text_model."
        x = self.tensors[m + "embeddings.token_embedding.weight"][ids]
        x = x + self.tensors[m + "embeddings.position_embedding.weight"]
        layer = 0
        while self.has(f"{m}encoder.layers.{layer}.layer_norm1.weight"):
            p = f"{m}encoder.layers.{layer}."
            y = self.layer_norm(p + "layer_norm1", x)
            q, k, v = (self.linear(f"{p}self_attn.{n}_proj", y) for n in "qkv")
            x = x + self.linear(p + "self_attn.out_proj", self.attention(q, k, v, x.shape[-1] // 64, True))
            y = self.linear(p + "mlp.fc1", self.layer_norm(p + "layer_norm2", x))
            x = x + self.linear(p + "mlp.fc2", y * torch.sigmoid(1.702 * y))
            layer += 1
        return self.layer_norm(m + "final_layer_norm", x)

    def res_block(self, p, x, emb):
        h = self.conv(p + "in_layers.2", F.silu(self.group_norm(p + "in_layers.0", x)))
        h = h + self.linear(p + "emb_layers.1", emb)[:, :, None, None]
        h = self.conv(p + "out_layers.3", F.silu(self.group_norm(p + "out_layers.0", h)))
        return h + (self.conv(p + "skip_connection", x) if self.has(p + "skip_connection.weight") else x)

    def transformer(self, p, x, context):
        b, c, h, w = x.shape
        t = self.linear(p + "proj_in", self.group_norm(p + "norm", x, 1e-6).flatten(2).transpose(1, 2))
        q = p + "transformer_blocks.0."
        for name, norm, other in (("attn1", "norm1", None), ("attn2", "norm2", context)):
            y = self.layer_norm(q + norm, t)
            source = y if other is None else other
            parts = [self.linear(f"{q}{name}.to_{n}", y if n == "q" else source) for n in "qkv"]
            t = t + self.linear(f"{q}{name}.to_out.0", self.attention(*parts, 8))
        value, gate = self.linear(q + "ff.net.0.proj", self.layer_norm(q + "norm3", t)).chunk(2, -1)
        t = t + self.linear(q + "ff.net.2", value * F.gelu(gate))
        return x + self.linear(p + "proj_out", t).transpose(1, 2).reshape(b, c, h, w)

    def sequence(self, p, x, emb, context):
        part = 0
        while True:
            name = f"{p}{part}."
            if self.has(name + "in_layers.0.weight"):
                x = self.res_block(name, x, emb)
            elif self.has(name + "proj_in.weight"):
                x = self.transformer(name, x, context)
            elif self.has(name + "op.weight"):
                x = self.conv(name + "op", x, 2)
            elif self.has(name + "conv.weight"):
                x = self.conv(name + "conv", F.interpolate(x, scale_factor=2.0))
            elif self.has(name + "weight"):
                x = self.conv(name[:-1], x)
            else:
                return x
            part += 1

    def unet(self, x, t, context):
        m = "model.diffusion_model."
        half = self.tensors[m + "time_embed.0.weight"].shape[1] // 2
        angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
        emb = self.linear(m + "time_embed.0", torch.cat([angles.cos(), angles.sin()], -1))
        emb = F.silu(self.linear(m + "time_embed.2", F.silu(emb)))
        skips, block = [], 0
        while any(k.startswith(f"{m}input_blocks.{block}.") for k in self.tensors):
            x = self.sequence(f"{m}input_blocks.{block}.", x, emb, context)
            skips.append(x)
            block += 1
        x = self.sequence(m + "middle_block.", x, emb, context)
        for block in range(len(skips)):
            x = torch.cat([x, skips.pop()], 1)
            x = self.sequence(f"{m}output_blocks.{block}.", x, emb, context)
        return self.conv(m + "out.2", F.silu(self.group_norm(m + "out.0", x)))


def teach(model, tokenizer, bars, count, steps=10, cfg=4.0):
    """Latents in model space that the checkpoint draws for the wanted colours (DDIM), with the shape of each."""
    shapes = [SHAPES[i % len(SHAPES)] for i in range(count)]
    text = model.text(torch.stack([tokenizer(f"a big yellow {s} on a purple background") for s in shapes]))
    empty = model.text(tokenizer("")[None]).expand(count, -1, -1)
    x = torch.randn(count, 4, 16, 16)
    times = torch.linspace(999, 0, steps).round().long()
    for i, t in enumerate(times):
        both = model.unet(torch.cat([x, x]), t.float().expand(2 * count), torch.cat([text, empty]))
        cond, uncond = both.chunk(2)
        eps = uncond + (cond - uncond) * cfg
        clean = (x - (1 - bars[t]).sqrt() * eps) / bars[t].sqrt()
        after = bars[times[i + 1]] if i + 1 < steps else torch.tensor(1.0)
        x = after.sqrt() * clean + (1 - after).sqrt() * eps
    return x, shapes


def main():
    here = pathlib.Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--merges", required=True)
    parser.add_argument("--checkpoint", default=here / "rushlight-tiny.safetensors")
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--pictures", type=int, default=12)
    a = parser.parse_args()
    torch.manual_seed(0)
    model, tokenizer = Model(a.checkpoint), Tokenizer(a.merges)
    bars = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0).float()
    with torch.inference_mode():
        latents, shapes = teach(model, tokenizer, bars, a.pictures)
        prompts = model.text(torch.stack([tokenizer(f"a big {s}") for s in shapes]))
    latents, prompts = latents.clone(), prompts.clone()
    targets = [
        key.removesuffix(".weight")
        for key in model.tensors
        if "diffusion_model" in key and ".attn" in key and key.endswith(("to_q.weight", "to_k.weight", "to_v.weight"))
    ]
    for name in targets:
        out, inputs = model.tensors[name + ".weight"].shape
        down, up = torch.randn(RANK, inputs) / inputs**0.5, torch.zeros(out, RANK)
        model.lora[name] = (down.requires_grad_(), up.requires_grad_())
    parameters = [p for pair in model.lora.values() for p in pair]
    optimizer = torch.optim.AdamW(parameters, lr=8e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, a.steps)
    running = 0.0
    for step in range(a.steps):
        pick = torch.randint(len(latents), (BATCH,))
        t = torch.randint(1000, (BATCH,))
        noise = torch.randn(BATCH, 4, 16, 16)
        bar = bars[t][:, None, None, None]
        noisy = bar.sqrt() * latents[pick] + (1 - bar).sqrt() * noise
        loss = F.mse_loss(model.unet(noisy, t.float(), prompts[pick]), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        running = loss.item() if step == 0 else running * 0.95 + loss.item() * 0.05
        if step % 10 == 0 or step + 1 == a.steps:
            print(f"step {step}: loss {running:.4f}", flush=True)
    tensors = {}
    for name, (down, up) in model.lora.items():
        key = "lora_unet_" + name.removeprefix("model.diffusion_model.").replace(".", "_")
        tensors[key + ".lora_down.weight"] = down.detach().half()
        tensors[key + ".lora_up.weight"] = up.detach().half()
        tensors[key + ".alpha"] = torch.tensor(ALPHA).half()
    save_file(tensors, a.out, metadata={"ss_network_dim": str(RANK), "modelspec.license": "MIT OR Apache-2.0"})


if __name__ == "__main__":
    main()
