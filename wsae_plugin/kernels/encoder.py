"""The encoder as selection sees it: one row per latent, and a factor on its pre-activation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Encoder:
    """Scores of latents: (x · weight[j] + bias[j]) · scale[j].

    Args:
        weight: (d_sae, d_in), contiguous: SAELens's W_enc transposed.
        bias: (d_sae,).
        scale: (d_sae,), the decoder norms with `rescale_acts_by_decoder_norm`, else None.
    """

    weight: Tensor
    bias: Tensor
    scale: Tensor | None = None

    @classmethod
    def of(cls, W_enc: Tensor, b_enc: Tensor, decoder_norms: Tensor | None) -> Encoder:
        """From an SAE's parameters, without gradients; a latent-major W_enc is not copied."""
        scale = None if decoder_norms is None else decoder_norms.detach()
        return cls(W_enc.detach().T.contiguous(), b_enc.detach(), scale)

    @property
    def d_sae(self) -> int:
        return self.weight.shape[0]

    def scaled(self, pre_activations: Tensor, latents: Tensor) -> Tensor:
        """Scores of pre-activations of any shape, whose latents are `latents`."""
        return pre_activations if self.scale is None else pre_activations * self.scale[latents]

    def only(self, latents: Tensor) -> Encoder:
        """Of some latents, (n,), copied."""
        scale = None if self.scale is None else self.scale[latents]
        return Encoder(self.weight[latents], self.bias[latents], scale)

    def to_bfloat16(self) -> Encoder:
        """The same with decoder norms and everything else rounded; the norms go into the rest."""
        weight, bias = self.weight, self.bias
        if self.scale is not None:
            weight, bias = weight * self.scale[:, None], bias * self.scale
        return Encoder(weight.bfloat16(), bias.bfloat16())
