"""What a measure is: a number of one SAE, with its direction, its chance level and its definition.

To add one, write a file with a function that `measure` or `batch_measure` decorates and list it in
`wsae_plugin.measures`. The function's name is the metric's, and its docstring says to readers what
it measures. It then stands in scores/held_out.json, in the report and in the card.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from wsae_plugin.errors import RunFailedError
from wsae_plugin.measures.sums import BatchScore, HeldOutSums, summarize
from wsae_plugin.scores import Direction, Score

EVAL = "held_out"


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


@dataclass(frozen=True)
class Measure:
    """One metric of an SAE, as readers see it, and how it is computed.

    Args:
        described: The score without its value.
        of: `Evidence` → what is found, or None where the evidence does not say.
        compute: The function that was decorated.
    """

    described: Score
    of: Callable[[Any], Found | None]
    compute: Callable[..., Any]

    def __call__(self, evidence: Any) -> Iterable[tuple[Measure, Found]]:
        found = self.of(evidence)
        return [] if found is None else [(self, found)]

    def score(self, found: Found) -> Score:
        """The value that was found, with what is to be known of it."""
        names = ("chance", "control", "spread", "note")
        beside = {n: v for n in names if (v := getattr(found, n)) not in (None, "")}
        return Score.model_validate(dict(self.described) | {"value": found.value} | beside)


Family = Callable[[Any], Iterable[tuple[Measure, Found]]]
"""A `Measure`, or a function of an `Evidence` that gives several with what they found."""


def measure(
    label: str, direction: Direction, **described: Any
) -> Callable[[Callable[[Any], Found | None]], Measure]:
    """Make a `Measure` of a function of an `Evidence`.

    Args:
        label: For readers.
        direction: Which way is better; "none" for what only describes.
        described: Other fields of `Score`; `metric` and `definition` replace the function's name
            and docstring.
    """

    def decorate(of: Callable[[Any], Found | None]) -> Measure:
        own = {"metric": of.__name__, "definition": " ".join((of.__doc__ or "").split())}
        fields = {"eval": EVAL, "value": None, "label": label, "direction": direction}
        return Measure(Score.model_validate(fields | own | described), of, of)

    return decorate


def batch_measure(
    label: str,
    direction: Direction,
    beside: dict[str, BatchScore] | None = None,
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
        def of(evidence: Any) -> Found | None:
            sums: HeldOutSums = evidence.sums
            if of_model and not sums.predictions.any():
                return None
            once = torch.ones_like(sums.tokens)
            found: dict[str, Any] = {n: float(f(sums, once)) for n, f in (beside or {}).items()}
            found["per_batch"] = score(sums, torch.eye(len(once), dtype=once.dtype)).tolist()
            try:
                value, spread = summarize(score, sums)
            except RunFailedError as error:
                return Found(None, note=str(error), **found)
            return Found(value, spread=spread, **found)

        of.__name__, of.__doc__ = getattr(score, "__name__", ""), score.__doc__
        return replace(measure(label, direction, **described)(of), compute=score)

    return decorate


def mean_over_tokens(of: Callable[[HeldOutSums], Tensor]) -> BatchScore:
    """The score that is a sum divided by the number of tokens."""
    return lambda sums, counts: counts @ of(sums) / (counts @ sums.tokens)
