"""The upstream version whose behaviour is offered."""

__version__ = "0.8.0"
