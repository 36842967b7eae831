"""The best codes that a dictionary allows under an L1 penalty, with a proof of how good they are.

For each sample, min over z ≥ 0 of ½‖x − Σ_j z_j d_j‖² + λ Σ_j z_j is solved on a small active set,
exactly, which then gets the atoms that violate optimality most; one dense product finds them. Every
θ with d_jᵀθ ≤ λ for all j bounds the optimum from below by xᵀθ − ½‖θ‖², so that the residual,
scaled into that set, tells how far the codes can be from it at most (the duality gap).

On the active set the problem is a quadratic programme of some hundred variables. Block principal
pivoting (Portugal, Júdice and Vicente 1994; Kim and Park 2011) solves it to rounding in a few
linear systems, where coordinate descent takes the more sweeps the more alike atoms are.
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
_MOST_ROUNDS = 100
"""Each adds up to `_N_ADDED` atoms to every active set; ten are many."""
_N_ADDED = 32
"""Atoms that an active set gets at once: more make larger systems, fewer more dense products."""
_CHUNK_BYTES = 2**28
"""Of the atoms that are gathered for a chunk of samples."""
_ROUNDING = 1e-12
"""Of codes and gradients, relative to the largest: what is taken for 0."""
_NEAR = 1e-4
"""Correlations that exceed the penalty by less are computed in float64."""
_NARROW = 2e-6
"""So are those by this share of ‖r‖: what float32 may make of a product of unit atoms with it."""
_PATIENCE = 3
"""How often all wrong signs may change without becoming fewer, before one changes at a time, which
ends for sure (Kim and Park)."""
_MOST_PIVOTS = 100
"""Ten are many."""
RIDGE = 1e-12
"""Added to the diagonal of a Gram matrix of unit atoms: equal atoms share their code."""


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

    def dense(self, n_latents: int) -> Tensor:
        """The codes, shape (n, n_latents), float64."""
        z = self.values.new_zeros(len(self.values), n_latents + 1)
        return z.scatter_add_(1, self.latents % (n_latents + 1), self.values)[:, :-1]


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
        atoms: The dictionary, a row an atom, shape (m, d), of length 1.
        penalty: λ, in units of x.
        start: Atoms that are likely to be active, such as those of an SAE, shape (n, a), int64; −1
            for none.
        tolerance: The largest relative duality gap.

    Raises:
        BadInputError: The penalty is not a positive number, or a sample is not finite.
        RunFailedError: A gap stayed above the tolerance.
    """
    if not 0 < penalty < math.inf:
        raise BadInputError(f"penalty is {penalty}; give a positive, finite number")
    if not (len(x) and torch.isfinite(x).all()):
        raise BadInputError("x has no sample, or one that is not finite; leave such samples out")
    x, wide = x.double(), atoms.double()
    narrow = atoms.float()
    n_rows = rows_a_chunk(x.shape[1])
    parts: list[Codes] = []
    with tqdm(total=len(x), desc="Optimal codes", unit="sample", leave=False) as bar:
        for first in range(0, len(x), n_rows):
            rows = slice(first, first + n_rows)
            of_these = None if start is None else start[rows].to(x.device)
            parts.append(_solve(x[rows], wide, narrow, penalty, of_these, tolerance))
            bar.update(len(x[rows]))
    width = max(part.latents.shape[1] for part in parts)
    return Codes(
        torch.cat([padded(part.latents, width, -1) for part in parts]),
        torch.cat([padded(part.values, width, 0) for part in parts]),
        torch.cat([part.objective for part in parts]),
        torch.cat([part.gap for part in parts]),
    )


