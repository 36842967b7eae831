"""The scores of a benchmark, with their noise and what they mean; made from records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsae_plugin.files import write_json_atomic
from wsae_plugin.saebench.records import Record
from wsae_plugin.scores import Score, ScoreFile

FILENAME = "scores.json"
NAME = "saebench"
"""Of the file of scores in an SAE's folder."""

_PROBING = {
    "sae_top_": "Test score of a linear probe on the latents that differ most between the classes, "
    "as many as the label says, mean over the tasks.",
    "sae_": "Test score of a linear probe on all latents, mean over the tasks.",
    "llm_": "The same probe on the model's own activations: what the SAE could reach.",
}
_AUDITED = (
    " It failed an audit of SAEBench's metrics (arXiv 2605.18229), so nothing is concluded from it."
)
DEFINITIONS: Mapping[str, Mapping[str, str]] = {
    "corrected/core": {
        "explained_variance": "1 − E‖x − x̂‖² / E‖x − E x‖², unweighted, on SAEBench's own tokens.",
        "mse_per_token": "Squared error ‖x − x̂‖², mean over tokens.",
    },
    "saebench/core": {
        "ce_loss_score": "(CE with the activations set to 0 − CE with the reconstruction) / (CE "
        "with 0 − CE of the model); CE is the model's cross-entropy on the next token.",
        "kl_div_score": "The same for KL(model ‖ model with the SAE) in place of the "
        "cross-entropy.",
        "explained_variance_legacy": "Mean over tokens of 1 − error / deviation, as in SAEBench's "
        "paper.",
        "explained_variance": "SAEBench's own figure, which squares once too often; see the "
        "corrected one.",
        "mse": "SAEBench's squared error, divided by the tokens of a batch: it changes with the "
        "batch size.",
        "cossim": "Mean cosine between activation and reconstruction.",
        "l2_ratio": "‖x̂‖ / ‖x‖, mean over tokens; below 1 is shrinkage.",
        "l0": "Latents active on a token, mean. Descriptive: most metrics follow it.",
        "frac_alive": "Share of latents that fired at least once.",
    },
    "saebench/sparse_probing": _PROBING,
    "saebench/sae_probes": _PROBING,
    "saebench/absorption": {
        "mean_absorption_fraction": "How much of a first-letter feature is carried by other "
        "latents where the letter's own latent stays silent.",
        "mean_full_absorption": "Share of words where another latent replaced the letter's own.",
        "mean_num_split_features": "Latents that one first-letter feature is split over.",
    },
    "saebench/scr": {
        "": "Spurious correlation removal: how far ablating the top latents of a bias removes it "
        "from a classifier. Unbounded and noisy." + _AUDITED
    },
    "saebench/tpp": {
        "": "Targeted probe perturbation: how far ablating one class's latents hurts that class's "
        "probe and no other." + _AUDITED
    },
    "saebench/autointerp": {
        "autointerp_score": "How often a judge tells from a latent's description where it fires; "
        "as good as the judge is.",
    },
    "saebench/meta_structure": {
        "decoder_fraction": "Share of the decoder's variance that a smaller SAE of it explains: "
        "shared structure between latents.",
    },
}
"""Eval → how a metric's name begins → what it measures; the first that fits."""


def definition(eval_name: str, metric: str) -> str:
    """What a metric of an eval, such as `saebench/core`, measures; empty where that is not said."""
    known = DEFINITIONS.get(eval_name, {})
    return next((text for name, text in known.items() if metric.startswith(name)), "")


def read_records(folder: Path) -> list[Record]:
    """All records of a results folder, by eval, run and seed."""
    files = sorted((folder / "records").glob("*/*.json"))
    return [record for file in files if (record := Record.read(file)) is not None]


def scores_of(records: Sequence[Record], seed: int, noise_seed: int | None) -> list[dict[str, Any]]:
    """The scores of those measured with `seed`, with the noise of their hook.

    `noise` is how far the same SAE's score moves under `noise_seed`: |difference|.
    """
    measured = [record for record in records if record.seed == seed]
    again = {(r.eval, r.run): r for r in records if noise_seed is not None and r.seed == noise_seed}
    noise: dict[tuple[str, ...], float] = {}
    for record in measured:
        other = again.get((record.eval, record.run))
        if other is None or other.sae != record.sae:
            continue
        values = {(v["eval"], v["metric"]): v["value"] for v in other.values}
        for value in record.values:
            key = value["eval"], value["metric"]
            if value["value"] is not None and values.get(key) is not None:
                noise[(record.hook, *key)] = abs(value["value"] - values[key])
    return [
        {
            "run": record.run,
            **dict(
                Score.model_validate(
                    value
                    | {
                        "noise": noise.get((record.hook, value["eval"], value["metric"])),
                        "note": "; ".join(filter(None, (value["note"], *record.notes))),
                        "definition": definition(value["eval"], value["metric"]),
                    }
                )
            ),
        }
        for record in measured
        for value in record.values
    ]


def write_scores(
    folder: Path,
    records: Sequence[Record],
    seed: int,
    noise_seed: int | None,
    profile: str,
    failures: Mapping[str, str],
    refused: Mapping[str, str],
    versions: Mapping[str, str | None],
    runs: Mapping[str, Path],
) -> dict[str, Any]:
    """Write scores/saebench.json of every run, and all of them into scores.json, for readers.

    Args:
        folder: Of the results.
        records: Those that go in.
        seed: Of the measurement.
        noise_seed: For `noise`.
        profile: "quick" or "standard".
        failures: Eval → what went wrong.
        refused: Eval → why it cannot be run.
        versions: Library → version.
        runs: Run → its folder, of all that were to be measured.

    Returns:
        What scores.json holds.
    """
    measured = [record for record in records if record.seed == seed]
    scores = scores_of(records, seed, noise_seed)

    def evals_of(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for name in dict.fromkeys([*(record.eval for record in records), *failures]):
            mine = [record for record in records if record.eval == name]
            found[name] = {
                "status": "failed" if name in failures else "done",
                "profile": profile,
                "config": mine[0].config if mine else {},
                "seconds": round(sum(record.seconds for record in mine), 3),
                "seed": seed,
                "noise_seed": noise_seed,
            } | ({"error": failures[name]} if name in failures else {})
        return found

    for run, path in runs.items():
        ScoreFile(
            run=run,
            scores=[Score.model_validate(score) for score in scores if score["run"] == run],
            evals=evals_of([record for record in measured if record.run == run]),
            refused={**refused},
            versions={**versions},
        ).write(path, NAME)
    files: dict[str, dict[str, str]] = {}
    for record in measured:
        file = f"results/{record.eval}/{record.run}_custom_sae_eval_results.json"
        files.setdefault(record.eval, {})[record.run] = file
    document = {
        "bench": 1,
        "evals": evals_of(measured),
        "refused": dict(refused),
        "versions": dict(versions),
        "scores": scores,
        "files": files,
    }
    write_json_atomic(folder / FILENAME, document)
    return document
