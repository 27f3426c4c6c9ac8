"""Fixtures of these tests; see :mod:`serving`."""

from serving import examples, python

__all__ = ["examples", "python"]
