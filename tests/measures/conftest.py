"""The tiny world of the training tests, and their one thread."""

from __future__ import annotations

from tests.training.conftest import one_thread, world

__all__ = ["one_thread", "world"]
