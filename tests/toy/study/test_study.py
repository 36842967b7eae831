"""The studies: arms, folder, verdicts, and all of it end to end at a tiny size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens.training.activation_scaler import ActivationScaler

from wsae_plugin.errors import BadInputError
from wsae_plugin.plots.toy import FIGURES as toy_figures
from wsae_plugin.toy.batched.activation import top_k
from wsae_plugin.toy.batched.data import WorldStack
from wsae_plugin.toy.study import STUDIES, GBASettings, Study, ToySettings, run_study
from wsae_plugin.toy.study import worlds as worlds_module
from wsae_plugin.toy.study.arms import (
    SAE,
    TRUE_INTERFERENCE,
    ToyArm,
    WorldEvidence,
    whitening,
)
from wsae_plugin.toy.study.cells import Condition, in_every_world, train
from wsae_plugin.toy.study.fig2 import widths
from wsae_plugin.toy.study.folder import StudyFolder
from wsae_plugin.toy.study.study import Piece
from wsae_plugin.toy.study.worlds import WORLDS, Layout, layout_of, toy_world
from wsae_plugin.toy.worlds import Block, block_directions, make_world

FIGURES = {name: study for name, study in STUDIES.items() if name != "gba"}
TINY = ToySettings(n_features=16, d_in=4, n_seeds=2, n_steps=3, batch_size=8, n_held_out=64)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def evidence() -> WorldEvidence:
    world = make_world(block_directions([Block(1, 1), Block(1, 1), Block(5, 2)]), 0.1)
    worlds = WorldStack([world], [0])
    activations = worlds.activations(worlds.stream("evidence").sample(40_000))[0]
    truth = world.feature_vectors
    return WorldEvidence(activations, truth, truth, worlds.stream("evidence").sample(9)[0], seed=3)


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
        return evidence.treat(ToyArm("a", "a", "control", alpha=alpha, treatment=treatment))[0]

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


@pytest.mark.parametrize("tied", [True, False])
def test_arms_of_a_cell_are_matched(tied: bool, tmp_path: Path) -> None:
    """Γ = I by another name is the plain SAE, to the last digit, wherever it stands in a stack."""
    arms = (
        SAE,
        ToyArm("variance", "", "weighted"),
        ToyArm("uniform", "", "control", proxy="uniform"),
        ToyArm("latent", "", "weighted", proxy="latent_variance"),
    )
    steps: list[int] = []
    piece = Piece(Condition("block", 0.8, tied, top_k(2), 8), arms, (0, 1))
    records = train(piece, TINY, StudyFolder(tmp_path, {}), steps.append)
    assert set(records) == {"untrained", "sae", "variance", "uniform", "latent"}
    for plain, uniform, weighted in zip(
        records["sae"], records["uniform"], records["variance"], strict=True
    ):
        assert plain == pytest.approx(uniform, rel=1e-5)
        assert plain["reconstruction_error"] != weighted["reconstruction_error"]
    assert all(len(found) == TINY.n_seeds for found in records.values())
    assert sum(steps) == len(arms) * TINY.n_seeds * TINY.n_steps


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_study_end_to_end(name: str, tmp_path: Path) -> None:
    study = STUDIES[name]
    result = run_study(study, TINY, tmp_path / "new")
    assert json.loads((tmp_path / "new" / f"{name}.json").read_text()) == result
    assert len(result["cells"]) == len(study.cells(TINY))
    assert len(result["comparisons"]) == (
        (len(study.arms) - 1) * len(study.measures) * len(result["cells"])
    )
    assert len(result["verdict"]) == 3
    told = [*result["verdict"], *result["evidence"]]
    assert all(sentence.endswith(".") for sentence in told)
    for cell in result["cells"]:
        assert set(cell["scores"]) == {"untrained", *(arm.name for arm in study.arms)}


def test_names_of_arms_and_files_are_unique() -> None:
    for study in STUDIES.values():
        settings = GBASettings() if study.name == "gba" else ToySettings()
        names = [arm.name for arm in study.arms]
        keys = [p.key for cell in study.cells(settings) for p in study.pieces_of(cell, settings)]
        assert len(set(names)) == len(names)
        assert [arm.role for arm in study.arms].index("baseline") == 0
        assert len(set(keys)) == len(keys)


def test_the_papers_sizes() -> None:
    settings = ToySettings()
    assert (settings.n_features, settings.d_in) == (200, 20)
    assert widths(settings) == [20, 40, 80, 120, 160, 200]
    # two of 200 features active, in the learned world at any size
    assert layout_of("block", settings).sparsity_for(2) == 0.99
    assert layout_of("learned", TINY).sparsity_for(2) == 0.99
    # ten single features fire five times as often as the 25 others
    assert layout_of("frequent", settings).sparsity_for(2) == round(1 - 2 / 75, 3)


def test_a_new_world_is_one_function(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(worlds_module, "_LAYOUTS", dict(worlds_module._LAYOUTS))  # pyright: ignore[reportPrivateUsage]

    @toy_world("a digon in every dimension")
    def digons(settings: ToySettings) -> Layout:
        blocks = [Block(2, 1)] * settings.d_in
        return Layout(
            torch.ones(2 * settings.d_in),
            lambda seed: block_directions(blocks, seed),
        )

    try:
        cells = in_every_world(TINY, (2,))
        assert [cell.d_sae for cell in cells if cell.world == "digons"] == [8, 8]

        def digon_cells(_: Any) -> list[Condition]:
            return [cell for cell in cells if cell.world == "digons"]

        study = replace(STUDIES["proxies"], cells=digon_cells)
        result = run_study(study, TINY, tmp_path / "new")
        assert result["worlds"] == {"digons": "a digon in every dimension"}
        assert "'a digon in every dimension'" in result["evidence"][1]
        assert set(toy_figures["proxies"](result)) == {"proxies"}
    finally:
        del WORLDS[digons.__name__]


def counted(study: Study, done: list[str], stop_at: int | None = None) -> Study:
    def train(piece: Any, *more: Any) -> Any:
        if len(done) == stop_at:
            raise KeyboardInterrupt
        done.append(piece.key)
        return study.train(piece, *more)

    return replace(study, train=train)


def test_finished_cells_are_kept_and_skipped(tmp_path: Path) -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_study(counted(STUDIES["fig2"], done, stop_at=3), TINY, tmp_path / "a")
    assert len(list((tmp_path / "a" / "cells").glob("*.json"))) == 3
    resumed = run_study(counted(STUDIES["fig2"], done), TINY, tmp_path / "a")
    assert len(done) == len(resumed["cells"])
    assert run_study(STUDIES["fig2"], TINY, tmp_path / "b") == resumed


def test_a_folder_of_another_config_is_refused(tmp_path: Path) -> None:
    run_study(STUDIES["fig2"], TINY, tmp_path / "a")
    other = ToySettings(**{**vars(TINY), "n_steps": 4})
    with pytest.raises(BadInputError, match="n_steps was 3, now 4"):
        run_study(STUDIES["fig2"], other, tmp_path / "a")
    with pytest.raises(BadInputError, match="experiment was 'fig2', now 'fig3'"):
        run_study(STUDIES["fig3"], TINY, tmp_path / "a")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(BadInputError, match="is not empty"):
        run_study(STUDIES["fig2"], TINY, tmp_path / "mine")
    with pytest.raises(BadInputError, match="is a file"):
        run_study(STUDIES["fig2"], TINY, tmp_path / "mine" / "notes.txt")


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
