"""A dictionary that is fitted once more to samples and their codes, near to where it was."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from wsae_plugin.optimality.coded import Coded

PRIORS = (0.03, 0.3, 3.0, 30.0)
"""Weights of staying where it is, as shares of the mean activity Σ z² of an atom."""
_TOLERANCE = 1e-4
_MOST_STEPS = 200


@torch.no_grad()
def refitted(of: Coded, prior: float) -> Tensor:
    """The atoms that leave least of the samples at these codes: one step of dictionary learning
    (T3 of arXiv 2606.02385, without the penalty, which scales lengths alone).

    Minimises ‖X − Z D'‖² + ρ‖D' − D‖² by conjugate gradients, so that atoms that are hardly active
    stay as they are.

    Args:
        of: Samples and codes.
        prior: ρ, as a share of the mean activity Σ z² of an atom.

    Returns:
        Shape (m, d_in), float64, of any length.
    """
    z = of.sparse()
    activity = torch.zeros(len(of.atoms), dtype=of.x.dtype, device=of.x.device)
    is_atom = of.latents >= 0
    activity.index_add_(0, of.latents[is_atom], of.values[is_atom].square())
    ridge = prior * activity[activity > 0].mean()
    scale = (activity + ridge).rsqrt().unsqueeze(1)  # Jacobi's preconditioner

    def normal(v: Tensor) -> Tensor:
        u = scale * v
        return scale * (torch.sparse.mm(z.T, torch.sparse.mm(z, u)) + ridge * u)

    target = scale * torch.sparse.mm(z.T, of.residual)
    change, left = torch.zeros_like(target), target.clone()
    along, squared = left.clone(), left.square().sum(dim=0)
    enough = _TOLERANCE**2 * squared
    for _ in range(_MOST_STEPS):
        if (squared <= enough).all():
            break
        product = normal(along)
        length = squared / (along * product).sum(dim=0).clamp(min=torch.finfo(left.dtype).tiny)
        change += length * along
        left -= length * product
        before, squared = squared, left.square().sum(dim=0)
        along = left + squared / before.clamp(min=torch.finfo(left.dtype).tiny) * along
    return of.atoms + scale * change


def worst_atoms(of: Coded) -> Tensor:
    """What moving one atom alone recovers of the squared error, shape (m,): ‖Σ z r‖² / Σ z², which
    is 0 where T2 of arXiv 2606.02385 holds, without the penalty."""
    pull = torch.sparse.mm(of.sparse().T, of.residual).square().sum(dim=1)
    activity = torch.zeros_like(pull)
    is_atom = of.latents >= 0
    activity.index_add_(0, of.latents[is_atom], of.values[is_atom].square())
    return pull / activity.clamp(min=torch.finfo(pull.dtype).tiny)


def best_prior(of: Coded, half: Tensor) -> float:
    """Which of `PRIORS` leaves least of the samples outside `half` when it was fitted to those
    inside.

    Args:
        of: Samples and codes.
        half: Shape (n,), bool.
    """
    inside, outside = of.of(half), of.of(~half)

    def left(prior: float) -> float:
        after = replace(outside, atoms=refitted(inside, prior))
        return float(after.residual.square().sum())

    return min(PRIORS, key=left)
