"""The study of Group Bias Adaptation: worlds, arms, measures by hand, all of it at a tiny size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from wsae_plugin.errors import BadInputError
from wsae_plugin.plots.gba import figures
from wsae_plugin.saes.gba import GBATrainingSAE
from wsae_plugin.toy.metrics import feature_recovery_rate
from wsae_plugin.toy.study import STUDIES, GBASettings, run_study
from wsae_plugin.toy.study.gba import (
    BALANCED,
    IMBALANCED,
    SPREAD,
    SPREAD_ARMS,
    WORLDS,
    GBACell,
    consistency,
    history,
    resonance,
    world_of,
)
from wsae_plugin.toy.study.gba_arms import ARMS, TOP_K, TiedTopKSAE, gba
from wsae_plugin.toy.study.gba_training import CURVE, measure, targets, train
from wsae_plugin.toy.study.study import Piece, comparisons, page_of, spread

GBA = STUDIES["gba"]
TINY = GBASettings(
    n_features=32,
    d_in=8,
    d_sae=64,
    batch_size=16,
    n_steps=4,
    n_seeds=2,
    pool_size=200,
    n_held_out=200,
    n_snapshots=2,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


# --- worlds and arms -----------------------------------------------------------------------------


def test_the_worlds_have_the_frequencies_they_promise() -> None:
    generator = torch.Generator().manual_seed(5)
    active = {name: world_of(name, TINY).sample(4000, generator)[0] > 0 for name in WORLDS}
    assert (active[BALANCED].sum(dim=1) == 12).all()
    counts = active[IMBALANCED].sum(dim=1)
    assert set(counts.tolist()) == {3, 20}
    assert abs((counts == 3).float().mean() - 0.5) < 0.05
    frequency = active[SPREAD].float().mean(dim=0)
    assert abs(frequency[0] - 0.3) < 0.03
    assert 0 < frequency[-1] < 0.01


@pytest.mark.parametrize("world", WORLDS)
def test_no_arm_starts_at_the_truth(world: str) -> None:
    """One seed for the world, the data and the weights must not mean the same random numbers."""
    for seed in (0, 1):
        settings = replace(TINY, d_in=42, d_sae=128, n_features=128, world_seed=seed)
        features = world_of(world, settings).feature_vectors
        for arm in ARMS:
            torch.manual_seed(seed)
            sae = arm.make(settings.d_in, settings.d_sae, seed)
            assert feature_recovery_rate(sae.W_dec, features, 0.8) == 0, arm.name


def test_arms_of_a_family_start_alike() -> None:
    starts: dict[str, torch.Tensor] = {}
    for arm in ARMS:
        torch.manual_seed(3)
        sae = arm.make(8, 64, 3)
        family = "tied" if isinstance(sae, GBATrainingSAE) else "untied"
        start = torch.nn.functional.normalize(sae.W_dec, dim=-1)
        torch.testing.assert_close(starts.setdefault(family, start), start)


def test_every_weighted_arm_has_its_unweighted_one() -> None:
    arms = {arm.name: arm for arm in ARMS}
    for arm in ARMS:
        if arm.against is not None:
            weighted, plain = arm.make(8, 64, 0).cfg, arms[arm.against].make(8, 64, 0).cfg
            different = {
                name for name, value in vars(weighted).items() if vars(plain)[name] != value
            }
            assert "alpha" in different
            assert different <= {"alpha", "gamma_proxy", "metadata"}


def test_the_tied_top_k_has_at_most_k_active_latents() -> None:
    sae = gba(TiedTopKSAE)(8, 64, 0)
    acts = sae.encode(torch.randn(50, 8))
    assert ((acts != 0).sum(dim=1) <= TOP_K).all()
    assert (acts >= 0).all() and (acts > 0).any()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"n_features": 16}, "--n-features 16"),
        ({"d_in": 1}, "--d-in 1"),
        ({"d_sae": 31}, "--d-sae 31"),
        ({"n_seeds": 1}, "--seeds 1"),
        ({"n_steps": 1}, "--steps 1"),
        ({"rates": (1e-3, 0.0)}, "--lr"),
    ],
)
def test_what_is_impossible_is_refused(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInputError, match=named):
        replace(TINY, **changed)


# --- one training --------------------------------------------------------------------------------


def test_a_training_repeats_itself_and_seeds_differ() -> None:
    world = world_of(IMBALANCED, TINY)
    first, again = (train(gba(), world, 1e-3, 0, TINY) for _ in range(2))
    assert first[0] == again[0]
    assert torch.equal(first[1]["W_dec"], again[1]["W_dec"])
    _, other = train(gba(), world, 1e-3, 1, TINY)
    assert not torch.equal(first[1]["W_dec"], other["W_dec"])
    assert [one["step"] for one in first[0]["history"]] == [2, 4]


def test_measures_of_the_true_dictionary() -> None:
    """Latents that are the features score 1, and fire at least as often as their features do."""
    world = world_of(SPREAD, TINY)
    sae = gba()(TINY.d_in, 2 * TINY.n_features, 0)
    with torch.no_grad():
        # The second half, pointing away from everything that happens, is dead.
        away = -world.feature_vectors.sum(dim=0, keepdim=True).expand_as(world.feature_vectors)
        sae.directions.copy_(torch.cat([world.feature_vectors, away]))
        sae.bias.fill_(-1e-6)
        sae.bias[TINY.n_features :] = -1e3
    measured, frequency = measure(sae, world, 0, TINY)
    assert all(measured[f"frr_{threshold:g}"] == 1 for threshold in CURVE)
    assert measured["latents_that_are_features"] == 1
    assert measured["dead"] == 0.5
    assert measured["l0"] == pytest.approx(float(frequency.sum()))


def test_targets_are_those_of_the_groups_and_of_nothing_else() -> None:
    sae = gba(n_groups=2, highest_target_frequency=0.5, lowest_target_frequency=0.1)(8, 64, 0)
    torch.testing.assert_close(targets(sae), torch.tensor([0.5] * 32 + [0.1] * 32))
    assert targets(gba(TiedTopKSAE)(8, 64, 0)).isnan().all()


# --- from records to the result ------------------------------------------------------------------


def test_consistency_worked_by_hand() -> None:
    east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    near_east = torch.tensor([0.95, 0.3])
    assert consistency([torch.stack([east, north]), torch.stack([near_east])]) == [0.5, 1.0]
    assert consistency([torch.stack([east]), torch.stack([-east])]) == [0.0, 0.0]
    assert consistency([torch.stack([east]), torch.empty(0, 2)]) == [0.0, 0.0]


def test_scores_and_history_are_means_over_seeds() -> None:
    assert history([[{"step": 10, "frr_0.9": low}] for low in (0.2, 0.4)]) == {
        "step": [10.0],
        "frr_0.9": [0.3],
    }
    found = spread([0.2, 0.4])
    assert found["mean"] == 0.3 and found["per_seed"] == [0.2, 0.4]
    assert found["low"] < 0.2 and found["high"] > 0.4


def test_weighted_forms_are_compared_with_their_own_unweighted_one() -> None:
    def records(level: float) -> list[dict[str, float]]:
        others = dict.fromkeys(("latents_that_are_features", "explained_variance"), 0.0)
        return [
            {"frr_0.8": level + wobble, "frr_0.9": level, **others} for wobble in (0.0, 0.01, 0.02)
        ]

    levels = {arm.name: number / 100 for number, arm in enumerate(ARMS)}
    against = {arm.name: arm.against or "gba" for arm in ARMS[1:]}
    assert {name for name, other in against.items() if other != "gba"} == {
        *("gba-reconstruction-weighted", "gba-reconstruction-shuffled"),
        *("top-k-30-weighted", "l1-weighted"),
    }
    rows = comparisons(GBA, [{name: records(x) for name, x in levels.items()}])
    assert {row["arm"] for row in rows} == set(against)
    for row in rows:
        # Two questions: does any arm differ from GBA, and does any weighted form from its own?
        assert row["tests"] == (9 if against[row["arm"]] == "gba" else 4)
        if row["measure"] in ("frr_0.8", "frr_0.9"):
            expected = levels[row["arm"]] - levels[against[row["arm"]]]
            assert row["mean"] == pytest.approx(expected, rel=1e-3)


def test_resonance_lists_live_latents_with_their_closest_feature() -> None:
    world = world_of(SPREAD, TINY)
    tensors = {
        "W_dec": world.feature_vectors[[7, 0, 3]] * 2,
        "frequency": torch.tensor([0.25, 0.0, 0.5]),
        "target": torch.tensor([0.2, 0.2, 0.4]),
    }
    found = resonance(world, tensors)
    assert found["frequency"] == [0.25, 0.5]
    assert found["target"] == [0.2, 0.4]
    assert found["cosine"] == [1.0, 1.0]
    expected = world.firing_probabilities[[7, 3]].tolist()
    assert found["feature_frequency"] == pytest.approx(expected, rel=1e-2)
    nothing_aimed_for = tensors | {"target": torch.full((3,), torch.nan)}
    assert resonance(world, nothing_aimed_for)["target"] == []


# --- the study -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("study") / "out"
    return folder, run_study(GBA, TINY, folder, threads=1)


def test_the_result_is_the_file_and_covers_the_grid(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    folder, result = finished
    assert json.loads((folder / "gba.json").read_text()) == json.loads(json.dumps(result))
    cells = {cell["world"]: cell for cell in result["cells"]}
    for world in (IMBALANCED, BALANCED):
        assert set(cells[world]["scores"]) == {arm.name for arm in ARMS}
        assert "resonance" not in cells[world]
    assert set(cells[SPREAD]["scores"]) == set(cells[SPREAD]["resonance"]) == set(SPREAD_ARMS)


def test_a_study_goes_on_where_it_stopped(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, result = finished
    trained: list[str] = []

    def stopping(piece: Any, *more: Any) -> Any:
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(piece.key)
        return GBA.train(piece, *more)

    with pytest.raises(KeyboardInterrupt):
        run_study(replace(GBA, train=stopping), TINY, tmp_path / "again", threads=1)
    assert len(list((tmp_path / "again" / "cells").glob("*.json"))) == 3

    def counting(piece: Any, *more: Any) -> Any:
        trained.append(piece.key)
        return GBA.train(piece, *more)

    again = run_study(replace(GBA, train=counting), TINY, tmp_path / "again", threads=1)
    assert again == result
    assert len(trained) == len(list((folder / "cells").glob("*.json")))


def test_another_config_is_refused(finished: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(BadInputError, match="n_steps was 4, now 6"):
        run_study(GBA, replace(TINY, n_steps=6), finished[0])


def test_two_processes_give_the_same_numbers(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, _ = finished
    cell = GBACell(IMBALANCED, 1e-3)

    def nothing(*_: Any) -> Any:
        return {}

    def only_cell(_: Any) -> list[GBACell]:
        return [cell]

    def first_arm(*_: Any) -> list[Piece]:
        return [piece for piece in GBA.pieces_of(cell, TINY) if piece.arms == ARMS[:1]]

    few = replace(GBA, arms=ARMS[:1], cells=only_cell, pieces=first_arm, facts=nothing)
    page = tmp_path / "page.md.j2"
    page.write_text("# {{ title }}\n")
    few = replace(few, verdict=nothing, evidence=nothing, page=page)
    run_study(few, TINY, tmp_path / "out", jobs=2)
    for piece in first_arm():
        name = f"cells/{piece.key}.json"
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()


def test_page_and_figures_are_drawn_from_the_json(finished: tuple[Path, dict[str, Any]]) -> None:
    written = json.loads((finished[0] / "gba.json").read_text())
    text = page_of(GBA, written)
    assert (finished[0] / "gba.md").read_text() == text
    for arm in ARMS:
        assert f"| {arm.label} |" in text
    assert "| 38.3% / 3.9% |" in text
    assert all(sentence in text for sentence in written["verdict"])
    assert set(figures(written)) == set(GBA.figures)


@pytest.mark.slow
def test_the_defaults_recover_features_and_the_printed_settings_do_not() -> None:
    """The study's main finding, at half of its width."""
    settings = replace(GBASettings(), d_sae=512)
    arms = {arm.name: arm for arm in ARMS}
    defaults, printed = (
        train(arms[name].make, world_of(IMBALANCED, settings), 1e-3, 0, settings)[0]["frr_0.9"]
        for name in ("gba", "gba-printed")
    )
    assert defaults > 0.75
    assert printed < 0.1


def test_gba_is_the_class_that_users_get() -> None:
    assert type(ARMS[0].make(8, 64, 0)) is GBATrainingSAE
