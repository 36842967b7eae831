"""SAEs on held-out tokens: what they reconstruct, what they cost the model, how sure that is.

Every score is a function of sums over batches and of how often each batch counts: each once is the
value, one alone is that batch's, as often as a bootstrap drew it gives the spread. SAEs that are
measured together saw the same tokens, so their differences are paired, batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sae_lens import SAE
from sae_lens.training.activations_store import ActivationsStore
from torch import Tensor
from tqdm.auto import tqdm

from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.evaluation.model_run import ModelRun
from wsae_plugin.statistics import t_interval

N_RESAMPLES = 1000
_INTERVAL = (0.025, 0.975)


@dataclass(frozen=True)
class HeldOutSums:
    """Sums over the tokens of each held-out batch, for one SAE; float64, on the CPU.

    Tokens that are excluded (BOS, padding) are in none of them.

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
    predictions: Tensor
    ce_loss: Tensor
    ce_loss_with_sae: Tensor
    ce_loss_with_ablation: Tensor
    kl_divergence: Tensor
    kl_divergence_with_ablation: Tensor
    norm_ratio: Tensor
    cosine_similarity: Tensor
    firings: Tensor


Score = Callable[[HeldOutSums, Tensor], Tensor]
"""(sums, counts (..., n_batches)) → the score with batch b counted counts[..., b] times, (...,)."""


Watch = Callable[[str, Tensor, Tensor], None]
"""(name of an SAE, x (n_tokens, d_in), feature_acts (n_tokens, d_sae)), of tokens that count."""


def explained_variance(gamma: Tensor | None = None) -> Score:
    """1 − E‖Γ(x − x̂)‖² / E‖Γ(x − E x)‖²; Γ = I is SAELens's `ExplainedVarianceCalculator`.

    Args:
        gamma: γ, shape (d_in,); None for Γ = I.
    """

    def score(sums: HeldOutSums, counts: Tensor) -> Tensor:
        weight = torch.ones_like(sums.x[0]) if gamma is None else gamma.to(sums.x).square()
        error = counts @ (sums.squared_error @ weight)
        return 1 - error / (_squared_deviation(sums, counts) @ weight)

    return score


def ce_loss_recovered(sums: HeldOutSums, counts: Tensor) -> Tensor:
    """(CE ablated − CE with SAE) / (CE ablated − CE), SAELens's `ce_loss_score`."""
    ablated = counts @ sums.ce_loss_with_ablation
    return (ablated - counts @ sums.ce_loss_with_sae) / (ablated - counts @ sums.ce_loss)


def ce_loss_with_sae(sums: HeldOutSums, counts: Tensor) -> Tensor:
    """The model's cross-entropy with x̂ in place of x, nats per token."""
    return counts @ sums.ce_loss_with_sae / (counts @ sums.predictions)


def l0(sums: HeldOutSums, counts: Tensor) -> Tensor:
    """Mean number of latents that are active on a token."""
    return counts @ sums.active_latents / (counts @ sums.tokens)


def kl_divergence(sums: HeldOutSums, counts: Tensor) -> Tensor:
    """KL(model ‖ model with x̂ in place of x), nats per token; SAELens's `kl_div_with_sae`."""
    return counts @ sums.kl_divergence / (counts @ sums.tokens)


def kl_recovered(sums: HeldOutSums, counts: Tensor) -> Tensor:
    """1 − KL with SAE / KL ablated, SAELens's `kl_div_score`."""
    return 1 - counts @ sums.kl_divergence / (counts @ sums.kl_divergence_with_ablation)


def norm_ratio(sums: HeldOutSums, counts: Tensor) -> Tensor:
    """E ‖x̂‖ / ‖x‖, SAELens's `l2_ratio`; below 1 the SAE shrinks."""
    return counts @ sums.norm_ratio / (counts @ sums.tokens)


