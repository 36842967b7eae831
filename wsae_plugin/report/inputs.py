"""What a report is made from, read and checked: what pairs with what, and one long table of scores.

A comparison says what pairs with what. Other SAEs pair with the ordinary one beside them, and where
there is none, the report shows levels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from wsae_plugin.compare.gathered import read_gathered
from wsae_plugin.compare.manifest import (
    MANIFEST_FILENAME,
    ComparedRun,
    Comparison,
    is_comparison,
)
from wsae_plugin.credentials import refuse_credentials
from wsae_plugin.errors import BadInputError
from wsae_plugin.fingerprint import fingerprint_of_weights
from wsae_plugin.messages import naming
from wsae_plugin.saved_run import read_cfg, read_record
from wsae_plugin.scores import EXPECTED, FOLDER, MADE_BY, OPTIMALITY, ScoreFile, read_scores
from wsae_plugin.validation import convert

Frame = Any
"""A `pandas.DataFrame`; its own types lose track of what is selected from it."""


@dataclass(frozen=True)
class Inputs:
    """Everything that a summary is computed from.

    Args:
        manifest: manifest.json, or as much of it as a run folder alone says.
        runs: The SAEs.
        scores: Run → name → file of scores.
        cfgs: Run → SAELens's cfg.json.
        records: Run → run.json.
    """

    manifest: Mapping[str, Any]
    runs: list[ComparedRun]
    scores: Mapping[str, Mapping[str, ScoreFile]]
    cfgs: Mapping[str, Mapping[str, Any]]
    records: Mapping[str, Mapping[str, Any]]

    @cached_property
    def table(self) -> Frame:
        """A row for each score of each run: the fields of `Score`, and those of the run, with its
        `sparsity` as `sparsity_label` has it."""
        names = dict.fromkeys(
            [*MADE_BY, *(name for found in self.scores.values() for name in found)]
        )
        return pd.DataFrame(
            [
                vars(run) | {"sparsity": sparsity_label(run)} | dict(score)
                for name in names
                for run in self.runs
                if name in self.scores[run.run]
                for score in self.scores[run.run][name].scores
            ]
        )

    @property
    def config(self) -> str | None:
        """The resolved config of a comparison, as YAML."""
        config = self.manifest.get("config")
        return config and yaml.safe_dump(config, sort_keys=False, allow_unicode=True)

    def facts(self, run: ComparedRun) -> dict[str, Any]:
        """What has to be equal within a pair; None where it is not known."""
        cfg = self.cfgs.get(run.run, {})
        metadata = cfg.get("metadata") or {}
        head = metadata.get("hook_head_index")
        texts = [scores.held_out for scores in self.scores[run.run].values() if scores.held_out]
        return {
            "model": metadata.get("model_name"),
            "hook": run.hook_name,
            "head": ("all" if head is None else head) if metadata else None,
            "d_sae": cfg.get("d_sae"),
            "sparsity": dict(run.sparsity),
            "held-out data": texts[0] if texts else None,
        }

    def learning_curve(self, run: ComparedRun) -> list[list[float]]:
        """Training tokens and the unweighted explained variance of the batch, step by step."""
        file = run.path / "metrics.jsonl"
        if not file.is_file():
            return []
        names = ["details/n_training_samples", "metrics/explained_variance"]
        try:
            steps = pd.read_json(file, lines=True).reindex(columns=names).astype(float)
        except (ValueError, TypeError, AttributeError):
            raise BadInputError(f"{file}: cannot be read as a JSON object a line") from None
        return steps.dropna().to_numpy().tolist()


def read_inputs(*paths: Path, baseline: Path | None = None) -> Inputs:
    """Read a comparison folder (or its manifest.json), or SAEs that nobody planned to compare.

    Args:
        paths: A comparison, or any folders that `runs_of` takes, whose SAEs `gathered` pairs.
        baseline: The folder of the ordinary SAE for those that have none beside them.

    Raises:
        BadInputError: They hold no SAE, a file is broken, a link leads out of a folder, or there
            are no scores at all.
    """
    folder = paths[0].parent if paths[0].is_file() else paths[0]
    is_planned = len(paths) == 1 and is_comparison(paths[0])
    if is_planned and baseline is not None:
        raise BadInputError(
            f"--baseline {baseline}: {folder} is a comparison, which says itself what is compared "
            "with what; leave it out"
        )
    if is_planned:
        comparison = Comparison.load(paths[0])
        manifest, runs = dict(comparison.manifest), comparison.runs
    else:
        runs, gathered = read_gathered(paths, baseline)
        known = _record(runs[0].path) if len(runs) == 1 else {}
        manifest = gathered | {n: known.get(n) for n in _OF_A_RUN}
    refuse_credentials(manifest.get("config"), str(folder / MANIFEST_FILENAME))
    with naming(str(folder / MANIFEST_FILENAME)):
        convert(manifest.get("versions") or {}, Mapping[str, Any], "versions")
    # A run folder may have another name by now.
    expected = {run.run: run.run if is_planned else None for run in runs}
    scores = {run.run: read_scores(run.path, expected[run.run]) for run in runs}
    for run in runs:
        _refuse_stale(run, scores[run.run])
    if not any(file.scores for found in scores.values() for file in found.values()):
        commands = " or ".join(f"`{MADE_BY[name]} {folder}`" for name in EXPECTED)
        raise BadInputError(
            f"{folder}: has no scores, no {FOLDER}/*.json of a run; run {commands} first"
        )
    return Inputs(
        manifest=manifest,
        runs=runs,
        scores=scores,
        cfgs={run.run: read_cfg(run.sae) for run in runs if (run.sae / "cfg.json").is_file()},
        records={run.run: _record(run.path) for run in runs},
    )


def sparsity_label(run: ComparedRun) -> str:
    """`k = 16`; empty if the comparison varies no sparsity."""
    return ", ".join(f"{name} = {value:g}" for name, value in run.sparsity.items())


_OF_A_RUN = ("config", "versions", "git_revision", "command")


def _refuse_stale(run: ComparedRun, scores: Mapping[str, ScoreFile]) -> None:
    """Refuse scores of weights that were there before, as where a script saved over them."""
    if not (run.sae / "sae_weights.safetensors").is_file():
        return
    there = fingerprint_of_weights(run.sae)
    for name in ("held_out", OPTIMALITY):
        settings: Any = getattr(scores.get(name), "settings", None) or {}
        if settings.get("weights") not in (None, there):
            raise BadInputError(
                f"{run.path}: its scores are of another SAE than the one that is there now; run "
                f"`{MADE_BY[name]}` again"
            )


def _record(run: Path) -> dict[str, Any]:
    return read_record(run) if (run / "run.json").is_file() else {}
