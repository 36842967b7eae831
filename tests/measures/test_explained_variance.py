"""What an SAE explains under which Γ, which way is better, and what chance is."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from tests.measures.sums import once, sums_of
from wsae_plugin.measures.explained_variance import (
    explained_under,
    explained_variance,
    explained_variance_per_dimension,
    under_weights,
    variance_per_dimension,
)
from wsae_plugin.measures.measure import Evidence
from wsae_plugin.measures.sums import HeldOutSums
from wsae_plugin.scores import Score

# Two batches of two tokens; the last dimension is constant.
X = torch.tensor([[0.0, 0, 0, 5], [2, 4, 1, 5], [1, 0, 3, 5], [2, 4, 0, 5]])
ERROR = torch.tensor([[0.0, 1, 0, 0], [1, 0, 0.5, 0], [0, 1, 0.5, 0], [0, 0, 0, 0]])
HALVES = [(X[:2], X[:2] + ERROR[:2]), (X[2:], X[2:] + ERROR[2:])]
SUMS = sums_of(HALVES)
ONES, OWN = torch.ones(4), torch.tensor([2.0, 1.0, 1.0, 1.0])
STRONG, WEAK = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 1.0, 2.0, 2.0])


def explained(gamma: torch.Tensor, sums: HeldOutSums = SUMS) -> float:
    return float(explained_under(gamma, sums, once(sums)))


def scores_of(own: torch.Tensor, weighted: Mapping[str, torch.Tensor]) -> list[Score]:
    evidence = Evidence(SUMS, gamma=own, weighted=weighted)
    return [s for measure in (explained_variance, under_weights) for s in measure(evidence)]


def reconstruction(
    own: torch.Tensor, weighted: Mapping[str, torch.Tensor]
) -> dict[str, tuple[float | None, str]]:
    """metric → value, note; of all but the unweighted one no direction is the better one."""
    scores = scores_of(own, weighted)
    assert all(score.chance == 0 and score.definition for score in scores)
    for score in scores:
        assert score.direction == ("none" if "weighted" in score.metric else "up")
    return {score.metric: (score.value, score.note) for score in scores}


def test_an_ordinary_sae_alone_is_not_weighted() -> None:
    (only,) = scores_of(ONES, {})
    assert only.metric == "explained_variance" and only.headline
    assert only.value == pytest.approx(explained(ONES))


def test_an_sae_alone_is_weighted_by_its_own_gamma() -> None:
    found = reconstruction(OWN, {})
    assert list(found) == [
        *("explained_variance", "weighted_explained_variance", "own_weighted_explained_variance"),
        *("explained_variance_largest_quarter", "explained_variance_smallest_quarter"),
    ]
    for metric in ("weighted_explained_variance", "own_weighted_explained_variance"):
        assert found[metric] == (pytest.approx(explained(OWN)), "under Γ of this run")


def test_an_sae_among_others_is_weighted_by_theirs() -> None:
    found = reconstruction(ONES, {"a": STRONG, "b": WEAK})
    assert found["weighted_explained_variance"] == (
        pytest.approx(explained(STRONG)),
        "under Γ of arm a",
    )
    assert found["weighted_explained_variance_b"][0] == pytest.approx(explained(WEAK))
    assert "own_weighted_explained_variance" not in found
    # The constant dimension weighs most under a's Γ: of it nothing can be explained.
    value, note = found["explained_variance_largest_quarter"]
    assert value is None and "not finite" in note
    value, note = found["explained_variance_smallest_quarter"]
    assert value == pytest.approx(explained(torch.tensor([1.0, 0.0, 0.0, 0.0])))
    assert note.endswith("that Γ of arm a weighs least")
    scores = scores_of(ONES, {"a": STRONG, "b": WEAK})
    assert [score.metric for score in scores if score.headline] == [
        *("explained_variance", "weighted_explained_variance"),
    ]


def test_the_dimensions_one_by_one() -> None:
    assert variance_per_dimension(SUMS).tolist() == pytest.approx([2.75 / 4, 4, 1.5, 0])
    *varying, constant = explained_variance_per_dimension(SUMS).tolist()
    assert varying == pytest.approx([1 - 1 / 2.75, 1 - 2 / 16, 1 - 0.5 / 6])
    assert constant != constant


def test_each_batch_is_measured_alone() -> None:
    (score,) = explained_variance(Evidence(SUMS))
    assert score.per_batch == pytest.approx([explained(ONES, sums_of([half])) for half in HALVES])
