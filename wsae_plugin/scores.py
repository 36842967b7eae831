"""The scores of one SAE by one evaluation: `scores/NAME.json` in its folder, one schema for all.

Whoever measures writes it (`wsae eval` scores/held_out.json, `wsae bench` scores/saebench.json),
and the report reads every one that is there. A score says itself what it means, so that a new
measure needs no change in its readers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Len, Lt
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FiniteFloat,
    ValidationError,
    model_validator,
)
from typing_extensions import NotRequired, Self, TypedDict

from wsae_plugin.errors import BadInputError
from wsae_plugin.files import write_json_atomic
from wsae_plugin.validation import read_json

VERSION = 1
FOLDER = "scores"
GALLERY = "gallery.json"
"""Beside the scores of an SAE on a table with pictures: those that excite a few of its latents."""
MADE_BY = {"held_out": "wsae eval", "saebench": "wsae bench", "optimality": "wsae optimality"}
"""Name of a file of scores → the command that writes it."""
EXPECTED = ("held_out", "saebench")
"""Those that a report asks for where no run has them."""
OPTIMALITY = "optimality"

_OPEN = ConfigDict(strict=True, extra="allow")

Direction = Literal["up", "down", "none"]


def _finite(value: Any) -> Any:
    """None for what JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite)]


class Score(BaseModel):
    """One number of one SAE. What is not finite becomes None, with a note of it.

    Args:
        eval: Which evaluation, such as `held_out` or `saebench/core`.
        metric: Which of its numbers.
        label: For readers.
        value: None where it could not be measured; `note` says why.
        direction: Which way is better; "none" for what only describes.
        headline: Whether it belongs into the main table.
        unit: Of the value; empty for a share or a ratio.
        chance: What knowing nothing scores.
        control: What the same measure says of shuffled, rotated or otherwise ruined data.
        noise: Absolute difference under another seed of the measurement.
        spread: Half the 95 % interval over held-out batches.
        note: What is to be said of this value.
        definition: What the metric measures, in a sentence or two.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    eval: str
    metric: str
    label: str
    value: Number
    direction: Direction
    headline: bool = False
    unit: str = ""
    chance: Number = None
    control: Number = None
    noise: Number = None
    spread: Number = None
    note: str = ""
    definition: str = ""

    @model_validator(mode="before")
    @classmethod
    def _with_the_reason(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and _finite(fields.get("value", 0)) != fields.get("value", 0):
            return fields | {"note": f"not finite; {fields.get('note', '')}".removesuffix("; ")}
        return fields


class HeldOut(TypedDict):
    """What an SAE was measured on; more may be said of it.

    Args:
        tokens: How many count in the scores.
        batches: How many there were.
        batch_size_prompts: Contexts in each.
        context_size: Tokens in a context.
        seed: Of what is drawn.
        dataset: The text, and its split in parentheses.
        dataset_is_local: Whether it was a file of another machine, which is left out.
    """

    __pydantic_config__ = _OPEN  # pyright: ignore[reportGeneralTypeIssues]

    tokens: int
    batches: int
    batch_size_prompts: int
    context_size: int
    seed: Annotated[int, Ge(0), Lt(2**63)]
    dataset: str
    dataset_is_local: NotRequired[bool]


class Spectrum(TypedDict):
    """How uneven Γ is, see `gamma.spectrum`."""

    __pydantic_config__ = _OPEN  # pyright: ignore[reportGeneralTypeIssues]

    d_in: int
    gamma: _Range
    max_over_median: float
    effective_dimensions: float
    weighted_variance_share: _Shares
    concentrated: bool


class _Range(TypedDict):
    min: float
    median: float
    max: float


class _Shares(TypedDict):
    top_1: float
    top_5: float
    top_10: float


class Carried(TypedDict, total=False):
    """How an evaluation was carried out; more may be said of it."""

    __pydantic_config__ = _OPEN  # pyright: ignore[reportGeneralTypeIssues]

    status: str
    profile: str
    seconds: float
    error: str


class ScoreFile(BaseModel):
    """What one evaluation says of one SAE; an evaluation may add fields of its own.

    Args:
        run: The SAE's name.
        scores: Its scores.
        held_out: The text or the world that it was measured on: equal for comparable scores.
        per_batch: Metric → its value on each held-out batch.
        per_dimension: `variance`, `explained_variance` and `gamma` of each input dimension.
        spectrum: How uneven Γ is, see `gamma.spectrum`; empty where it is even.
        evals: Evaluation → how it was carried out, and how that ended.
        refused: Evaluation → why it cannot be carried out.
        versions: Library → version.
    """

    model_config = _OPEN

    scores_version: Literal[1] = VERSION
    run: str
    scores: list[Score]
    held_out: HeldOut | None = None
    per_batch: dict[str, list[Number]] = {}
    per_dimension: dict[str, list[Number]] = {}
    spectrum: Spectrum | Annotated[dict[str, Any], Len(0, 0)] = {}
    evals: dict[str, Carried] = {}
    refused: dict[str, str] = {}
    versions: dict[str, str | None] = {}

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        if repeated := [
            n for n, k in Counter(f"{s.eval}/{s.metric}" for s in self.scores).items() if k > 1
        ]:
            raise ValueError(f"scores: {', '.join(repeated)}: there more than once")
        return self

    @model_validator(mode="after")
    def _of_one_gamma(self) -> Self:
        lengths = {len(values) for values in self.per_dimension.values()}
        known = [self.per_dimension.get(name, [None]) for name in ("gamma", "variance")]
        if len(lengths) > 1 or (self.spectrum and any(None in values for values in known)):
            raise ValueError("per_dimension: not of every dimension, or not that of the spectrum")
        return self

    def write(self, folder: Path, name: str) -> dict[str, Any]:
        """Write it into an SAE's folder, and return what stands there."""
        file, document = file_of(folder, name), self.model_dump()
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(file, document)
        return document


