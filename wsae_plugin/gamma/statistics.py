"""What Γ is computed from, and its form in a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wsae_plugin.gamma.moments import Moments, no_samples


@dataclass(frozen=True)
class GammaStatistics:
    """All that Γ is computed from, in float64.

    Attributes:
        alpha: the exponent reached so far, shape ().
        proxy: s, shape (d_in,).
        activations: moments of the SAE's input, d_in dimensions.
        latents: moments of the feature activations, d_sae dimensions, or 0 if no proxy needs them.
    """

    alpha: Tensor
    proxy: Tensor
    activations: Moments
    latents: Moments

    @classmethod
    def initial(cls, d_in: int, d_latents: int, device: torch.device | str) -> GammaStatistics:
        """Before the first step: the proxy is 1 everywhere, so Γ = I whatever α is."""
        return cls(
            alpha=torch.zeros((), dtype=torch.float64, device=device),
            proxy=torch.ones(d_in, dtype=torch.float64, device=device),
            activations=no_samples(d_in, device),
            latents=no_samples(d_latents, device),
        )

    def to_bytes(self) -> Tensor:
        """One uint8 tensor: no cast of floating tensors touches it, and bfloat16 holds 0..255."""
        tensors = (self.alpha, self.proxy, *self.activations, *self.latents)
        return torch.cat([tensor.reshape(-1) for tensor in tensors]).view(torch.uint8)

    @classmethod
    def from_bytes(cls, packed: Tensor, d_in: int) -> GammaStatistics:
        """The inverse of `to_bytes`; on the CPU where the device has no float64."""
        values = (packed.cpu() if packed.device.type == "mps" else packed).view(torch.float64)
        d_latents = (len(values) - 3 - 5 * d_in) // 4
        one_of = [1, d_in, 1, *[d_in] * 4, 1, *[d_latents] * 4]
        alpha, proxy, *moments = values.split(one_of)
        counts = (moments[0].reshape(()), moments[5].reshape(()))
        return cls(
            alpha=alpha.reshape(()),
            proxy=proxy,
            activations=Moments(counts[0], *moments[1:5]),
            latents=Moments(counts[1], *moments[6:]),
        )
