"""Compiled models need the PyTorch engine."""

from rushlight.host.errors import NodeHomeError


def set_torch_compile_wrapper(*args, **kwargs):
    raise NodeHomeError("comfy_api.torch_helpers.set_torch_compile_wrapper")
