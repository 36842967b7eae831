"""The search for the coefficient that gives an arm its baseline's L0."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.compare.comparisons import run, small
from tests.training.tiny import TinyWorld, sae, write_config
from wsae_plugin.compare.folder import ComparisonFolder, last_l0
from wsae_plugin.compare.manifest import Comparison
from wsae_plugin.compare.match_l0 import match_l0, next_coefficient
from wsae_plugin.compare.plan import load_comparison_config
from wsae_plugin.compare.run import run_comparison
from wsae_plugin.errors import BadInputError
from wsae_plugin.training.config import RunConfig
from wsae_plugin.training.train import TrainedRun

pytestmark = pytest.mark.filterwarnings("ignore:All samples in the training dataset")

JUMPRELU = {
    "architecture": "weighted_jumprelu",
    "jumprelu_sparsity_loss_mode": "tanh",
    "jumprelu_ste_to_input": True,
    "jumprelu_init_threshold": 0.1,
    "jumprelu_bandwidth": 0.5,
    "l0_coefficient": 1.0,
    "normalize_activations": "expected_average_only_in",
}


def matching(world: TinyWorld, **changes: Any) -> dict[str, Any]:
    """A penalty three times the baseline's, over enough steps for it to tell."""
    values: dict[str, Any] = {
        "sae": sae(alpha=None, k=None, gamma_freeze_step=5, **JUMPRELU),
        "sparsity": None,
        "seeds": [0, 1],
        "arms": {"sae": {"alpha": 0}, "other": {"alpha": 0, "l0_coefficient": 5.0}},
        "training_tokens": 40 * 128,
        "n_batches_for_norm_estimate": 2,
        "lr": 5e-3,
        "match_l0": 1.0,
    }
    return small(world, **values | changes)


@pytest.mark.parametrize("exponent", [-0.3, -1.0, -2.5])
@pytest.mark.parametrize("start", [0.02, 1.0, 90.0])
def test_it_finds_the_coefficient_of_a_power_law(exponent: float, start: float) -> None:
    trials = [(start, exponent * math.log(start))]  # L0 is as wanted at 1
    while abs(trials[-1][1]) > math.log(1.05):
        at = next_coefficient(trials)
        trials.append((at, exponent * math.log(at)))
    assert len(trials) <= 6


def test_it_gets_over_an_edge() -> None:
    """L0 that falls to nothing at some coefficient: what is beyond it says little."""

    def miss(coefficient: float) -> float:
        return 0.6 - 0.1 * math.log(coefficient) if coefficient < 30 else -5.0

    trials = [(5.0, miss(5.0))]
    for _ in range(5):
        trials.append((at := next_coefficient(trials), miss(at)))
        assert at <= 4.01 * max(coefficient for coefficient, _ in trials[:-1])
    assert max(c for c, m in trials if m > 0) > 20


def test_what_does_not_fall_is_no_reason_to_turn_round() -> None:
    assert next_coefficient([(1.0, 0.3), (2.0, 0.5)]) == pytest.approx(2 * math.exp(0.3))
    assert next_coefficient([(1.0, -0.3), (0.5, -0.5)]) == pytest.approx(0.5 * math.exp(-0.3))


def test_it_gets_out_of_silence() -> None:
    """Where no latent is active, one coefficient is as bad as the next."""
    trials = [(20.0, -5.0)]
    for _ in range(3):
        trials.append((next_coefficient(trials), -5.0))
    assert [c for c, _ in trials] == pytest.approx([20, 5, 1.25, 0.3125])


def test_arms_are_matched_and_it_is_told(
    world: TinyWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "wsae_plugin.compare"):
        comparison = run(tmp_path, matching(world))
    (match,) = comparison.l0_matching
    assert (match.arm, match.field, match.written) == ("other", "l0_coefficient", 5.0)
    # What differs is the coefficient alone, so the baseline's own is a solution.
    assert match.found == pytest.approx(1.0, rel=0.3)
    assert match.trainings > 1
    assert "layer-1-other: l0_coefficient" in caplog.text
    runs = {each.run: each for each in comparison.runs}
    for seed in (0, 1):
        config = yaml.safe_load(
            (runs[f"layer-1-other-seed-{seed}"].path / "config.yaml").read_text()
        )
        assert config["sae"]["l0_coefficient"] == match.found
    mine, theirs = (last_l0(runs[f"layer-1-{arm}-seed-0"].path) for arm in ("other", "sae"))
    assert (mine, theirs) == pytest.approx((match.l0, match.baseline_l0)), "the same training"
    assert abs(mine / theirs - 1) < 0.051
    assert "most measures follow sparsity" not in caplog.text
    assert [path.name for path in (comparison.folder / "groups").iterdir()] == ["seed-0", "seed-1"]


