"""Streaming central moments, per dimension: computed batch by batch, merged exactly.

Sums are kept around the running mean (Pébay 2008, SAND2008-6212, eqs. 2.1, 3.1), in float64, so
that a large mean or an unlucky split into batches does not cost digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from wsae_plugin.errors import RunFailedError

# Rows that are converted to float64 at a time, counted in elements, so that a batch of wide
# latents does not need several float64 copies of itself.
_ELEMENTS_AT_A_TIME = 2**23


@dataclass(frozen=True)
class Moments:
    """Sums of the powers of (x − mean) over the samples seen so far, for d dimensions.

    Attributes:
        count: number of samples, shape (), float64.
        mean: shape (d,), activation units.
        m2: Σ(x − mean)², shape (d,), activation units².
        m3: Σ(x − mean)³, shape (d,).
        m4: Σ(x − mean)⁴, shape (d,).
    """

    count: Tensor
    mean: Tensor
    m2: Tensor
    m3: Tensor
    m4: Tensor

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.count, self.mean, self.m2, self.m3, self.m4))

    @property
    def variance(self) -> Tensor:
        """Population variance, shape (d,), activation units²; 0 before the first sample."""
        return self.m2 / self.count.clamp(min=1)

    @property
    def excess_kurtosis(self) -> Tensor:
        """n·m4/m2² − 3, shape (d,), no unit; 0 where the variance is 0."""
        constant = self.m2 == 0
        kurtosis = self.count * self.m4 / self.m2.square().masked_fill(constant, 1.0) - 3
        return kurtosis.masked_fill(constant, 0.0)

    def scaled(self, factor: float | Tensor) -> Moments:
        """The moments of factor · x; `factor` is a number or one number per dimension."""
        return Moments(
            count=self.count,
            mean=self.mean * factor,
            m2=self.m2 * factor**2,
            m3=self.m3 * factor**3,
            m4=self.m4 * factor**4,
        )


def no_samples(d: int, device: torch.device | str = "cpu") -> Moments:
    """The moments of an empty sample, the neutral element of `merge`."""

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=device)

    return Moments(zeros(), zeros(d), zeros(d), zeros(d), zeros(d))


def moments_of(batch: Tensor, batch_index: int = 0) -> Moments:
    """The moments of one batch.

    Args:
        batch: samples, shape (n_samples, d), any floating dtype.
        batch_index: names the batch in the error message.

    Raises:
        RunFailedError: a value is NaN or infinite; names the first such dimension and the batch.
    """
    rows = max(1, _ELEMENTS_AT_A_TIME // batch.shape[-1])
    moments = reduce(merge, map(_moments_of_rows, batch.split(rows)))
    if not torch.isfinite(moments.mean).all():
        dimension = int(torch.isfinite(moments.mean).logical_not().nonzero()[0])
        bad = batch[:, dimension][~torch.isfinite(batch[:, dimension])]
        raise RunFailedError(
            f"activations are not finite: batch {batch_index} has {len(bad)} of {len(batch)} "
            f"values NaN or infinite in dimension {dimension} (the first such dimension, first "
            f"value {float(bad[0]) if len(bad) else float('inf')}). Γ cannot be estimated from "
            "them: look at the model's dtype (float16 overflows) and at the hook."
        )
    return moments


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of both samples together (Pébay 2008, eq. 2.1); commutative to rounding."""
    n = (a.count + b.count).clamp(min=1)
    na, nb = a.count, b.count
    delta = b.mean - a.mean
    return Moments(
        count=na + nb,
        mean=a.mean + delta * nb / n,
        m2=a.m2 + b.m2 + delta**2 * na * nb / n,
        m3=a.m3
        + b.m3
        + delta**3 * na * nb * (na - nb) / n**2
        + 3 * delta * (na * b.m2 - nb * a.m2) / n,
        m4=a.m4
        + b.m4
        + delta**4 * na * nb * (na**2 - na * nb + nb**2) / n**3
        + 6 * delta**2 * (na**2 * b.m2 + nb**2 * a.m2) / n**2
        + 4 * delta * (na * b.m3 - nb * a.m3) / n,
    )


def as_float64(tensor: Tensor) -> Tensor:
    """`tensor` in float64, on its own device where that device has float64 (MPS has not)."""
    if tensor.device.type == "mps":
        tensor = tensor.cpu()
    return tensor.to(torch.float64)


def _moments_of_rows(rows: Tensor) -> Moments:
    x = as_float64(rows)
    mean = x.mean(dim=0)
    centred = x - mean
    squared = centred.square()
    return Moments(
        count=torch.tensor(float(len(x)), dtype=torch.float64, device=x.device),
        mean=mean,
        m2=squared.sum(dim=0),
        m3=(squared * centred).sum(dim=0),
        m4=squared.square().sum(dim=0),
    )
