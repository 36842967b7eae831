"""The tiny world of the training tests, and one thread."""

from tests.training.conftest import one_thread, world

__all__ = ["one_thread", "world"]