def test_without_a_search_the_log_warns(
    world: TinyWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "wsae_plugin.compare"):
        comparison = run(tmp_path, matching(world, match_l0=None, seeds=[0]))
    assert comparison.l0_matching == []
    (record,) = [record for record in caplog.records if "follow sparsity" in record.message]
    assert record.message.startswith("layer-1-other-seed-0: L0 is ")
    assert "; another l0_coefficient for other brings them together, and match_l0" in record.message


def test_where_no_coefficient_sets_l0_none_is_spoken_of(
    world: TinyWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arms = {"sae": {"alpha": 0}, "denser": {"alpha": 0, "k": 8}}
    with caplog.at_level(logging.WARNING, "wsae_plugin.compare"):
        run(tmp_path, small(world, seeds=[0], arms=arms, sparsity=None, sae=sae(alpha=None)))
    (record,) = [record for record in caplog.records if "follow sparsity" in record.message]
    assert record.message == (
        "layer-1-denser-seed-0: L0 is 8.0, and 4.0 of its baseline: most measures follow sparsity"
    )


def test_a_search_is_not_made_twice(
    world: TinyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = matching(world, seeds=[0], match_l0=0.1)
    before = run(tmp_path, values)
    file = before.folder / "manifest.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps(manifest | {"status": "running", "runs": []}))
    monkeypatch.delattr("wsae_plugin.compare.run.match_l0")
    config = load_comparison_config(tmp_path / "compare.yaml")
    again = run_comparison(config, before.folder, resume=True)
    assert again.l0_matching == before.l0_matching


@pytest.mark.parametrize("share", [0, 1.5, True])
def test_what_is_no_share_is_refused(world: TinyWorld, tmp_path: Path, share: Any) -> None:
    with pytest.raises(BadInputError, match="match_l0 = .*: must be"):
        run(tmp_path, matching(world, match_l0=share))


def test_top_k_needs_no_search(world: TinyWorld, tmp_path: Path) -> None:
    comparison = run(tmp_path, small(world, seeds=[0], match_l0=0.5))
    assert comparison.l0_matching == []
    assert Comparison.read(comparison.folder).status == "finished"


def test_the_trainings_are_short_and_only_of_what_is_left(
    world: TinyWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With L0 = 40 / coefficient for one arm, and one that the coefficient does not move."""
    caplog.set_level(logging.WARNING)  # other tests may have asked for more
    values = matching(
        world,
        match_l0=0.5,
        sae=sae(alpha=None, k=None, alpha_warm_up_steps=9, l0_warm_up_steps=20, **JUMPRELU),
        arms={
            "sae": {"alpha": 0},
            "moved": {"alpha": 0.5, "l0_coefficient": 5.0},
            "fixed": {"alpha": 1},
        },
        lr_warm_up_steps=4,
        lr_decay_steps=10,
        n_checkpoints=3,
    )
    config = load_comparison_config(write_config(tmp_path / "compare.yaml", values))
    trained: list[dict[str, Any]] = []

    def train(short: RunConfig, path: Path) -> TrainedRun:
        path.mkdir(parents=True)
        trained.append(short.values)
        l0 = {
            name: 10.0 if name.endswith("fixed") else 40 / section["l0_coefficient"]
            for name, section in short.values["saes"].items()
        }
        metrics: Any = {name: {"metrics/l0": value} for name, value in l0.items()}
        return TrainedRun(path, {}, metrics, {})

    moved, fixed = match_l0(config, ComparisonFolder(tmp_path / "out"), train)
    assert moved.found == pytest.approx(1, rel=0.06)
    assert (moved.l0, moved.baseline_l0) == pytest.approx((40 / moved.found, 40))
    assert (moved.written, fixed.written, fixed.found) == (5.0, 1.0, 1.0)
    assert (moved.trainings, fixed.trainings, len(trained)) == (3, 6, 6)
    names = [sorted(name.removeprefix("layer-1-") for name in of["saes"]) for of in trained]
    assert names == [["fixed", "moved", "sae"], *[["fixed", "moved"]] * 2, *[["fixed"]] * 3]
    assert [r.levelname for r in caplog.records if "short trainings" in r.message] == ["WARNING"]
    for values in trained:
        lengths = [values[n] for n in ("training_tokens", "lr_warm_up_steps", "lr_decay_steps")]
        assert lengths == [20 * 128, 2, 5]
        assert (values["n_checkpoints"], values["logger"]["log_to_wandb"]) == (0, False)
        for section in values["saes"].values():
            assert (section["alpha_warm_up_steps"], section["l0_warm_up_steps"]) == (4, 10)
    assert not (tmp_path / "out" / "groups" / "match-l0").exists()
