"""Gate 0 of a metric: does it say which errors of an SAE the language model feels?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from sae_lens import SAE
from scipy.stats import spearmanr
from torch import Tensor
from tqdm.auto import tqdm

from wsae_plugin.measures.held_out import HeldOutText
from wsae_plugin.sources.model_run import Place
from wsae_plugin.sources.sensitivity import gradients_at

_POSITIONS = 8
"""Of a context; errors of one context are alike."""
_LABELS = 16


@torch.no_grad()
def gate(
    text: HeldOutText, sae: SAE[Any], place: Place, metrics: Mapping[str, Tensor], n_contexts: int
) -> dict[str, float]:
    """Rank correlation (Spearman's) of guesses at what an error costs with what it costs.

    The cost is KL(model ‖ model with x̂ in the place of x at one position), summed over that
    position and all later ones, in nats.

    Args:
        text: Held-out text and the model.
        sae: For inference.
        place: The hook that it reads, and the head.
        metrics: Name → A, shape (d_in, d_in), of which δAδᵀ is a guess.
        n_contexts: How many contexts; a few positions of each are tried.

    Returns:
        Guess → correlation: of ‖δ‖², of each metric, and of two that know the position: the trace
        of its own Fisher information times ‖δ‖², and (gδᵀ)² over sampled labels.
    """
    contexts = torch.cat(text.batches)[:n_contexts]
    excluded = torch.tensor(text.excluded, dtype=contexts.dtype, device=contexts.device)
    generator = torch.Generator().manual_seed(text.seed)
    found: dict[str, list[Tensor]] = {}
    for n, context in enumerate(tqdm(contexts, desc="Errors put in one by one", unit="context")):
        every = torch.ones(len(context), dtype=torch.bool)
        x, g = gradients_at(text.model, *place, [(context.cpu(), every)], n, _LABELS, text.seed)
        at = (~torch.isin(context, excluded)).nonzero().flatten().cpu()
        at = at[torch.randperm(len(at), generator=generator)[:_POSITIONS]]
        delta = (sae(x.to(sae.device)).to(x) - x)[at].double()
        of_labels = g.view(_LABELS, len(context), -1)[:, at].double()
        square = delta.square().sum(dim=-1)
        guesses = {
            "‖δ‖²": square,
            **{name: ((delta @ a.to(delta)) * delta).sum(dim=-1) for name, a in metrics.items()},
            "tr F(x) ‖δ‖²": of_labels.square().sum(dim=-1).mean(dim=0) * square,
            "(gδᵀ)²": (of_labels * delta).sum(dim=-1).square().mean(dim=0),
            "KL": _costs(text.model, place, context, at, x[at] + delta.to(x)),
        }
        for name, values in guesses.items():
            found.setdefault(name, []).append(values.cpu())
    costs = torch.cat(found.pop("KL"))
    ranks: Any = {name: spearmanr(torch.cat(values), costs) for name, values in found.items()}
    return {name: float(rank.statistic) for name, rank in ranks.items()}


def _costs(model: Any, place: Place, context: Tensor, at: Tensor, x_hat: Tensor) -> Tensor:
    """Σ_t KL_t with x̂ (n, d_in) at one of the n positions at a time, shape (n,)."""
    hook_name, head = place
    rows = torch.arange(len(at))

    def replace(activations: Tensor, hook: Any) -> Tensor:  # noqa: ARG001 - called by name
        changed = activations.clone()
        part = changed if head is None else changed[:, :, head]
        part[rows, at] = x_hat.reshape(len(at), *part.shape[2:]).to(part)
        return changed

    tokens = context.expand(len(at), -1)
    as_it_is = model(context[None], return_type="logits", prepend_bos=False)
    changed = model.run_with_hooks(
        tokens, return_type="logits", fwd_hooks=[(hook_name, replace)], prepend_bos=False
    )
    target, other = (logits.double().log_softmax(-1) for logits in (as_it_is, changed))
    kl = torch.nn.functional.kl_div(
        other, target.expand_as(other), reduction="none", log_target=True
    )
    return kl.sum(dim=(1, 2))
