"""What a Γ would do to a loss, in numbers: how uneven it is and on how few dimensions it rests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.gamma.consistency import LabelEvidence
from wsae_plugin.gamma.moments import Moments, merge, moments_of, no_samples
from wsae_plugin.gamma.proxies import (
    ProxyEvidence,
    needs_sae,
    no_decoder,
    no_labels,
    proxy_named,
)
from wsae_plugin.gamma.weights import (
    Normalization,
    effective_dimensions,
    gamma_from_proxy,
    max_over_median,
)
from wsae_plugin.messages import naming

CONCENTRATED_TOP = 5
CONCENTRATED_SHARE = 0.5
"""A loss is called concentrated when its top 5 dimensions hold more than half of it."""

_TOPS = (1, 5, 10)
_CLIPS_TRIED = 400


def weighted_variance_share(gamma: Tensor, variance: Tensor) -> Tensor:
    """γ_q² Var(x_q) / Σ, shape (d_in,): each dimension's share of what the loss can explain.

    It is the share of the weighted loss of an SAE that reconstructs nothing but the mean.
    """
    weighted = gamma.square() * variance
    return weighted / weighted.sum()


def gamma_spectrum(gamma: Tensor, variance: Tensor) -> dict[str, Any]:
    """Γ in numbers.

    Args:
        gamma: γ, shape (d_in,), positive.
        variance: of the input dimensions, shape (d_in,), activation units², not all 0.

    Returns:
        Plain values for JSON: `d_in`, `gamma` (min, median, max), `max_over_median`,
        `effective_dimensions`, `weighted_variance_share` (`top_1`, `top_5`, `top_10`),
        `concentrated`, and `top_dimensions` (up to ten, largest share first).
    """
    gamma, variance = gamma.double().cpu(), variance.double().cpu()
    shares = weighted_variance_share(gamma, variance)
    largest, dimensions = shares.sort(descending=True)
    return {
        "d_in": len(gamma),
        "gamma": {
            "min": float(gamma.min()),
            "median": float(gamma.median()),
            "max": float(gamma.max()),
        },
        "max_over_median": float(max_over_median(gamma)),
        "effective_dimensions": float(effective_dimensions(gamma, variance)),
        "weighted_variance_share": {f"top_{n}": float(largest[:n].sum()) for n in _TOPS},
        "concentrated": is_concentrated(shares),
        "top_dimensions": [
            {
                "dimension": q,
                "gamma": float(gamma[q]),
                "variance": float(variance[q]),
                "share": float(shares[q]),
            }
            for q in dimensions[: max(_TOPS)].tolist()
        ],
    }


def is_concentrated(shares: Tensor) -> bool:
    """Whether the top 5 of the shares (d_in,) hold more than half."""
    top = shares.topk(min(CONCENTRATED_TOP, len(shares))).values
    return len(shares) > CONCENTRATED_TOP and float(top.sum()) > CONCENTRATED_SHARE


def clip_that_spreads(
    proxy: Tensor, alpha: float, variance: Tensor, normalization: Normalization = "total_variance"
) -> float | None:
    """The largest `gamma_clip` (three digits) under which Γ is no longer concentrated.

    Args:
        proxy: s, shape (d_in,).
        alpha: the exponent.
        variance: of the input dimensions, shape (d_in,).
        normalization: see `gamma_from_proxy`.

    Returns:
        A clip between 1 and max γ / median γ, or None where none helps: the unweighted variance
        is then as concentrated as that itself, or α < 0 makes it so.
    """
    unclipped = gamma_from_proxy(proxy, alpha, normalization, variance=variance)
    highest = float(max_over_median(unclipped))
    for exponent in torch.linspace(1, 0, _CLIPS_TRIED, dtype=torch.float64).tolist():
        clip = max(1.0, _floor_to_three_digits(highest**exponent))
        gamma = gamma_from_proxy(proxy, alpha, normalization, clip, variance)
        if not is_concentrated(weighted_variance_share(gamma, variance)):
            return clip
    return None


def halves_of(batches: Iterable[Tensor], d_in: int) -> tuple[Moments, Moments]:
    """The moments of every other batch, and of the rest: two samples, for the spread.

    Args:
        batches: activations, each (n_samples, d_in); two or more.
        d_in: their width.

    Raises:
        RunFailedError: an activation is not finite, or there is no second batch.
    """
    halves = [no_samples(d_in), no_samples(d_in)]
    for index, batch in enumerate(batches):
        moments = Moments(*(tensor.cpu() for tensor in moments_of(batch, index)))
        halves[index % 2] = merge(halves[index % 2], moments)
    if halves[1].count == 0:
        raise RunFailedError("the activations ended before a second batch; two are needed.")
    return halves[0], halves[1]


def survey(
    halves: tuple[Moments, Moments],
    alphas: Sequence[float],
    proxies: Sequence[str],
    *,
    normalization: Normalization = "total_variance",
    clip: float | None = None,
    file: str | None = None,
    seed: int = 0,
    labels: Callable[[], LabelEvidence] = no_labels,
    shuffled_labels: Callable[[], LabelEvidence] = no_labels,
) -> dict[str, Any]:
    """Γ for several proxies and exponents, before any SAE is trained.

    Args:
        halves: moments of two samples of the activations, see `halves_of`.
        alphas: the exponents; α = 0 is the same Γ = I for every proxy, and is always shown.
        proxies: names in the table of proxies, of some that need no SAE.
        normalization: see `gamma_from_proxy`.
        clip: see `gamma_from_proxy`.
        file: for the proxy "file".
        seed: for the shuffled proxies.
        labels: for the proxies that are made from them, see `ProxyEvidence`; called once for each
            Γ and each sample. They are the same for both samples, so that what the spread has of
            such a proxy is that of the variance alone.
        shuffled_labels: the same with the labels permuted over all samples.

    Returns:
        Plain values for JSON: `tokens`, `variance`, and `gammas`: one entry for each Γ with
        `proxy`, `alpha`, `dead_dimensions`, `gamma`, `weighted_variance_share`, `spectrum`,
        `spread` (half the difference between the two samples) and, where the loss is
        concentrated, `clip_that_spreads`; or with `unusable`, the reason why there is no Γ.

    Raises:
        BadInputError: a proxy is unknown or needs an SAE, or an argument is not allowed.
        RunFailedError: the activations do not vary.
    """
    both = merge(*halves)
    if not (both.variance > 0).any():
        raise RunFailedError("the activations do not vary in any dimension; look at the hook.")

    def entry(proxy: str, alpha: float) -> dict[str, Any]:
        s, *per_half = (
            _proxy(proxy, m, file, seed, labels, shuffled_labels) for m in (both, *halves)
        )
        named = {"proxy": proxy, "alpha": alpha, "dead_dimensions": int((s <= 0).sum())}
        try:
            gamma, *gammas = (
                gamma_from_proxy(x, alpha, normalization, clip, m.variance)
                for x, m in zip((s, *per_half), (both, *halves), strict=True)
            )
        except BadInputError as error:
            return {**named, "unusable": str(error)}
        spectrum = gamma_spectrum(gamma, both.variance)
        samples = [gamma_spectrum(g, half.variance) for g, half in zip(gammas, halves, strict=True)]
        found: dict[str, Any] = {
            **named,
            "gamma": gamma.tolist(),
            "weighted_variance_share": weighted_variance_share(gamma, both.variance).tolist(),
            "spectrum": spectrum,
            "spread": {
                "max_over_median": _half_difference(samples, "max_over_median"),
                "effective_dimensions": _half_difference(samples, "effective_dimensions"),
                "top_5": _half_difference(
                    [sample["weighted_variance_share"] for sample in samples], "top_5"
                ),
            },
        }
        if spectrum["concentrated"]:
            found["clip_that_spreads"] = clip_that_spreads(s, alpha, both.variance, normalization)
        return found

    weighted = [alpha for alpha in dict.fromkeys(alphas) if alpha != 0]
    return {
        "tokens": int(both.count),
        "variance": both.variance.tolist(),
        "gammas": [
            entry("uniform", 0.0),
            *(entry(proxy, alpha) for proxy in dict.fromkeys(proxies) for alpha in weighted),
        ],
    }


def check_needs_no_sae(proxy: str) -> None:
    """Refuse a proxy that cannot be computed from activations and their labels alone.

    Raises:
        BadInputError: it is unknown, or made from an SAE's decoder or latents.
    """
    with naming(f"proxy {proxy!r}"):
        proxy_named(proxy)
    if needs_sae(proxy):
        raise BadInputError(
            f"proxy {proxy!r}: is computed from the SAE's own decoder or latents while it trains, "
            "so it does not exist before; train one and look at its gamma.safetensors"
        )


def _proxy(
    name: str,
    moments: Moments,
    file: str | None,
    seed: int,
    labels: Callable[[], LabelEvidence],
    shuffled_labels: Callable[[], LabelEvidence],
) -> Tensor:
    check_needs_no_sae(name)
    evidence = ProxyEvidence(
        activations=moments,
        latents=no_samples(0),
        decoder=no_decoder,
        file=file,
        seed=seed,
        labels=labels,
        shuffled_labels=shuffled_labels,
    )
    return proxy_named(name).compute(evidence)


def _half_difference(samples: Sequence[dict[str, Any]], name: str) -> float:
    return abs(samples[0][name] - samples[1][name]) / 2


def _floor_to_three_digits(value: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return round(math.floor(value / unit) * unit, 12)
