"""Whether SAEs are what is recorded of them: their training, and their scores measured again."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from sae_lens.synthetic.synthetic_model import SYNTHETIC_MODEL_CONFIG_FILENAME

from wsae_plugin.assets import BUNDLED_MODEL_NAME
from wsae_plugin.errors import BadInputError
from wsae_plugin.hub.markdown import few
from wsae_plugin.hub.records import MeasuredSAE, SAERecord
from wsae_plugin.local_paths import dataset_and_split, is_local, last_name
from wsae_plugin.measures.agreement import disagreements
from wsae_plugin.measures.evaluate import EvalSettings, evaluate_runs
from wsae_plugin.measures.evaluated_run import config_for_here
from wsae_plugin.measures.held_out import best_device
from wsae_plugin.remote_code import harmless
from wsae_plugin.saved_run import CONFIG, TRAINING
from wsae_plugin.scores import OPTIMALITY, OptimalityFile
from wsae_plugin.sources.opening import cached_config
from wsae_plugin.yaml_file import to_yaml

TOLERANCES = {"explained_variance": 1e-4, "l0": 1e-2}
"""How far a score may be from its record: other processors round otherwise."""

_BUNDLED = "bundled"
_NOT_MEASURED = ("labels", "images", "held_out_labels", "held_out_images")
"""What may lie beside a table, and is in none of the scores that are measured again."""


@dataclass(frozen=True)
class Difference:
    """One thing that is not as recorded.

    Args:
        sae_id: The SAE.
        what: A file or a metric.
        recorded: What the record says.
        found: What is there.
    """

    sae_id: str
    what: str
    recorded: str
    found: str


def needs_local_text(sae: MeasuredSAE) -> bool:
    """Whether the held-out text was a file or folder of the machine that measured."""
    if sae.synthetic_model is not None:
        return False
    recorded = dataset_and_split(sae.held_out["dataset"])[0]
    return bool(sae.held_out.get("dataset_is_local")) or is_local(recorded)


def local_paths_of(record: SAERecord) -> set[str | None]:
    """The files and folders that it was made from and measured on, as they were written down."""
    fields = ("from_pretrained_path", "cached_activations_path")
    if record.table is not None:
        fields += ("activations", "held_out", *_NOT_MEASURED, "dataset_path")
    read = (record.details.get(name) for name in ("gamma_file", "metric_file"))
    said = (record.config.get(name) for name in fields)
    paths = {*read, *(path for path in said if path is None or isinstance(path, str))}
    if isinstance(record.synthetic_model, str) and is_local(record.synthetic_model):
        paths.add(record.synthetic_model)
    if needs_local_text(record):
        paths.add(dataset_and_split(record.held_out["dataset"])[0])
    if isinstance(optimality := record.scores.get(OPTIMALITY), OptimalityFile):
        text = dataset_and_split(optimality.settings["dataset"])[0]
        paths |= {text} if is_local(text) else set()
    return paths


def why_not_at_hand(sae: MeasuredSAE, dataset: str | None = None) -> str | None:
    """Why the scores of an SAE cannot be measured here; None where they can.

    Args:
        sae: The SAE.
        dataset: Where the held-out text is, if it was a local one.
    """
    if sae.synthetic_model is not None:
        return _why_not_drawn(sae)
    if sae.table is None and (reason := _why_no_model(sae)) is not None:
        return reason
    if needs_local_text(sae) and dataset is None:
        text, _ = dataset_and_split(sae.held_out["dataset"])
        # What was published has a bare name, and a file of that name here need not be the one.
        if sae.held_out.get("dataset_is_local") or not Path(text).exists():
            what = "text" if sae.table is None else "table"
            return (
                f"its held-out {what}, {last_name(text)}, was a file of the machine that measured "
                "it (`wsae verify --dataset PATH` says where it is here)"
            )
    return None


def _why_no_model(sae: MeasuredSAE) -> str | None:
    """Why the language model of an SAE, or its text, is not here; None where they are."""
    model, on_hub = sae.metadata["model_name"], str(sae.base_model)
    # What was published elsewhere does not say which folder of this machine is read.
    is_folder_here = isinstance(sae, SAERecord) and Path(model).is_dir()
    is_here = model == BUNDLED_MODEL_NAME or is_folder_here
    if not is_here and cached_config(on_hub) is None:
        return f"{on_hub} is not on this machine"
    here = platform.python_version()
    recorded = sae.evaluation.versions.get("python", here)
    if sae.metadata.get("dataset_path") == _BUNDLED and recorded != here:
        return f"its text is the library of Python {recorded}, and this is Python {here}"
    return None


def _why_not_drawn(sae: MeasuredSAE) -> str | None:
    """Why the synthetic model of an SAE cannot be drawn from here; None where it can."""
    model, device = sae.synthetic_model, str(sae.config.get("device", "cpu")).split(":")[0]
    if not isinstance(model, str):
        if device not in ("cpu", best_device()):
            return f"its synthetic model was drawn on {device}, which would draw another one here"
        return None
    if is_local(model):
        # What was published elsewhere does not say which folder of this machine is read.
        if isinstance(sae, SAERecord) and Path(model).is_dir():
            return None
        return f"its synthetic model, {last_name(model)}, was a folder of the machine that made it"
    repo, _, folder = model.partition(":")
    try:
        file = str(Path(folder) / SYNTHETIC_MODEL_CONFIG_FILENAME)
        found = try_to_load_from_cache(repo, file)
    except ValueError:  # no name of a repository, or of a folder in one
        found = None
    return None if isinstance(found, str) else f"{model} is not on this machine"


def not_measured(reasons: Mapping[str, str]) -> list[str]:
    """sae_id → reason, as a line a reason."""
    saes: dict[str, list[str]] = {}
    for sae_id, reason in reasons.items():
        saes.setdefault(reason, []).append(sae_id)
    return [f"{few(names)}: scores not measured again: {why}" for why, names in saes.items()]


def compare(
    saes: Sequence[MeasuredSAE], dataset: str | None = None
) -> tuple[list[Difference], dict[str, str]]:
    """Compare SAEs with what is recorded of them.

    Args:
        saes: Their folders are not written to.
        dataset: Where the held-out text is that was a local one; None for where it was.

    Returns:
        What is said otherwise in the config of the training, and the scores that differ by more
        than `TOLERANCES` when they are measured again; and sae_id → why its scores were not.
    """
    differences: list[Difference] = []
    reasons: dict[str, str] = {}
    groups: dict[EvalSettings, list[MeasuredSAE]] = {}
    for sae in saes:
        reason = why_not_at_hand(sae, dataset)
        # The config of a synthetic model that cannot be drawn here cannot be opened either.
        is_closed = reason is not None and sae.synthetic_model is not None
        differences += (unlike := [] if is_closed else _against_training(sae))
        if unlike:
            reasons[sae.sae_id] = f"its {TRAINING} and its cfg.json do not agree"
        elif reason is not None:
            reasons[sae.sae_id] = reason
        elif other := _against_table(sae, dataset):
            differences += other
            reasons[sae.sae_id] = "its table holds other rows"
        else:
            groups.setdefault(_settings(sae, dataset), []).append(sae)
    with tempfile.TemporaryDirectory(prefix="wsae-") as scratch:
        for settings, alike in groups.items():
            copies = [_copy(sae, Path(scratch) / sae.sae_id, dataset) for sae in alike]
            for sae, document in zip(alike, evaluate_runs(copies, settings), strict=True):
                now = {score["metric"]: score["value"] for score in document["scores"]}
                differences += [
                    Difference(sae.sae_id, metric, _text(sae.values[metric]), _text(now[metric]))
                    for metric, tolerance in TOLERANCES.items()
                    if not _is_same(sae.values[metric], now[metric], tolerance)
                ]
    return differences, reasons


def _against_training(sae: MeasuredSAE) -> list[Difference]:
    """What is measured is what cfg.json says, so the training's config must not say otherwise."""
    try:
        training = config_for_here(sae.config, "the config of the training")
        if training.has_language_model:
            kwargs, loaded_as = "model_from_pretrained_kwargs", "model_class_name"
            harmless(sae.config.get(kwargs), training.values[loaded_as])
        unlike = disagreements(sae.cfg, training)
    except BadInputError as error:
        return [Difference(sae.sae_id, f"{TRAINING} can be read", "yes", str(error))]
    return [
        Difference(sae.sae_id, f"{field} in {TRAINING}", *said) for field, said in unlike.items()
    ]


