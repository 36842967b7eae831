"""The best codes that a dictionary allows under an L1 penalty, with a proof of how good they are.

For each sample, min over z ≥ 0 of ½‖x − Σ_j z_j d_j‖² + λ Σ_j z_j is solved on a small active set,
exactly, which then gets the atoms that violate optimality most; one dense product finds them. Every
θ with d_jᵀθ ≤ λ for all j bounds the optimum from below by xᵀθ − ½‖θ‖², so that the residual,
scaled into that set, tells how far the codes can be from it at most (the duality gap).

On the active set the problem is a quadratic programme of some hundred variables. Block principal
pivoting (Portugal, Júdice and Vicente 1994; Kim and Park 2011) solves it to rounding in a few
linear systems, where coordinate descent takes the more sweeps the more alike atoms are. What it
leaves, Lawson and Hanson's method (1974) ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.optimize import nnls
from torch import Tensor
from tqdm.auto import tqdm

from wsae_plugin.errors import BadInputError, RunFailedError

TOLERANCE = 1e-6
"""The largest duality gap, as a share of the objective."""
_LEAST_TOLERANCE = 1e-10
"""Nearer than that, rounding and the ridge decide."""
_MOST_ROUNDS = 100
"""Each adds up to `_N_ADDED` atoms to every active set; ten are many, and fifty where there are
many times as many atoms as dimensions, and hardly a penalty."""
_N_ADDED = 32
"""Atoms that an active set gets at once: more make larger systems, fewer more dense products."""
_CHUNK_BYTES = 2**25
"""Of what is held for samples at a time: their correlations, or the atoms gathered for them."""
_ROUNDING = 1e-12
"""Of codes and gradients, relative to the largest: what is taken for 0."""
_NEAR = 1e-4
"""Correlations that exceed the penalty by less are computed in float64."""
_NARROW = 2e-6
"""So are those by this share of ‖r‖: what float32 may make of a product of unit atoms with it."""
_MOST_PIVOTS = 10
"""Five are many. Where alike atoms let blocks go in circles, `nnls` takes less than more would."""
RIDGE = 1e-14
"""Added to the diagonal of a Gram matrix of unit atoms: equal atoms share their code. A hundred
times as much would keep gaps above 1e-6 where samples are 10⁷ times as long as the penalty."""
_UNIT = 1e-4
"""How far the length of an atom may be from 1."""


@dataclass(frozen=True)
class Codes:
    """Sparse codes of samples.

    Args:
        latents: Which atoms, shape (n, a), int64; −1 where a sample has fewer than a.
        values: Their codes, shape (n, a), float64; 0 where there is no atom.
        objective: Of each sample, shape (n,), float64.
        gap: How far it is from the optimum at most, as a share of itself, shape (n,), float64.
    """

    latents: Tensor
    values: Tensor
    objective: Tensor
    gap: Tensor


@torch.no_grad()
def nonnegative_lasso(
    x: Tensor,
    atoms: Tensor,
    penalty: float,
    start: Tensor | None = None,
    tolerance: float = TOLERANCE,
) -> Codes:
    """Solve the nonnegative lasso of many samples over one dictionary.

    Args:
        x: Samples, shape (n, d).
        atoms: The dictionary, a row an atom, shape (m, d), of length 1; or 0, which is never
            active.
        penalty: λ, in units of x.
        start: Atoms that are likely to be active, such as those of an SAE, shape (n, a), integers;
            −1 for none.
        tolerance: The largest relative duality gap, from 1e-10.

    Raises:
        BadInputError: An argument is of a wrong shape, is not finite, or is out of its range.
        RunFailedError: A gap stayed above the tolerance.
    """
    if not 0 < penalty < math.inf:
        raise BadInputError(f"penalty is {penalty}; give a positive, finite number")
    if not _LEAST_TOLERANCE <= tolerance < 1:
        raise BadInputError(
            f"tolerance is {tolerance}; give one from {_LEAST_TOLERANCE:g} to below 1"
        )
    x, wide = checked(x, atoms)
    begin = torch.full((len(x), 1), -1, device=x.device)
    if start is not None:
        begin = choice("start", start, x, wide)
    narrow = wide.float()
    n_rows = rows_a_chunk(len(wide))
    parts: list[Codes] = []
    with tqdm(total=len(x), desc="Optimal codes", unit="sample", leave=False) as bar:
        for first in range(0, len(x), n_rows):
            rows = slice(first, first + n_rows)
            parts.append(_solve(x[rows], wide, narrow, penalty, begin[rows], tolerance))
            bar.update(len(x[rows]))
    width = max(part.latents.shape[1] for part in parts)
    return Codes(
        torch.cat([padded(part.latents, width, -1) for part in parts]),
        torch.cat([padded(part.values, width, 0) for part in parts]),
        torch.cat([part.objective for part in parts]),
        torch.cat([part.gap for part in parts]),
    )


def checked(x: Tensor, atoms: Tensor) -> tuple[Tensor, Tensor]:
    """Samples (n, d) and atoms (m, d), in float64, on the device of the samples.

    Raises:
        BadInputError: One of them is of a wrong shape, or not finite, or the length of an atom is
            neither 1 nor 0.
    """
    for name, rows in (("x", x), ("atoms", atoms)):
        if rows.ndim != 2 or not (rows.numel() and rows.isfinite().all()):
            what = "sample" if name == "x" else "atom"
            raise BadInputError(
                f"{name} has no {what}, or one that is not finite, in shape {tuple(rows.shape)}; "
                f"give a row for each {what}, and leave such ones out"
            )
    if x.shape[1] != atoms.shape[1]:
        raise BadInputError(
            f"atoms have {atoms.shape[1]} dimensions and x has {x.shape[1]}; give the same"
        )
    atoms = atoms.to(x.device, torch.float64)
    lengths = atoms.norm(dim=1)
    is_wrong = ((lengths - 1).abs() > _UNIT) & (lengths > 0)
    if is_wrong.any():
        atom = int(is_wrong.nonzero()[0])
        raise BadInputError(
            f"atoms: number {atom} has length {float(lengths[atom]):g}; divide each by its length"
        )
    return x.double(), atoms


def choice(name: str, chosen: Tensor, x: Tensor, atoms: Tensor) -> Tensor:
    """A choice of atoms for each sample, shape (n, a), where none is named twice or is 0.

    Args:
        name: Of the argument, for errors.
        chosen: Numbers of atoms, shape (n, any), −1 for none.
        x: Samples, shape (n, d).
        atoms: The dictionary, shape (m, d).

    Raises:
        BadInputError: The choice is of a wrong shape or type, or names an atom that there is not.
    """
    if chosen.ndim != 2 or len(chosen) != len(x):
        raise BadInputError(
            f"{name} has shape {tuple(chosen.shape)}; give a row for each of {len(x)} samples"
        )
    if chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool:
        raise BadInputError(f"{name} is of type {chosen.dtype}; give the numbers of atoms, int64")
    if chosen.numel() and not -1 <= int(chosen.min()) <= int(chosen.max()) < len(atoms):
        raise BadInputError(
            f"{name} has numbers from {int(chosen.min())} to {int(chosen.max())}; give those of "
            f"atoms, from 0 to {len(atoms) - 1}, or -1 for none"
        )
    chosen = padded(chosen.to(x.device, torch.int64), chosen.shape[1] + 1, -1)
    chosen = chosen.where(atoms.any(dim=1)[chosen], -1).sort(dim=1, descending=True).values
    chosen[:, 1:].masked_fill_(chosen[:, 1:] == chosen[:, :-1], -1)
    return _narrowed(chosen)


def _solve(
    x: Tensor, wide: Tensor, narrow: Tensor, penalty: float, active: Tensor, tolerance: float
) -> Codes:
    """A few samples, over the dictionary in float64 and in float32."""
    left = torch.arange(len(x), device=x.device)
    longest = torch.full((len(x),), -1, dtype=x.dtype, device=x.device)
    found: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []
    for _ in range(_MOST_ROUNDS):
        rest = x[left]
        z, residual = _on_active_set(rest, wide, active, penalty)
        active = active.where(z > 0, -1)
        objective = residual.square().sum(dim=1) / 2 + penalty * z.sum(dim=1)
        correlations = residual.float() @ narrow.T
        # Near the optimum float32 cannot tell what is a violation.
        close = penalty * (1 + _NEAR) + _NARROW * residual.norm(dim=1)
        near = (correlations.amax(dim=1) <= close).nonzero().flatten()
        exact = residual[near] @ wide.T
        gap = torch.full_like(objective, torch.inf)
        gap[near] = _gap(rest[near], residual[near], objective[near], exact.amax(dim=1), penalty)
        is_done = gap <= tolerance
        found.append((left[is_done], active[is_done], z[is_done], objective[is_done], gap[is_done]))
        # Subtracted before it is rounded: less than float32 tells apart can be a violation.
        excess = correlations.sub_(penalty)
        excess[near] = (exact - penalty).float()
        left, active, excess = left[~is_done], active[~is_done], excess[~is_done]
        # Half of this is by how much the optimum of an active set is below ½‖x‖²: an atom that is
        # violated adds to it, or rounding has the last word.
        length = (rest - residual)[~is_done].square().sum(dim=1)
        if (length <= longest[left]).any() or not len(left):
            break
        longest[left] = length
        active = _with_most_violated(active, excess)
    if len(left):
        raise RunFailedError(
            f"optimal codes: the duality gap of {len(left)} samples stays above {tolerance:g} of "
            f"the objective; give a larger penalty than {penalty:g}, or x with its mean taken off"
        )
    width = max(part[1].shape[1] for part in found)
    order = torch.cat([part[0] for part in found]).argsort()
    latents, values = (
        torch.cat([padded(part[k], width, fill) for part in found])[order]
        for k, fill in ((1, -1), (2, 0))
    )
    values, places = values.sort(dim=1, descending=True)
    n_active = int((values > 0).sum(dim=1).max())
    latents = latents.gather(1, places)[:, :n_active]
    objective, gap = (torch.cat([part[k] for part in found])[order] for k in (3, 4))
    return Codes(latents, values[:, :n_active], objective, gap)


def _gap(x: Tensor, residual: Tensor, objective: Tensor, largest: Tensor, penalty: float) -> Tensor:
    """The relative duality gap where θ is the residual, scaled; `largest` is max_j d_jᵀr."""
    along, squared = (x * residual).sum(dim=1), residual.square().sum(dim=1)
    # The best of all scales, had it to obey no atom.
    scale = along / squared.clamp(min=torch.finfo(squared.dtype).tiny)
    scale = scale.minimum(penalty / largest.clamp(min=torch.finfo(squared.dtype).tiny))
    dual = scale * along - scale.square() * squared / 2
    return ((objective - dual) / objective.clamp(min=torch.finfo(squared.dtype).tiny)).clamp(min=0)


def _with_most_violated(active: Tensor, excess: Tensor) -> Tensor:
    """Active sets with the atoms whose correlations exceed the penalty most, −1 in the rest.

    Args:
        active: Shape (n, a), −1 where there is none.
        excess: d_jᵀr − λ, shape (n, m), which is overwritten.
    """
    rows, places = (active >= 0).nonzero(as_tuple=True)
    excess[rows, active[rows, places]] = -torch.inf
    largest, atoms = excess.topk(min(_N_ADDED, excess.shape[1]), dim=1)
    return _narrowed(torch.cat([active, atoms.where(largest > 0, -1)], dim=1))


def _narrowed(active: Tensor) -> Tensor:
    """Active sets with as few columns as hold them all, one at least."""
    active = active.sort(dim=1, descending=True).values
    return active[:, : max(1, int((active >= 0).sum(dim=1).max()))]


def _on_active_set(
    x: Tensor, atoms: Tensor, active: Tensor, penalty: float
) -> tuple[Tensor, Tensor]:
    """The optimal codes on active sets, shape (n, a), and what they leave of x, shape (n, d)."""
    n_rows = rows_a_chunk(numbers_of(active.shape[1], x.shape[1]))
    parts = [
        _on_few(rows, atoms, of_these, penalty)
        for rows, of_these in zip(x.split(n_rows), active.split(n_rows), strict=True)
    ]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _on_few(x: Tensor, atoms: Tensor, active: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    is_atom = active >= 0
    chosen = atoms[active.clamp(min=0)] * is_atom.unsqueeze(2)
    gram = chosen @ chosen.mT
    # Where there is no atom, its own equation makes the code 0.
    gram.diagonal(dim1=1, dim2=2).add_(RIDGE + (~is_atom).double())
    linear = (chosen @ x.unsqueeze(2)).squeeze(2) - penalty
    z = nonnegative_quadratic(gram, linear * is_atom, is_atom)
    return z, x - (z.unsqueeze(1) @ chosen).squeeze(1)


def nonnegative_quadratic(gram: Tensor, linear: Tensor, positive: Tensor) -> Tensor:
    """Minimise ½ zᵀGz − bᵀz over z ≥ 0 for many G and b, by block principal pivoting.

    Where that finds no end soon, or rounding leaves G indefinite (more atoms than dimensions, say),
    scipy's `nnls` takes over, sample by sample.

    Args:
        gram: G, positive semidefinite with a positive diagonal, shape (n, a, a), float64.
        linear: b, shape (n, a).
        positive: Which are thought to be positive, shape (n, a), bool.

    Returns:
        z, shape (n, a).

    Raises:
        RunFailedError: `nnls` found no end.
    """
    solution, positive = torch.zeros_like(linear), positive.clone()
    left = torch.arange(len(linear), device=linear.device)
    small = _ROUNDING * linear.abs().amax(dim=1, keepdim=True)
    for _ in range(_MOST_PIVOTS):
        is_free, b = positive[left], linear[left]
        system = gram[left] * (is_free.unsqueeze(1) & is_free.unsqueeze(2))
        system.diagonal(dim1=1, dim2=2).add_((~is_free).double())
        factor, failed = torch.linalg.cholesky_ex(system)
        z = torch.cholesky_solve(b.where(is_free, 0).unsqueeze(2), factor).squeeze(2)
        gradient = (gram[left] @ z.unsqueeze(2)).squeeze(2) - b
        wrong = torch.where(is_free, z, gradient) < -small[left]
        is_done = ~wrong.any(dim=1) & (failed == 0)
        solution[left[is_done]] = z[is_done].clamp(min=0)
        left, wrong = left[~is_done], wrong[~is_done]
        if not len(left):
            return solution
        positive[left] ^= wrong
    for n in left.tolist():
        solution[n] = _by_nnls(gram[n].cpu(), linear[n].cpu()).to(solution)
    return solution


def _by_nnls(gram: Tensor, linear: Tensor) -> Tensor:
    """One problem: with G = LLᵀ it is ½‖Lᵀz − L⁻¹b‖², of which Lawson and Hanson's method frees one
    code at a time."""
    factor, failed = torch.linalg.cholesky_ex(gram)
    ridge = RIDGE
    while failed:
        ridge *= 10
        factor, failed = torch.linalg.cholesky_ex(gram + ridge * torch.eye(len(gram)).to(gram))
    target = torch.linalg.solve_triangular(factor, linear.unsqueeze(1), upper=False).squeeze(1)
    try:
        z, _ = nnls(factor.mT.numpy(), target.numpy(), maxiter=100 * len(linear))
    except RuntimeError as error:
        raise RunFailedError(f"optimal codes: {error} give a larger penalty") from error
    return torch.from_numpy(z)


def rows_a_chunk(numbers: int) -> int:
    """How many samples are worked on at a time, where each takes so many numbers of float64."""
    return max(1, _CHUNK_BYTES // (8 * numbers))


def numbers_of(a: int, d: int) -> int:
    """What a sample takes on which a of the atoms are looked at: these, and three a × a matrices:
    Gram's, what is left of it, and its factor."""
    return a * (d + 3 * a)


def unit(x: Tensor, dim: int = 0) -> Tensor:
    """Vectors divided by their lengths, however short they are in the units of x; 0 stays 0."""
    return torch.nn.functional.normalize(x, dim=dim, eps=torch.finfo(x.dtype).tiny)


def padded(tensor: Tensor, width: int, fill: int) -> Tensor:
    """A tensor (n, a) with columns of `fill` up to a width."""
    return torch.nn.functional.pad(tensor, (0, width - tensor.shape[1]), value=fill)
