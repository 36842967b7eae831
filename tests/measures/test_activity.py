"""How many latents work."""

from __future__ import annotations

import pytest
import torch

from tests.measures.sums import sums_of
from wsae_plugin.measures import activity
from wsae_plugin.measures.measure import Evidence
from wsae_plugin.measures.sums import HeldOutSums


def test_how_many_latents_work() -> None:
    # of 20 tokens: never, on one, on a tenth, on more, on all
    sums = sums_of([(torch.randn(10, 2), torch.randn(10, 2))] * 2)
    firings = torch.tensor([[0.0, 0, 1, 1, 10], [0, 1, 1, 2, 10]], dtype=torch.float64)
    evidence = Evidence(HeldOutSums(**{**vars(sums), "firings": firings}))
    scores = [
        score
        for measure in (
            *(activity.l0, activity.dead_share, activity.dense_share),
            *(activity.norm_ratio, activity.cosine_similarity),
        )
        for score in measure(evidence)
    ]
    assert {s.metric: (s.direction, s.headline, s.chance) for s in scores} == {
        "l0": ("none", True, None),
        "dead_share": ("down", True, None),
        "dense_share": ("none", False, None),
        "norm_ratio": ("none", False, None),
        "cosine_similarity": ("up", False, None),
    }
    assert {s.metric: s.value for s in scores} == pytest.approx(
        {"l0": 4, "dead_share": 0.2, "dense_share": 0.4, "norm_ratio": 0.75}
        | {"cosine_similarity": 0.25}
    )
