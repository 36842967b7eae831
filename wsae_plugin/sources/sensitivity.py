"""What a language model's output feels of an error at a hook, estimated from its gradients."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from wsae_plugin.errors import BadInputError
from wsae_plugin.fingerprint import fingerprint_of
from wsae_plugin.gamma.sensitivity import Sensitivity
from wsae_plugin.messages import nearest

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_WRITES = 5


def fisher_metric(
    model: Any,
    hook_name: str,
    tokens: Iterable[Tensor],
    file: Path | str,
    *,
    n_tokens: int = 2000,
    n_labels: int = 4,
    seed: int = 0,
    head: int | None = None,
    excluded: Collection[int] = (),
    positions: slice = slice(None),  # noqa: B008 - slices do not change
    batch_size: int = 4,
    after_batch: Callable[[], object] = lambda: None,
) -> Sensitivity:
    """Estimate the mean Fisher information at a hook, and keep it in a file.

    F̄ = E[ggᵀ] with g = ∂(−Σ_t log p(y_t))/∂x_n and y_t drawn from the model's own prediction at
    every position t, so that g holds what x_n does to later positions too. A context's labels
    depend on the seed and on the place of the context alone, so the batch size changes rounding
    and no more. A run that was stopped goes on where it was; one that was killed, a few seconds
    before.

    Args:
        model: A `HookedTransformer`, or a Hugging Face model as SAELens wraps it.
        hook_name: One of its hooks.
        tokens: Contexts, each batch (n, context); one tensor of all is an iterable of contexts.
        file: Where it goes, a safetensors file; read if it answers the same question already.
        n_tokens: How many activations at least, in whole contexts.
        n_labels: How often the labels of a context are drawn.
        seed: Of the labels.
        head: The head of the hook that is meant; None for all, side by side.
        excluded: Special tokens, whose activations do not count.
        positions: Of a context, those whose activations count.
        batch_size: Contexts in a pass of the model.
        after_batch: Called after each of them; what it raises stops the estimate.

    Returns:
        F̄, and mean and covariance of the activations.

    Raises:
        BadInputError: There are fewer tokens, or no such hook, or the file is another.
    """
    file = Path(file)
    if hook_name not in model.hook_dict:
        raise BadInputError(
            f"hook_name = {hook_name!r}: the model has no such hook; "
            f"{nearest(hook_name, model.hook_dict)}"
        )
    contexts = _contexts(tokens, n_tokens, set(excluded), positions)
    question = {
        "hook_name": hook_name,
        "head": str(head),
        "n_labels": str(n_labels),
        "seed": str(seed),
        "model": _fingerprint_of_model(model),
        "tokens": fingerprint_of([[each.tolist() for each in context] for context in contexts]),
    }
    found, n_done = None, 0
    if file.is_file():
        found, about = Sensitivity.read(file)
        if {name: about.get(name) for name in question} != question:
            raise BadInputError(f"{file}: answers another question ({about}); remove it")
        n_done = int(about["contexts"])
    n = len(contexts)
    logger.info(
        "The metric takes %d forward and %d backward passes of one context of %d tokens",
        *(n - n_done, (n - n_done) * n_labels, len(contexts[0][0])),
    )
    # Sums, and of how many contexts: changed together, so that a stop anywhere keeps both right.
    done, n_kept, kept_at = (found, n_done), n_done, time.monotonic()

    def keep() -> None:
        nonlocal n_kept, kept_at
        sums, n_contexts = done
        if sums is not None and n_contexts > n_kept:
            sums.write(file, question | {"contexts": str(n_contexts)})
            n_kept, kept_at = n_contexts, time.monotonic()

    try:
        for first in tqdm(range(n_done, n, batch_size), "Fisher information", unit="batch"):
            chosen = contexts[first : first + batch_size]
            x, gradients = gradients_at(model, hook_name, head, chosen, first, n_labels, seed)
            sums = deepcopy(done[0]) or Sensitivity.of_none(x.shape[-1])
            sums.add(x, gradients)
            done = sums, first + len(chosen)
            after_batch()
            if time.monotonic() - kept_at > _SECONDS_BETWEEN_WRITES:
                keep()
    finally:
        keep()
    assert done[0] is not None
    return done[0]


def _fingerprint_of_model(model: Any) -> str:
    """Of a few numbers of each of its weights."""
    return fingerprint_of(
        {name: weights.flatten()[:8].tolist() for name, weights in model.named_parameters()}
    )


def _contexts(
    tokens: Iterable[Tensor], n_tokens: int, excluded: set[int], positions: slice
) -> list[tuple[Tensor, Tensor]]:
    """Contexts that hold as many tokens that count, each with which of them do."""
    found: list[tuple[Tensor, Tensor]] = []
    for context in _one_by_one(tokens):
        keep = ~torch.isin(context.cpu(), torch.tensor(sorted(excluded), dtype=context.dtype))
        is_read = torch.zeros_like(keep)
        is_read[positions] = True
        found.append((context.cpu(), keep & is_read))
        if sum(int(keep.sum()) for _, keep in found) >= n_tokens:
            return found
    raise BadInputError(
        f"n_tokens = {n_tokens} (metric_tokens of a config): the text has "
        f"{sum(int(keep.sum()) for _, keep in found)} that count; give more text or ask for fewer"
    )


def _one_by_one(tokens: Iterable[Tensor]) -> Iterator[Tensor]:
    for batch in tokens:
        yield from [batch] if batch.ndim == 1 else batch


def gradients_at(
    model: Any,
    hook_name: str,
    head: int | None,
    contexts: list[tuple[Tensor, Tensor]],
    first: int,
    n_labels: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Activations and gradients of the tokens of some contexts that count.

    Args:
        model: As SAELens wraps it.
        hook_name: One of its hooks.
        head: One of its heads; None for all, side by side.
        contexts: Tokens (context,), all equally many, and which of them count.
        first: The place of the first context in the text: labels depend on it.
        n_labels: How often the labels of a context are drawn.
        seed: Of the labels.

    Returns:
        x, shape (n, d_in), and g, shape (n_labels · n, d_in), label by label.
    """
    tokens = torch.stack([context for context, _ in contexts])
    keep = torch.stack([keep for _, keep in contexts])
    at: list[Tensor] = []

    def cut(activations: Tensor, hook: Any) -> Tensor:  # noqa: ARG001 - called by name
        # A leaf, from which on the gradients are wanted: nothing before it is gone back through.
        whole = activations.detach().clone()
        at.append((whole if head is None else whole[:, :, head]).clone().requires_grad_())
        if head is None:
            return at[0]
        whole[:, :, head] = at[0]
        return whole

    device = next(model.parameters()).device
    with torch.enable_grad():
        logits = model.run_with_hooks(
            tokens.to(device), return_type="logits", fwd_hooks=[(hook_name, cut)], prepend_bos=False
        )
        log_probs = logits.log_softmax(-1, torch.promote_types(logits.dtype, torch.float32))
        found: list[Tensor] = []
        for label in range(n_labels):
            drawn = _labels(log_probs.detach(), first, label, seed)
            loss = -log_probs.gather(-1, drawn.unsqueeze(-1)).sum()
            (gradient,) = torch.autograd.grad(loss, at[0], retain_graph=label < n_labels - 1)
            found.append(gradient.flatten(start_dim=2)[keep.to(gradient.device)])
    x = at[0].detach().flatten(start_dim=2)
    return x[keep.to(x.device)], torch.cat(found)


def _labels(log_probs: Tensor, first: int, label: int, seed: int) -> Tensor:
    """Tokens drawn from the predictions (contexts, positions, vocabulary), one for each."""
    drawn: list[Tensor] = []
    # One by one: in float64 the predictions of all contexts at once may need more than a model.
    for context, of_context in enumerate(log_probs, start=first):
        generator = torch.Generator().manual_seed(_seed_of(seed, context, label))
        uniform = torch.rand(len(of_context), generator=generator, dtype=torch.float64)
        below = of_context.double().exp().cumsum(-1)
        wanted = uniform.unsqueeze(-1).to(below) * below[..., -1:]
        drawn.append((below < wanted).sum(-1).clamp(max=below.shape[-1] - 1))
    return torch.stack(drawn)


def _seed_of(*numbers: int) -> int:
    """A seed that differs for different numbers."""
    return int(fingerprint_of(numbers), 16) % 2**63
