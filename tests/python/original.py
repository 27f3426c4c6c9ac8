"""The original server beside ours, and graphs whose results can be compared: made of recorded node inputs."""

from __future__ import annotations

import io
import json
import os
import pathlib
import re
import struct

import numpy
from PIL import Image
from serving import ROOT, Server, node
from servers import free_port

GOLDENS = ROOT / "tests" / "data" / "goldens"
SCALARS = ("STRING", "INT", "FLOAT", "BOOLEAN", "SIGMAS", "COMBO")


def original(python: str, checkout: str, base: pathlib.Path) -> Server:
    """Starts the original; it writes nothing into its checkout."""
    command = [
        python, "main.py", "--cpu", "--port", str(free_port()), "--base-directory", str(base),
        "--database-url", f"sqlite:///{base}/original.db", "--fp32-text-enc",
    ]
    server = Server(python, base, command=command, cwd=checkout, wait=300, env={"PYTHONDONTWRITEBYTECODE": "1"})
    return server


def read_safetensors(data: bytes) -> dict:
    """Float32 tensors of a safetensors file, by name; others are left out."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = entry["data_offsets"]
        values = numpy.frombuffer(data[8 + length + begin : 8 + length + end], dtype="<f4")
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def write_latent(path: pathlib.Path, samples: numpy.ndarray) -> None:
    """A file that LoadLatent reads."""
    samples = numpy.ascontiguousarray(samples, dtype="<f4")
    header = {
        "latent_format_version_0": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]},
        "latent_tensor": {"dtype": "F32", "shape": list(samples.shape), "data_offsets": [0, samples.nbytes]},
    }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + samples.tobytes())


class CannotBuild(Exception):
    """A recorded input that files cannot bring into a prompt."""


class GraphMaker:
    """Turns recorded cases into prompts; the files that they load go to the input folders of all servers."""

    def __init__(self, inputs: "list[pathlib.Path]"):
        self.inputs = inputs
        self.cases = json.loads((GOLDENS / "nodes.json").read_text())
        self.tensors = read_safetensors((GOLDENS / "nodes.safetensors").read_bytes())

    def make(self, case: str, info: dict) -> dict:
        """The prompt of a case; `info` is the node's `/object_info` entry."""
        self.prompt: dict = {}
        self.case = case.replace("/", "_")
        class_type = case.split("/")[0]
        types = {
            name: config[0]
            for group in ("required", "optional")
            for name, config in info["input"].get(group, {}).items()
        }
        inputs = {
            name: self._input(f"{self.case}_{name}", value, types.get(name))
            for name, value in self.cases[case]["inputs"].items()
        }
        self.prompt["node"] = node(class_type, **inputs)
        for slot, ty in enumerate(info["output"]):
            self._show(["node", slot], ty, f"{self.case}_{slot}")
        return self.prompt

    def _add(self, class_type: str, **inputs) -> list:
        name = f"n{len(self.prompt)}"
        self.prompt[name] = node(class_type, **inputs)
        return [name, 0]

    def _input(self, name: str, value, ty):
        if isinstance(value, dict) and "tensor" in value:
            return self._tensor(name, self.tensors[value["tensor"]], ty)
        if isinstance(value, dict) and "samples" in value:
            if set(value) != {"samples"}:
                raise CannotBuild(f"a latent with {sorted(value)}")
            return self._latent(name, self.tensors[value["samples"]["tensor"]])
        if isinstance(value, (dict, list)):
            raise CannotBuild(f"a value of type {ty}")
        return value

    def _tensor(self, name: str, tensor, ty) -> list:
        if ty == "SIGMAS":
            # ManualSigmas does not know exponents.
            numbers = [numpy.format_float_positional(value, trim="0") for value in tensor]
            return self._add("ManualSigmas", sigmas=", ".join(numbers))
        if ty == "MASK":
            link = self._pictures(name, numpy.repeat(tensor[..., None], 3, axis=-1))
            return self._add("ImageToMask", image=link, channel="red")
        if ty != "IMAGE":
            raise CannotBuild(f"a tensor for {ty}")
        if tensor.shape[-1] == 4:
            alpha = self._pictures(name + "_alpha", numpy.repeat(tensor[..., 3:], 3, axis=-1))
            alpha = self._add("ImageToMask", image=alpha, channel="red")
            # The joined picture's alpha is the inverse of the mask.
            return self._add("JoinImageWithAlpha", image=self._pictures(name, tensor[..., :3]), alpha=alpha)
        return self._pictures(name, tensor)

    def _pictures(self, name: str, batch) -> list:
        link = None
        for number, picture in enumerate(numpy.clip(batch * 255.0, 0, 255).round().astype(numpy.uint8)):
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, "PNG")
            for folder in self.inputs:
                (folder / f"{name}_{number}.png").write_bytes(buffer.getvalue())
            loaded = self._add("LoadImage", image=f"{name}_{number}.png")
            link = loaded if link is None else self._add("ImageBatch", image1=link, image2=loaded)
        if link is None:
            raise CannotBuild("an empty batch")
        return link

    def _latent(self, name: str, samples) -> list:
        for folder in self.inputs:
            write_latent(folder / f"{name}.latent", samples)
        return self._add("LoadLatent", latent=f"{name}.latent")

    def _show(self, link: list, ty, name: str) -> None:
        if ty == "MASK":
            link, ty = self._add("MaskToImage", mask=link), "IMAGE"
        if ty == "IMAGE":
            self._add("SaveImage", images=link, filename_prefix=name)
        elif ty == "LATENT":
            self._add("SaveLatent", samples=link, filename_prefix=name)
        elif ty in SCALARS or isinstance(ty, list):
            self._add("PreviewAny", source=link)
        else:
            raise CannotBuild(f"an output of type {ty}")


