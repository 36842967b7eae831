"""What a publication holds beside the SAE's weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from wsae_plugin.gamma import GammaScheduler
from wsae_plugin.hub.bundle import _proxy_read  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("proxy", ["file", "shuffled_file"])
def test_the_published_proxy_gives_the_same_gamma_again(proxy: str, tmp_path: Path) -> None:
    x = torch.randn(9, 8)

    def scheduler(file: Path) -> GammaScheduler:
        gamma = GammaScheduler(8, 4, proxy=proxy, file=str(file), seed=3, freeze_step=1)
        gamma.update(0, 1.0, x, decoder=lambda: torch.zeros(4, 8))
        return gamma

    s = torch.arange(1.0, 9.0, dtype=torch.float64)
    save_file({"s": s}, tmp_path / "s.safetensors")
    trained = scheduler(tmp_path / "s.safetensors")
    save_file(trained.export(), tmp_path / "gamma.safetensors")
    record: Any = SimpleNamespace(
        proxy=proxy, gamma_file=tmp_path / "gamma.safetensors", details={"gamma_seed": 3}
    )
    save_file({"proxy": _proxy_read(record)}, tmp_path / "published.safetensors")
    assert torch.equal(load_file(tmp_path / "published.safetensors")["proxy"], s)
    assert torch.equal(scheduler(tmp_path / "published.safetensors").gamma, trained.gamma)
