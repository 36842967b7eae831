"""The experiments: arms, folder, verdicts, and all of it end to end at a tiny size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens.training.activation_scaler import ActivationScaler

from wsae_plugin.errors import BadInputError
from wsae_plugin.toy.batched import WorldStack, top_k
from wsae_plugin.toy.experiments import EXPERIMENTS, ToySettings, run_experiment
from wsae_plugin.toy.experiments import experiment as experiment_module
from wsae_plugin.toy.experiments.arms import (
    SAE,
    TRUE_INTERFERENCE,
    Arm,
    WorldEvidence,
    loss_weights,
    whitening,
)
from wsae_plugin.toy.experiments.cell import Condition, run_cell
from wsae_plugin.toy.experiments.fig2 import widths
from wsae_plugin.toy.experiments.grid import sparsity_for
from wsae_plugin.toy.worlds import Block, World, axis_privileged

TINY = ToySettings(n_features=16, d_in=4, n_seeds=2, n_steps=3, batch_size=8, n_held_out=64)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def evidence() -> WorldEvidence:
    world = axis_privileged([Block(1, 1), Block(1, 1), Block(5, 2)], 0.1)
    worlds = WorldStack([world], [0])
    activations = worlds.activations(worlds.stream("evidence").sample(40_000))[0]
    return WorldEvidence(activations, world.feature_vectors, seed=3)


def test_what_the_proxies_say_of_single_and_shared_dimensions(evidence: WorldEvidence) -> None:
    """The paper's proxy, the variance, prefers the shared ones; the others the single ones."""
    shared = slice(2, 4)
    single = slice(0, 2)
    variance, kurtosis = evidence.proxy("variance"), evidence.proxy("kurtosis")
    assert variance[shared].min() > 2 * variance[single].max()
    assert kurtosis[single].min() > 1.5 * kurtosis[shared].max()
    # Five unit vectors in a plane have the Gram matrix 2.5 I: g = 2.5·2 / (2·(2.5² + …)) < 1.
    interference = evidence.proxy(TRUE_INTERFERENCE)
    torch.testing.assert_close(interference[single], torch.ones(2).double())
    assert (interference[shared] < 0.8).all()


def test_treatments_of_gamma(evidence: WorldEvidence) -> None:
    def weights(treatment: Any, alpha: float = 1.0) -> torch.Tensor:
        return loss_weights(Arm("a", "a", "control", alpha, treatment=treatment), evidence)

    variance = evidence.proxy("variance")
    torch.testing.assert_close(weights("literal"), variance)
    torch.testing.assert_close(weights("weights"), variance / variance.square().mean().sqrt())
    assert weights("shuffled").sort().values.equal(weights("weights").sort().values)
    assert weights("constant").unique().numel() == 1
    torch.testing.assert_close(
        weights("constant").square().mean(), weights("literal").square().mean()
    )
    assert (weights("input") == 1).all() and (weights("whitened") == 1).all()
    assert (weights("weights", -1.0).argsort() == variance.argsort(descending=True)).all()


