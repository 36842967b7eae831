"""The statistics of a comparison: pairing, the seed as the unit, and what is left out aloud."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.made_up import METRICS, Plan, change_json, write_comparison
from wsae_plugin.compare.manifest import ComparedRun
from wsae_plugin.errors import BadInputError
from wsae_plugin.report.inference import add_tests, against_control, lean, sds_to_be_clear
from wsae_plugin.report.inputs import Inputs, read_inputs
from wsae_plugin.report.paired import metric_entry, pair_runs, seed_means
from wsae_plugin.report.summary import summarize
from wsae_plugin.report.text import how_tests_are_made
from wsae_plugin.scores import Score
from wsae_plugin.statistics import compare

PLAN = Plan({"alpha-1": {"ce_loss_score": 0.02}})


def summary_of(folder: Path) -> dict[str, Any]:
    return summarize(read_inputs(folder))


def metric_of(summary: dict[str, Any], name: str) -> dict[str, Any]:
    return next(metric for metric in summary["metrics"] if metric["metric"] == name)


def run_of(arm: str, seed: int, layer: int = 1, k: float = 32) -> ComparedRun:
    return ComparedRun(
        run=f"{arm}-{layer}-{seed}",
        path=Path("x"),
        arm=arm,
        role="baseline" if arm == "sae" else "weighted",
        hook_name=f"blocks.{layer}.hook_resid_post",
        layer=layer,
        sparsity={"k": k},
        seed=seed,
        pair=f"{layer}-{seed}",
    )


def score_of(run: ComparedRun, value: float | None, direction: Any = "down") -> dict[str, Any]:
    score = Score(
        eval="held_out",
        metric="m",
        label="m",
        value=value,
        direction=direction,
        headline=True,
        noise=0.5,
        note="" if value else "x",
    )
    return {"run": run.run, **dict(score)}


Values = dict[tuple[int, int], tuple[float | None, float | None]]


def entry_of(values: Values) -> dict[str, Any]:
    """(layer, seed) → (baseline, arm)."""
    runs: list[ComparedRun] = []
    scores: list[dict[str, Any]] = []
    for (layer, seed), both in values.items():
        for arm, value in zip(("sae", "alpha-1"), both, strict=True):
            runs.append(run_of(arm, seed, layer))
            scores.append(score_of(runs[-1], value))
    pairs, _ = pair_runs(runs, {run.run: {} for run in runs})
    layers = {run.hook_name: run.layer for run in runs}
    return metric_entry(pd.DataFrame(scores), pairs, layers, {})


def test_a_metric_by_hand() -> None:
    values: Values = {(1, 0): (10, 9), (1, 1): (20, 20.25), (3, 0): (30, 26), (3, 1): (40, 42)}
    entry = entry_of(values)
    # baseline: seeds 20 and 30; arm: 17.5 and 31.125
    assert entry["baseline"]["mean"] == 25
    assert entry["baseline"]["sd"] == pytest.approx(7.071)
    arm = entry["arms"]["alpha-1"]
    assert arm["per_seed"] == [-2.5, 1.125]
    # lower is better, noise 0.5: −1 and −4 win, 0.25 is a tie, 2 loses
    assert (arm["wins"], arm["ties"], arm["losses"]) == (2, 1, 1)
    assert [row["difference"] for row in arm["per_layer"]] == [-0.375, -1.0]
    assert [row["layer"] for row in arm["per_layer"]] == [1, 3]
    assert entry["noise"] == 0.5


def test_a_number_that_seeds_share_is_one_observation() -> None:
    values: Values = {(layer, seed): (0.5, 0.6 + layer) for layer in (1, 3) for seed in (0, 1, 2)}
    entry = entry_of(values)
    assert entry["shared_over_seeds"]
    assert entry["arms"]["alpha-1"]["n_pairs"] == 2
    assert len(entry["arms"]["alpha-1"]["per_seed"]) == 1
    assert not entry_of(dict.fromkeys(values, (0.5, 0.5)))["shared_over_seeds"]


def test_what_was_not_measured_is_named() -> None:
    entry = entry_of({(1, 0): (1, None), (1, 1): (1, 2.5), (1, 2): (1, 2.6)})
    assert entry["unmeasured"] == ["alpha-1-1-0"]
    assert entry["notes"] == ["x"]
    assert entry["arms"]["alpha-1"]["seeds"] == [1, 2]
    assert entry["baseline"]["n_seeds"] == 2


@given(
    st.lists(
        st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.floats(-100, 100)), min_size=2, max_size=6
    )
)
def test_what_a_pair_shares_cancels(draws: list[tuple[float, float, float]]) -> None:
    plain: Values = {(1, seed): (before, after) for seed, (before, after, _) in enumerate(draws)}
    shifted: Values = {(1, seed): (b + both, a + both) for seed, (b, a, both) in enumerate(draws)}
    differences = [entry_of(each)["arms"]["alpha-1"]["per_seed"] for each in (plain, shifted)]
    assert np.allclose(np.mean(differences[0]), np.mean(differences[1]), atol=2e-2)


def test_layers_are_averaged_before_seeds_are_counted() -> None:
    rows = pd.DataFrame({"seed": [1, 0, 1], "value": [1.0, 5.0, 3.0]})
    assert seed_means(rows, "value") == {0: 5.0, 1: 2.0}


def test_pairs_stand_in_the_order_of_layers_sparsities_and_seeds() -> None:
    places = [(1, 3, 8.0), (0, 3, 8.0), (1, 1, 16.0), (0, 1, 16.0), (0, 1, 8.0)]
    runs = [replace(run_of(arm, *p), pair=str(p)) for arm in ("sae", "alpha-1") for p in places]
    pairs, _ = pair_runs(runs, {run.run: {} for run in runs})
    found = pairs[["hook_name", "sparsity", "seed"]].itertuples(index=False)
    assert [(int(hook[7]), k, seed) for hook, k, seed in found] == [
        *((1, "k = 8", 0), (1, "k = 16", 0), (1, "k = 16", 1)),
        *((3, "k = 8", 0), (3, "k = 8", 1)),
    ]


def test_another_held_out_text_is_refused(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", Plan({}, seeds=(0, 1), layers=(1,)))
    run = "layer-1-k-32-alpha-1-seed-0"

    def other(document: dict[str, Any]) -> None:
        document["held_out"]["seed"] = 7

    change_json(folder / "runs" / run / "scores" / "held_out.json", other)
    (refused,) = summary_of(folder)["refused_pairs"]
    assert (refused["run"], refused["reason"]) == (run, "held-out data: seed 7 against 0")


@pytest.mark.parametrize(
    ("metadata", "head"),
    [({"hook_head_index": None}, "all"), ({"hook_name": "h"}, "all"), ({"hook_head_index": 0}, 0)],
)
def test_an_sae_of_all_heads_is_of_another_place_than_that_of_one(
    metadata: dict[str, Any], head: int | str
) -> None:
    run = ComparedRun.alone("a", Path("a"))
    of = Inputs({}, [run], {"a": {}}, {"a": {"metadata": metadata}}, {})
    assert of.facts(run)["head"] == head
    assert Inputs({}, [run], {"a": {}}, {"a": {}}, {}).facts(run)["head"] is None


def test_runs_that_differ_are_refused_and_named() -> None:
    baseline, same, other = run_of("sae", 0), run_of("a", 0), run_of("b", 0)
    fact = {"d_sae": 64, "held-out data": {"tokens": 1, "seed": 0}, "model": None}
    facts = {run.run: dict(fact) for run in (baseline, same, other)}
    facts[other.run] |= {"d_sae": 32, "held-out data": {"tokens": 2, "seed": 0}, "model": "m"}
    pairs, (refused,) = pair_runs([baseline, same, other], facts)
    assert list(pairs["run"]) == [same.run]
    assert (refused["run"], refused["baseline"]) == (other.run, baseline.run)
    assert refused["reason"] == "d_sae: 32 against 64; held-out data: tokens 2 against 1"


@pytest.mark.parametrize("sparsity", [{"k": 16.0}, {"k": 32.0}])
def test_another_sparsity_is_refused(sparsity: dict[str, float], tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", PLAN)

    def change(manifest: dict[str, Any]) -> None:
        manifest["runs"][1]["sparsity"] = sparsity

    change_json(folder / "manifest.json", change)
    refused = summary_of(folder)["refused_pairs"]
    assert len(refused) == (sparsity["k"] != 32)


def test_a_folder_from_end_to_end(tmp_path: Path) -> None:
    summary = summary_of(write_comparison(tmp_path / "c", PLAN))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert [metric["metric"] for metric in summary["metrics"]] == [m[1] for m in METRICS]
    found = summary["statistics"]
    # 3 headline metrics with a direction, one weighted arm, one control
    assert found["n_tests"] == {"weighted": 3, "control": 3, "against controls": 3}
    assert (found["n_seeds"], found["n_pairs"]) == (5, 20)
    assert summary["compared"]["layers"] == [1, 3]
    assert summary["compared"]["training_tokens"] == 1000
    assert summary["missing"] == summary["refused_pairs"] == []

    score = metric_of(summary, "ce_loss_score")
    arm = score["arms"]["alpha-1"]
    assert arm["difference"]["outcome"] == "better"
    assert arm["difference"]["mean"] == pytest.approx(0.02, abs=0.002)
    assert (arm["wins"], arm["losses"]) == (10, 0)
    assert len(arm["per_seed"]) == 5
    assert arm["against_controls"]["shuffled"]["outcome"] == "beyond"
    assert score["chance"] == 0.5
    # neither descriptive nor secondary metrics are tested
    for name in ("l0", "cosine_similarity"):
        assert "outcome" not in metric_of(summary, name)["arms"]["alpha-1"]["difference"]
    assert metric_of(summary, "l0")["arms"]["alpha-1"]["wins"] is None
    weighted = summary["arms"][1]
    assert weighted["controls"] == ["shuffled"]
    assert not weighted["l0"]["mismatch"]


def test_a_difference_within_the_noise_is_none(tmp_path: Path) -> None:
    plan = Plan({"alpha-1": {"absorption": -0.003}}, scatter=0.0001)
    arm = metric_of(summary_of(write_comparison(tmp_path / "c", plan)), "absorption")["arms"]
    assert arm["alpha-1"]["difference"]["clear"]
    assert arm["alpha-1"]["difference"]["outcome"] == "same"
    assert arm["alpha-1"]["ties"] == 10


def test_what_was_traded(tmp_path: Path) -> None:
    trade = summary_of(write_comparison(tmp_path / "c", PLAN))["trade"]
    assert set(trade) == {"alpha-1", "shuffled"}
    # 11 dimensions with a variance, 10 pairs, ΔEV = 0.01 (γ − 1)
    assert len(trade["alpha-1"]["dots"]) == 110
    assert all(
        change == pytest.approx(0.01 * (gamma - 1), abs=1e-6)
        for gamma, change in trade["alpha-1"]["dots"]
    )
    gammas = [group["gamma"] for group in trade["alpha-1"]["groups"]]
    assert gammas == sorted(gammas)


def test_trade_and_spectrum_by_hand(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", Plan({}, seeds=(0,), layers=(1,)))
    gamma = [1.0, 4.0] * 10  # tenths of two dimensions: five of γ = 1 and five of γ = 4
    gamma[0], gamma[1] = 0.25, 16.0

    def change(document: dict[str, Any]) -> None:
        is_weighted = document["spectrum"] and "alpha-1" in document["run"]
        document["per_dimension"] = {
            "gamma": gamma if is_weighted else [2.0] * 20,
            "variance": [3.0 if g == 1 else 1.0 for g in gamma],
            "explained_variance": [0.5 + 0.01 * g * bool(is_weighted) for g in gamma],
        }

    for file in folder.glob("runs/*/scores/held_out.json"):
        change_json(file, change)
    summary = summary_of(folder)
    # γ is even in the control, which trades nothing.
    assert list(summary["trade"]) == ["alpha-1"]
    groups = summary["trade"]["alpha-1"]["groups"]
    assert [group["gamma"] for group in groups] == [0.5, 1, 1, 1, 1, 4, 4, 4, 4, 8]
    assert groups[0]["mean"] == pytest.approx(0.01 * (0.25 + 1) / 2)
    # γ² times the variance: 256, nine times 16, nine times 3, and 0.0625.
    total = 256 + 9 * 16 + 9 * 3 + 0.0625
    shares = summary["gammas"]["alpha-1"]["shares"]
    assert shares[:2] == pytest.approx([256 / total, 272 / total], rel=1e-3)
    assert summary["gammas"]["alpha-1"]["run"] == "layer-1-k-32-alpha-1-seed-0"


def test_curves_are_of_the_first_seed(tmp_path: Path) -> None:
    summary = summary_of(write_comparison(tmp_path / "c", PLAN))
    runs = {arm: found["run"] for arm, found in summary["gammas"].items()}
    assert runs == {arm: f"layer-1-k-32-{arm}-seed-0" for arm in ("alpha-1", "shuffled")}


@pytest.mark.parametrize(
    ("present", "missing", "metrics"),
    [
        ({"bench": False}, "no scores/saebench.json: `wsae bench`", 3),
        ({"evals": False}, "no scores/held_out.json: `wsae eval`", 2),
    ],
)
def test_either_source_is_enough(
    present: dict[str, bool], missing: str, metrics: int, tmp_path: Path
) -> None:
    summary = summary_of(write_comparison(tmp_path / "c", PLAN, **present))
    assert len(summary["metrics"]) == metrics
    (gap,) = summary["missing"]
    assert gap["what"] == "all runs"
    assert missing in gap["reason"]


def test_missing_runs_and_scores_are_named(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", PLAN)
    without = "layer-1-k-32-alpha-1-seed-0"
    (folder / "runs" / without / "scores" / "held_out.json").unlink()

    def drop(document: dict[str, Any]) -> None:
        document["scores"] = [s for s in document["scores"] if s["eval"] != "saebench/core"]
        document["evals"]["tpp"] = {"status": "failed", "error": "disk full"}

    change_json(folder / "runs" / without / "scores" / "saebench.json", drop)
    change_json(folder / "manifest.json", lambda manifest: manifest["seeds"].append(9))
    summary = summary_of(folder)
    assert summary["missing"] == [
        {"what": "seed 9", "reason": "not trained"},
        {"what": without, "reason": "no score of held-out data"},
        {"what": without, "reason": "no score of SAEBench core"},
        {"what": "saebench/tpp", "reason": "failed: disk full"},
    ]
    assert metric_of(summary, "ce_loss_score")["arms"]["alpha-1"]["n_pairs"] == 9


def test_a_failure_in_one_run_is_not_hidden_by_the_others(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", Plan({}, seeds=(0, 1), layers=(1,)))
    files = sorted(folder.glob("runs/*/scores/saebench.json"))

    def fail(document: dict[str, Any]) -> None:
        document["evals"]["core"] |= {"status": "failed", "error": "disk full"}

    change_json(files[0], fail)
    summary = summary_of(folder)
    assert summary["missing"] == [{"what": "saebench/core", "reason": "failed: disk full"}]
    assert summary["bench"]["evals"]["core"]["seconds"] == 1.5 * len(files)


def test_batches_are_those_of_held_out_text_alone(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", Plan({}, seeds=(0, 1), layers=(1,)))

    def rename(document: dict[str, Any]) -> None:
        document["scores"][0] |= {"eval": "corrected/core", "metric": "explained_variance"}

    for file in folder.glob("runs/*/scores/saebench.json"):
        change_json(file, rename)
    held_out, corrected = (
        metric["arms"]["alpha-1"]["over_batches"]
        for metric in summary_of(folder)["metrics"]
        if metric["metric"] == "explained_variance"
    )
    assert held_out is not None
    assert corrected is None


def test_an_arm_without_any_score_of_an_eval_is_named_once(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", PLAN)

    def drop(document: dict[str, Any]) -> None:
        document["scores"] = [s for s in document["scores"] if s["eval"] != "saebench/core"]

    for file in folder.glob("runs/*alpha-1*/scores/saebench.json"):
        change_json(file, drop)
    assert summary_of(folder)["missing"] == [
        {"what": "arm alpha-1", "reason": "no score of SAEBench core"}
    ]


def test_no_scores_and_scores_of_others_are_refused(tmp_path: Path) -> None:
    bare = write_comparison(tmp_path / "bare", PLAN, bench=False, evals=False)
    with pytest.raises(BadInputError, match="has no scores.*wsae eval"):
        read_inputs(bare)
    folder = write_comparison(tmp_path / "c", PLAN)

    def rename(document: dict[str, Any]) -> None:
        document["run"] = "another"

    change_json(next(folder.glob("runs/*/scores/saebench.json")), rename)
    with pytest.raises(BadInputError, match=r"saebench\.json: run = 'another': must be 'layer-1"):
        read_inputs(folder)


BROKEN: list[tuple[str, tuple[str, ...], Any, str]] = [
    ("scores/held_out.json", ("held_out",), {"a": 1}, "held_out.tokens: Field required"),
    ("scores/held_out.json", ("held_out", "tokens"), "x", "held_out.tokens"),
    ("scores/held_out.json", ("spectrum",), {"a": 1}, "spectrum"),
    ("scores/held_out.json", ("spectrum", "gamma", "min"), None, "min"),
    ("scores/held_out.json", ("per_dimension", "gamma"), [1.0], "per_dimension: not of every"),
    ("scores/held_out.json", ("per_dimension",), {}, "per_dimension: not of every"),
    ("scores/saebench.json", ("evals", "core", "seconds"), "x", "evals.core.seconds"),
    ("run.json", ("config",), "x", "config = 'x': must be a section"),
    ("run.json", ("config", "training_tokens"), "x", "config.training_tokens = 'x'"),
    ("sae/cfg.json", ("d_sae",), "x", "d_sae = 'x': must be a whole number"),
    ("sae/cfg.json", ("metadata",), [1], r"metadata = \[1\]: must be a section"),
    ("../../manifest.json", ("versions",), "x", "versions = 'x': must be a mapping"),
]


@pytest.mark.parametrize(("file", "field", "value", "said"), BROKEN)
def test_a_field_of_another_type_is_named(
    file: str, field: tuple[str, ...], value: Any, said: str, tmp_path: Path
) -> None:
    folder = write_comparison(tmp_path / "c", Plan({}, seeds=(0,), layers=(1,)))

    def change(document: dict[str, Any]) -> None:
        for name in field[:-1]:
            document = document[name]
        document[field[-1]] = value

    path = folder / "runs" / "layer-1-k-32-alpha-1-seed-0" / file
    change_json(path, change)
    with pytest.raises(BadInputError, match=f"{path.name}: .*{said}"):
        read_inputs(folder)


def test_other_sparsity_than_the_baseline_is_flagged(tmp_path: Path) -> None:
    plan = Plan({"alpha-1": {"l0": 3.2}})
    arm = summary_of(write_comparison(tmp_path / "c", plan))["arms"][1]
    assert arm["l0"]["relative_difference"] == pytest.approx(0.1)
    assert arm["l0"]["mismatch"]


def test_one_seed_has_no_intervals(tmp_path: Path) -> None:
    summary = summary_of(write_comparison(tmp_path / "c", Plan(PLAN.effects, seeds=(0,))))
    for metric in summary["metrics"]:
        for arm in metric["arms"].values():
            assert set(arm["difference"]) == {"mean"}
    assert summary["statistics"]["n_tests"] == {"against controls": 0}
    assert how_tests_are_made(summary) == ""
    counted = summary["statistics"] | {"n_seeds": 2}
    assert how_tests_are_made(summary | {"statistics": counted}) == ""


@pytest.mark.parametrize(
    ("effect", "control", "contrast", "counts", "expected"),
    [
        (0.10, 0.01, 0.09, True, "beyond"),
        (-0.10, -0.01, -0.09, True, "beyond"),
        (0.10, 0.30, -0.20, True, "more"),
        (0.10, 0.09, 0.01, False, "as much"),
        (-0.10, -0.06, -0.04, False, "as much"),
        (0.10, 0.02, 0.08, False, "undecided"),
        (0.10, -0.09, 0.19, False, "undecided"),
    ],
)
def test_an_effect_beside_its_control(
    effect: float, control: float, contrast: float, counts: bool, expected: str
) -> None:
    assert against_control(effect, control, {"mean": contrast}, counts) == expected


@pytest.mark.parametrize(
    ("mean", "direction", "p", "clear", "expected"),
    [
        (0.2, "up", 0.01, False, "better"),
        (0.2, "down", 0.01, False, "worse"),
        (0.2, "up", 0.06, False, ""),
        (0.2, "up", 0.01, True, ""),
        (0.1, "up", 0.01, False, ""),
    ],
)
def test_what_leans(mean: float, direction: str, p: float, clear: bool, expected: str) -> None:
    metric = {"noise": 0.1, "direction": direction}
    assert lean(metric, {"mean": mean, "p": p, "clear": clear}) == expected


def test_how_large_a_difference_has_to_be() -> None:
    # Student's t of 4 degrees of freedom at 0.975 is 2.776, over √5
    assert sds_to_be_clear(5, 1) == pytest.approx(1.2415, abs=1e-3)
    assert sds_to_be_clear(1, 10) is None
    assert sds_to_be_clear(3, 0) is None


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_a_metric_in_steps_is_seldom_clear_where_nothing_differs(n_seeds: int) -> None:
    # The whole way from scores of runs to outcomes: 3 arms at 2 layers, 6 metrics in coarse steps.
    draw = np.random.default_rng(n_seeds)
    runs = [
        run_of(arm, seed, layer)
        for arm in ("sae", "a", "b", "c")
        for seed in range(n_seeds)
        for layer in (1, 3)
    ]
    pairs, _ = pair_runs(runs, {run.run: {} for run in runs})
    wrong = 0
    for _ in range(60):
        metrics = [
            metric_entry(
                pd.DataFrame([score_of(run, v) for run, v in zip(runs, values, strict=True)]),
                pairs,
                {run.hook_name: run.layer for run in runs},
                {},
            )
            for values in np.round(draw.normal(10, 1, size=(6, len(runs)))).tolist()
        ]
        for metric in metrics:
            metric["noise"] = None
        add_tests(metrics, dict.fromkeys("abc", "weighted"))
        differences = [arm["difference"] for m in metrics for arm in m["arms"].values()]
        # Where all seeds happen to agree, the number counts as shared, and is not tested.
        wrong += any(each.get("outcome", "same") != "same" for each in differences)
    # at most 0.05 of 60: 3, with a standard error of 1.7
    assert wrong <= 8


def entry_at(values: dict[tuple[str, int, int, float], float]) -> dict[str, Any]:
    """(arm, layer, seed, k) → its value; arms that begin with "alone" are in no pair."""
    runs = [run_of(arm, seed, layer, k) for arm, layer, seed, k in values]
    scores = [score_of(run, v) for run, v in zip(runs, values.values(), strict=True)]
    pairs, _ = pair_runs(
        [run for run in runs if not run.arm.startswith("alone")], {run.run: {} for run in runs}
    )
    return metric_entry(pd.DataFrame(scores), pairs, {r.hook_name: r.layer for r in runs}, {})


def test_only_what_is_compared_tells_the_steps_of_a_metric() -> None:
    equal = {(arm, 1, seed, 8): 8.0 for arm in ("sae", "alpha-1") for seed in (0, 1)}
    assert entry_at(equal)["resolution"] == 0
    # One more SAE of another L0 is no step of this one, and neither is the pair at another k.
    alone = entry_at(equal | {("alone", 1, 0, 64): 64.0})
    assert alone["resolution"] == 0
    add_tests([alone | {"headline": False}], {"alpha-1": "weighted"})
    assert alone["arms"]["alpha-1"]["difference"] == {"mean": 0, "low": 0, "high": 0}
    wider = {(arm, 3, seed, 32): 32.0 for arm in ("sae", "alpha-1") for seed in (0, 1)}
    assert entry_at(equal | wider)["resolution"] == 0
    # Where runs of one place differ, the smallest step of all counts.
    moved = equal | wider | {("alpha-1", 1, 0, 8): 8.5, ("alpha-1", 3, 1, 32): 32.25}
    assert entry_at(moved)["resolution"] == 0.25


def test_the_baseline_is_counted_once_however_many_arms_stand_beside_it() -> None:
    values: dict[tuple[str, int, int, float], float] = {
        **{("sae", 1, 0, 8): 10, ("a", 1, 0, 8): 11, ("b", 1, 0, 8): 12},
        **{("sae", 3, 0, 8): 30, ("a", 3, 0, 8): 31},
    }
    assert entry_at(values)["baseline"]["mean"] == 20


def test_one_seed_at_each_of_two_layers_is_not_one_number_of_all_seeds() -> None:
    values: Values = {(1, 0): (0.5, 0.6), (3, 1): (0.5, 0.7)}
    entry = entry_of(values)
    assert not entry["shared_over_seeds"]
    assert len(entry["arms"]["alpha-1"]["per_seed"]) == 2


def test_one_batch_says_nothing_of_its_spread() -> None:
    runs = [run_of("sae", 0), run_of("alpha-1", 0)]
    pairs, _ = pair_runs(runs, {run.run: {} for run in runs})
    rows = pd.DataFrame([score_of(run, 1.0 + n) for n, run in enumerate(runs)])
    for batches, half in (((1.0,), None), ((1.0, 2.0), 12.706 * 0.5)):
        per_batch = {"sae-1-0": [0.0] * len(batches), "alpha-1-1-0": batches}
        entry = metric_entry(rows, pairs, {runs[0].hook_name: 1}, per_batch)
        assert entry["arms"]["alpha-1"]["over_batches"] == (half and pytest.approx(half, rel=1e-3))


def test_what_is_tested_is_not_rounded() -> None:
    # Four digits of the differences would be equal: 1.2340001, 1.2340002, 1.2340003.
    values: Values = {(1, seed): (seed * 1e-7, 1.234 + (2 * seed + 1) * 1e-7) for seed in range(3)}
    entry = entry_of(values)
    exact = compare([entry["arms"]["alpha-1"]["per_seed"]], [entry["resolution"]])
    add_tests([entry], {"alpha-1": "weighted"})
    arm = entry["arms"]["alpha-1"]
    assert arm["per_seed"] == [1.234] * 3
    assert arm["difference"]["p"] == pytest.approx(exact[0]["p"], rel=1e-3)
    assert arm["difference"]["p"] > 0


def test_the_spread_over_batches_stands_beside_a_difference(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", Plan({}, seeds=(0, 1), layers=(1,)))

    def differ(document: dict[str, Any]) -> None:
        document["per_batch"]["explained_variance"][0] += 0.01

    for file in folder.glob("runs/*alpha-1*/scores/held_out.json"):
        change_json(file, differ)
    found = metric_of(summary_of(folder), "explained_variance")["arms"]
    # One batch of four differs by 0.01 more than the rest: 3.182 · 0.01 / 2 / √4
    assert found["alpha-1"]["over_batches"] == pytest.approx(3.182 * 0.01 / 4, rel=1e-3)
    assert found["shuffled"]["over_batches"] == pytest.approx(0, abs=1e-9)
    assert metric_of(summary_of(folder), "l0")["arms"]["alpha-1"]["over_batches"] is None


def test_everything_that_a_card_needs_is_there(tmp_path: Path) -> None:
    summary = summary_of(write_comparison(tmp_path / "c", PLAN))
    assert len(metric_of(summary, "l0")["values"]) == summary["compared"]["n_runs"]
    assert all(metric["definition"].startswith("What ") for metric in summary["metrics"])
    assert set(summary["gammas"]) == {"alpha-1", "shuffled"}
    assert summary["gammas"]["alpha-1"]["shares"][-1] == 1
    assert set(summary["learning"]) == {arm["name"] for arm in summary["arms"]}
    assert summary["learning"]["sae"] == [[100, 0.5], [200, 0.75], [300, 0.875]]


def test_a_run_folder_alone_has_levels_and_no_pairs(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", PLAN)
    run = next(folder.glob("runs/*alpha-1*"))
    summary = summary_of(run)
    assert summary["compared"]["n_pairs"] == 0
    assert metric_of(summary, "l0")["values"] == {run.name: 32}
    assert summary["compared"]["training_tokens"] == 1000
    assert all(metric["arms"] == {} for metric in summary["metrics"])
    assert (
        summary["verdict"][0] == "No run could be paired with a baseline, so nothing is compared."
    )


def test_a_report_imports_nothing_that_made_what_it_reads(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", Plan({}, seeds=(0,), layers=(1,)))
    script = (
        "import importlib.machinery, importlib.util, sys, types\n"
        # The package itself registers its architectures with SAELens, which takes both.
        "package = types.ModuleType('wsae_plugin')\n"
        "package.__path__ = importlib.util.find_spec('wsae_plugin').submodule_search_locations\n"
        "sys.modules['wsae_plugin'] = package\n"
        "cli = types.ModuleType('wsae_plugin.cli')\n"
        "cli.__path__ = [package.__path__[0] + '/cli']\n"
        "sys.modules['wsae_plugin.cli'] = cli\n"
        "from pathlib import Path\n"
        "from wsae_plugin.report.inputs import read_inputs\n"
        "from wsae_plugin.report.page import write_pages\n"
        "from wsae_plugin.report.summary import summarize\n"
        "write_pages(Path(sys.argv[1]), summarize(read_inputs(Path(sys.argv[1]))))\n"
        "print(' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name for name in done.stdout.split() if name.startswith("wsae_plugin.")}
    ours = {name.split(".")[1] for name in loaded}
    assert not {"torch", "sae_lens", "transformers", "datasets"} & set(done.stdout.split())
    assert ours.isdisjoint({"training", "measures", "saes", "gamma", "saebench", "toy", "hub"})
    assert (folder / "report.html").is_file()
