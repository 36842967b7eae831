from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# No clocks: a busy machine is no failure.
settings.register_profile("wsae", deadline=None)
settings.load_profile("wsae")

if not torch.cuda.is_available():
    # Triton decides on its import, which SAELens brings about, to interpret kernels.
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def signal_handlers_of_one_test_only() -> Iterator[None]:
    """SAELens's runners set handlers for SIGINT and SIGTERM and leave them behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
