"""The parameters of a stack of SAEs while they train, and their loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wsae_plugin.toy.batched.activation import Activation
from wsae_plugin.toy.batched.stack import SAEStack


class TiedSAEs(nn.Module):
    """x̂ = Wᵀσ(Wx) without biases, the theory's SAE (arXiv 2506.15963, eqs. 4 and 5).

    Args:
        decoders: W before training, shape (n, d_sae, d_in).
        activation: σ.
    """

    def __init__(self, decoders: Tensor, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.W = nn.Parameter(decoders.clone())

    def forward(self, activations: Tensor) -> Tensor:
        """x̂ of activations (n, n_samples, d_in)."""
        if self.activation.kind == "topk":
            with torch.no_grad():
                active = self.activation.active(torch.bmm(activations, self.W.transpose(1, 2)))
            rows = _rows(self.W, active)
            return _decoded(_pre_activations(activations, rows).relu(), rows)
        feature_acts = self.activation(torch.bmm(activations, self.W.transpose(1, 2)))
        return torch.bmm(feature_acts, self.W)

    @torch.no_grad()
    def stack(self) -> SAEStack:
        """The SAEs as they are now."""
        W = self.W.detach()
        n, d_sae, d_in = W.shape
        return SAEStack(
            W_enc=W.clone(),
            b_enc=W.new_zeros(n, d_sae),
            W_dec=W.clone(),
            b_dec=W.new_zeros(n, d_in),
            score_scale=W.new_ones(n, d_sae),
            activation=self.activation,
        )


class UntiedSAEs(nn.Module):
    """SAELens's SAE with its defaults: x̂ = σ((x − b_dec) @ W_enc + b_enc) @ W_dec + b_dec.

    Top-k compares pre-activations in units of the decoder norms.

    Args:
        decoders: W_dec before training, shape (n, d_sae, d_in); W_enc starts as its transpose.
        activation: σ.
    """

    def __init__(self, decoders: Tensor, activation: Activation) -> None:
        super().__init__()
        n, d_sae, d_in = decoders.shape
        self.activation = activation
        self.W_enc = nn.Parameter(decoders.clone())
        self.b_enc = nn.Parameter(decoders.new_zeros(n, d_sae))
        self.W_dec = nn.Parameter(decoders.clone())
        self.b_dec = nn.Parameter(decoders.new_zeros(n, d_in))

    def forward(self, activations: Tensor) -> Tensor:
        """x̂ of activations (n, n_samples, d_in)."""
        b_dec = self.b_dec.unsqueeze(1)
        centred = activations - b_dec
        if self.activation.kind == "topk":
            with torch.no_grad():
                scores = self._hidden_pre(centred) * self.W_dec.norm(dim=-1).unsqueeze(1)
                active = self.activation.active(scores)
            biases = self.b_enc.unsqueeze(1).expand(-1, active.shape[1], -1).gather(-1, active)
            hidden_pre = _pre_activations(centred, _rows(self.W_enc, active)) + biases
            # A decoder norm that multiplies the pre-activation divides the activation again in
            # SAELens's decoder, so that only the choice of latents depends on it.
            return _decoded(hidden_pre.relu(), _rows(self.W_dec, active)) + b_dec
        return torch.baddbmm(b_dec, self.activation(self._hidden_pre(centred)), self.W_dec)

    @torch.no_grad()
    def stack(self) -> SAEStack:
        """The SAEs as they are now, the decoder bias that the input loses folded into b_enc."""
        W_enc, W_dec, b_dec = self.W_enc.detach(), self.W_dec.detach(), self.b_dec.detach()
        return SAEStack(
            W_enc=W_enc.clone(),
            b_enc=self.b_enc.detach() - torch.bmm(W_enc, b_dec.unsqueeze(-1)).squeeze(-1),
            W_dec=W_dec.clone(),
            b_dec=b_dec.clone(),
            score_scale=W_dec.norm(dim=-1),
            activation=self.activation,
        )

    def _hidden_pre(self, centred: Tensor) -> Tensor:
        return torch.baddbmm(self.b_enc.unsqueeze(1), centred, self.W_enc.transpose(1, 2))


def weighted_loss(reconstructions: Tensor, activations: Tensor, gamma: Tensor) -> Tensor:
    """‖Γ(x − x̂)‖², summed over d_in, meaned over samples, shape (n,) (arXiv 2506.15963, eq. 14).

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


def _pre_activations(activations: Tensor, rows: Tensor) -> Tensor:
    return (rows * activations.unsqueeze(2)).sum(dim=-1)


def _decoded(feature_acts: Tensor, rows: Tensor) -> Tensor:
    return (feature_acts.unsqueeze(-1) * rows).sum(dim=2)
