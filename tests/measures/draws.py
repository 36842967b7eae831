"""Dictionaries, codes, and SAEs saved with them, for the tests of the metrics."""

from __future__ import annotations

from math import cos, radians, sin
from pathlib import Path

import torch
from hypothesis import strategies as st
from sae_lens import StandardSAE, StandardSAEConfig
from torch import Tensor

seeds = st.integers(0, 2**31)


def draw(rows: int, columns: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def directions(*degrees: float) -> Tensor:
    return torch.tensor([[cos(radians(a)), sin(radians(a))] for a in degrees], dtype=torch.float64)


def sparse(n: int, columns: int, seed: int) -> Tensor:
    values = draw(n, columns, seed)
    return values.abs() * (values > 0.3)


def save(folder: Path, decoder: Tensor) -> Path:
    saved = StandardSAE(StandardSAEConfig(d_in=decoder.shape[1], d_sae=decoder.shape[0]))
    saved.W_dec.data = decoder.float()
    saved.save_model(folder)
    return folder
