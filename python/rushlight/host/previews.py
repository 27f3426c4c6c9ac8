"""Preview pictures: how samplers make them, and as clients get them."""

from __future__ import annotations

import sys

_prompt_id: "str | None" = None


def follow(context) -> None:
    """Let Python samplers make the previews that the context's prompt asks for: as ComfyUI does, once a prompt, so that a
    node may choose another method for the nodes after it."""
    global _prompt_id
    set_method = getattr(sys.modules.get("latent_preview"), "set_preview_method", None)
    if set_method is not None and context.prompt_id != _prompt_id:
        _prompt_id = context.prompt_id
        set_method(context.preview_method)


def decode(preview):
    """``(format, bytes)`` as ``(format, PIL image, size)``; ``None`` where there is none, or no Pillow to read it."""
    if preview is None:
        return None
    try:
        from PIL import Image
    except ImportError:
        return None
    import io

    kind, data = preview
    image = Image.open(io.BytesIO(data))
    image.load()
    return kind, image, max(image.size)


def encode(preview, limit: int):
    """``(format, PIL image, size)`` as ``(format, bytes)``; ``None`` stays ``None``."""
    if preview is None:
        return None
    import io

    kind, image, *rest = preview
    size = rest[0] if rest and rest[0] else limit
    side = min(size, limit) if limit else size
    if side and max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side))
    kind = "PNG" if str(kind).upper() == "PNG" else "JPEG"
    if kind == "JPEG" and image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {"compress_level": 1}))
    return kind, buffer.getvalue()
