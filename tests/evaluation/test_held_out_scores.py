"""Which scores eval.json has of an SAE, which way is better, and what chance is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
import torch

from tests.evaluation.sums import sums_of
from wsae_plugin.evaluation import measures
from wsae_plugin.evaluation.held_out_scores import (
    Weights,
    code_records,
    model_records,
    per_batch,
    per_dimension,
    reconstruction_records,
)
from wsae_plugin.evaluation.measures import HeldOutSums
from wsae_plugin.evaluation.score_record import Record

# Two batches of two tokens; the last dimension is constant.
X = torch.tensor([[0.0, 0, 0, 5], [2, 4, 1, 5], [1, 0, 3, 5], [2, 4, 0, 5]])
ERROR = torch.tensor([[0.0, 1, 0, 0], [1, 0, 0.5, 0], [0, 1, 0.5, 0], [0, 0, 0, 0]])
HALVES = [(X[:2], X[:2] + ERROR[:2]), (X[2:], X[2:] + ERROR[2:])]
SUMS = sums_of(HALVES)
ONES, OWN = torch.ones(4), torch.tensor([2.0, 1.0, 1.0, 1.0])
STRONG, WEAK = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 1.0, 2.0, 2.0])


def shown(records: Iterable[Record]) -> dict[str, tuple[str, bool, float | None]]:
    """metric → direction, whether it is a headline, chance."""
    return {r["metric"]: (r["direction"], r["headline"], r["chance"]) for r in records}


def explained(gamma: torch.Tensor, sums: HeldOutSums = SUMS) -> float:
    return float(measures.explained_variance(gamma)(sums, torch.ones_like(sums.tokens)))


def reconstruction(
    own: torch.Tensor, weighted: Mapping[str, torch.Tensor]
) -> dict[str, tuple[float, str]]:
    """metric → value, note; of all but the unweighted one no direction is the better one."""
    records = reconstruction_records("run", SUMS, Weights(own, weighted))
    assert all(record["run"] == "run" and record["chance"] == 0 for record in records)
    directions = {record["metric"]: record["direction"] for record in records}
    assert all(
        direction == ("none" if "weighted" in metric else "up")
        for metric, direction in directions.items()
    )
    return {record["metric"]: (record["value"], record["note"]) for record in records}


def test_an_ordinary_sae_alone_is_not_weighted() -> None:
    (only,) = reconstruction_records("run", SUMS, Weights(ONES, {}))
    assert only["metric"] == "explained_variance" and only["headline"]
    assert only["value"] == pytest.approx(explained(ONES))


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
    records = reconstruction_records("run", SUMS, Weights(ONES, {"a": STRONG, "b": WEAK}))
    assert [r["metric"] for r in records if r["headline"]] == [
        *("explained_variance", "weighted_explained_variance"),
    ]


def test_what_the_model_loses() -> None:
    # KL with the ablation is 2 nats a token.
    assert shown(model_records("run", SUMS)) == {
        "ce_loss_recovered": ("up", True, 0.0),
        "kl_divergence": ("down", True, 2.0),
        "kl_recovered": ("up", False, 0.0),
    }


def test_how_many_latents_work() -> None:
    # of 20 tokens: never, on one, on a tenth, on more, on all
    sums = sums_of([(torch.randn(10, 2), torch.randn(10, 2))] * 2)
    firings = torch.tensor([0.0, 1.0, 2.0, 3.0, 20.0], dtype=torch.float64)
    records = code_records("run", HeldOutSums(**{**vars(sums), "firings": firings}))
    assert shown(records) == {
        "l0": ("none", True, None),
        "dead_share": ("down", True, None),
        "dense_share": ("none", False, None),
        "norm_ratio": ("none", False, None),
        "cosine_similarity": ("up", False, None),
    }
    values = {record["metric"]: record["value"] for record in records}
    assert values == pytest.approx(
        {"l0": 4, "dead_share": 0.2, "dense_share": 0.4, "norm_ratio": 0.75}
        | {"cosine_similarity": 0.25}
    )


def test_the_parts() -> None:
    found = per_dimension(SUMS, OWN)
    assert found["gamma"] == OWN.tolist()
    assert found["variance"] == pytest.approx([2.75 / 4, 4, 1.5, 0])
    *varying, constant = found["explained_variance"]
    assert varying == pytest.approx([1 - 1 / 2.75, 1 - 2 / 16, 1 - 0.5 / 6]) and constant is None
    each = per_batch(SUMS)
    assert each["explained_variance"] == pytest.approx(
        [explained(ONES, sums_of([half])) for half in HALVES]
    )
    assert each["ce_loss_recovered"] == pytest.approx([0.9, 0.9])
