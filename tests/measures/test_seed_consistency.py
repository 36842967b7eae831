"""How the scores say whether seeds found the same latents."""

from __future__ import annotations

import pytest
import torch

from tests.measures.sums import sums_of
from wsae_plugin.measures import seed_agreement as module
from wsae_plugin.measures.evidence import Evidence
from wsae_plugin.measures.seed_agreement import Seeds
from wsae_plugin.measures.seed_consistency import seed_best_match, seed_consistency
from wsae_plugin.scores import Score

X = torch.randn(4, 12)


def scores_of(seeds: list[int]) -> list[Score]:
    decoders = [
        torch.randn(40, 12, generator=torch.Generator().manual_seed(seed)) for seed in seeds
    ]
    evidence = Evidence(sums_of([(X, X), (X, X)]), seeds=Seeds(seeds, lambda: decoders))
    return [
        measure.score(found)
        for each in (seed_consistency, seed_best_match)
        for measure, found in each(evidence)
    ]


def test_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    assigned, best = scores_of([4, 7])
    assert (assigned.metric, best.metric) == ("seed_consistency", "seed_best_match")
    assert (assigned.headline, best.headline) == (True, False)
    for score in (assigned, best):
        assert score.direction == "up"
        assert "seeds 4, 7" in score.note
        assert score.value is not None and score.value > 0
        assert score.chance is not None and score.control is not None
    monkeypatch.setattr(module, "LARGEST_ASSIGNMENT", 39)
    assigned, best = scores_of([4, 7])
    assert assigned.value is None and "no one-to-one assignment" in assigned.note
    assert best.value is not None
    for alone in scores_of([4]):
        assert alone.value is None and "two seeds" in alone.note
        assert alone.chance is None and alone.control is None
