"""Which scores there are of latents one by one, and what they stand beside."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.measures.sums import sums_of
from wsae_plugin.measures.measure import Evidence
from wsae_plugin.measures.sums import Found
from wsae_plugin.measures.token_consistency import token_consistency
from wsae_plugin.measures.top_tokens import HeldOutTokens, Specificity, TokenEvidence
from wsae_plugin.scores import Score

LATENTS = Specificity(Found(0.5, 0.1, 0.2), Found(0.4, 0.05, 0.06), 300)
DIRECTIONS = Specificity(Found(0.3, 0.11, 0.21), Found(0.25, 0.05, 0.04), 512)


@pytest.fixture
def evidence(monkeypatch: pytest.MonkeyPatch) -> Evidence:
    """Of two kinds of label, with made-up consistencies."""

    def specificity(_: TokenEvidence, __: str, positions: Tensor) -> Specificity:
        return LATENTS if len(positions) == 1 else DIRECTIONS

    monkeypatch.setattr(TokenEvidence, "specificity", specificity)
    ids = torch.arange(4)
    tokens = HeldOutTokens({"token": ids, "context": ids}, ids)
    positions = torch.zeros(1, 2), torch.zeros(2, 2)
    x = torch.randn(4, 3)
    return Evidence(sums_of([(x, x), (x, x)]), TokenEvidence(tokens, 0, positions))


def scores_of(evidence: Evidence) -> list[Score]:
    return [*token_consistency(evidence)]


def test_specificity(evidence: Evidence) -> None:
    scores = scores_of(evidence)
    shown = [(s.metric, s.value, s.direction, s.headline, s.chance, s.control) for s in scores]
    assert shown == [
        each
        for kind, headline in (("token", True), ("context", False))
        for each in (
            (f"{kind}_consistency", 0.5, "up", headline, 0.1, 0.2),
            (f"{kind}_consistent_share", 0.4, "up", False, 0.05, 0.06),
            (f"{kind}_consistency_of_random_directions", 0.3, "none", False, 0.11, 0.21),
        )
    ]
    first, second, third = scores[3:]
    assert first.label == "previous token consistency"
    assert "the 300 latents" in first.note and "the 300 latents" in second.note
    assert "above 95% of the shuffled" in second.note
    assert "512 random directions" in third.note
    assert all(score.definition for score in scores)


def test_without_a_language_model_there_are_no_tokens(evidence: Evidence) -> None:
    assert scores_of(replace(evidence, tokens=None)) == []
