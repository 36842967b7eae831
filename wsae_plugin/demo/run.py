"""The demonstration: an SAE, two weighted SAEs and two controls, matched, trained and measured.

All arms of a seed share one pass of the language model, the batches and the initial weights, so
that they differ in Γ alone. What comes out are numbers; `wsae_plugin.plots` draws them.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE, ActivationsStore
from sae_lens.util import get_special_token_ids
from safetensors.torch import load_file
from torch import Tensor

from wsae_plugin.assets import BUNDLED_MODEL_NAME, bundled_dataset
from wsae_plugin.demo.arms import ARMS, BASELINE, STRONGEST, DemoSettings
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.evaluation import measures
from wsae_plugin.evaluation.measures import HeldOutSums
from wsae_plugin.files import refuse_links, write_json_atomic, write_text_atomic
from wsae_plugin.gamma.spectrum import gamma_spectrum, weighted_variance_share
from wsae_plugin.saes import GAMMA_FILENAME
from wsae_plugin.sources.opening import open_model, raw_text_on_purpose
from wsae_plugin.threads import torch_threads
from wsae_plugin.training.config import RunConfig, load_run_config
from wsae_plugin.training.loop import TrainingInterruptedError
from wsae_plugin.training.run_folder import RunFolder
from wsae_plugin.training.train import TrainedRun, train
from wsae_plugin.yaml_file import to_yaml

RESULT_FILENAME = "demo.json"


def refuse_unless_ours(output: Path) -> None:
    """Refuse a folder that holds anything but a former demonstration.

    Raises:
        BadInputError: `output` is a file, or a folder with other things or a link out in it.
    """
    if output.is_dir():
        if any(output.iterdir()) and not (output / RESULT_FILENAME).is_file():
            raise BadInputError(
                f"--output {output}: is not empty and holds no {RESULT_FILENAME}, so it is not a "
                "former demonstration; choose another folder"
            )
        refuse_links(output)
    elif output.exists():
        raise BadInputError(f"--output {output}: is a file; give a folder")


def run_demo(output: Path, seed: int = 0, settings: DemoSettings | None = None) -> dict[str, Any]:
    """Train and measure all arms.

    The same seed gives the same numbers on the same machine, but for `wall_clock_seconds`.

    Args:
        output: Gets demo.json, and the first seed's run: config.yaml, run.json, metrics.jsonl and
            the exported SAEs in saes/<arm>/. Files of a former demonstration are replaced, others
            left alone, and nothing is written before everything is measured.
        seed: Which seeds are used: `seed * n_seeds` and the following.
        settings: None for the demonstration's own.

    Returns:
        What demo.json holds.

    Raises:
        BadInputError: `output` is not free.
        RunFailedError: The training failed or was interrupted.
    """
    settings = settings or DemoSettings()
    refuse_unless_ours(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    clock = _Clock()
    with (
        torch_threads(1),
        tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as name,
    ):
        staging = Path(name)
        seeds = range(seed * settings.n_seeds, (seed + 1) * settings.n_seeds)
        configs = [_write_config(settings, s, staging) for s in seeds]
        with clock.measuring("training"):
            runs = [_train(config, staging / f"run-{config.seed}", output) for config in configs]
        with clock.measuring("evaluation"):
            sums = _measure(configs[0], settings, [run.exports for run in runs])
            arms = _arms(sums, runs)
        record = json.loads(RunFolder(runs[0].folder).run_file.read_text(encoding="utf-8"))
        result = {
            "demo": 1,
            "seed": seed,
            "seeds": list(seeds),
            "versions": record["versions"],
            "model": BUNDLED_MODEL_NAME,
            "settings": asdict(settings),
            "held_out": _held_out(sums[BASELINE]),
            "arms": arms,
            "wall_clock_seconds": clock.seconds | {"total": clock.total()},
        }
        _install(runs[0], result, output)
    return result


def _write_config(settings: DemoSettings, seed: int, staging: Path) -> RunConfig:
    path = staging / f"seed-{seed}.yaml"
    write_text_atomic(path, to_yaml(settings.config(seed)))
    return load_run_config(path)


def _train(config: RunConfig, folder: Path, output: Path) -> TrainedRun:
    try:
        return train(config, folder, command=f"wsae demo, seed {config.seed}")
    except TrainingInterruptedError:
        raise RunFailedError(f"interrupted while training; {output} is as it was") from None
    except RunFailedError as error:
        # What went wrong, without the folder that is about to be removed.
        raise RunFailedError(f"the demo's training failed: {error.__cause__ or error}") from error


def _measure(
    config: RunConfig, settings: DemoSettings, exports: list[dict[str, Path]]
) -> dict[str, list[HeldOutSums]]:
    """Arm → its sums on held-out text, seed by seed; the SAEs are loaded as anyone would."""
    runner_config: Any = config.runner_config()
    model = open_model(runner_config, [settings.hook_name])
    saes: dict[str, SAE[Any]] = {
        f"{arm} {n}": SAE.load_from_disk(path).eval()
        for n, paths in enumerate(exports)
        for arm, path in paths.items()
    }
    with raw_text_on_purpose():
        store = ActivationsStore.from_sae(
            model,
            next(iter(saes.values())),
            dataset=bundled_dataset("held_out").to_iterable_dataset(),  # type: ignore[arg-type]
            store_batch_size_prompts=settings.held_out_prompts,
        )
    batches = measures.held_out_batches(store, settings.n_held_out_batches)
    special: list[int] = list(get_special_token_ids(model.tokenizer))  # type: ignore[arg-type]
    sums = measures.measure(saes, model, batches, exclude_tokens=special)
    return {arm: [sums[f"{arm} {n}"] for n in range(len(exports))] for arm in exports[0]}


def _arms(sums: Mapping[str, list[HeldOutSums]], runs: list[TrainedRun]) -> list[dict[str, Any]]:
    exported = {name: load_file(path / GAMMA_FILENAME) for name, path in runs[0].exports.items()}
    gammas = {name: tensors["gamma"].double() for name, tensors in exported.items()}
    # α = 0 estimates nothing, so that it stays SAELens's own code: take a weighted arm's moments.
    variance = exported[STRONGEST]["variance"].double()
    curves = _learning_curves(RunFolder(runs[0].folder))
    return [
        {
            **asdict(arm),
            "scores": _scores(sums[arm.name], gammas),
            "difference": _scores(sums[arm.name], gammas, baseline=sums[BASELINE]),
            "dead_latents": [int((seed.firings == 0).sum()) for seed in sums[arm.name]],
            "explained_variance_per_dimension": _per_dimension(sums[arm.name]),
            "gamma": gammas[arm.name].tolist(),
            "weighted_variance_share": weighted_variance_share(gammas[arm.name], variance).tolist(),
            "spectrum": gamma_spectrum(gammas[arm.name], variance),
            "learning_curve": curves[arm.name],
        }
        for arm in ARMS
    ]


def _scores(
    sums: list[HeldOutSums],
    gammas: Mapping[str, Tensor],
    baseline: list[HeldOutSums] | None = None,
) -> dict[str, Any]:
    def summary(score: measures.Score) -> dict[str, Any]:
        return measures.summarize(score, sums, baseline)

    return {
        "explained_variance": summary(measures.explained_variance()),
        "weighted_explained_variance": {
            name: summary(measures.explained_variance(gamma)) for name, gamma in gammas.items()
        },
        "explained_variance_by_weight": {
            name: summary(measures.explained_variance(chosen.double()))
            for name, chosen in measures.quarters_by_weight(gammas[STRONGEST]).items()
        },
        "ce_loss_recovered": summary(measures.ce_loss_recovered),
        "ce_loss_with_sae": summary(measures.ce_loss_with_sae),
        "l0": summary(measures.l0),
    }


def _per_dimension(sums: list[HeldOutSums]) -> list[float | None]:
    mean = torch.stack([measures.explained_variance_per_dimension(s) for s in sums]).mean(dim=0)
    return [None if value != value else value for value in mean.tolist()]


def _held_out(baseline: list[HeldOutSums]) -> dict[str, Any]:
    sums = baseline[0]
    return {
        "tokens": int(sums.tokens.sum()),
        "batches": len(sums.tokens),
        "variance_per_dimension": measures.variance_per_dimension(sums).tolist(),
        "ce_loss": float(sums.ce_loss.sum() / sums.predictions.sum()),
        "ce_loss_with_ablation": float(sums.ce_loss_with_ablation.sum() / sums.predictions.sum()),
    }


def _learning_curves(folder: RunFolder) -> dict[str, dict[str, list[float]]]:
    """Arm → training tokens and the unweighted explained variance of the batch, step by step."""
    curves: dict[str, dict[str, list[float]]] = {
        arm.name: {"training_tokens": [], "explained_variance": []} for arm in ARMS
    }
    for line in folder.metrics_file.read_text(encoding="utf-8").splitlines():
        metrics = json.loads(line)
        curve = curves[metrics["sae"]]
        curve["training_tokens"].append(metrics["details/n_training_samples"])
        curve["explained_variance"].append(metrics["metrics/explained_variance"])
    return curves


def _install(run: TrainedRun, result: dict[str, Any], output: Path) -> None:
    """Move a run's files into `output`, one by one, and write the result beside them."""
    output.mkdir(exist_ok=True)
    folder = RunFolder(run.folder)
    files = [folder.config_file, folder.run_file, folder.metrics_file]
    for export in run.exports.values():
        files += sorted(path for path in export.rglob("*") if path.is_file())
    for path in files:
        target = output / path.relative_to(run.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
    write_json_atomic(output / RESULT_FILENAME, result)


class _Clock:
    """Wall-clock seconds by stage."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measuring(self, stage: str) -> Generator[None]:
        start = time.monotonic()
        yield
        self.seconds[stage] = round(self.seconds.get(stage, 0) + time.monotonic() - start, 1)

    def total(self) -> float:
        return round(time.monotonic() - self._start, 1)
