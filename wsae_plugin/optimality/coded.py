"""What an SAE makes of samples, as a dictionary and its codes in the space of its loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from sae_lens import SAE
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.optimality.lasso import nonnegative_lasso, padded

_ROWS = 2048
"""Samples whose activations are held dense at a time."""
_N_FOR_PENALTY = 512
"""Samples on which the penalty is sought: their mean L0 is known to a few per cent."""
_CLOSE = 0.01
"""How near the mean L0 of optimal codes comes to that of the SAE, as a share of it."""
_MOST_TRIES = 30
_LEAST_PENALTY = 1e-6
"""As a share of the largest correlation: below it hardly any code is zero that could be."""


@dataclass(frozen=True)
class Coded:
    """Samples, a dictionary of unit atoms, and codes that are not negative.

    The space is that of the SAE's loss: without its bias, and where it is weighted each dimension
    times γ. A signed SAE has every atom twice, the second time reversed.

    Args:
        x: Samples, shape (n, d_in), float64.
        atoms: Of length 1, shape (m, d_in), float64.
        latents: Which atoms are active, shape (n, a), int64; −1 for none.
        values: Their codes, shape (n, a), float64: feature activations times the atom's length.
        is_signed: Whether atom j + m/2 is atom j reversed.
    """

    x: Tensor
    atoms: Tensor
    latents: Tensor
    values: Tensor
    is_signed: bool = False

    @property
    def residual(self) -> Tensor:
        """What the codes leave of the samples, shape (n, d_in)."""
        return self.x - torch.sparse.mm(self.sparse(), self.atoms)

    def of(self, which: Tensor) -> Coded:
        """Some of the samples, by their numbers or by flags."""
        latents, values = self.latents[which], self.values[which]
        return replace(self, x=self.x[which], latents=latents, values=values)

    def sparse(self) -> Tensor:
        """The codes, sparse COO of shape (n, m)."""
        n, a = self.latents.shape
        is_atom = self.latents.flatten() >= 0
        rows = torch.arange(n, device=self.x.device).repeat_interleave(a)[is_atom]
        places = torch.stack([rows, self.latents.flatten()[is_atom]])
        values, size = self.values.flatten()[is_atom], (n, len(self.atoms))
        return torch.sparse_coo_tensor(places, values, size, check_invariants=False).coalesce()

    @property
    def costs(self) -> Tensor:
        """By how much the squared error grows without each code alone, shape (n, a)."""
        residual = self.residual
        along = [(residual * self.atoms[latents]).sum(dim=1) for latents in self.latents.T]
        # ‖r + z d‖² − ‖r‖² = 2 z dᵀr + z².
        return self.values * (2 * torch.stack(along, dim=1) + self.values)

    @property
    def counts(self) -> Tensor:
        """On how many samples each atom is active, shape (m,), int64."""
        return self.latents[self.latents >= 0].bincount(minlength=len(self.atoms))

    @property
    def l0(self) -> Tensor:
        """How many atoms are active, shape (n,), int64."""
        return (self.values > 0).sum(dim=1)


@torch.no_grad()
def coded(sae: SAE[Any], x: Tensor, gamma: Tensor) -> Coded:
    """Encode samples, and take dictionary and codes to the space of the loss.

    Args:
        sae: For inference.
        x: Samples, shape (n, d_in).
        gamma: γ, shape (d_in,), ones for an ordinary SAE; or the root M of a metric, which
            multiplies from the right, shape (d_in, d_in).

    Raises:
        BadInputError: No latent is active on any of them, the SAE is more than a dictionary, or its
            weights are not finite.
    """
    cfg: Any = sae.cfg
    if (architecture := cfg.architecture()) == "temporal":
        raise BadInputError(
            f"{architecture}: predicts a part of each sample from those before it, and what is "
            "tested is a dictionary and its codes; give an SAE of another architecture"
        )
    if hasattr(cfg, "d_out"):
        raise BadInputError(
            f"{architecture}: makes other activations than it reads, and what is tested is a "
            "dictionary of those that are read; give an SAE of another architecture"
        )
    for name in ("W_enc", "W_dec"):
        if not getattr(sae, name).isfinite().all():
            raise BadInputError(
                f"{name}: holds NaN or infinity; give an SAE whose training ended well"
            )
    atoms = weighted(sae.W_dec.double(), gamma)
    lengths = atoms.norm(dim=1)
    scale = lengths
    if getattr(cfg, "rescale_acts_by_decoder_norm", False):
        scale = lengths / sae.W_dec.double().norm(dim=1)
    parts = [_encoded(sae, rows.to(sae.device), scale) for rows in x.split(_ROWS)]
    width = max(values.shape[1] for values, _ in parts)
    if not width:
        raise BadInputError(
            "no latent of the SAE is active on any sample: there is nothing to test"
        )
    values, latents = (torch.cat([padded(part[k], width, 0) for part in parts]) for k in (0, 1))
    unit = atoms / lengths.clamp(min=torch.finfo(torch.float64).tiny).unsqueeze(1)
    if is_signed := bool((values < 0).any()):
        latents = latents + len(unit) * (values < 0)
        unit, values = torch.cat([unit, -unit]), values.abs()
    # A pursuit that does not subtract the bias does not add it.
    has_bias = cfg.apply_b_dec_to_input or architecture != "matching_pursuit"
    normalised = sae.run_time_activation_norm_fn_in(x.to(sae.device, sae.dtype)).double()
    x = weighted(normalised - sae.b_dec.double() * has_bias, gamma)
    return Coded(x, unit, latents.where(values > 0, -1), values, is_signed)


def _encoded(sae: SAE[Any], x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The codes that are not 0, the largest first, and their latents, of shape (n, a) each."""
    encoded = sae.encode(x)
    codes = (encoded.to_dense() if encoded.is_sparse else encoded).double() * scale
    latents = codes.abs().topk(int((codes != 0).sum(dim=1).max()), dim=1).indices
    return codes.gather(1, latents), latents


