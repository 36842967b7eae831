"""What studies compare with each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["baseline", "weighted", "control"]
Control = Literal["constant", "shuffled", "opposite", "whitening"]
METRICS_OF_CONTROLS = ("rotated_fisher", "covariance")
"""Metrics that an arm has as a control, unless its `role` says otherwise."""
PROXIES_OF_CONTROLS = ("semantic_consistency_of_shuffled_labels",)
"""Proxies likewise."""


def end_to_end_label(fields: Mapping[str, Any]) -> str:
    """On which of its tokens an SAE is trained on the model's output too; empty for none."""
    if not (share := fields.get("finetune_kl")):
        return ""
    return f"last {100 * share:g} % on KL, lr × {fields['finetune_kl_lr']:g}"


@dataclass(frozen=True)
class Arm:
    """One way of training the SAE.

    Args:
        name: In run names, in files and on axes.
        label: For readers.
        role: What the comparison needs it for.
        overrides: The fields of the SAE's config that make it what it is. Of an arm that was read
            from a manifest, `alpha` and `gamma_proxy` only.
        control: What kind of control it is, if it is one.
        of: The arm that it controls for, if it is one of those.

    Example:
        >>> Arm("half", "WSAE, α = 0.5", "weighted", {"alpha": 0.5}).alpha
        0.5
    """

    name: str
    label: str
    role: Role
    overrides: Mapping[str, Any]
    control: Control | None = None
    of: str | None = None

    @property
    def alpha(self) -> float:
        """The exponent in γ = s^alpha; 0 for the ordinary SAE."""
        return self.overrides.get("alpha", 0.0)

    @property
    def proxy(self) -> str | None:
        """What s is; None for an architecture that has none."""
        return self.overrides.get("gamma_proxy")
