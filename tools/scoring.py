"""Cross-entropies of a language model and of n-gram models, on exactly the same tokens.

A language model is only worth explaining if it knows more than which token follows which, so the
bundled one is held against the best bigram model that its own training text gives. Everything is
scored on the same windows, in nats per token.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

_DISCOUNTS = (0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
_TUNING_SHARE = 0.1
_PSEUDO_COUNT = 0.5


@dataclass(frozen=True)
class BigramModel:
    """An interpolated bigram model and the smoothing it was given.

    Args:
        log_probs: (vocab, vocab) float32; ``log_probs[v, w]`` is log p(w | v) in nats.
        discount: Count taken from every bigram that was seen, in (0, 1).
        lower_order: ``"unigram"`` or ``"continuation"`` (Kneser-Ney): what the discounted mass is
            spread over.
    """

    log_probs: Tensor
    discount: float
    lower_order: str


def scoring_windows(tokens: Tensor, context_size: int, bos_token_id: int) -> Tensor:
    """Cut a stream of tokens into windows that do not overlap, each led by the BOS token.

    Args:
        tokens: (n_tokens,) integer; what is left over at the end is dropped.
        context_size: Tokens in a window, the BOS token included.
        bos_token_id: The token at position 0 of every window, as SAELens prepends it.

    Returns:
        (n_windows, context_size), with ``context_size - 1`` tokens of the stream in each.
    """
    n_windows = len(tokens) // (context_size - 1)
    body = tokens[: n_windows * (context_size - 1)].reshape(n_windows, context_size - 1)
    return torch.cat([body.new_full((n_windows, 1), bos_token_id), body], dim=1)


@torch.no_grad()
def model_cross_entropy(model: Any, windows: Tensor, batch_size: int = 32) -> float:
    """Cross-entropy of a causal language model, in nats per token.

    The first token after BOS is not scored, since a bigram model would be told what really came
    before it and the language model would not.

    Args:
        model: A Hugging Face causal language model; it is called in evaluation mode.
        windows: (n_windows, context_size), from `scoring_windows`.
        batch_size: Windows a forward pass.
    """
    model.eval()
    total = 0.0
    for batch in windows.split(batch_size):
        logits = model(batch).logits[:, 1:-1]
        total += cross_entropy(
            logits.flatten(0, 1).float(), batch[:, 2:].flatten(), reduction="sum"
        ).item()
    return total / windows[:, 2:].numel()


def unigram_cross_entropy(log_probs: Tensor, windows: Tensor) -> float:
    """Cross-entropy of ``log_probs`` (vocab,) on the tokens that `model_cross_entropy` scores."""
    return -log_probs[windows[:, 2:]].double().mean().item()


def bigram_cross_entropy(bigram: BigramModel, windows: Tensor) -> float:
    """Cross-entropy of a bigram model on the tokens that `model_cross_entropy` scores."""
    return -bigram.log_probs[windows[:, 1:-1], windows[:, 2:]].double().mean().item()


def fit_unigram(tokens: Tensor, vocab_size: int) -> Tensor:
    """Log-probabilities (vocab,) of the tokens' frequencies, with half a count added to each."""
    counts = torch.bincount(tokens, minlength=vocab_size).double() + _PSEUDO_COUNT
    return (counts / counts.sum()).log().float()


def fit_bigram(
    tokens: Tensor, vocab_size: int, discount: float, lower_order: str = "continuation"
) -> BigramModel:
    """Interpolated absolute discounting, p(w|v) = max(c(vw) - D, 0)/c(v) + D n(v)/c(v) q(w).

    c counts occurrences and n(v) the different tokens seen after v. q is the unigram model, or the
    share of different tokens that w was seen after (Kneser-Ney); a v never seen has p(w|v) = q(w).

    Args:
        tokens: (n_tokens,) integer, the training text.
        vocab_size: Number of different tokens.
        discount: D, in (0, 1).
        lower_order: ``"unigram"`` or ``"continuation"``: q.

    References:
        Chen and Goodman, "An empirical study of smoothing techniques for language modeling"
        (1999), equations 14 and 15.
    """
    counts = _bigram_counts(tokens, vocab_size)
    seen = (counts > 0).double()
    if lower_order == "unigram":
        lower = torch.bincount(tokens, minlength=vocab_size) + _PSEUDO_COUNT
    else:
        lower = seen.sum(dim=0) + _PSEUDO_COUNT
    lower = lower / lower.sum()
    totals = counts.sum(dim=1, keepdim=True)
    leftover = torch.where(totals > 0, discount * seen.sum(dim=1, keepdim=True) / totals, 1.0)
    probs = (counts - discount).clamp(min=0) / totals.clamp(min=1) + leftover * lower
    return BigramModel(probs.log().float(), discount, lower_order)


def fit_tuned_bigram(tokens: Tensor, vocab_size: int) -> BigramModel:
    """The bigram model with the smoothing that does best on the last tenth of its training text.

    The smoothing is chosen by fitting on the first nine tenths; the model returned is then fitted
    on all of ``tokens`` (n_tokens,).
    """
    n_fit = round(len(tokens) * (1 - _TUNING_SHARE))

    def tuning_loss(smoothing: tuple[float, str]) -> float:
        bigram = fit_bigram(tokens[:n_fit], vocab_size, *smoothing)
        return bigram_cross_entropy(bigram, tokens[n_fit:].unsqueeze(0))

    best = min(product(_DISCOUNTS, ("unigram", "continuation")), key=tuning_loss)
    return fit_bigram(tokens, vocab_size, *best)


def _bigram_counts(tokens: Tensor, vocab_size: int) -> Tensor:
    """(vocab, vocab) float64: how often token w came right after token v."""
    pairs = tokens[:-1] * vocab_size + tokens[1:]
    return torch.bincount(pairs, minlength=vocab_size**2).view(vocab_size, vocab_size).double()
