"""``io``: schemas, sockets and the base of node classes.

- ``_sockets``: socket types with their inputs and outputs.
- ``_dynamic``: inputs that take several types, match each other, grow, or depend on a choice.
- ``_node``: schemas, results, and ``ComfyNode``.
"""

from comfy_execution.graph_utils import ExecutionBlocker  # noqa: F401

from ._dynamic import *  # noqa: F401, F403
from ._node import *  # noqa: F401, F403
from ._sockets import *  # noqa: F401, F403
