"""The parameters of a stack of SAEs while they train, and their loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wsae_plugin.toy.batched.activation import Activation
from wsae_plugin.toy.batched.stack import SAEStack


class SAEs(nn.Module):
    """SAELens's SAE with its defaults: x̂ = σ((x − b_dec) @ W_enc + b_enc) @ W_dec + b_dec.

    Top-k compares pre-activations in units of the decoder norms.

    Args:
        decoders: W_dec before training, shape (n, d_sae, d_in); W_enc starts as its transpose.
        activation: σ.
        tied: the theory's SAE instead, x̂ = Wᵀσ(Wx) without biases (arXiv 2506.15963, eqs. 4
            and 5), whose Top-k compares the pre-activations themselves.
    """

    def __init__(self, decoders: Tensor, activation: Activation, tied: bool) -> None:
        super().__init__()
        n, d_sae, d_in = decoders.shape
        self.activation = activation
        self.tied = tied
        self.W_enc = nn.Parameter(decoders.clone())
        self.b_enc = nn.Parameter(decoders.new_zeros(n, d_sae), requires_grad=not tied)
        self.W_dec = self.W_enc if tied else nn.Parameter(decoders.clone())
        self.b_dec = nn.Parameter(decoders.new_zeros(n, d_in), requires_grad=not tied)

    @property
    def score_scale(self) -> Tensor:
        """What Top-k multiplies pre-activations with before it compares them, (n, d_sae)."""
        return torch.ones_like(self.b_enc) if self.tied else self.W_dec.norm(dim=-1)

    def forward(self, activations: Tensor) -> Tensor:
        """x̂ of activations (n, n_samples, d_in)."""
        b_dec = self.b_dec.unsqueeze(1)
        centred = activations - b_dec
        if self.activation.kind == "topk":
            with torch.no_grad():
                scores = self._hidden_pre(centred) * self.score_scale.unsqueeze(1)
                active = self.activation.active(scores)
            biases = self.b_enc.unsqueeze(1).expand(-1, active.shape[1], -1).gather(-1, active)
            enc = _rows(self.W_enc, active)
            dec = enc if self.tied else _rows(self.W_dec, active)
            hidden_pre = (enc * centred.unsqueeze(2)).sum(dim=-1) + biases
            # A decoder norm that multiplies the pre-activation divides the activation again in
            # SAELens's decoder, so that only the choice of latents depends on it.
            return (hidden_pre.relu().unsqueeze(-1) * dec).sum(dim=2) + b_dec
        return torch.baddbmm(b_dec, self.activation(self._hidden_pre(centred)), self.W_dec)

    @torch.no_grad()
    def stack(self) -> SAEStack:
        """The SAEs as they are now, the decoder bias that the input loses folded into b_enc."""
        W_enc, W_dec, b_dec = (w.detach().clone() for w in (self.W_enc, self.W_dec, self.b_dec))
        b_enc = self.b_enc.detach() - torch.bmm(W_enc, b_dec.unsqueeze(-1)).squeeze(-1)
        return SAEStack(W_enc, b_enc, W_dec, b_dec, self.score_scale.detach(), self.activation)

    def _hidden_pre(self, centred: Tensor) -> Tensor:
        return torch.baddbmm(self.b_enc.unsqueeze(1), centred, self.W_enc.transpose(1, 2))


def weighted_loss(reconstructions: Tensor, activations: Tensor, gamma: Tensor) -> Tensor:
    """Compute ‖Γ(x − x̂)‖² (arXiv 2506.15963, eq. 14), summed over d_in, meaned over samples: (n,).

    Args:
        reconstructions: x̂, shape (n, n_samples, d_in).
        activations: x, the same shape.
        gamma: γ of every SAE, shape (n, d_in).
    """
    residual = (reconstructions - activations) * gamma.unsqueeze(1)
    return residual.square().sum(dim=-1).mean(dim=-1)


def _rows(weights: Tensor, active: Tensor) -> Tensor:
    """Rows of weights (n, d_sae, d_in) at active (n, n_samples, k): (n, n_samples, k, d_in).

    A Top-k SAE needs only these, and their gradient: no (n_samples, d_sae) matrix is multiplied.
    """
    n, d_sae, d_in = weights.shape
    first = torch.arange(n).mul(d_sae).view(n, 1, 1)
    rows = weights.reshape(n * d_sae, d_in).index_select(0, (active + first).reshape(-1))
    return rows.view(*active.shape, d_in)
