"""``python -m rushlight``, and the ``rushlight`` console script."""

import os
import sys

from . import main


def run() -> None:
    """Run the command line and leave with its status."""
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that nodes started must not keep a stopped server alive, as they do not in upstream either.
    os._exit(status)


if __name__ == "__main__":
    run()
