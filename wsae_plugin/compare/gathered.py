"""SAEs as a comparison that nobody planned: what pairs with what, and what is not matched."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wsae_plugin.compare.arms import (
    METRICS_OF_CONTROLS,
    PROXIES_OF_CONTROLS,
    Arm,
    Control,
    end_to_end_label,
)
from wsae_plugin.compare.manifest import ComparedRun, Comparison, is_comparison
from wsae_plugin.compare.runs import refuse_repeated_runs, runs_of
from wsae_plugin.errors import BadInputError
from wsae_plugin.local_paths import is_local, last_name
from wsae_plugin.saved_run import read_cfg, read_training

SPARSITIES = (
    *("k", "l0_coefficient", "l1_coefficient", "highest_target_frequency"),
    *("max_iterations", "residual_threshold"),
)
"""Fields that set how many latents are active; an architecture has one of them."""
_FORMS = {
    "mean_square": ", mean γ² 1",
    "none": ", literal Γ",
    "constant": ", constant Γ",
    "max": ", largest γ 1",
}
"""What tells SAEs apart that differ in gamma_normalization alone."""
_ALWAYS = ("seed", "lr", "training_tokens")
"""What is said not to be known, where it is not."""
FREE = {
    *("sae", "hook_name", "hook_eval", "output_path", "checkpoint_path", "n_checkpoints"),
    *("save_final_checkpoint", "resume_from_checkpoint", "logger", "verbose", "device"),
    *("llm_device", "act_store_device", "compile_llm", "llm_compilation_mode", "compile_sae"),
    *("sae_compilation_mode", "prefetch_llm_batches", "n_eval_batches", "eval_batch_size_prompts"),
    *("sae_lens_version", "sae_lens_training_version", "dataset_trust_remote_code", "streaming"),
    *("is_dataset_tokenized", "use_cached_activations", "cached_activations_path"),
    *("labels", "images", "held_out_labels", "held_out_images"),
    *("dead_feature_window", "feature_sampling_window", "dead_feature_threshold"),
    *("sae.metadata", "sae.device", "sae.alpha", "sae.alpha_warm_up_steps"),
    *("sae.gamma_proxy", "sae.gamma_normalization", "sae.gamma_clip", "sae.gamma_freeze_step"),
    *("sae.gamma_file", "sae.gamma_seed", "sae.weight_aux_loss", "sae.kernel"),
    *("sae.use_sparse_activations", "sae.metric", "sae.metric_file", "sae.metric_ridge"),
    *("sae.metric_tokens", "sae.metric_in_loss_only", "sae.finetune_kl", "sae.finetune_kl_lr"),
}
"""What a comparison may vary: the weights, and where and how fast it is carried out."""


@dataclass(frozen=True)
class DescribedSAE:
    """One trained SAE, and what is said of it.

    Args:
        run: Its folder, and its place in a comparison.
        cfg: SAELens's cfg.json.
        config: How it was trained, see `read_training`.
        arm: Its arm in manifest.json; None where it is in none.
    """

    run: ComparedRun
    cfg: Mapping[str, Any]
    config: Mapping[str, Any]
    arm: Arm | None

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self.cfg.get("metadata") or {}

    @property
    def details(self) -> Mapping[str, Any]:
        """The hyper-parameters of the training architecture; SAELens keeps those apart that
        inference has too, such as Top-k's k."""
        return {**self.cfg, **(self.metadata.get("training_architecture_details") or {})}

    @property
    def alpha(self) -> float:
        """The exponent in γ = s^α; 0 for an architecture without weights."""
        return float(self.details.get("alpha") or 0.0)

    @property
    def proxy(self) -> str | None:
        """What s is; None where Γ = I."""
        return self.details["gamma_proxy"] if self.alpha else None

    @property
    def metric(self) -> str | None:
        """What an error is measured with in place of ‖δ‖²; None for that."""
        return self.details.get("metric")

    @property
    def end_to_end(self) -> str:
        """On which of its tokens it was trained on the model's output too; empty for none."""
        return end_to_end_label(self.details)

    @property
    def is_whitened(self) -> bool:
        """Whether it was trained on whitened activations, with the whitening folded in since."""
        section = self.config.get("sae") or {}
        return section.get("normalize_activations") == "covariance_whitening"

    @property
    def is_ordinary(self) -> bool:
        """Whether a weighted SAE is to be compared with it: no weights, and no control either."""
        is_plain = self.proxy is None and self.metric in (None, "uniform") and not self.end_to_end
        return is_plain and self.run.role == "baseline" and not self.is_whitened

    @property
    def control(self) -> Control | None:
        """What kind of control it is, if it is one."""
        return self.arm and self.arm.control

    @property
    def architecture(self) -> str:
        """Of its training, or where nobody says, as it is loaded."""
        return self.metadata.get("training_architecture") or str(self.cfg.get("architecture"))

    @property
    def variant(self) -> str:
        """How it was trained, for readers: what SAEs of other seeds and hooks share with it."""
        if self.arm is not None:
            return self.arm.label
        weights = "Γ = I"
        if self.proxy is not None:
            form = _FORMS.get(self.details["gamma_normalization"], "")
            weights = f"s = {self.proxy}, α = {self.alpha:g}{form}"
        elif self.metric is not None:
            where = " in the loss only" if self.details.get("metric_in_loss_only") else ""
            weights = f"metric {self.metric}{where}, ε = {self.details['metric_ridge']:g}"
        whitened = "whitened" if self.is_whitened else ""
        return ", ".join(filter(None, (self.architecture, weights, whitened, self.end_to_end)))

    @property
    def sparsity(self) -> str:
        """The field that sets it, and its value; empty where none is known."""
        # A matching pursuit without max_iterations stops at its residual_threshold alone.
        known = (name for name in SPARSITIES if self.details.get(name) is not None)
        return next((f"{name} = {self.details[name]:g}" for name in known), "")


