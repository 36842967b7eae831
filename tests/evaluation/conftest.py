"""The tiny world, made once, and one thread: SAEs of this size are faster on one than on two."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.training.tiny import TinyWorld, make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_world(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
