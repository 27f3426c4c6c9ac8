"""``comfy_api``: the versioned node API. :mod:`comfy_api.latest` is what new nodes import."""
