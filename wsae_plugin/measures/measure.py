"""What a measure is: `Evidence` → scores, with their direction, chance level and definition.

To add one, write a file with a function that `measure` or `batch_measure` decorates and list it in
`wsae_plugin.measures`. The function's name is the metric's, and its docstring says to readers what
it measures. It then stands in scores/held_out.json, in the report and in the card.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar

import torch
from sae_lens.synthetic.evals import SyntheticDataEvalResult
from torch import Tensor

from wsae_plugin.measures.identifiability import Seeds
from wsae_plugin.measures.labelled import LabelledEvidence
from wsae_plugin.measures.sums import BatchScore, Found, HeldOutSums, over_batches
from wsae_plugin.measures.top_tokens import TokenEvidence
from wsae_plugin.scores import Direction, Score

EVAL = "held_out"


@dataclass(frozen=True)
class Evidence:
    """What held-out activations say of one SAE, and what it has to be compared with.

    Args:
        sums: Over the held-out batches.
        tokens: What its latents say of the tokens; None without a language model.
        truth: What SAELens measures against the features of a synthetic model; None without one.
        labelled: What its latents say of samples that belong to classes; None where they do not.
        gallery: The images that excite a few of its latents; see `measures.gallery`.
        gamma: Its own γ, shape (d_in,); ones for an ordinary SAE.
        weighted: Arm → γ of the weighted arms that saw the same data, the strongest first.
        seeds: The runs that differ from this one in their seed alone, this one among them.
    """

    sums: HeldOutSums
    tokens: TokenEvidence | None = None
    truth: SyntheticDataEvalResult | None = None
    labelled: LabelledEvidence | None = None
    gallery: Sequence[Mapping[str, Any]] = ()
    gamma: Tensor = field(default_factory=lambda: torch.ones(1))
    weighted: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    seeds: Seeds = Seeds(())


class HeldOutScore(Score):
    """A score with its value on each held-out batch; without any where batches have none."""

    per_batch: Sequence[float] = ()


E = TypeVar("E")
Measure = Callable[[Evidence], Iterable[HeldOutScore]]
"""Gives no score where the evidence says nothing."""


def measure(
    label: str, direction: Direction, **described: Any
) -> Callable[[Callable[[E], Found | None]], Callable[[E], Iterable[HeldOutScore]]]:
    """Make a `Measure` of one score of a function of an `Evidence`, or of another one.

    Args:
        label: For readers.
        direction: Which way is better; "none" for what only describes.
        described: Other fields of `Score`; `metric` and `definition` replace the function's name
            and docstring.
    """

    def decorate(
        of: Callable[[E], Found | None],
    ) -> Callable[[E], Iterable[HeldOutScore]]:
        @wraps(of)
        def scores(evidence: E) -> list[HeldOutScore]:
            found = of(evidence)
            if found is None:
                return []
            own = {"metric": of.__name__, "definition": " ".join((of.__doc__ or "").split())}
            beside = {name: v for name, v in vars(found).items() if v not in (None, "")}
            fields = {"eval": EVAL, "label": label, "direction": direction, "value": None}
            return [HeldOutScore.model_validate(fields | own | described | beside)]

        return scores

    return decorate


def batch_measure(
    label: str,
    direction: Direction,
    beside: Mapping[str, BatchScore] | None = None,
    of_model: bool = False,
    **described: Any,
) -> Callable[[BatchScore], Measure]:
    """Make a `Measure` of a score of sums, with half its 95 % interval over held-out batches.

    Args:
        label: For readers.
        direction: Which way is better; "none" for what only describes.
        beside: `chance` and `control`, where they too are made from the sums.
        of_model: Whether it asks a language model, so that there is none without one.
        described: As `measure` takes it.
    """

    def decorate(score: BatchScore) -> Measure:
        @wraps(score)
        def of(evidence: Evidence) -> Found | None:
            if of_model and not evidence.sums.predictions.any():
                return None
            return over_batches(score, evidence.sums, beside or {})

        return measure(label, direction, **described)(of)

    return decorate
