"""The arms of a comparison: what each trains in place of the common `sae:` section."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

from sae_lens import TrainingSAEConfig
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY

from wsae_plugin.compare.arms import (
    METRICS_OF_CONTROLS,
    PROXIES_OF_CONTROLS,
    Arm,
    Control,
    Role,
    end_to_end_label,
)
from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.proxies import SHUFFLED
from wsae_plugin.messages import nearest
from wsae_plugin.validation import convert, resolve

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class _About:
    """What an arm says beside the fields of its SAE."""

    role: Role | None = None
    label: str | None = None
    control: Control | None = None
    of: str | None = None


_ABOUT = [field.name for field in fields(_About)]


def resolve_arms(
    written: Mapping[str, dict[str, Any]], sae: Mapping[str, Any], baseline: str
) -> tuple[Arm, ...]:
    """The arms with every field of their SAEs known.

    Args:
        written: `arms:` of the config.
        sae: `sae:` of the config. An arm of another architecture takes those of its fields that
            its architecture has.
        baseline: Name of the baseline.

    Raises:
        BadInputError: The first thing wrong; the message names arm and field.
    """
    if baseline not in written:
        raise BadInputError(f"baseline = {baseline!r}: is no arm; {nearest(baseline, written)}")
    own: dict[str, Arm] = {}
    for name, arm in written.items():
        if not _NAME.fullmatch(name):
            raise BadInputError(
                f"arms.{name}: the name becomes a part of folders; use letters, digits, - and _"
            )
        if "control" not in arm:
            own[name] = _own_arm(name, arm, sae, is_baseline=name == baseline)
    if baseline not in own:
        raise BadInputError(f"baseline = {baseline!r}: is a control; name the arm it stands beside")
    arms = [
        own.get(name) or _control(name, arm, own, own[baseline]) for name, arm in written.items()
    ]
    labels = Counter(arm.label for arm in arms)
    return tuple(
        replace(arm, label=f"{arm.label} ({arm.name})") if labels[arm.label] > 1 else arm
        for arm in arms
    )


def config_class_of(sae: Mapping[str, Any]) -> type[TrainingSAEConfig]:
    """The config class that an `sae:` section names; SAELens's common one where there is none."""
    architecture = str(sae.get("architecture"))
    return SAE_TRAINING_CLASS_REGISTRY.get(architecture, (None, TrainingSAEConfig))[1]


def _own_arm(
    name: str, written: Mapping[str, Any], sae: Mapping[str, Any], is_baseline: bool
) -> Arm:
    where = f"arms.{name}"
    if "of" in written:
        raise BadInputError(f"{where}.of: goes with control: {', '.join(get_args(Control))}")
    about = resolve(_About, written, where, others_allowed=True)
    own = {key: value for key, value in written.items() if key not in _ABOUT}
    known = {field.name for field in fields(config_class_of({**sae, **own}))}
    common = {key: value for key, value in sae.items() if key in known or key == "architecture"}
    section = convert(common | own, TrainingSAEConfig, where)
    is_control = section.get("metric") in METRICS_OF_CONTROLS
    is_control |= section.get("gamma_proxy") in PROXIES_OF_CONTROLS
    ours = "control" if is_control else "weighted"
    role: Role = about["role"] or ("baseline" if is_baseline else ours)
    if (role == "baseline") != is_baseline:
        allowed = "must be 'baseline'" if is_baseline else "there is one baseline; 'weighted'?"
        raise BadInputError(f"{where}.role = {role!r}: {allowed}")
    return Arm(name, about["label"] or _label(section), role, section)


def _control(name: str, written: Mapping[str, Any], own: Mapping[str, Arm], baseline: Arm) -> Arm:
    where = f"arms.{name}"
    about = resolve(_About, written, where, others_allowed=True)
    control: Control = about["control"]
    allowed = [key for key in _ABOUT if key != "of" or control != "whitening"]
    for key in written:
        if key not in allowed:
            raise BadInputError(
                f"{where}.{key}: control: {control} says all of it; allowed beside it: "
                f"{', '.join(sorted(set(allowed) - {'control'}))}"
            )
    if about["role"] not in (None, "control"):
        raise BadInputError(f"{where}.role = {about['role']!r}: must be 'control'")
    of = baseline if control == "whitening" else _controlled(where, about["of"], own)
    normalization = of.overrides.get("gamma_normalization")
    if control == "constant" and normalization != "none":
        raise BadInputError(
            f"{where}: control: constant is Γ = cI, and gamma_normalization {normalization!r} of "
            f"arms.{of.name} takes every scale out: c would be 1 and the arm the baseline itself; "
            "make it the control of an arm with gamma_normalization: none, or leave it out"
        )
    changes, label = {
        "shuffled": ({"gamma_proxy": f"{SHUFFLED}{of.proxy}"}, f"shuffled Γ, {_alpha(of.alpha)}"),
        "opposite": ({"alpha": -of.alpha}, f"opposite, {_alpha(-of.alpha)}"),
        "constant": ({"gamma_normalization": "constant"}, f"constant Γ = cI, {_alpha(of.alpha)}"),
        "whitening": ({"normalize_activations": "covariance_whitening"}, "whitened SAE"),
    }[control]
    section = {**of.overrides, **changes}
    controlled = None if control == "whitening" else of.name
    return Arm(name, about["label"] or label, "control", section, control, controlled)


def _controlled(where: str, of: str | None, own: Mapping[str, Arm]) -> Arm:
    weighted = [name for name, arm in own.items() if arm.alpha != 0]
    if of is None:
        raise BadInputError(f"{where}.of: missing; a weighted arm: {', '.join(weighted)}")
    if of not in weighted:
        raise BadInputError(
            f"{where}.of = {of!r}: must be a weighted arm (alpha other than 0, itself no "
            f"control); {nearest(of, weighted)}"
        )
    return own[of]


def _label(section: Mapping[str, Any]) -> str:
    if "alpha" not in section:
        return section["architecture"]
    if its_end := end_to_end_label(section):
        return f"{_label({**section, 'finetune_kl': 0})}, {its_end}"
    if section.get("metric") is not None:
        where = " in the loss only" if section["metric_in_loss_only"] else ""
        return f"SAE, metric {section['metric']}{where}"
    if section["alpha"] == 0:
        return f"SAE, {_alpha(0)}"
    proxy = section["gamma_proxy"]
    parts = ["WSAE", _alpha(section["alpha"]), *([] if proxy == "variance" else [proxy])]
    if section["gamma_normalization"] == "none":
        parts.append("literal Γ")
    return ", ".join(parts)


def _alpha(alpha: float) -> str:
    return f"α = {alpha:g}".replace("-", "−")
