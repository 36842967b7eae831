"""Which k atoms a sample is best made of: a search, whose result no optimum can be worse than.

The best support is a problem that nobody solves at this size. What is found here is a feasible
choice, so that its squared error is an upper bound on the least one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from wsae_plugin.errors import BadInputError
from wsae_plugin.optimality.lasso import (
    RIDGE,
    checked,
    choice,
    nonnegative_quadratic,
    numbers_of,
    padded,
    rows_a_chunk,
)

_MOST_SWAPS = 200
"""Of one sample; most have none left after a few."""
_LEAST_GAIN = 1e-9
"""A swap has to lower the squared error by this share of ‖x‖²."""


@dataclass(frozen=True)
class Support:
    """At most k atoms for each sample, and their best codes.

    Args:
        latents: Which atoms, shape (n, largest k), int64; −1 where fewer are needed.
        values: Their codes, of the same shape, float64; 0 where there is no atom.
        squared_error: What they leave of x, ‖x − Σ z_j d_j‖², shape (n,), float64.
    """

    latents: Tensor
    values: Tensor
    squared_error: Tensor


@torch.no_grad()
def best_support(
    x: Tensor, atoms: Tensor, k: int | Tensor, start: Tensor, candidates: Tensor
) -> Support:
    """Search for the k atoms with the least squared error, by swaps that lower it.

    Args:
        x: Samples, shape (n, d).
        atoms: The dictionary, a row an atom, shape (m, d), of length 1; or 0, which is never
            active.
        k: The most atoms of a sample, or of each, shape (n,), integers.
        start: Atoms to begin with, shape (n, a), of which k at most, integers; −1 for none.
        candidates: Atoms that may enter, such as those of a lasso with a small penalty, shape
            (n, any), integers; −1 for none.

    Returns:
        A choice that is no worse than the best codes on `start`.

    Raises:
        BadInputError: An argument is of a wrong shape or type or is not finite, or a sample starts
            with more than k atoms.
    """
    x, atoms = checked(x, atoms)
    start, candidates = choice("start", start, x, atoms), choice("candidates", candidates, x, atoms)
    each = torch.as_tensor(k, device=x.device)
    if each.is_floating_point() or each.shape not in {(), (len(x),)} or (each < 0).any():
        raise BadInputError(
            f"k is {each.flatten()[:3].tolist()}, of shape {tuple(each.shape)}; give a number from "
            f"0, or {len(x)} of them, one a sample"
        )
    limits = each.expand(len(x)).unsqueeze(1)
    if ((start >= 0).sum(dim=1, keepdim=True) > limits).any():
        raise BadInputError("start has more atoms than k for some sample; begin with k at most")
    parts: list[Support] = []
    n_rows = rows_a_chunk(numbers_of(start.shape[1] + candidates.shape[1], x.shape[1]))
    with tqdm(total=len(x), desc="Best supports", unit="sample", leave=False) as bar:
        for first in range(0, len(x), n_rows):
            rows = slice(first, first + n_rows)
            parts.append(_search(x[rows], atoms, limits[rows], start[rows], candidates[rows]))
            bar.update(len(x[rows]))
    width = int(limits.max())
    return Support(
        torch.cat([padded(part.latents, width, -1) for part in parts]),
        torch.cat([padded(part.values, width, 0) for part in parts]),
        torch.cat([part.squared_error for part in parts]),
    )


def _search(x: Tensor, atoms: Tensor, k: Tensor, start: Tensor, candidates: Tensor) -> Support:
    is_known = (candidates.unsqueeze(2) == start.unsqueeze(1)).any(dim=2)
    pool = torch.cat([start, candidates.where(~is_known, -1)], dim=1)
    is_atom = pool >= 0
    chosen = atoms[pool.clamp(min=0)] * is_atom.unsqueeze(2)
    gram, linear = chosen @ chosen.mT, (chosen @ x.unsqueeze(2)).squeeze(2)
    squared = x.square().sum(dim=1)
    inside = is_atom.clone()
    inside[:, start.shape[1] :] = False
    z, gain = _best_codes(gram, linear, inside)
    left = torch.arange(len(x), device=x.device)
    for _ in range(_MOST_SWAPS):
        now, g, b = inside[left] & (z[left] > 0), gram[left], linear[left]
        slope = (b - (g @ z[left].unsqueeze(2)).squeeze(2)).where(is_atom[left] & ~now, -torch.inf)
        steepest, enters = slope.max(dim=1, keepdim=True)
        # What leaves costs about the square of its code, and nothing where there is still room.
        leaves = z[left].where(now, torch.inf).argmin(dim=1, keepdim=True)
        stays = now.sum(dim=1, keepdim=True) < k[left]
        trial = now.scatter(1, leaves, now.gather(1, leaves) & stays).scatter(1, enters, True)
        of_trial, gain_of_trial = _best_codes(g, b, trial)
        enough = gain[left] + _LEAST_GAIN * squared[left]
        fits = trial.sum(dim=1, keepdim=True) <= k[left]
        better = (gain_of_trial > enough) & (fits & (steepest > 0)).squeeze(1)
        left, trial, of_trial = left[better], trial[better], of_trial[better]
        if not len(left):
            break
        inside[left], z[left], gain[left] = trial, of_trial, gain_of_trial[better]
    values, places = z.sort(dim=1, descending=True)
    n_active = max(1, int((values > 0).sum(dim=1).max()))
    values, places = values[:, :n_active], places[:, :n_active]
    latents = pool.gather(1, places).where(values > 0, -1)
    residual = x - (values.unsqueeze(1) @ (chosen.gather(1, _as_rows(places, x)))).squeeze(1)
    return Support(latents, values, residual.square().sum(dim=1))


def _best_codes(gram: Tensor, linear: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """The best nonnegative codes on a choice of the pool, and by how much they lower ‖x‖²."""
    width = max(1, int(inside.sum(dim=1).max()))
    # Few of the pool are inside, and a system costs the cube of its size.
    is_one, places = inside.to(torch.uint8).topk(width, dim=1)
    is_one, rows = is_one.bool(), torch.arange(len(gram), device=gram.device)[:, None, None]
    system = gram[rows, places.unsqueeze(2), places.unsqueeze(1)]
    system *= is_one.unsqueeze(1) & is_one.unsqueeze(2)
    system.diagonal(dim1=1, dim2=2).add_(RIDGE + (~is_one).double())
    of_these = linear.gather(1, places) * is_one
    chosen = nonnegative_quadratic(system, of_these, is_one)
    gain = (chosen * (2 * of_these - (system @ chosen.unsqueeze(2)).squeeze(2))).sum(dim=1)
    return torch.zeros_like(linear).scatter_(1, places, chosen), gain


def _as_rows(places: Tensor, x: Tensor) -> Tensor:
    return places.unsqueeze(2).expand(-1, -1, x.shape[1])