def cosine_similarity(sums: HeldOutSums, counts: Tensor) -> Tensor:
    """E cos(x, x̂), SAELens's `cossim`."""
    return counts @ sums.cosine_similarity / (counts @ sums.tokens)


def explained_variance_per_dimension(sums: HeldOutSums) -> Tensor:
    """1 − E(x_q − x̂_q)² / Var x_q, shape (d_in,); NaN where x_q is constant."""
    deviation = _squared_deviation(sums, torch.ones_like(sums.tokens))
    return (1 - sums.squared_error.sum(dim=0) / deviation).masked_fill(deviation <= 0, torch.nan)


def variance_per_dimension(sums: HeldOutSums) -> Tensor:
    """Var x_q over the held-out tokens, shape (d_in,), activation units²."""
    return _squared_deviation(sums, torch.ones_like(sums.tokens)) / sums.tokens.sum()


def quarters_by_weight(gamma: Tensor) -> dict[str, Tensor]:
    """Which dimensions have the largest and the smallest quarter of the weights, (d_in,) bool."""
    rank = gamma.argsort().argsort()
    quarter = len(gamma) // 4
    return {"largest_quarter": rank >= len(gamma) - quarter, "smallest_quarter": rank < quarter}


def held_out_batches(
    store: ActivationsStore, n_batches: int, batch_size_prompts: int | None = None
) -> list[Tensor]:
    """The next `n_batches` batches of tokens of the store, each (batch_size_prompts, context).

    Raises:
        BadInputError: fewer than two batches, of which no spread can be taken, or a data set
            that ends before them (SAELens would start it again).
    """
    if n_batches < 2:
        raise BadInputError(f"{n_batches} held-out batch(es): two or more are needed for a spread.")
    try:
        return [
            store.get_batch_tokens(batch_size_prompts, raise_at_epoch_end=True)
            for _ in range(n_batches)
        ]
    except StopIteration:
        size = batch_size_prompts or store.store_batch_size_prompts
        raise BadInputError(
            f"the held-out data set ends before {n_batches} batches of {size} × "
            f"{store.context_size} tokens; ask for fewer, or give it more text."
        ) from None


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
        name → sums, for the functions of this module.

    Raises:
        BadInputError: an SAE says no hook, or reads one attention head.
    """
    hooks = {name: _hook_of(name, sae) for name, sae in saes.items()}
    excluded = torch.tensor(sorted(exclude_tokens), dtype=torch.long)
    kept: dict[str, dict[str, Tensor]] = {name: {} for name in saes}
    for number, tokens in enumerate(tqdm(batches, desc="Held-out batches", unit="batch")):
        keep = ~torch.isin(tokens, excluded.to(tokens.device))
        run = ModelRun(model, tokens, keep, sorted(set(hooks.values())))
        for name, sae in saes.items():
            sums, x, feature_acts = _sums_of_batch(sae, run, hooks[name])
            _keep(sums, kept[name], number, len(batches))
            if watch is not None:
                watch(name, x, feature_acts)
    return {
        name: HeldOutSums(**{**of_batches, "firings": of_batches["firings"].sum(dim=0)})
        for name, of_batches in kept.items()
    }


def summarize(
    score: Score,
    replicates: Sequence[HeldOutSums],
    baseline: Sequence[HeldOutSums] | None = None,
    bootstrap_seed: int = 0,
) -> dict[str, Any]:
    """A score with its spread, or the paired difference of two, as plain values for JSON.

    Args:
        score: one of this module's.
        replicates: the same SAE trained from one or more seeds, measured on the same batches.
        baseline: what to subtract, seed by seed; None for the score itself.
        bootstrap_seed: of the draws of batches; equal seeds draw equal batches.

    Returns:
        `value` (mean over seeds), `interval` (95 %, bootstrap over batches of that mean),
        `per_seed`, `per_batch` (mean over seeds), and `spread`: half of the interval, or half of
        Student's 95 % interval over seeds where that is wider.

    Raises:
        RunFailedError: the score is not finite.
    """
    n_batches = len(replicates[0].tokens)

    def evaluate(counts: Tensor) -> Tensor:
        scores = torch.stack([score(sums, counts) for sums in replicates])
        if baseline is None:
            return scores
        return scores - torch.stack([score(sums, counts) for sums in baseline])

    per_seed = evaluate(torch.ones(n_batches, dtype=torch.float64))
    per_batch = evaluate(torch.eye(n_batches, dtype=torch.float64)).mean(dim=0)
    drawn = evaluate(_bootstrap_counts(n_batches, bootstrap_seed)).mean(dim=0)
    if not torch.isfinite(torch.cat([per_seed, per_batch, drawn])).all():
        raise RunFailedError(
            "a held-out score is not finite: the activations or their reconstruction hold NaN or "
            "infinity, or do not vary at all; look at the model's dtype and at the hook."
        )
    low, high = drawn.quantile(torch.tensor(_INTERVAL, dtype=torch.float64)).tolist()
    widths = [high - low]
    if len(per_seed) > 1:
        over_seeds = t_interval(per_seed.tolist())
        widths.append(over_seeds.high - over_seeds.low)
    return {
        "value": float(per_seed.mean()),
        "spread": max(widths) / 2,
        "interval": [low, high],
        "per_seed": per_seed.tolist(),
        "per_batch": per_batch.tolist(),
    }


def _sums_of_batch(
    sae: SAE[Any], run: ModelRun, hook_name: str
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The sums, and what a `Watch` sees."""
    x = run.activations[hook_name].flatten(start_dim=2)
    encoded = sae.encode(x.to(sae.device))
    x_hat = sae.decode(encoded).to(x)
    acts = encoded.to_dense() if encoded.is_sparse else encoded
    keep = run.keep
    where = keep.to(x.device)
    kept, kept_hat = x[where].double(), x_hat[where].double()
    feature_acts = acts[keep.to(acts.device)]
    active = feature_acts != 0
    with_sae, ablated = run.loss_with(hook_name, x_hat, where=where), run.ablated[hook_name]
    norm = kept.norm(dim=1)
    sums = {
        "tokens": keep.sum(),
        "x": kept.sum(dim=0),
        "x_squared": kept.square().sum(dim=0),
        "squared_error": (kept - kept_hat).square().sum(dim=0),
        "active_latents": active.sum(),
        "predictions": keep[:, :-1].sum(),
        "ce_loss": run.ce_loss,
        "ce_loss_with_sae": with_sae.ce_loss,
        "ce_loss_with_ablation": ablated.ce_loss,
        "kl_divergence": with_sae.kl_divergence,
        "kl_divergence_with_ablation": ablated.kl_divergence,
        # As SAELens does, ‖x̂‖ alone where x is 0.
        "norm_ratio": (kept_hat.norm(dim=1) / norm.where(norm >= 1e-4, 1)).sum(),
        "cosine_similarity": torch.cosine_similarity(kept, kept_hat).sum(),
        "firings": active.sum(dim=0),
    }
    return {name: value.double().cpu() for name, value in sums.items()}, x[where], feature_acts


def _keep(sums: Mapping[str, Tensor], kept: dict[str, Tensor], number: int, n_batches: int) -> None:
    """Write the sums of a batch into memory that was there before the batch.

    Small tensors that are made in every batch and stay would keep the allocator from using the
    memory between them again: hundreds of SAEs took gigabytes.
    """
    for name, value in sums.items():
        if name not in kept:
            kept[name] = torch.zeros(n_batches, *value.shape, dtype=torch.float64)
        kept[name][number] = value


def _squared_deviation(sums: HeldOutSums, counts: Tensor) -> Tensor:
    """Σ(x − mean x)², shape (..., d_in), activation units²."""
    tokens = (counts @ sums.tokens).unsqueeze(-1)
    return counts @ sums.x_squared - (counts @ sums.x).square() / tokens


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
