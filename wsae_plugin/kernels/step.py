"""The whole Top-k training step as one function."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wsae_plugin.kernels.dispatch import Kernel
from wsae_plugin.kernels.encoder import Encoder
from wsae_plugin.kernels.products import decode, encode
from wsae_plugin.kernels.selection import top_k


@dataclass(frozen=True)
class TopKStep:
    """What a Top-k SAE makes of a batch; every tensor carries gradients but the latents.

    Args:
        values: Feature activations, decoder norms included if they are rescaled, (batch, k).
        latents: Which latents they belong to, (batch, k).
        reconstruction: x̂, (batch, d_in).
        weighted_loss: mean over the batch of ‖Γ(x − x̂)‖², activation units².
        unweighted_loss: mean over the batch of ‖x − x̂‖², activation units².
    """

    values: Tensor
    latents: Tensor
    reconstruction: Tensor
    weighted_loss: Tensor
    unweighted_loss: Tensor


def topk_step(
    x: Tensor,
    W_enc: Tensor,
    b_enc: Tensor,
    W_dec: Tensor,
    b_dec: Tensor,
    gamma: Tensor | None = None,
    *,
    k: int,
    kernel: Kernel,
    rescale_acts_by_decoder_norm: bool = True,
    apply_b_dec_to_input: bool = True,
) -> TopKStep:
    """Encode, select, decode and compare, reading active latents only but for the selection.

    With `rescale_acts_by_decoder_norm` the norm of a decoder row multiplies its pre-activation and
    divides its activation in the decoder. The two cancel but in the selection, and so do their
    gradients; neither is computed.

    Args:
        x: Activations, (batch, d_in).
        W_enc: (d_in, d_sae), fastest when it is latent-major in memory.
        b_enc: (d_sae,).
        W_dec: (d_sae, d_in).
        b_dec: (d_in,).
        gamma: γ, (d_in,), or None for Γ = I.
        k: Active latents a row.
        kernel: What carries it out; see `choose_kernel`.
    """
    with torch.autocast(x.device.type, enabled=False):
        encoder_input = x - b_dec if apply_b_dec_to_input else x
        norms = W_dec.norm(dim=-1) if rescale_acts_by_decoder_norm else None
        encoder = Encoder.of(W_enc, b_enc, norms)
        pattern = top_k(encoder_input.detach(), encoder, k, kernel.backend, kernel.product)
        pre_activations, _ = encode(encoder_input, W_enc, b_enc, pattern, kernel.backend)
        acts = pre_activations.relu()
        reconstruction = decode(acts, W_dec, pattern, kernel.backend)[0] + b_dec
        error = (reconstruction - x).square()
        weighted = error if gamma is None else error * gamma.square()
        return TopKStep(
            values=(acts if norms is None else acts * norms[pattern.columns]).view(-1, k),
            latents=pattern.columns.view(-1, k),
            reconstruction=reconstruction,
            weighted_loss=weighted.sum(dim=-1).mean(),
            unweighted_loss=error.sum(dim=-1).mean(),
        )