def results(outputs: dict, base: pathlib.Path) -> dict:
    """What a run left, of its outputs in the history: output node → list of arrays (pictures, latents) and texts."""
    made: dict = {}
    for node_id, shown in sorted(outputs.items()):
        values = made.setdefault(node_id, [])
        for entry in shown.get("images", ()):
            path = base / entry["type"] / entry["subfolder"] / entry["filename"]
            values.append(numpy.asarray(Image.open(path)))
        for entry in shown.get("latents", ()):
            path = base / entry["type"] / entry["subfolder"] / entry["filename"]
            values.append(read_safetensors(path.read_bytes())["latent_tensor"])
        values.extend(shown.get("text", ()))
    return made


def difference(left: dict, right: dict, rounding: bool = False) -> "str | None":
    """How two results differ; ``None`` if they are the same.

    With ``rounding``, as native code may: latents by a few units of the last place, one step of 255 in one of a
    hundred values of a picture (sums in another order, cut to 8 bits), and numbers as text in the digits that
    PyTorch does not show.
    """
    if left.keys() != right.keys():
        return f"outputs of {sorted(left)} and of {sorted(right)}"
    for key in left:
        if len(left[key]) != len(right[key]):
            return f"{len(left[key])} and {len(right[key])} results of {key}"
        for one, other in zip(left[key], right[key]):
            apart = _text_difference(one, other, rounding) if isinstance(one, str) else _apart(one, other, rounding)
            if apart is not None:
                return apart
    return None


def _apart(one, other, rounding: bool) -> "str | None":
    if one.shape != other.shape:
        return f"shapes {one.shape} and {other.shape}"
    apart = numpy.abs(one.astype(numpy.float64) - other.astype(numpy.float64))
    count, most = int((apart > 0).sum()), apart.max(initial=0)
    if rounding and one.dtype == numpy.uint8:
        allowed = most <= 1 and count <= one.size / 100
    elif rounding:
        allowed = most <= 1e-6 * max(1.0, float(numpy.abs(one).max(initial=0)))
    else:
        allowed = False
    return None if count == 0 or allowed else f"{count} of {apart.size} values, by at most {most:.3g}"


def _text_difference(one: str, other: str, rounding: bool) -> "str | None":
    if one == other:
        return None
    if rounding and one.startswith("tensor("):
        numbers = [[float(number) for number in re.findall(r"-?[0-9.]+(?:e[-+]?[0-9]+)?", text)] for text in (one, other)]
        if len(numbers[0]) == len(numbers[1]) and numpy.allclose(*numbers, rtol=1e-4, atol=5.1e-5):
            return None
    return f"{one[:300]!r} and {other[:300]!r}"


def checkout_folder() -> "str | None":
    """The original's checkout."""
    return os.environ.get("COMFYUI_DIR")
