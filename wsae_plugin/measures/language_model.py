"""What it costs the language model to read the reconstruction in place of the activations."""

from __future__ import annotations

from torch import Tensor

from wsae_plugin.measures.measure import batch_measure
from wsae_plugin.measures.sums import HeldOutSums


@batch_measure(
    "cross-entropy recovered",
    "up",
    of_model=True,
    headline=True,
    chance=0.0,
    note="chance: zero ablation",
)
def ce_loss_recovered(sums: HeldOutSums, counts: Tensor) -> Tensor:
    """(CE with the activations set to 0 − CE with the reconstruction) / (CE with 0 − CE of the
    model); CE is the model's cross-entropy on the next token."""
    ablated = counts @ sums.ce_loss_with_ablation
    return (ablated - counts @ sums.ce_loss_with_sae) / (ablated - counts @ sums.ce_loss)


@batch_measure(
    "cross-entropy with the SAE, nats per token",
    "down",
    {
        "chance": lambda s, counts: counts @ s.ce_loss_with_ablation / (counts @ s.predictions),
        "control": lambda s, counts: counts @ s.ce_loss / (counts @ s.predictions),
    },
    of_model=True,
    unit="nats per token",
    note="chance: zero ablation; control: the model as it is",
)
def ce_loss_with_sae(sums: HeldOutSums, counts: Tensor) -> Tensor:
    """The model's cross-entropy on the next token with the reconstruction in place of the
    activations, nats per token."""
    return counts @ sums.ce_loss_with_sae / (counts @ sums.predictions)


@batch_measure(
    "KL divergence, nats per token",
    "down",
    {"chance": lambda s, counts: counts @ s.kl_divergence_with_ablation / (counts @ s.tokens)},
    of_model=True,
    headline=True,
    unit="nats per token",
    note="KL(model ‖ model with SAE); chance: zero ablation",
)
def kl_divergence(sums: HeldOutSums, counts: Tensor) -> Tensor:
    """KL(model ‖ model with the SAE), nats per token."""
    return counts @ sums.kl_divergence / (counts @ sums.tokens)


@batch_measure(
    "KL divergence recovered", "up", of_model=True, chance=0.0, note="chance: zero ablation"
)
def kl_recovered(sums: HeldOutSums, counts: Tensor) -> Tensor:
    """The same as cross-entropy recovered, for KL(model ‖ model with the SAE)."""
    return 1 - counts @ sums.kl_divergence / (counts @ sums.kl_divergence_with_ablation)