def read_gathered(
    paths: Sequence[Path], baseline: Path | None = None
) -> tuple[list[ComparedRun], dict[str, Any]]:
    """The SAEs in folders that are no one comparison, as one; see `gathered`.

    Raises:
        BadInputError: See `runs_of`, or a file of an SAE is broken.
    """
    saes = _trained(paths)
    if baseline is None:
        return gathered(saes)
    ordinary = _trained([baseline])
    if len(ordinary) > 1:
        raise BadInputError(f"--baseline {baseline}: holds {len(ordinary)} SAEs; name one of them")
    if not ordinary[0].is_ordinary:
        raise BadInputError(
            f"--baseline {baseline}: is no ordinary SAE ({ordinary[0].variant}), so a difference "
            "to it would not say what weighting does; give one that is not weighted"
        )
    return gathered(saes, ordinary[0])


def gathered(
    saes: Sequence[DescribedSAE], baseline: DescribedSAE | None = None
) -> tuple[list[ComparedRun], dict[str, Any]]:
    """SAEs that were trained in one way, at whatever hooks and seeds, are an arm.

    Each pairs with the ordinary SAE beside it, if there is one.

    Args:
        saes: The SAEs.
        baseline: The ordinary SAE for those that have none beside them.

    Returns:
        The runs with arms and pairs, and as much of a manifest as they say, with `arms`, and in
        `unmatched` for each run that is compared what it was trained with otherwise than its
        baseline.

    Raises:
        BadInputError: Two SAEs have one name.
    """
    folder = baseline and baseline.run.path.resolve()
    baseline = next((sae for sae in saes if sae.run.path.resolve() == folder), baseline)
    saes = [*saes, *([baseline] if baseline and baseline not in saes else [])]
    refuse_repeated_runs([sae.run for sae in saes])
    ordinary = {sae.run.run: ordinary_beside(sae, saes, baseline) for sae in saes}
    # What is compared with nothing is told apart by its own name.
    arms = _arms(saes) if any(ordinary.values()) else {name: name for name in ordinary}
    runs = [
        replace(
            sae.run,
            arm=arms[sae.run.run],
            role=_role(sae) if (other := ordinary[sae.run.run]) else "baseline",
            pair=other.run.run if other else sae.run.run,
        )
        for sae in saes
    ]
    roles = {run.arm: run.role for run in sorted(runs, key=lambda run: run.role != "baseline")}
    compared_with = {arms[other.run.run] for other in ordinary.values() if other}
    first = {arms[sae.run.run]: sae for sae in reversed(saes)}
    planned = {sae.arm.name: arms[sae.run.run] for sae in saes if sae.arm}
    in_order = sorted(dict.fromkeys(arms.values()), key=lambda arm: arm not in compared_with)
    facts = {name: saes[0].config.get(name) for name in _FACTS}
    facts["dataset_path"] = facts["dataset_path"] or saes[0].config.get("activations")
    manifest = facts | {
        "status": "finished",
        "baseline": in_order[0],
        "seeds": sorted({run.seed for run in runs}),
        "arms": [
            {
                **{"name": arm, "label": arm, "role": roles[arm], "control": first[arm].control},
                **{"alpha": first[arm].alpha, "proxy": first[arm].proxy},
                "of": (planned_arm := first[arm].arm) and planned.get(planned_arm.of or ""),
            }
            for arm in in_order
        ],
        "unmatched": {
            sae.run.run: differing
            for sae in saes
            if (other := ordinary[sae.run.run]) and (differing := _differing(sae, other))
        },
    }
    return runs, manifest


_FACTS = ("model_name", "dataset_path", "context_size")


_READ = ("model_name", "hook_head_index")