def test_whitening_is_saelenss(evidence: WorldEvidence) -> None:
    mean, matrix = whitening(evidence.activations)
    scaler = ActivationScaler()
    x = evidence.activations.double()
    eps = 1e-6 * float(torch.linalg.eigvalsh(x.T.cov()).mean())
    scaler.estimate_whitening(4, iter([x]), n_batches_for_norm_estimate=1, eps=eps)
    assert scaler.whitening is not None
    torch.testing.assert_close(mean, scaler.whitening.mean)
    torch.testing.assert_close(matrix.abs(), scaler.whitening.matrix.abs(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        ((x - mean) @ matrix).T.cov(), torch.eye(4).double(), atol=1e-5, rtol=0
    )


def worlds() -> list[World]:
    return [axis_privileged([Block(2, 1)] * 4, 0.2, seed=seed) for seed in TINY.seeds]


@pytest.mark.parametrize("tied", [True, False])
def test_arms_of_a_cell_are_matched(tied: bool) -> None:
    """Γ = I by another name is the plain SAE, to the last digit, wherever it stands in a stack."""
    arms = (
        SAE,
        Arm("variance", "", "weighted"),
        Arm("uniform", "", "control", 1.0, "uniform"),
        Arm("latent", "", "weighted", 1.0, "latent_variance"),
    )
    steps: list[int] = []
    scores = run_cell(worlds(), arms, Condition(tied, top_k(2), 8), TINY, steps.append)
    assert set(scores) == {"untrained", "sae", "variance", "uniform", "latent"}
    for name, values in scores["sae"].items():
        assert values == pytest.approx(scores["uniform"][name], rel=1e-5)
        assert len(values) == TINY.n_seeds
    assert scores["variance"]["reconstruction_error"] != scores["sae"]["reconstruction_error"]
    assert sum(steps) == len(arms) * TINY.n_seeds * TINY.n_steps


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_end_to_end(name: str, tmp_path: Path) -> None:
    experiment = EXPERIMENTS[name]
    result = run_experiment(experiment, TINY, tmp_path / "new")
    assert json.loads((tmp_path / "new" / f"{name}.json").read_text()) == result
    assert len(result["cells"]) == len(experiment.cells(TINY))
    assert len(result["comparisons"]) == (
        (len(experiment.arms) - 1) * len(experiment.measures) * len(result["cells"])
    )
    assert result["verdict"] and all(sentence.endswith(".") for sentence in result["verdict"])
    for cell in result["cells"]:
        assert set(cell["scores"]) == {"untrained", *(arm.name for arm in experiment.arms)}


def test_names_of_arms_and_cells_are_unique() -> None:
    for experiment in EXPERIMENTS.values():
        names = [arm.name for arm in experiment.arms]
        keys = [cell.key for cell in experiment.cells(ToySettings())]
        assert len(set(names)) == len(names) and experiment.arms[0] == SAE
        assert len(set(keys)) == len(keys)


def test_the_papers_sizes() -> None:
    settings = ToySettings()
    assert (settings.n_features, settings.d_in) == (200, 20)
    assert widths(settings) == [20, 40, 80, 120, 160, 200]
    # two of 200 features active
    assert sparsity_for("block", 2, settings) == 0.99


def test_finished_cells_are_kept_and_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append("cell")
        return run_cell(*args, **kwargs)

    monkeypatch.setattr(experiment_module, "run_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(EXPERIMENTS["fig2"], TINY, tmp_path / "a")
    assert len(list((tmp_path / "a" / "cells").glob("*.json"))) == 3

    def counting(*args: Any, **kwargs: Any) -> Any:
        done.append("cell")
        return run_cell(*args, **kwargs)

    monkeypatch.setattr(experiment_module, "run_cell", counting)
    resumed = run_experiment(EXPERIMENTS["fig2"], TINY, tmp_path / "a")
    assert len(done) == len(resumed["cells"])
    assert run_experiment(EXPERIMENTS["fig2"], TINY, tmp_path / "b") == resumed


def test_a_folder_of_another_config_is_refused(tmp_path: Path) -> None:
    run_experiment(EXPERIMENTS["fig2"], TINY, tmp_path / "a")
    other = ToySettings(**{**vars(TINY), "n_steps": 4})
    with pytest.raises(BadInputError, match="n_steps was 3, now 4"):
        run_experiment(EXPERIMENTS["fig2"], other, tmp_path / "a")
    with pytest.raises(BadInputError, match="experiment was 'fig2', now 'fig3'"):
        run_experiment(EXPERIMENTS["fig3"], TINY, tmp_path / "a")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(BadInputError, match=r"holds no config\.json"):
        run_experiment(EXPERIMENTS["fig2"], TINY, tmp_path / "mine")
    with pytest.raises(BadInputError, match="is a file"):
        run_experiment(EXPERIMENTS["fig2"], TINY, tmp_path / "mine" / "notes.txt")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"d_in": 3}, "--d-in 3"),
        ({"n_features": 20}, "--n-features 20"),
        ({"n_seeds": 1}, "--seeds 1"),
        ({"n_steps": 0}, "--steps 0"),
    ],
)
def test_impossible_sizes_are_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        ToySettings(**fields)
