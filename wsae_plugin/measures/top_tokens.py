"""How specific latents are to tokens, without a judge: of the tokens that excite a latent most.

Every measure has its chance level and a control, the same measure on activations permuted over the
tokens of each context: what a latent owes to its documents alone, which repeat their words, stays
in the control.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from wsae_plugin.measures.sums import Found
from wsae_plugin.measures.token_classes import token_classes

TOP_TOKENS = 20
"""Most activating tokens that are kept of each latent."""
FEWEST_TOKENS = 5
"""A latent that is active on fewer held-out tokens is in no mean: 10 pairs are the least."""
N_DIRECTIONS = 512
STANDING_OUT_BY_CHANCE = 0.05
"""A latent stands out when it scores above all but this share of the shuffled latents, or a
smaller share where many score alike: of tokens of 200 labels, 2 % stand out by chance."""


@dataclass(frozen=True)
class HeldOutTokens:
    """The tokens that count, in the order in which activations stream past.

    Attributes:
        kinds: what tokens can have in common: `token` (its id), `context` (the id before it, −1 at
            the start of a context) and, with a tokenizer, `token_class` → the label of every token,
            shape (n_tokens,), int64.
        contexts: which context each is in, ascending, shape (n_tokens,), int64.
    """

    kinds: Mapping[str, Tensor]
    contexts: Tensor

    @classmethod
    def of(
        cls, batches: Sequence[Tensor], exclude_tokens: Sequence[int], tokenizer: Any
    ) -> HeldOutTokens:
        """The tokens of `batches`, each (batch, context), without those that are excluded."""
        tokens = torch.cat([batch.cpu() for batch in batches]).long()
        previous = torch.cat([torch.full_like(tokens[:, :1], -1), tokens[:, :-1]], dim=1)
        contexts = torch.arange(len(tokens)).unsqueeze(1).expand_as(tokens)
        keep = ~torch.isin(tokens, torch.tensor(sorted(exclude_tokens), dtype=torch.long))
        kinds = {"token": tokens[keep], "context": previous[keep]}
        if tokenizer is not None:
            kinds["token_class"] = token_classes(tokens[keep], tokenizer)
        return cls(kinds, contexts[keep])


class TopTokens:
    """The tokens on which each latent is most active, kept while activations stream past.

    Args:
        d_sae: number of latents.
        n_top: how many tokens are kept of each.
    """

    def __init__(self, d_sae: int, n_top: int = TOP_TOKENS) -> None:
        self._n_top = n_top
        self._n_seen = 0
        self._values = torch.zeros(n_top, d_sae)
        self._positions = torch.zeros(n_top, d_sae, dtype=torch.long)

    def add(self, feature_acts: Tensor) -> None:
        """Take in the activations on the next tokens.

        Args:
            feature_acts: shape (n_tokens, d_sae).
        """
        values, rows = feature_acts.topk(min(self._n_top, len(feature_acts)), dim=0)
        values = torch.cat([self._values.to(values.device), values.float()])
        positions = torch.cat([self._positions.to(rows.device), rows + self._n_seen])
        best, kept = values.topk(self._n_top, dim=0)
        # In place: see `sums` on what stays from batch to batch.
        self._values.copy_(best)
        self._positions.copy_(positions.gather(0, kept))
        self._n_seen += len(feature_acts)

    @property
    def positions(self) -> Tensor:
        """Which tokens, counted from the first seen, most activating first.

        Returns:
            Shape (d_sae, n_top), int64, on the CPU; −1 where a latent was not active (> 0)
            on that many tokens.
        """
        return self._positions.masked_fill(~(self._values > 0), -1).T.cpu()


def consistency(labels: Tensor, positions: Tensor) -> Tensor:
    """The probability that two different top tokens of a latent have the same label.

    Σ_c n_c (n_c − 1) / (n (n − 1)) for n top tokens, n_c of them with label c: unbiased for
    the label's probability of agreeing, however few tokens there are.

    Args:
        labels: of every token, shape (n_tokens,), int64.
        positions: of each latent's top tokens, shape (d_sae, n_top), −1 where there is none.

    Returns:
        Shape (d_sae,), float64, in [0, 1]; NaN for a latent with fewer than `FEWEST_TOKENS`.
    """
    is_there = positions >= 0
    # −2 − column: a label of its own for each place without a token, so that it agrees with none.
    nobody = -2 - torch.arange(positions.shape[1]) + labels.min().clamp(max=0)
    ours = labels[positions.clamp(min=0)].where(is_there, nobody)
    n = is_there.sum(dim=1).double()
    # Every place agrees with itself, and every pair is counted from both sides.
    agreeing = (ours.unsqueeze(1) == ours.unsqueeze(2)).sum(dim=(1, 2)) - positions.shape[1]
    return (agreeing / (n * (n - 1))).masked_fill(n < FEWEST_TOKENS, torch.nan)


def chance_of_agreeing(labels: Tensor) -> float:
    """The probability that two different tokens drawn at random have the same label, Σp².

    Args:
        labels: of every token, shape (n_tokens,), int64, two tokens or more.
    """
    n = labels.unique(return_counts=True)[1].double()
    return float((n * (n - 1)).sum() / (len(labels) * (len(labels) - 1)))


def shuffled_within(contexts: Tensor, seed: int) -> Tensor:
    """A random permutation that leaves every token in its context.

    Args:
        contexts: which context each token is in, shape (n_tokens,), int64.
        seed: of the permutation.

    Returns:
        Shape (n_tokens,), int64: `labels[permutation]` are the labels, shuffled.
    """
    drawn = torch.randperm(len(contexts), generator=torch.Generator().manual_seed(seed))
    by_context = drawn[contexts[drawn].argsort(stable=True)]
    permutation = torch.empty_like(by_context)
    permutation[contexts.argsort(stable=True)] = by_context
    return permutation


@dataclass(frozen=True)
class Specificity:
    """A consistency over latents, each counting as much as any other.

    Attributes:
        consistency: its mean over the latents that are measured, NaN where there is none; chance:
            for two tokens drawn at random; control: with the tokens of each context shuffled.
        standing_out: share of latents above all but `STANDING_OUT_BY_CHANCE` of the shuffled ones;
            control: the same share of latents shuffled a second time.
        n_latents: how many are measured.
    """

    consistency: Found
    standing_out: Found
    n_latents: int


def specificity(labels: Tensor, positions: Tensor, contexts: Tensor, seed: int) -> Specificity:
    """The consistency of all latents beside chance and the shuffled control.

    Args:
        labels: of every token, shape (n_tokens,), int64.
        positions: of each latent's top tokens, shape (d_sae, n_top), −1 where there is none.
        contexts: which context each token is in, shape (n_tokens,), int64.
        seed: of the control.
    """
    ours, once, again = (
        scores[~scores.isnan()]
        for scores in (
            consistency(labels, positions),
            consistency(labels[shuffled_within(contexts, 2 * seed)], positions),
            consistency(labels[shuffled_within(contexts, 2 * seed + 1)], positions),
        )
    )
    threshold = once.quantile(1 - STANDING_OUT_BY_CHANCE) if len(once) else torch.tensor(torch.nan)
    return Specificity(
        Found(float(ours.mean()), chance_of_agreeing(labels), float(once.mean())),
        Found(
            float((ours > threshold).double().mean()),
            STANDING_OUT_BY_CHANCE,
            float((again > threshold).double().mean()),
        ),
        n_latents=len(ours),
    )


class RandomProjection:
    """x · r for random r, x centred by the mean of the first batch.

    Args:
        seed: of the directions.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._mean: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Project the next samples, shape (n, d_in), to shape (n, `N_DIRECTIONS`), float32."""
        x = x.float()
        if self._mean is None:
            self._mean = x.mean(dim=0)
        generator = torch.Generator().manual_seed(self._seed)
        directions = torch.randn(x.shape[1], N_DIRECTIONS, generator=generator)
        return (x - self._mean) @ directions.to(x.device)


class RandomDirections(TopTokens):
    """The top tokens of random directions.

    The activations themselves are specific to tokens, so any direction's top tokens agree more
    often than chance; only what a latent has beyond these is the dictionary's.

    Args:
        seed: of the directions.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(N_DIRECTIONS)
        self._project = RandomProjection(seed)

    @override
    def add(self, feature_acts: Tensor) -> None:
        """Take in the activations themselves on the next tokens, shape (n_tokens, d_in)."""
        super().add(self._project(feature_acts))


@dataclass(frozen=True)
class TokenEvidence:
    """What excites latents, and what those tokens can have in common.

    Attributes:
        tokens: the held-out ones.
        seed: of the shuffled controls.
        positions: of the top tokens of each latent, shape (d_sae, n_top), see
            `TopTokens.positions`, and of each random direction of the activations.
    """

    tokens: HeldOutTokens
    seed: int
    positions: tuple[Tensor, Tensor]

    def specificity(self, kind: str, positions: Tensor) -> Specificity:
        """How consistent the tokens at `positions` are in one kind of label."""
        return specificity(self.tokens.kinds[kind], positions, self.tokens.contexts, self.seed)
