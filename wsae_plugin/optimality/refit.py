"""A dictionary that is fitted once more to samples and their codes, near to where it was."""

from __future__ import annotations

import torch
from torch import Tensor

from wsae_plugin.optimality.coded import Coded

_PRIOR = 0.01
"""Weight of staying where it is: as much as this share of the mean activity Σ z² of an atom."""
_TOLERANCE = 1e-4
_MOST_STEPS = 200


@torch.no_grad()
def refitted(of: Coded) -> Tensor:
    """The atoms that leave least of the samples at these codes: one step of dictionary learning
    (T3 of arXiv 2606.02385, without the penalty, which scales lengths alone).

    Minimises ‖X − Z D'‖² + ρ‖D' − D‖² by conjugate gradients, where ρ is small beside the activity
    of most atoms, so that those that are hardly active stay as they are.

    Returns:
        Shape (m, d_in), float64, of any length.
    """
    z = of.sparse()
    activity = torch.zeros(len(of.atoms), dtype=of.x.dtype, device=of.x.device)
    is_atom = of.latents >= 0
    activity.index_add_(0, of.latents[is_atom], of.values[is_atom].square())
    ridge = _PRIOR * activity[activity > 0].mean()
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