def _against_table(sae: MeasuredSAE, dataset: str | None) -> list[Difference]:
    """What was held out of a table is known of the same table alone."""
    if not _is_share(sae):
        return []
    config = config_for_here(_config_here(sae, dataset), "the config of the training")
    now = config.source.contents(config.values, sae.metadata["hook_name"]).get("rows")
    recorded = sae.metadata.get("table_fingerprint")
    if recorded in (None, now):
        return []
    return [Difference(sae.sae_id, "fingerprint of the table", str(recorded), str(now))]


def _is_share(sae: MeasuredSAE) -> bool:
    """Whether it was measured on what was held out of the table that it was trained on."""
    return sae.table is not None and dataset_and_split(sae.held_out["dataset"])[1] is not None


def _config_here(sae: MeasuredSAE, dataset: str | None) -> dict[str, Any]:
    """What the training's config says, with the table where it is here."""
    if sae.table is None:
        return {**sae.config}
    # Which rows are of one image may have been known of the pictures alone.
    rows_each = sae.held_out.get("rows_per_image") or sae.config.get("rows_per_image")
    own = {"activations": dataset or sae.table} if _is_share(sae) else {}
    here = {**own, "rows_per_image": rows_each}
    return {**sae.config, **dict.fromkeys(_NOT_MEASURED), **here}


def _is_same(before: float | None, now: float | None, tolerance: float) -> bool:
    return before == now if before is None or now is None else abs(before - now) <= tolerance


def _text(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.6g}"


def _settings(sae: MeasuredSAE, dataset: str | None) -> EvalSettings:
    local = dataset if needs_local_text(sae) else None
    recorded = dataset_and_split(sae.held_out["dataset"])[0]
    of_training = sae.synthetic_model is not None or _is_share(sae)
    return EvalSettings(
        dataset=None if of_training else local or recorded,
        batches=sae.held_out["batches"],
        batch_size_prompts=sae.held_out["batch_size_prompts"],
        seed=sae.held_out["seed"],
    )


def _copy(sae: MeasuredSAE, target: Path, dataset: str | None) -> Path:
    """A run folder with what measuring reads; `evaluate_runs` writes into it."""
    config = _config_here(sae, dataset)
    (target / "sae").mkdir(parents=True)
    for file in (sae.run.sae / "cfg.json", *sae.run.sae.glob("*.safetensors")):
        shutil.copyfile(file, target / "sae" / file.name)
    (target / CONFIG).write_text(to_yaml(config), encoding="utf-8")
    return target
