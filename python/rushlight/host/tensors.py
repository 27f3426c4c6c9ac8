"""Tensors on this side: PyTorch's if it can be imported, else NumPy's arrays."""

from __future__ import annotations

import functools
import importlib.util
import sys
from typing import Any


@functools.lru_cache(maxsize=1)
def library() -> str:
    """``torch``, ``numpy``, or an error if there is neither."""
    for name in ("torch", "numpy"):
        if name in sys.modules or importlib.util.find_spec(name) is not None:
            try:
                __import__(name)
                return name
            except Exception:  # a broken install of one must not keep the other from being used
                continue
    raise RuntimeError("nodes that take tensors need PyTorch or NumPy: pip install numpy")


def from_view(view):
    """A tensor over the memory of a :class:`rushlight._rushlight.TensorView`."""
    if library() == "torch":
        return sys.modules["torch"].from_dlpack(view)
    return _writable(sys.modules["numpy"].from_dlpack(view))


def _writable(array):
    # NumPy marks what comes by the old capsule as read-only; nodes may write, as they may with PyTorch.
    if not array.flags.writeable:
        try:
            array.flags.writeable = True
        except ValueError:
            import ctypes

            numpy = sys.modules["numpy"]
            if not array.flags.c_contiguous or array.size == 0:
                return array.copy()
            pointer = (ctypes.c_char * array.nbytes).from_address(array.ctypes.data)
            writable = numpy.frombuffer(pointer, dtype=array.dtype).reshape(array.shape)
            # The view keeps `array`, and with it the engine's tensor, alive.
            pointer._rushlight_owner = array
            return writable
    return array


def is_tensor(value) -> bool:
    """Whether a value is a tensor that can cross (a NumPy scalar is none)."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    kind: Any = getattr(torch, "Tensor", ())
    if isinstance(value, kind):
        return not value.is_sparse and not value.is_quantized and not value.is_complex()
    return numpy is not None and isinstance(value, numpy.ndarray) and value.dtype.kind in "fiub"


def to_capsule(value):
    """A DLPack capsule in CPU memory; what DLPack cannot lend is copied first."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, getattr(torch, "Tensor", ())):
        value = value.detach()
        if value.device.type != "cpu":
            value = value.cpu()
        if value.dtype not in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int64):
            value = value.to(torch.float32)
        return value.resolve_neg().__dlpack__()
    numpy = sys.modules["numpy"]
    if value.dtype not in (numpy.float32, numpy.float64, numpy.float16, numpy.uint8, numpy.int64):
        value = value.astype(numpy.float32)
    if not value.flags.writeable or not value.dtype.isnative or any(step < 0 for step in value.strides):
        value = numpy.array(value, dtype=value.dtype.newbyteorder("="))
    return value.__dlpack__()
