"""The small evaluated run of all tests of this room."""

from evaluated_world import trained

__all__ = ["trained"]
