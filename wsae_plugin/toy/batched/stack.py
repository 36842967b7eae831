"""Trained SAEs of one shape, as tensors: what the measures read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wsae_plugin.toy.batched.activation import Activation


@dataclass(frozen=True)
class SAEStack:
    """n SAEs: z = σ(W_enc x + b_enc), x̂ = z @ W_dec + b_dec.

    Attributes:
        W_enc: shape (n, d_sae, d_in), latent-major.
        b_enc: shape (n, d_sae).
        W_dec: shape (n, d_sae, d_in).
        b_dec: shape (n, d_in).
        score_scale: what Top-k multiplies pre-activations with before it compares them, shape
            (n, d_sae): the decoder norms, as in SAELens, or ones.
        activation: σ.
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    score_scale: Tensor
    activation: Activation

    def encode(self, activations: Tensor) -> Tensor:
        """z of activations (n, n_samples, d_in): shape (n, n_samples, d_sae)."""
        hidden_pre = torch.baddbmm(self.b_enc.unsqueeze(1), activations, self.W_enc.transpose(1, 2))
        return self.activation(hidden_pre, hidden_pre * self.score_scale.unsqueeze(1))

    def decode(self, feature_acts: Tensor) -> Tensor:
        """x̂ of feature activations (n, n_samples, d_sae): shape (n, n_samples, d_in)."""
        return torch.baddbmm(self.b_dec.unsqueeze(1), feature_acts, self.W_dec)

    def each(self) -> Iterator[SAEStack]:
        """Stacks of one SAE each."""
        tensors = {name: value for name, value in vars(self).items() if name != "activation"}
        for i in range(len(self.W_dec)):
            yield replace(self, **{name: value[i : i + 1] for name, value in tensors.items()})


def initial_decoders(
    seeds: Sequence[int],
    d_sae: int,
    d_in: int,
    norm: float = 0.1,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw W_dec before training, as SAELens draws it under `torch.manual_seed(seed)`.

    Args:
        seeds: one for each SAE.
        d_sae: latents.
        d_in: input dimensions.
        norm: length of every row, SAELens's `decoder_init_norm`.
        dtype: float32, or float64.

    Returns:
        Shape (len(seeds), d_sae, d_in).
    """
    decoders = torch.empty(len(seeds), d_sae, d_in, dtype=dtype)
    for decoder, seed in zip(decoders, seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        torch.nn.init.kaiming_uniform_(decoder, generator=generator)
    return decoders / decoders.norm(dim=-1, keepdim=True) * norm
