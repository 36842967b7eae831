"""From a proxy to the weights, their controls, and two numbers that say how uneven they are."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from wsae_plugin.errors import BadInputError

Normalization = Literal["total_variance", "mean_square", "max", "none", "constant"]
NORMALIZATIONS: tuple[str, ...] = get_args(Normalization)
_DEAD = 1e-12


def gamma_from_proxy(
    proxy: Tensor,
    alpha: float,
    normalization: Normalization = "total_variance",
    clip: float | None = None,
    variance: Tensor | None = None,
) -> Tensor:
    """γ_q = s_q^α, the diagonal of Γ in ‖Γ(x − x̂)‖² (arXiv 2506.15963, eqs. 14 and 17).

    A dead dimension (s_q ≤ 1e-12 · max s, such as a constant one under the variance) is given the
    smallest s of the live ones. Its weight is then finite and not zero for either sign of α: for
    α > 0 the formula's 0 would leave a constant in the input unlearned, for α < 0 its ∞ would be
    all of the loss.

    Args:
        proxy: s, shape (d_in,), finite and not negative.
        alpha: the exponent, of either sign; 0 gives ones exactly.
        normalization: "total_variance" makes Σγ²·Var(x_q) = ΣVar(x_q), the total variance of the
            activations: the loss of predicting the mean is what it is without weights, whatever α
            and the proxy are. "mean_square" makes the mean of γ² 1; where γ grows with the
            variance, that raises the loss. "max" makes the largest γ 1; "none" is the paper's
            literal form; "constant" is its control, see `constant`. None of them keeps the L0 that
            a sparsity penalty leads to: that depends on how many dimensions the loss rests on, too
            (eval/balance/balance.json).
        clip: largest allowed max γ / median γ, ≥ 1; larger weights are cut to it before the
            normalization. None leaves them.
        variance: Var(x_q) of the activations that the loss is of, shape (d_in,), activation
            units²; in any unit, since its scale cancels. Needed for "total_variance" only.

    Returns:
        γ, shape (d_in,), in the dtype of `proxy`.

    Raises:
        BadInputError: an argument is outside what is allowed.

    Example:
        >>> gamma_from_proxy(torch.tensor([1.0, 4.0]), alpha=0.5, normalization="none")
        tensor([1., 2.])
    """
    if normalization not in NORMALIZATIONS:
        raise BadInputError(
            f"gamma_normalization {normalization!r} is not one of {', '.join(NORMALIZATIONS)}."
        )
    if clip is not None and not clip >= 1:
        raise BadInputError(f"gamma_clip is {clip}; it limits max γ / median γ, so it is ≥ 1.")
    if not math.isfinite(alpha):
        raise BadInputError(f"alpha is {alpha}; a finite number is needed.")
    check_proxy(proxy, "the proxy")
    if normalization == "total_variance":
        if variance is None:
            raise BadInputError(
                "variance is None: gamma_normalization 'total_variance' needs that of the input "
                "dimensions; 'mean_square' needs none."
            )
        check_proxy(variance, "the variance", len(proxy))
        if not variance.any():
            raise BadInputError("the variance is 0 in every dimension: look at the hook.")
    if alpha == 0:
        return torch.ones_like(proxy)
    live = proxy > _DEAD * proxy.max()
    if not live.any():
        raise BadInputError(
            "the proxy is 0 in every dimension, so it orders none: look at the hook, or use "
            "another gamma_proxy."
        )
    s = proxy.clamp(min=float(proxy[live].min()))
    if normalization in ("total_variance", "mean_square", "max"):
        s = s / s.median()
    gamma = s**alpha
    if clip is not None:
        gamma = gamma.clamp(max=clip * float(gamma.median()))
    if variance is not None and normalization == "total_variance":
        gamma = gamma * (variance.sum() / (gamma.square() * variance).sum()).sqrt()
    elif normalization == "mean_square":
        gamma = gamma / root_mean_square(gamma)
    elif normalization == "max":
        gamma = gamma / gamma.max()
    elif normalization == "constant":
        gamma = constant(gamma)
    if not torch.isfinite(gamma).all() or (gamma == 0).any():
        raise BadInputError(
            f"alpha {alpha} makes weights that overflow or vanish for proxies from "
            f"{float(s.min()):.3g} to {float(s.max()):.3g}; use a smaller |alpha| or gamma_clip."
        )
    return gamma


def check_proxy(proxy: Tensor, source: str, d_in: int | None = None) -> None:
    """Refuse what is no proxy s: one finite value, 0 or more, for each input dimension.

    Args:
        proxy: what should be s, shape (d_in,).
        source: where it is from, to begin the message with.
        d_in: the input dimensions, where they are known.

    Raises:
        BadInputError: it is none; the message counts what is wrong with it.
    """
    n_not_finite, n_negative = int((~torch.isfinite(proxy)).sum()), int((proxy < 0).sum())
    if n_not_finite or n_negative or proxy.ndim != 1 or d_in not in (None, len(proxy)):
        wanted = "each input dimension" if d_in is None else f"each of the {d_in} input dimensions"
        raise BadInputError(
            f"{source} has shape {tuple(proxy.shape)}, {n_not_finite} not finite and {n_negative} "
            f"negative values: one finite value, 0 or more, for {wanted} is needed"
        )


def shuffled(weights: Tensor, generator: torch.Generator) -> Tensor:
    """The control that hands the weights (or the proxy), shape (d_in,), to the wrong dimensions."""
    return weights[torch.randperm(len(weights), generator=generator).to(weights.device)]


def constant(gamma: Tensor) -> Tensor:
    """The control Γ = cI, shape (d_in,): c² is the mean γ², so that the loss has γ's scale alone.

    For the literal γ. Of one that keeps the total variance or has a mean γ² of 1, the control with
    as large a loss has c = 1, and is the unweighted SAE itself.
    """
    return root_mean_square(gamma).expand_as(gamma).clone()


def root_mean_square(gamma: Tensor) -> Tensor:
    """√(mean γ²), shape ()."""
    return gamma.square().mean().sqrt()


def effective_dimensions(gamma: Tensor, variance: Tensor) -> Tensor:
    """(Σγ²s)² / Σ(γ²s)²: how many dimensions the weighted variance is spread over, 1 to d_in.

    Args:
        gamma: shape (d_in,).
        variance: of the input dimensions, shape (d_in,), activation units².
    """
    share = gamma.square() * variance
    return share.sum().square() / share.square().sum()


def max_over_median(gamma: Tensor) -> Tensor:
    """The largest weight in units of the median weight (torch's lower median)."""
    return gamma.max() / gamma.median()
