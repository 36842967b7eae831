"""SAEs → scores/optimality.json: how far each is from any optimum, on its own held-out samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from wsae_plugin.compare.runs import refuse_repeated_runs, runs_of
from wsae_plugin.measures.evaluated_run import EvaluatedRun
from wsae_plugin.measures.held_out import EvalSettings, open_held_out
from wsae_plugin.optimality.coded import coded, matched_penalty
from wsae_plugin.optimality.evidence import OptimalityEvidence
from wsae_plugin.optimality.lines import EVAL, LINES
from wsae_plugin.provenance import versions
from wsae_plugin.scores import ScoreFile


@dataclass(frozen=True)
class OptimalitySettings:
    """What is tested on.

    Args:
        dataset: See `EvalSettings`.
        samples: About how many, in all batches.
        batches: The blocks that the bootstrap draws from.
        seed: Of the order of the text, of what is drawn of it, and of the controls.
        penalty: λ of the optimal codes; None for the one that makes them as sparse as the SAE's.
    """

    dataset: str | None = None
    samples: int = 20_000
    batches: int = 8
    seed: int = 0
    penalty: float | None = None


def measure_optimality(
    paths: Sequence[Path], settings: OptimalitySettings | None = None
) -> list[dict[str, Any]]:
    """Test the SAEs of all runs, and write scores/optimality.json into the folder of each.

    Args:
        paths: Folders of SAEs, see `runs_of`.
        settings: None for the default.

    Returns:
        What stands in scores/optimality.json, in their order.

    Raises:
        BadInputError: A folder holds no SAE, an SAE cannot be loaded, or there are no held-out
            samples.
        RunFailedError: The optimal codes of a sample were not found.
    """
    settings = settings or OptimalitySettings()
    found = [run for path in paths for run in runs_of([path])]
    refuse_repeated_runs(found)
    runs = [EvaluatedRun.load(run, settings.dataset) for run in found]
    return [_measured(run, settings).write(run.compared.path, EVAL) for run in runs]


def evidence_of(run: EvaluatedRun, settings: OptimalitySettings) -> OptimalityEvidence:
    """Draw held-out samples, and encode them.

    Raises:
        BadInputError: See `measure_optimality`.
    """
    contexts = run.config.values.get("context_size") or 128
    prompts = -(-settings.samples // (settings.batches * contexts))
    of_eval = EvalSettings(settings.dataset, settings.batches, prompts, settings.seed)
    held_out = open_held_out([run.config], run.source, of_eval)
    sae, generator = run.load_sae(), torch.Generator().manual_seed(settings.seed)
    a_batch = -(-settings.samples // settings.batches)
    drawn = [
        x[torch.randperm(len(x), generator=generator)[:a_batch]] for x in held_out.activations(sae)
    ]
    batch = torch.arange(len(drawn)).repeat_interleave(torch.tensor([len(x) for x in drawn]))
    own = coded(sae, torch.cat(drawn).float(), run.gamma)
    penalty = matched_penalty(own) if settings.penalty is None else settings.penalty
    return OptimalityEvidence(own, batch, penalty, settings.seed)


def _measured(run: EvaluatedRun, settings: OptimalitySettings) -> ScoreFile:
    evidence = evidence_of(run, settings)
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
        }
        for score in scores
    ]
    return ScoreFile.model_validate(
        {
            "run": run.name,
            "scores": scores,
            "versions": {**versions()},
            "settings": asdict(settings) | {"dataset": str(run.source), **run.fingerprints},
            "samples": len(evidence.batch),
            "penalty": evidence.penalty,
            "duality_gap": float(evidence.optimal.gap.max()),
            "lines": lines,
        }
    )


def _action(name: str, value: float | None) -> str | None:
    line = LINES[name]
    return line.action if value is not None and value > line.above else None
