"""The tiny world and the one thread of the tests of training."""

from tests.training.conftest import one_thread, world

__all__ = ["one_thread", "world"]
