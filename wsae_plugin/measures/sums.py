"""An SAE on held-out activations, as sums over batches.

Every score of them is a function of the sums and of how often each batch counts: each once is the
value, one alone is that batch's, as often as a bootstrap drew it gives the spread. SAEs that are
measured together saw the same batches, so their differences are paired, batch by batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sae_lens import SAE
from torch import Tensor
from tqdm.auto import tqdm

from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.measures.model_run import ModelRun

N_RESAMPLES = 1000
_INTERVAL = (0.025, 0.975)
_NONE = torch.zeros(0, dtype=torch.float64)


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
        firings: tokens on which each latent was not 0, shape (d_sae,).
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


BatchScore = Callable[[HeldOutSums, Tensor], Tensor]
"""(sums, counts (..., n_batches)) → the score with batch b counted counts[..., b] times, (...,)."""


Watch = Callable[[str, Tensor, Tensor], None]
"""(name of an SAE, x (n_tokens, d_in), feature_acts (n_tokens, d_sae)), of tokens that count."""


@torch.no_grad()
def measure(
    saes: Mapping[str, SAE[Any]],
    model: Any,
    batches: Sequence[Tensor],
    exclude_tokens: Iterable[int] = (),
    watch: Watch | None = None,
) -> dict[str, HeldOutSums]:
    """Run the language model over the batches once, and once more for each substitute of x.

    Args:
        saes: name → SAE, for inference (scaling folded in), with `metadata.hook_name` set.
        model: the model as SAELens wraps it; its parameters are left alone.
        batches: tokens, each (batch, context), integer.
        exclude_tokens: ids that count in no score and whose activations no SAE replaces, as
            `exclude_special_tokens` in SAELens's training and `run_evals`.
        watch: sees the activations of every SAE on every batch, in the order of `batches[keep]`.

    Returns:
        name → sums.

    Raises:
        BadInputError: an SAE says no hook, or reads one attention head.
    """
    hooks = {name: _hook_of(name, sae) for name, sae in saes.items()}
    excluded = torch.tensor(sorted(exclude_tokens), dtype=torch.long)
    sums = _Sums(len(batches))
    for tokens in tqdm(batches, desc="Held-out batches", unit="batch"):
        keep = ~torch.isin(tokens, excluded.to(tokens.device))
        run = ModelRun(model, tokens, keep, sorted(set(hooks.values())))
        for name, sae in saes.items():
            x = run.activations[hooks[name]].flatten(start_dim=2)
            x_hat, acts = reconstruct(sae, x)
            where = keep.to(x.device)
            feature_acts = acts[keep.to(acts.device)]
            with_sae = run.loss_with(hooks[name], x_hat, where=where)
            ablated = run.ablated[hooks[name]]
            losses = {
                "predictions": keep[:, :-1].sum(),
                "ce_loss": run.ce_loss,
                "ce_loss_with_sae": with_sae.ce_loss,
                "ce_loss_with_ablation": ablated.ce_loss,
                "kl_divergence": with_sae.kl_divergence,
                "kl_divergence_with_ablation": ablated.kl_divergence,
            }
            sums.add(name, _sums_of_samples(x[where], x_hat[where], feature_acts) | losses)
            if watch is not None:
                watch(name, x[where], feature_acts)
    return sums.of_saes()


@torch.no_grad()
def measure_samples(
    saes: Mapping[str, SAE[Any]], batches: Sequence[Tensor]
) -> dict[str, HeldOutSums]:
    """The same of activations that no language model made.

    Args:
        saes: name → SAE, for inference.
        batches: activations, each (n_samples, d_in).
    """
    sums = _Sums(len(batches))
    for x in batches:
        for name, sae in saes.items():
            sums.add(name, _sums_of_samples(x, *reconstruct(sae, x)))
    return sums.of_saes()


def reconstruct(sae: SAE[Any], x: Tensor) -> tuple[Tensor, Tensor]:
    """x̂ and the feature activations, dense, of x (..., d_in)."""
    encoded = sae.encode(x.to(sae.device))
    return sae.decode(encoded).to(x), encoded.to_dense() if encoded.is_sparse else encoded


def squared_deviation(sums: HeldOutSums, counts: Tensor) -> Tensor:
    """Σ(x − mean x)², shape (..., d_in), activation units²."""
    tokens = (counts @ sums.tokens).unsqueeze(-1)
    return counts @ sums.x_squared - (counts @ sums.x).square() / tokens


def summarize(score: BatchScore, sums: HeldOutSums, seed: int = 0) -> tuple[float, float]:
    """A score, and half its 95 % interval: a bootstrap over batches.

    Args:
        score: The score.
        sums: Of one SAE.
        seed: Of the draws of batches; equal seeds draw equal batches.

    Raises:
        RunFailedError: The score is not finite, on all batches or on one.
    """
    n_batches = len(sums.tokens)
    value = score(sums, torch.ones(n_batches, dtype=torch.float64))
    each = score(sums, torch.eye(n_batches, dtype=torch.float64))
    drawn = score(sums, _bootstrap_counts(n_batches, seed))
    if not torch.isfinite(torch.cat([value.reshape(1), each, drawn])).all():
        raise RunFailedError(
            "a held-out score is not finite: the activations or their reconstruction hold NaN or "
            "infinity, or do not vary at all; look at the model's dtype and at the hook."
        )
    low, high = drawn.quantile(torch.tensor(_INTERVAL, dtype=torch.float64)).tolist()
    return float(value), (high - low) / 2


def _sums_of_samples(x: Tensor, x_hat: Tensor, feature_acts: Tensor) -> dict[str, Tensor]:
    """Of samples that count: x and x̂ (n, d_in), feature_acts (n, d_sae)."""
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


class _Sums:
    """Sums of batches, in memory that is there before them.

    Small tensors that are made in every batch and stay would keep the allocator from using the
    memory between them again: hundreds of SAEs took gigabytes.
    """

    def __init__(self, n_batches: int) -> None:
        self._n_batches = n_batches
        self._kept: dict[str, dict[str, Tensor]] = {}
        self._number: Counter[str] = Counter()

    def add(self, name: str, sums: Mapping[str, Tensor]) -> None:
        kept = self._kept.setdefault(name, {})
        for key, value in sums.items():
            if key not in kept:
                kept[key] = torch.zeros(self._n_batches, *value.shape, dtype=torch.float64)
            kept[key][self._number[name]] = value.double().cpu()
        self._number[name] += 1

    def of_saes(self) -> dict[str, HeldOutSums]:
        return {
            name: HeldOutSums(**{**kept, "firings": kept["firings"].sum(dim=0)})
            for name, kept in self._kept.items()
        }


def _bootstrap_counts(n_batches: int, seed: int) -> Tensor:
    """How often each batch is drawn, (N_RESAMPLES, n_batches): n_batches draws a row."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(n_batches, (N_RESAMPLES, n_batches), generator=generator)
    return torch.nn.functional.one_hot(draws, n_batches).sum(dim=1).double()


def _hook_of(name: str, sae: SAE[Any]) -> str:
    hook_name = sae.cfg.metadata.hook_name
    if hook_name is None:
        raise BadInputError(f"{name}: its metadata has no hook_name, so its input is unknown.")
    if sae.cfg.metadata.hook_head_index is not None or sae.hook_z_reshaping_mode:
        raise BadInputError(
            f"{name}: hook {hook_name} is read per attention head; only whole activations "
            "(hook_head_index null, reshape_activations 'none') can be replaced in the model."
        )
    return hook_name