def samples_of(config: Mapping[str, Any], cfg: Mapping[str, Any]) -> str | None:
    """Equal for trainings on one table at one place, or on one synthetic model; None for those on
    neither.

    Args:
        config: See `read_training`.
        cfg: Of the SAE.
    """
    if (table := config.get("activations")) is not None:
        return f"{table} {(cfg.get('metadata') or {}).get('table_fingerprint')}"
    model = config.get("synthetic_model")
    if model is None:
        return None
    # One without a seed of its own is drawn from that of the training.
    is_drawn = isinstance(model, Mapping) and model.get("seed") is None
    return json.dumps([model, config.get("seed") if is_drawn else None], sort_keys=True)


def ordinary_beside(
    sae: DescribedSAE, saes: Sequence[DescribedSAE], baseline: DescribedSAE | None
) -> DescribedSAE | None:
    """The ordinary SAE to compare with: its pair's, the one given, or one of the same hook."""
    if sae.is_ordinary or sae is baseline:
        return None
    ordinary = [other for other in saes if other.is_ordinary]

    def pair(sae: DescribedSAE) -> tuple[object, ...]:
        return sae.run.pair, sae.run.path.parent

    def hook(sae: DescribedSAE) -> tuple[object, ...]:
        # Older files of SAELens have no metadata.
        said = {name: sae.metadata.get(name, sae.config.get(name)) for name in _READ}
        return *said.values(), samples_of(sae.config, sae.cfg), sae.run.hook_name

    def place(sae: DescribedSAE) -> tuple[object, ...]:
        return *hook(sae), sae.cfg.get("d_sae"), sae.sparsity, sae.run.seed

    paired = [other for other in ordinary if pair(other) == pair(sae)]
    given = [baseline] if baseline and hook(baseline) == hook(sae) else []
    alike = [other for other in (*given, *ordinary) if place(other) == place(sae)]
    alike.sort(key=lambda other: _parent(other.architecture) != _parent(sae.architecture))
    return next(iter((*paired, *alike, *given)), None)


def _parent(architecture: Any) -> str:
    return str(architecture).removeprefix("weighted_")


def _trained(paths: Sequence[Path]) -> list[DescribedSAE]:
    runs, arms = runs_of(paths), arms_of(paths)
    return [
        DescribedSAE(run, read_cfg(run.sae), read_training(run.path, run.sae), arms.get(run.path))
        for run in runs
    ]


def arms_of(paths: Sequence[Path]) -> dict[Path, Arm]:
    """The folder of each run of the comparisons among `paths` → its arm."""
    arms: dict[Path, Arm] = {}
    for comparison in map(Comparison.read, filter(is_comparison, paths)):
        by_name = {arm.name: arm for arm in comparison.arms}
        arms |= {run.path: by_name[run.arm] for run in comparison.runs}
    return arms


def _differing(sae: DescribedSAE, other: DescribedSAE) -> dict[str, list[Any]]:
    """What both say of their training and say otherwise, and what one of them does not say."""
    mine, theirs = (
        {
            **of.config,
            **{f"sae.{name}": value for name, value in (of.config.get("sae") or {}).items()},
            "sae.architecture": _parent(of.architecture),
            # Every metric starts b_dec there, which is no part of what the metric weighs.
            "b_dec started at the mean": of.metric is not None,
            "trained end to end": of.end_to_end or "on no tokens",
        }
        for of in (sae, other)
    )
    names = dict.fromkeys((*_ALWAYS, *(name for name in mine if name in theirs)))
    said = {name: [theirs.get(name), mine.get(name)] for name in names if name not in FREE}
    unknown = {name for name in _ALWAYS if None in said[name]}
    if "training_samples" in mine:
        unknown -= {"training_tokens"}
    return {
        name: [_without_folder(name, value) for value in both]
        for name, both in said.items()
        if both[0] != both[1] or name in unknown
    }


def _without_folder(field: str, value: Any) -> Any:
    """What is said in a report, which others read: of a path its last name."""
    is_path = isinstance(value, str) and (field == "from_pretrained_path" or is_local(value))
    return last_name(value) if is_path else value


def _role(sae: DescribedSAE) -> Any:
    of_controls = sae.metric in METRICS_OF_CONTROLS or sae.proxy in PROXIES_OF_CONTROLS
    return "control" if sae.run.role == "control" or of_controls else "weighted"


def _arms(saes: Sequence[DescribedSAE]) -> dict[str, str]:
    """SAE → what is said of all that were trained in the same way."""
    kinds = {
        sae.run.run: (sae.variant, sae.sparsity, f"{sae.cfg.get('d_sae') or 0:,} latents")
        for sae in saes
    }
    of_variant = [variant for variant, *_ in set(kinds.values())]
    return {
        name: ", ".join(filter(None, kind)) if of_variant.count(kind[0]) > 1 else kind[0]
        for name, kind in kinds.items()
    }
