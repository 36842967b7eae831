"""What it costs the language model to read the reconstruction."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.measures.sums import sums_of
from wsae_plugin.measures import language_model as module
from wsae_plugin.measures.measure import Evidence
from wsae_plugin.scores import Score

X = torch.randn(4, 3)
SUMS = sums_of([(X, X + 1), (X, X - 1)])


def scores_of(evidence: Evidence) -> dict[str, Score]:
    measures = (
        *(module.ce_loss_recovered, module.ce_loss_with_sae),
        *(module.kl_divergence, module.kl_recovered),
    )
    scores = [score for measure in measures for score in measure(evidence)]
    return {score.metric: score for score in scores}


def test_what_the_model_loses() -> None:
    scores = scores_of(Evidence(SUMS))
    # KL with the ablation is 2 nats a token; the cross-entropy 7, and of the model itself 2.
    assert {s.metric: (s.direction, s.headline, s.chance) for s in scores.values()} == {
        "ce_loss_recovered": ("up", True, 0.0),
        "ce_loss_with_sae": ("down", False, 7.0),
        "kl_divergence": ("down", True, 2.0),
        "kl_recovered": ("up", False, 0.0),
    }
    assert {name: score.value for name, score in scores.items()} == pytest.approx(
        {"ce_loss_recovered": 0.9, "ce_loss_with_sae": 2.5}
        | {"kl_divergence": 0.5, "kl_recovered": 0.75}
    )
    assert scores["ce_loss_with_sae"].control == 2.0
    assert scores["kl_divergence"].unit == "nats per token"


def test_without_a_model_it_loses_nothing() -> None:
    none = replace(SUMS, predictions=torch.zeros_like(SUMS.predictions))
    assert scores_of(Evidence(none)) == {}
