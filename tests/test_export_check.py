"""What of an export says that it is not what was trained."""

from __future__ import annotations

from typing import Any

import pytest

from wsae_plugin.export_check import problem_of_export

BATCHTOPK = {
    "training_architecture": "batchtopk",
    "training_architecture_details": {"k": 8.0, "topk_threshold_lr": 0.01},
    "l0": 8.0,
}
TOPK = {"training_architecture": "topk", "training_architecture_details": {"k": 8}, "l0": 8.0}


def scores(ev: float | None, l0: float | None) -> dict[str, float | None]:
    return {"explained_variance": ev, "l0": l0}


def checked(exported: Any, trained: Any, of: dict[str, Any] = TOPK) -> dict[str, Any]:
    return of | {"export_check": {"samples": 4096, "trained": trained, "exported": exported}}


@pytest.mark.parametrize(
    ("exported", "trained"),
    [
        (scores(0.60, 8.0), scores(0.60, 8.0)),
        (scores(0.56, 11.9), scores(0.60, 8.0)),
        (scores(0.60, 5.5), scores(0.60, 8.0)),
        (scores(0.70, 8.0), scores(0.60, 8.0)),
        (scores(-0.40, 8.0), scores(-0.38, 8.0)),  # a control that was trained to be of no use
        (scores(0.0, 0.04), scores(0.0, 0.0)),
        (scores(0.60, 8.0), scores(None, 8.0)),
    ],
)
def test_what_was_trained_is_let_through(exported: Any, trained: Any) -> None:
    assert problem_of_export(checked(exported, trained)) is None
    # What was measured as it was exported decides: the text may be another one.
    assert problem_of_export(checked(exported, trained), scores(-0.1, 30.0)) is None


@pytest.mark.parametrize(
    ("exported", "trained"),
    [
        (scores(0.50, 8.0), scores(0.60, 8.0)),
        (scores(0.62, 12.2), scores(0.60, 8.0)),
        (scores(0.58, 5.0), scores(0.60, 8.0)),
        (scores(None, 8.0), scores(0.60, 8.0)),
    ],
)
def test_what_was_not_is_refused(exported: Any, trained: Any) -> None:
    problem = problem_of_export(checked(exported, trained))
    assert problem is not None
    assert "on the same 4,096 samples it has an explained variance of" in problem
    assert "had an explained variance of 0.6 and an L0 of 8 in training" in problem
    assert problem.endswith("train it longer, or export it again from its checkpoint")


def test_the_way_out_of_a_threshold_that_has_not_converged() -> None:
    problem = problem_of_export(checked(scores(-2.5, 100.0), scores(0.6, 8.0), BATCHTOPK))
    assert problem is not None
    assert "has an explained variance of -2.5 and an L0 of 100, and had" in problem
    assert (
        "train many times 1 / topk_threshold_lr = 100 steps, or train weighted_batchtopk" in problem
    )


def test_of_a_script_held_out_text_alone_is_known() -> None:
    assert problem_of_export(BATCHTOPK) is None
    assert problem_of_export(BATCHTOPK, scores(0.55, 15.0)) is None
    problem = problem_of_export(BATCHTOPK, scores(0.1, 17.0))
    assert problem is not None
    assert "and an L0 of 17 on held-out text, which was 8 in training" in problem
    # Of others SAELens's mean over the training says little of its end.
    assert problem_of_export(TOPK, scores(0.1, 17.0)) is None
    problem = problem_of_export(TOPK, scores(-0.01, 8.0))
    assert problem is not None
    assert "it has an explained variance of -0.01" in problem
    assert problem_of_export({}, scores(None, None)) is None
