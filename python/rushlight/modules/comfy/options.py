"""``comfy.options``: whether the command line is read on import. It never is here."""

args_parsing = False


def enable_args_parsing(enable=True):
    """The server has read the command line already."""
