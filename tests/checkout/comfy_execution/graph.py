from .graph_utils import ExecutionBlocker  # noqa: F401
