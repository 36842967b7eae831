"""The arms of a comparison: what each trains in place of the common `sae:` section."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from sae_lens import TrainingSAEConfig
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY

from wsae_plugin.comparison import Role
from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma import PROXIES
from wsae_plugin.training.messages import nearest
from wsae_plugin.validation import convert

Control = Literal["constant", "shuffled", "opposite", "whitening"]
CONTROLS: tuple[str, ...] = get_args(Control)

_ABOUT = ("role", "label", "control", "of")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Arm:
    """One way of training the SAE.

    Args:
        name: In run names.
        label: For readers.
        role: What the comparison needs it for.
        section: Its whole `sae:` section, but for what varies with the run.
        control: Which shorthand it was written with, if any.
        of: The arm that it controls for, if it is one of those.
    """

    name: str
    label: str
    role: Role
    section: dict[str, Any]
    control: Control | None = None
    of: str | None = None

    @property
    def alpha(self) -> float:
        return self.section.get("alpha", 0.0)

    @property
    def proxy(self) -> str | None:
        return self.section.get("gamma_proxy")


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
    for name in written:
        if not _NAME.fullmatch(name):
            raise BadInputError(
                f"arms.{name}: the name becomes a part of folders; use letters, digits, - and _"
            )
    own = {
        name: _own_arm(name, arm, sae, is_baseline=name == baseline)
        for name, arm in written.items()
        if "control" not in arm
    }
    if baseline not in own:
        raise BadInputError(f"baseline = {baseline!r}: is a control; name the arm it stands beside")
    return tuple(
        own[name] if name in own else _control(name, arm, own, own[baseline])
        for name, arm in written.items()
    )


def _own_arm(
    name: str, written: Mapping[str, Any], sae: Mapping[str, Any], is_baseline: bool
) -> Arm:
    where = f"arms.{name}"
    if "of" in written:
        raise BadInputError(f"{where}.of: goes with control: {', '.join(CONTROLS)}")
    section = _section(where, {k: v for k, v in written.items() if k not in _ABOUT}, sae)
    role: Role = convert(
        written.get("role", "baseline" if is_baseline else "weighted"), Role, f"{where}.role"
    )
    if (role == "baseline") != is_baseline:
        allowed = "must be 'baseline'" if is_baseline else "there is one baseline; 'weighted'?"
        raise BadInputError(f"{where}.role = {role!r}: {allowed}")
    label = convert(written.get("label", _label(section)), str, f"{where}.label")
    return Arm(name, label, role, section)


def _section(where: str, own: dict[str, Any], sae: Mapping[str, Any]) -> dict[str, Any]:
    architecture = own.get("architecture", sae["architecture"])
    if architecture not in SAE_TRAINING_CLASS_REGISTRY:
        raise BadInputError(
            f"{where}.architecture = {architecture!r}: unknown; "
            f"{nearest(str(architecture), SAE_TRAINING_CLASS_REGISTRY)}"
        )
    _, config_class = SAE_TRAINING_CLASS_REGISTRY[architecture]
    known = {field.name for field in fields(config_class)}
    common = {key: value for key, value in sae.items() if key in known}
    return convert({**common, **own, "architecture": architecture}, TrainingSAEConfig, where)


def _control(name: str, written: Mapping[str, Any], own: Mapping[str, Arm], baseline: Arm) -> Arm:
    where = f"arms.{name}"
    control: Control = convert(written["control"], Control, f"{where}.control")
    allowed = {"role", "label", "control"} | (set() if control == "whitening" else {"of"})
    for key in written:
        if key not in allowed:
            raise BadInputError(
                f"{where}.{key}: control: {control} says all of it; allowed beside it: "
                f"{', '.join(sorted(allowed - {'control'}))}"
            )
    if written.get("role", "control") != "control":
        raise BadInputError(f"{where}.role = {written['role']!r}: must be 'control'")
    if control == "whitening":
        of, label = baseline, "whitened SAE"
        changes: dict[str, Any] = {"normalize_activations": "covariance_whitening"}
    else:
        of = _controlled(where, written, own)
        changes, label = _CHANGES[control](where, of)
    return Arm(
        name=name,
        label=convert(written.get("label", label), str, f"{where}.label"),
        role="control",
        section=of.section | changes,
        control=control,
        of=None if control == "whitening" else of.name,
    )


def _controlled(where: str, written: Mapping[str, Any], own: Mapping[str, Arm]) -> Arm:
    weighted = [name for name, arm in own.items() if arm.alpha != 0]
    if "of" not in written:
        raise BadInputError(f"{where}.of: missing; a weighted arm: {', '.join(weighted)}")
    of = written["of"]
    if of not in weighted:
        raise BadInputError(
            f"{where}.of = {of!r}: must be a weighted arm (alpha other than 0, itself no "
            f"control); {nearest(str(of), weighted)}"
        )
    return own[of]


def _shuffled(where: str, of: Arm) -> tuple[dict[str, Any], str]:
    if of.proxy != "variance":
        raise BadInputError(
            f"{where}: control: shuffled gives the variances to the wrong dimensions, and the Γ of "
            f"arms.{of.name} is made of gamma_proxy {of.proxy!r}; shuffle an arm of 'variance'"
        )
    changes = {"gamma_proxy": "shuffled_variance"}
    return changes, f"shuffled Γ, {_alpha(of.section)}"


def _opposite(where: str, of: Arm) -> tuple[dict[str, Any], str]:  # noqa: ARG001
    changes = {"alpha": -of.alpha}
    return changes, f"opposite, {_alpha(changes)}"


def _constant(where: str, of: Arm) -> tuple[dict[str, Any], str]:
    normalization = of.section["gamma_normalization"]
    if normalization != "none":
        raise BadInputError(
            f"{where}: control: constant is Γ = cI, and gamma_normalization {normalization!r} of "
            f"arms.{of.name} takes every scale out: c would be 1 and the arm the baseline itself; "
            "make it the control of an arm with gamma_normalization: none, or leave it out"
        )
    if PROXIES[of.section["gamma_proxy"]].needs:
        raise BadInputError(
            f"{where}: control: constant estimates the scale of arms.{of.name} before there is an "
            f"SAE, and gamma_proxy {of.proxy!r} is made from one"
        )
    if of.section["gamma_freeze_step"] is None or of.section["normalize_activations"] != "none":
        raise BadInputError(
            f"{where}: control: constant estimates the scale of arms.{of.name} from the first "
            "gamma_freeze_step batches as the model gives them; set its gamma_freeze_step to a "
            "number, and normalize_activations to none"
        )
    # The file is made, and named, when the run is.
    changes = {"gamma_proxy": "file", "gamma_clip": None}
    return changes, f"constant Γ = cI, {_alpha(of.section)}"


_CHANGES = {"shuffled": _shuffled, "opposite": _opposite, "constant": _constant}


def _label(section: Mapping[str, Any]) -> str:
    if "alpha" not in section:
        return section["architecture"]
    if section["alpha"] == 0:
        return f"SAE, {_alpha(section)}"
    proxy = section["gamma_proxy"]
    parts = ["WSAE", _alpha(section), *([] if proxy == "variance" else [proxy])]
    if section["gamma_normalization"] == "none":
        parts.append("literal Γ")
    return ", ".join(parts)


def _alpha(section: Mapping[str, Any]) -> str:
    return f"α = {section['alpha']:g}".replace("-", "−")
