"""An SAE on held-out activations, as sums over batches.

Every score of them is a function of the sums and of how often each batch counts: each once is the
value, one alone is that batch's, as often as a bootstrap drew it gives the spread. SAEs that are
measured together saw the same batches, so their differences are paired, batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from sae_lens import SAE
from torch import Tensor

N_RESAMPLES = 1000
_INTERVAL = (0.025, 0.975)
_NONE = torch.zeros(0, dtype=torch.float64)
_NOT_FINITE = (
    "a held-out score is not finite: the activations or their reconstruction hold NaN or infinity, "
    "or do not vary at all; look at the model's dtype and at the hook."
)


@dataclass(frozen=True)
class HeldOutSums:
    """Sums over the tokens of each held-out batch, for one SAE; float64, on the CPU.

    Tokens that are excluded (BOS, padding) are in none of them. Of activations that no language
    model made, there are no `predictions` and no losses.

    Attributes:
        tokens: number of tokens, shape (n_batches,).
        x: Σx, shape (n_batches, d_in), activation units.
        x_squared: Σx², shape (n_batches, d_in), activation units².
        squared_error: Σ(x − x̂)², shape (n_batches, d_in), activation units².
        active_latents: number of non-zero feature activations, shape (n_batches,).
        predictions: number of next-token predictions, shape (n_batches,).
        ce_loss: Σ of the model's own cross-entropy, shape (n_batches,), nats.
        ce_loss_with_sae: the same with x̂ in place of x.
        ce_loss_with_ablation: the same with 0 in place of x.
        kl_divergence: Σ KL(model ‖ model with x̂ in place of x), shape (n_batches,), nats.
        kl_divergence_with_ablation: the same with 0 in place of x.
        norm_ratio: Σ‖x̂‖ / ‖x‖, shape (n_batches,).
        cosine_similarity: Σ cosine of x and x̂, shape (n_batches,).
        firings: tokens on which each latent was not 0, shape (n_batches, d_sae).
    """

    tokens: Tensor
    x: Tensor
    x_squared: Tensor
    squared_error: Tensor
    active_latents: Tensor
    norm_ratio: Tensor
    cosine_similarity: Tensor
    firings: Tensor
    predictions: Tensor = _NONE
    ce_loss: Tensor = _NONE
    ce_loss_with_sae: Tensor = _NONE
    ce_loss_with_ablation: Tensor = _NONE
    kl_divergence: Tensor = _NONE
    kl_divergence_with_ablation: Tensor = _NONE


class OfBatches(Protocol):
    """What is known of held-out batches."""

    @property
    def tokens(self) -> Tensor:
        """Samples of each batch, shape (n_batches,), float64."""
        ...


S = TypeVar("S", bound=OfBatches)
BatchScore = Callable[[HeldOutSums, Tensor], Tensor]
"""(sums, counts (..., n_batches)) → the score with batch b counted counts[..., b] times, (...,)."""


def reconstruct(sae: SAE[Any], x: Tensor) -> tuple[Tensor, Tensor]:
    """x̂ and the feature activations, dense, of x (..., d_in)."""
    encoded = sae.encode(x.to(sae.device))
    return sae.decode(encoded).to(x), encoded.to_dense() if encoded.is_sparse else encoded


def squared_deviation(sums: HeldOutSums, counts: Tensor) -> Tensor:
    """Σ(x − mean x)², shape (..., d_in), activation units²."""
    tokens = (counts @ sums.tokens).unsqueeze(-1)
    return counts @ sums.x_squared - (counts @ sums.x).square() / tokens


@dataclass(frozen=True)
class Found:
    """A value and what it has to be seen beside.

    Args:
        value: None where it could not be measured; `note` says why.
        chance: What knowing nothing scores.
        control: The same measure of shuffled, rotated or otherwise ruined data.
        spread: Half the 95 % interval over held-out batches.
        per_batch: The value on each held-out batch; empty where batches have none.
        note: What is to be said of this value.
    """

    value: float | None
    chance: float | None = None
    control: float | None = None
    spread: float | None = None
    per_batch: Sequence[float] = ()
    note: str = ""


def over_batches(
    score: Callable[[S, Tensor], Tensor],
    sums: S,
    beside: Mapping[str, Callable[[S, Tensor], Tensor]],
    seed: int = 0,
) -> Found:
    """A score, on all batches and on each, and half its 95 % interval: a bootstrap over batches.

    Of independent batches the interval holds the truth 96 times in 100 with 32, 91 with 8, 84 with
    4 and 49 with 2: a bootstrap of few is too narrow.

    Args:
        score: The score; without a value where it is not finite, on all batches or on one.
        sums: Of one SAE.
        beside: `chance` and `control`, from the same sums.
        seed: Of the draws of batches; equal seeds draw equal batches.
    """
    n_batches = len(sums.tokens)
    once = torch.ones(n_batches, dtype=torch.float64)
    value, each = score(sums, once), score(sums, torch.eye(n_batches, dtype=torch.float64))
    drawn = score(sums, _bootstrap_counts(n_batches, seed))
    found: dict[str, Any] = {name: float(of(sums, once)) for name, of in beside.items()}
    found["per_batch"] = each.tolist()
    if not torch.isfinite(torch.cat([value.reshape(1), each, drawn])).all():
        return Found(None, note=_NOT_FINITE, **found)
    low, high = drawn.quantile(torch.tensor(_INTERVAL, dtype=torch.float64)).tolist()
    return Found(float(value), spread=(high - low) / 2, **found)


def sums_of_samples(x: Tensor, x_hat: Tensor, feature_acts: Tensor) -> dict[str, Tensor]:
    """What `HeldOutSums` has of samples that count: x and x̂ (n, d_in), feature_acts (n, d_sae)."""
    x, x_hat, active = x.double(), x_hat.double(), feature_acts != 0
    norm = x.norm(dim=1)
    return {
        "tokens": torch.tensor(len(x)),
        "x": x.sum(dim=0),
        "x_squared": x.square().sum(dim=0),
        "squared_error": (x - x_hat).square().sum(dim=0),
        "active_latents": active.sum(),
        # As SAELens does, ‖x̂‖ alone where x is 0.
        "norm_ratio": (x_hat.norm(dim=1) / norm.where(norm >= 1e-4, 1)).sum(),
        "cosine_similarity": torch.cosine_similarity(x, x_hat).sum(),
        "firings": active.sum(dim=0),
    }


def keep_sums(
    kept: dict[str, Tensor], batch: int, n_batches: int, sums: Mapping[str, Tensor]
) -> None:
    """Put the sums of one of `n_batches` batches where those of all batches are.

    Small tensors that are made in every batch and stay would keep the allocator from using the
    memory between them again: hundreds of SAEs took gigabytes.
    """
    for name, value in sums.items():
        if name not in kept:
            kept[name] = torch.zeros(n_batches, *value.shape, dtype=torch.float64)
        kept[name][batch] = value.double().cpu()


def _bootstrap_counts(n_batches: int, seed: int) -> Tensor:
    """How often each batch is drawn, (N_RESAMPLES, n_batches): n_batches draws a row."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(n_batches, (N_RESAMPLES, n_batches), generator=generator)
    counts = torch.zeros(N_RESAMPLES, n_batches, dtype=torch.float64)
    return counts.scatter_add_(1, draws, torch.ones_like(counts))