class OptimalityLine(TypedDict):
    """One condition that every optimum of a dictionary satisfies, and whether an SAE meets it.

    Args:
        name: The metric of its score.
        value: That of the score.
        interval: Half the 95 % interval over held-out batches.
        control: The same of random atoms.
        action: What to do about it; None where it is met.
        latents: Which latents, or pairs, meet it least, and by how much on the samples that they
            were found on.
    """

    __pydantic_config__ = _OPEN  # pyright: ignore[reportGeneralTypeIssues]

    name: str
    value: Number
    interval: Number
    control: Number
    action: Annotated[str, Len(1, 300)] | None
    latents: NotRequired[list[dict[str, float]]]


class SettingsOfOptimality(TypedDict):
    """How optimality was measured; more may be said of it.

    Args:
        dataset: As in `HeldOut`.
        penalty: λ that was asked for; None for the one that makes optimal codes as sparse as the
            SAE's.
    """

    __pydantic_config__ = _OPEN  # pyright: ignore[reportGeneralTypeIssues]

    dataset: str
    penalty: Number


class OptimalityFile(ScoreFile):
    """What `wsae optimality` says of one SAE.

    Args:
        settings: How it was measured.
        samples: How many held-out samples.
        penalty: λ of the optimal codes.
        duality_gap: The largest over the samples, as a share of the objective.
        lines: The conditions, in the order in which they are shown.
    """

    settings: SettingsOfOptimality
    samples: Annotated[int, Ge(1)]
    penalty: Annotated[FiniteFloat, Ge(0)]
    duality_gap: Annotated[FiniteFloat, Ge(0)]
    lines: list[OptimalityLine]

    @model_validator(mode="after")
    def _of_its_scores(self) -> Self:
        metrics = {score.metric for score in self.scores if score.eval == OPTIMALITY}
        if others := [line["name"] for line in self.lines if line["name"] not in metrics]:
            raise ValueError(f"lines: {others[0]!r:.80}: no score of {OPTIMALITY} has this metric")
        return self


_KINDS = {OPTIMALITY: OptimalityFile}
"""Name of a file of scores → its schema, of those that need more fields than others."""


def file_of(folder: Path, name: str) -> Path:
    """Where the scores of one evaluation stand in an SAE's folder."""
    return folder / FOLDER / f"{name}.json"


def read_scores(folder: Path, run: str | None = None) -> dict[str, ScoreFile]:
    """Name → content of every file of scores in an SAE's folder.

    Args:
        folder: The SAE's.
        run: Its name, which each file must say too; None for a folder that may have been renamed.

    Raises:
        BadInputError: A file is broken, or of another SAE; the message names the field.
    """
    found: dict[str, ScoreFile] = {}
    for file in sorted((folder / FOLDER).glob("*.json")):
        command = MADE_BY.get(file.stem, "the evaluation")
        try:
            kind = _KINDS.get(file.stem, ScoreFile)
            scores = kind.model_validate(read_json(file, made_by=command))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise BadInputError(f"{file}: {where}: {first['msg']}; run `{command}` again") from None
        if run is not None and scores.run != run:
            raise BadInputError(
                f"{file}: run = {scores.run!r}: must be {run!r}, the run it lies in; run "
                f"`{command}` again"
            )
        found[file.stem] = scores
    return found


def read_same(
    folder: Path, run: str, name: str, settings: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What one evaluation wrote before, if it is what it would write now.

    Args:
        folder: The SAE's.
        run: Its name.
        name: The evaluation's.
        settings: What its scores depend on, as `settings` in its file.
    """
    try:
        found = read_scores(folder, run)[name].model_dump()
    except (BadInputError, KeyError):
        return None
    return found if found.get("settings") == settings else None
