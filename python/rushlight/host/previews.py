"""Preview pictures as clients get them."""

from __future__ import annotations


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
