"""SAEs → scores/optimality.json: how far each is from any optimum, on its own held-out samples."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from safetensors.torch import load_file
from torch import Tensor
from tqdm.auto import tqdm

from wsae_plugin.compare.runs import refuse_repeated_runs, runs_of
from wsae_plugin.errors import BadInputError
from wsae_plugin.fingerprint import fingerprint_of
from wsae_plugin.gamma.metric import metric_from, square_roots
from wsae_plugin.measures.evaluated_run import EvaluatedRun
from wsae_plugin.measures.held_out import (
    EvalSettings,
    HeldOutSamples,
    HeldOutText,
    open_held_out,
)
from wsae_plugin.messages import naming, refusals_as_bad_input
from wsae_plugin.optimality.coded import Coded, coded, matched_penalty
from wsae_plugin.optimality.evidence import OptimalityEvidence
from wsae_plugin.optimality.lines import EVAL, LINES
from wsae_plugin.provenance import versions
from wsae_plugin.saes import WeightedTrainingSAEConfig
from wsae_plugin.saes.metric import METRIC_FILENAME
from wsae_plugin.scores import OptimalityFile, ScoreFile, read_same

logger = logging.getLogger(__name__)

_EACH_LATENT = 4
_FEWEST, _MOST = 2_000, 20_000
"""By default so many samples for each latent, within these."""
_FEWEST_BATCHES = 8
"""Half of them are for what is found and half for trying it, and an interval takes four."""


@dataclass(frozen=True)
class OptimalitySettings:
    """What is tested on.

    Args:
        dataset: See `EvalSettings`.
        samples: About how many, in all batches; None for 4 for each latent of the widest SAE, from
            2,000 to 20,000.
        batches: The blocks that the bootstrap draws from, at least 8.
        seed: Of the order of the text, of what is drawn of it, and of the controls.
        penalty: λ of the optimal codes; None for the one that makes them as sparse as the SAE's.

    Raises:
        BadInputError: There are too few batches, too few samples for them, or a penalty is none.
    """

    dataset: str | None = None
    samples: int | None = None
    batches: int = 16
    seed: int = 0
    penalty: float | None = None

    def of(self, runs: Sequence[EvaluatedRun]) -> OptimalitySettings:
        """With the number of samples that SAEs are tested on which read the same."""
        wide = max(run.config.values["sae"]["d_sae"] for run in runs)
        by_width = min(max(_EACH_LATENT * wide, _FEWEST), _MOST)
        return replace(self, samples=self.samples or by_width)

    def __post_init__(self) -> None:
        if self.batches < _FEWEST_BATCHES:
            raise BadInputError(
                f"batches = {self.batches}: must be {_FEWEST_BATCHES} or more; give more with "
                "--batches"
            )
        if self.samples is not None and self.samples < 2 * self.batches:
            raise BadInputError(
                f"samples = {self.samples}: must be {2 * self.batches} or more, 2 for each of "
                f"{self.batches} batches; give more with --tokens"
            )
        if self.penalty is not None and not 0 < self.penalty < float("inf"):
            raise BadInputError(
                f"penalty = {self.penalty}: must be a positive, finite number; --penalty gives it"
            )


def measure_optimality(
    paths: Sequence[Path], settings: OptimalitySettings | None = None, force: bool = False
) -> list[dict[str, Any]]:
    """Test the SAEs of all runs, and write scores/optimality.json into the folder of each.

    Args:
        paths: Folders of SAEs, see `runs_of`.
        settings: None for the default.
        force: Whether to test again what has been tested with the same settings.

    Returns:
        What stands in scores/optimality.json, in their order.

    Raises:
        BadInputError: A folder holds no SAE, an SAE cannot be loaded or has no active latent, or
            there are no held-out samples.
        RunFailedError: The optimal codes of a sample were not found.
    """
    settings = settings or OptimalitySettings()
    found = [run for path in paths for run in runs_of([path])]
    refuse_repeated_runs(found)
    runs = [EvaluatedRun.load(run, settings.dataset) for run in found]
    by_text = groupby(sorted(runs, key=lambda run: run.text), key=lambda run: run.text)
    groups = [[*group] for _, group in by_text]
    asked = {run.name: _asked(run, settings.of(group)) for group in groups for run in group}
    documents = {
        run.name: found
        for run in runs
        if not force
        and (found := read_same(run.compared.path, run.name, EVAL, asked[run.name]))
        and _is_whole(found)
    }
    if documents:
        logger.info("%d of %d runs are tested already", len(documents), len(runs))
    for group in groups:
        of_group, untested = settings.of(group), [run for run in group if run.name not in documents]
        if not untested:
            continue
        held_out = held_out_of(group, of_group)
        for run in tqdm(untested, desc="SAEs", unit="SAE"):
            scores = _scores(run, evidence_of(run, held_out, of_group), asked[run.name])
            documents[run.name] = scores.write(run.compared.path, EVAL)
    return [documents[run.name] for run in runs]


def held_out_of(
    runs: Sequence[EvaluatedRun], settings: OptimalitySettings
) -> HeldOutText | HeldOutSamples:
    """Open the held-out samples of runs that read the same.

    Raises:
        BadInputError: See `open_held_out`.
    """
    contexts = runs[0].config.values.get("context_size") or 128
    prompts = -(-(settings.of(runs).samples or 1) // (settings.batches * contexts))
    of_eval = EvalSettings(settings.dataset, settings.batches, prompts, settings.seed)
    return open_held_out([run.config for run in runs], runs[0].source, of_eval)


def weight_of(run: EvaluatedRun) -> Tensor:
    """γ of a run, shape (d_in,), or where it was trained under a metric the root M of that, shape
    (d_in, d_in).

    Raises:
        BadInputError: The metric cannot be read.
    """
    section = run.config.values["sae"]
    if section.get("metric") is None:
        return run.gamma
    file = run.compared.sae / METRIC_FILENAME
    with refusals_as_bad_input(f"{file}: cannot be read"):
        metric = load_file(file)["metric"]
    with naming(str(file)):
        ridge = section.get("metric_ridge", WeightedTrainingSAEConfig.metric_ridge)
        return square_roots(metric_from(metric, ridge))[0]


def encoded(
    sae: SAE[Any],
    weight: Tensor,
    held_out: HeldOutText | HeldOutSamples,
    settings: OptimalitySettings,
) -> tuple[Coded, Tensor]:
    """What an SAE makes of as many samples as are asked for, drawn from all batches.

    Args:
        sae: For inference.
        weight: See `weight_of`.
        held_out: See `held_out_of`.
        settings: How many, see `OptimalitySettings.of`; None for all.

    Returns:
        The samples with their codes, and of which batch each is, shape (n,), int64.
    """
    generator, batches = torch.Generator().manual_seed(settings.seed), held_out.activations(sae)
    a_batch = None if settings.samples is None else -(-settings.samples // settings.batches)
    drawn = [x[torch.randperm(len(x), generator=generator)[:a_batch]] for x in batches]
    batch = torch.arange(len(drawn)).repeat_interleave(torch.tensor([len(x) for x in drawn]))
    return coded(sae, torch.cat(drawn).float(), weight), batch


def evidence_of(
    run: EvaluatedRun,
    held_out: HeldOutText | HeldOutSamples,
    settings: OptimalitySettings,
) -> OptimalityEvidence:
    """Draw held-out samples, and encode them.

    Raises:
        BadInputError: See `measure_optimality`.
    """
    with naming(str(run.compared.path)):
        own, batch = encoded(run.load_sae(), weight_of(run), held_out, settings)
        penalty = matched_penalty(own) if settings.penalty is None else settings.penalty
    return OptimalityEvidence(own, batch, penalty, settings.seed)


def _asked(run: EvaluatedRun, settings: OptimalitySettings) -> dict[str, Any]:
    """What the scores depend on: equal means nothing is left to measure."""
    return asdict(settings) | {
        "dataset": str(run.source),
        **run.fingerprints,
        "read": fingerprint_of([run.text, run.compared.hook_name, run.head]),
        "of": [*LINES],
    }


def _scores(run: EvaluatedRun, evidence: OptimalityEvidence, asked: dict[str, Any]) -> ScoreFile:
    scores = [
        score.model_copy(update={"control": beside.value})
        for line in LINES.values()
        for score, beside in zip(
            line.score(evidence), line.score(evidence.of_random_atoms), strict=True
        )
    ]
    lines = [
        {
            **{"name": score.metric, "value": score.value, "interval": score.spread},
            **{"control": score.control, "action": _action(score.metric, score.value)},
            "latents": LINES[score.metric].latents(evidence),
        }
        for score in scores
    ]
    return OptimalityFile.model_validate(
        {
            "run": run.name,
            "scores": scores,
            "versions": {**versions()},
            "settings": asked,
            "samples": len(evidence.batch),
            "penalty": evidence.penalty,
            "duality_gap": float(evidence.optimal.gap.max()),
            "lines": lines,
        }
    )


def _is_whole(document: dict[str, Any]) -> bool:
    """Whether a file has every line, and says of none what no line says."""
    told = {line["name"]: line["action"] for line in document["lines"]}
    return [*told] == [*LINES] and all(told[n] in (None, LINES[n].action) for n in told)


def _action(name: str, value: float | None) -> str | None:
    line = LINES[name]
    return line.action if value is not None and value > line.above else None