def _solve(
    x: Tensor,
    wide: Tensor,
    narrow: Tensor,
    penalty: float,
    start: Tensor | None,
    tolerance: float,
) -> Codes:
    """A few samples, over the dictionary in float64 and in float32."""
    n = len(x)
    active = torch.full((n, 0), -1, device=x.device) if start is None else start
    if not active.shape[1]:
        active = _with_most_violated(active, x.float() @ narrow.T, penalty)
    left = torch.arange(n, device=x.device)
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
        correlations[near] = exact.float()
        left, active, correlations = left[~is_done], active[~is_done], correlations[~is_done]
        if not len(left):
            break
        active = _with_most_violated(active, correlations, penalty)
    else:
        raise RunFailedError(
            f"optimal codes: the duality gap of {len(left)} samples stayed above {tolerance:g} of "
            f"the objective in {_MOST_ROUNDS} rounds; give a larger penalty than {penalty:g}"
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


def _with_most_violated(active: Tensor, correlations: Tensor, penalty: float) -> Tensor:
    """Active sets with the atoms whose correlations exceed the penalty most, −1 in the rest.

    Args:
        active: Shape (n, a), −1 where there is none.
        correlations: d_jᵀr, shape (n, m), which is overwritten.
        penalty: λ.
    """
    rows, places = (active >= 0).nonzero(as_tuple=True)
    correlations[rows, active[rows, places]] = -torch.inf
    largest, atoms = correlations.topk(min(_N_ADDED, correlations.shape[1]), dim=1)
    both = torch.cat([active, atoms.where(largest > penalty, -1)], dim=1)
    both = both.sort(dim=1, descending=True).values
    return both[:, : max(1, int((both >= 0).sum(dim=1).max()))]


def _on_active_set(
    x: Tensor, atoms: Tensor, active: Tensor, penalty: float
) -> tuple[Tensor, Tensor]:
    """The optimal codes on active sets, shape (n, a), and what they leave of x, shape (n, d)."""
    is_atom = active >= 0
    chosen = atoms[active.clamp(min=0)] * is_atom.unsqueeze(2)
    gram = chosen @ chosen.mT
    # Where there is no atom, its own equation makes the code 0.
    gram.diagonal(dim1=1, dim2=2).add_(RIDGE + (~is_atom).double())
    linear = (chosen @ x.unsqueeze(2)).squeeze(2) - penalty
    z = nonnegative_quadratic(gram, linear.where(is_atom, -1), is_atom)
    return z, x - (z.unsqueeze(1) @ chosen).squeeze(1)


def nonnegative_quadratic(gram: Tensor, linear: Tensor, positive: Tensor) -> Tensor:
    """Minimise ½ zᵀGz − bᵀz over z ≥ 0 for many G and b, by block principal pivoting.

    Where rounding keeps it from an end, since G is hardly positive definite (more atoms than
    dimensions, say), scipy's `nnls` takes over, sample by sample.

    Args:
        gram: G, positive semidefinite with a positive diagonal, shape (n, a, a), float64.
        linear: b, shape (n, a).
        positive: Which are thought to be positive, shape (n, a), bool.

    Returns:
        z, shape (n, a).
    """
    n, a = linear.shape
    solution, positive = torch.zeros_like(linear), positive.clone()
    fewest = torch.full((n,), a + 1, device=linear.device)
    patience = torch.full((n,), _PATIENCE, device=linear.device)
    left = torch.arange(n, device=linear.device)
    small = _ROUNDING * linear.abs().amax(dim=1, keepdim=True)
    for _ in range(_MOST_PIVOTS):
        is_free, b = positive[left], linear[left]
        system = gram[left] * (is_free.unsqueeze(1) & is_free.unsqueeze(2))
        system.diagonal(dim1=1, dim2=2).add_((~is_free).double())
        factor = torch.linalg.cholesky_ex(system)[0]
        z = torch.cholesky_solve(b.where(is_free, 0).unsqueeze(2), factor).squeeze(2)
        gradient = (gram[left] @ z.unsqueeze(2)).squeeze(2) - b
        wrong = torch.where(is_free, z, gradient) < -small[left]
        n_wrong = wrong.sum(dim=1)
        is_done = n_wrong == 0
        solution[left[is_done]] = z[is_done].clamp(min=0)
        left, wrong, n_wrong = left[~is_done], wrong[~is_done], n_wrong[~is_done]
        if not len(left):
            return solution
        is_better = n_wrong < fewest[left]
        fewest[left] = n_wrong.minimum(fewest[left])
        patience[left] = torch.where(is_better, _PATIENCE, patience[left] - 1)
        # All that are wrong change sides at once, unless that went on for too long.
        last = torch.zeros_like(wrong)
        places = torch.arange(a, device=wrong.device).where(wrong, -1).argmax(dim=1, keepdim=True)
        last.scatter_(1, places, True)
        positive[left] ^= wrong.where((patience[left] >= 0).unsqueeze(1), last)
    for n in left.tolist():
        # G = LLᵀ makes it ½‖Lᵀz − L⁻¹b‖², of which Lawson and Hanson's method frees one at a time.
        factor = torch.linalg.cholesky_ex(gram[n])[0]
        target = torch.linalg.solve_triangular(factor, linear[n].unsqueeze(1), upper=False)
        found, _ = nnls(factor.mT.cpu().numpy(), target.squeeze(1).cpu().numpy(), maxiter=100 * a)
        solution[n] = torch.from_numpy(found).to(solution)
    return solution


def rows_a_chunk(d: int) -> int:
    """For how many samples the atoms of their active sets are held at a time."""
    return max(1, _CHUNK_BYTES // (8 * d * 2 * _N_ADDED))


def padded(tensor: Tensor, width: int, fill: int) -> Tensor:
    """A tensor (n, a) with columns of `fill` up to a width."""
    return torch.nn.functional.pad(tensor, (0, width - tensor.shape[1]), value=fill)