def weighted(rows: Tensor, gamma: Tensor) -> Tensor:
    """Rows (n, d_in) in the space of the loss, by γ (d_in,) or by a matrix (d_in, d_in)."""
    gamma = gamma.to(rows)
    return rows @ gamma if gamma.ndim == 2 else rows * gamma


def matched_penalty(of: Coded) -> float:
    """The L1 penalty at which optimal codes are as sparse as the SAE's, by their mean L0.

    So an SAE of any architecture is held to the codes that it could have at its own sparsity,
    whatever it was trained with.

    Raises:
        BadInputError: There is none: there are no samples, or too few, or they are no sum of atoms;
            or the SAE is hardly sparse.
    """
    n, d_in = of.x.shape
    n_tried = min(n, _N_FOR_PENALTY)
    # Spread over all: samples in order, of a class after another say, are not all alike.
    some = of.of(torch.arange(n_tried, device=of.x.device) * n // max(1, n_tried))
    wanted = float(some.l0.double().mean())
    # No atom is worth more than its largest correlation with a sample. From there the penalty is
    # halved until it is too small, since codes are found the faster the sparser they are.
    most = float((some.x @ of.atoms.T).amax()) if n else 0.0
    if not (most > 0 and 0 < wanted <= d_in):
        raise BadInputError(
            f"no L1 penalty suits {n} samples of {d_in} dimensions with {wanted:.1f} active "
            f"latents and correlations up to {most:g}; give other samples, or --penalty"
        )
    low, high, start = None, most, some.latents
    for _ in range(_MOST_TRIES):
        penalty = high / 2 if low is None else (low * high) ** 0.5
        if penalty < _LEAST_PENALTY * most:
            break
        codes = nonnegative_lasso(some.x, of.atoms, penalty, start)
        l0 = float((codes.values > 0).sum(dim=1).double().mean())
        if abs(l0 - wanted) <= _CLOSE * wanted:
            return penalty
        low, high = (penalty, high) if l0 > wanted else (low, penalty)
        start = codes.latents
    raise BadInputError(
        f"no L1 penalty makes optimal codes as sparse as the SAE's, {wanted:.1f} active latents; "
        "give one with --penalty"
    )
