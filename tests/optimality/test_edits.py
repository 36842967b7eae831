"""What is done about an SAE, against what is known of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE
from safetensors.torch import load_file

from tests.architectures import ARCHITECTURES, D_IN, activations
from tests.optimality.planted import ACTIVE, D, atoms, plant, write_table
from tests.optimality.test_coded import OF_SAELENS, UNWEIGHTED, of_saelens, published
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.measures.evaluate import evaluate_runs
from wsae_plugin.optimality import Coded
from wsae_plugin.optimality.coded import coded, weighted
from wsae_plugin.optimality.edits import (
    EDITS,
    fewest_of,
    prune,
    refit,
    thresholds_of,
    to_be_edited,
    with_decoder_folded,
    write_edited,
)
from wsae_plugin.optimality.run import OptimalitySettings

SETTINGS = OptimalitySettings(samples=2000, batches=8)
NORMAL = torch.randn(D_IN, D_IN, generator=torch.Generator().manual_seed(3)).double()
WEIGHTS = {
    "none": UNWEIGHTED,
    "gamma": torch.linspace(0.5, 2, D_IN).double(),
    "metric": NORMAL @ NORMAL.T + torch.eye(D_IN).double(),
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("planted") / "table.npy")


def edited(sae: Path, output: Path, edit: str) -> dict[str, Any]:
    return write_edited(to_be_edited([sae], edit, output), edit, output, SETTINGS)


def of_one_latent(acts: list[float], x: list[float]) -> Coded:
    """Samples along the first of two atoms, and what its latent says of them."""
    values = torch.tensor(acts).double().unsqueeze(1)
    samples = torch.stack([torch.tensor(x).double(), torch.zeros(len(x)).double()], dim=1)
    latents = torch.zeros(len(x), 1, dtype=torch.long)
    return Coded(samples, torch.eye(2).double(), latents, values)


def test_thresholds_by_hand() -> None:
    # Dropping z costs x² − (x − z)²: nine times −1, with two standard errors −9 + 2 · 3; then 2 for
    # x = z = √2, and 2.25 − 20.25 = −18 for one that alone is not believed; then 16 nine
    # times.
    acts, x = 9 * [1.0] + [2**0.5, 3.0], 9 * [0.0] + [2**0.5, -1.5]
    of = of_one_latent(acts + 9 * [4.0], x + 9 * [4.0])
    assert thresholds_of(of, of.values).tolist() == [1, 0]
    # In whatever order samples come, and by activations that are not as long as codes.
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    mixed = of.of(order)
    assert thresholds_of(mixed, 10 * mixed.values).tolist() == [10, 0]


def test_a_threshold_stays_where_nothing_is_gained_and_where_little_is_known() -> None:
    right = of_one_latent(20 * [2.0], 20 * [2.0])
    assert thresholds_of(right, right.values).tolist() == [0, 0]
    wrong = of_one_latent(19 * [1.0], 19 * [0.0])
    assert thresholds_of(wrong, wrong.values).tolist() == [0, 0]


@pytest.mark.parametrize(("second", "expected"), [(0.2, 1), (0.3, 2)])
def test_the_fewest_latents_by_hand(second: float, expected: int) -> None:
    """With a code of 0.5 for 0.2, (0.5 − 0.2)² > 0.2² is left; for 0.3 it is 0.2² < 0.3²."""
    x = torch.tensor([[1.0, second]]).double()
    of = Coded(
        x, torch.eye(2).double(), torch.tensor([[0, 1]]), torch.tensor([[1.0, 0.5]]).double()
    )
    assert fewest_of(of, of.values) == expected


def test_the_latents_that_stay_are_those_with_the_largest_activations() -> None:
    x = torch.tensor([[1.0, 0.2]]).double()
    of = Coded(
        x, torch.eye(2).double(), torch.tensor([[0, 1]]), torch.tensor([[1.0, 0.5]]).double()
    )
    # The second atom is shorter than its activation is large, so that the first would go.
    assert fewest_of(of, torch.tensor([[1.0, 5.0]]).double()) == 2


@pytest.mark.parametrize("name", [name for name in OF_SAELENS if "pursuit" not in name])
@pytest.mark.parametrize("weight", WEIGHTS)
@torch.no_grad()
def test_a_refit_finds_the_decoder_that_the_codes_are_of(name: str, weight: str) -> None:
    sae, x, gamma = with_decoder_folded(of_saelens(name)), activations(2000), WEIGHTS[weight]
    own, batch = coded(sae, x, gamma), torch.arange(2000) // 250
    generator = torch.Generator().manual_seed(0)
    acts = sae.encode(x)
    truth = sae.W_dec + 0.2 * torch.randn(sae.W_dec.shape, generator=generator)
    target = weighted((acts @ truth).double(), gamma)
    sae, _ = refit(sae, replace(own, x=target), batch, gamma)
    left = target - weighted((acts @ sae.W_dec).double(), gamma)
    before = replace(own, x=target).residual
    assert float(left.square().sum()) < 0.05 * float(before.square().sum())
    assert torch.equal(sae.encode(x), acts)


@pytest.mark.parametrize("name", ["topk, rescaled", "abstopk, rescaled"])
def test_folding_the_decoder_changes_nothing(name: str) -> None:
    x = activations()
    with torch.no_grad():
        expected = of_saelens(name)(x)
        sae = with_decoder_folded(of_saelens(name))
        assert torch.equal(sae.W_dec.norm(dim=1) > 0.999, torch.ones(len(sae.W_dec)).bool())
        torch.testing.assert_close(sae(x), expected)


@pytest.mark.parametrize("name", ["standard", "jumprelu", "topk", "abstopk"])
def test_pruning_leaves_no_more_of_the_samples_that_it_was_fitted_on(
    name: str, tmp_path: Path
) -> None:
    (architecture,) = (each for each in ARCHITECTURES if each.name == name)
    sae, x = published(architecture, tmp_path), activations(500)
    own = coded(sae, x, UNWEIGHTED)
    pruned, _ = prune(sae, own, torch.zeros(500), UNWEIGHTED)
    after = coded(pruned, x, UNWEIGHTED)
    assert (after.l0 <= own.l0).all()
    if name.endswith("topk"):
        assert after.residual.square().sum() <= own.residual.square().sum() * (1 + 1e-9)


def test_a_wrong_decoder_is_refitted(table: Path, tmp_path: Path) -> None:
    gamma = torch.linspace(0.5, 2, D)
    sae = plant(tmp_path / "off", table, off=0.2, gamma=gamma)
    record = edited(sae, tmp_path / "after", "refit")
    change = record["metrics"]
    assert change["explained_variance"]["low"] > 0.5
    assert change["weighted_explained_variance"]["after"] > 0.98
    assert change["l0"]["difference"] == 0
    assert json.loads((tmp_path / "after" / "edit.json").read_text()) == record
    before, after = SAE.load_from_disk(sae), SAE.load_from_disk(tmp_path / "after")
    assert torch.equal(after.W_enc, before.W_enc) and torch.equal(after.b_dec, before.b_dec)
    before_off, after_off = ((each.W_dec.detach() - atoms()).norm() for each in (before, after))
    assert after_off < 0.1 * before_off
    assert torch.equal(load_file(tmp_path / "after" / "gamma.safetensors")["gamma"], gamma)
    assert after.cfg.metadata.edits == ["refit"]
    (scores,) = evaluate_runs([tmp_path / "after"])
    measured = {score["metric"]: score["value"] for score in scores["scores"]}
    assert measured["explained_variance"] > 0.98


@pytest.mark.parametrize("architecture", ["jumprelu", "standard"])
def test_latents_that_fire_for_nothing_are_pruned(
    architecture: str, table: Path, tmp_path: Path
) -> None:
    sae = plant(tmp_path / "loud", table, architecture, bias=0.3)
    record = edited(sae, tmp_path / "after", "prune")
    assert record["done"]["raised_thresholds"] == D
    assert record["metrics"]["l0"]["before"] == pytest.approx(D, rel=0.01)
    assert record["metrics"]["l0"]["after"] == pytest.approx(ACTIVE, rel=0.05)
    after = SAE.load_from_disk(tmp_path / "after")
    assert after.cfg.architecture() == "jumprelu"
    # Up to 0.3 and the noise for atoms that are not there, from 1.3 on for those that are.
    threshold = after.state_dict()["threshold"]
    assert (threshold > 0.3).all() and (threshold < 1.0).all()
    (scores,) = evaluate_runs([tmp_path / "after"])
    measured = {score["metric"]: score["value"] for score in scores["scores"]}
    assert measured["l0"] == pytest.approx(ACTIVE, rel=0.05)


@pytest.mark.parametrize("rescaled", [False, True])
def test_a_k_that_is_too_large_is_lowered(rescaled: bool, table: Path, tmp_path: Path) -> None:
    fields = {"rescale_acts_by_decoder_norm": rescaled}
    sae = plant(tmp_path / "loud", table, bias=0.3, k=ACTIVE + 2, **fields)
    record = edited(sae, tmp_path / "after", "prune")
    assert record["done"] == {"k": ACTIVE, "former_k": ACTIVE + 2}
    assert record["metrics"]["l0"]["after"] == ACTIVE
    assert record["metrics"]["explained_variance"]["low"] > 0
    assert SAE.load_from_disk(tmp_path / "after").cfg.k == ACTIVE


def test_a_refit_follows_pruning(table: Path, tmp_path: Path) -> None:
    sae = plant(tmp_path / "both", table, bias=0.3, k=ACTIVE + 2)
    edited(sae, tmp_path / "pruned", "prune")
    record = edited(tmp_path / "pruned", tmp_path / "after", "refit")
    assert record["of"] == "pruned"
    # Its activations stay too large by the bias, and the decoder makes up for it.
    assert record["metrics"]["explained_variance"]["after"] > 0.97
    assert SAE.load_from_disk(tmp_path / "after").cfg.metadata.edits == ["prune", "refit"]


@pytest.mark.parametrize("edit", EDITS)
def test_what_is_right_stays_and_nothing_is_written(edit: str, table: Path, tmp_path: Path) -> None:
    sae = plant(tmp_path / "right", table)
    with pytest.raises(
        RunFailedError, match=rf"--{edit}: does not gain, .*explained variance 0.99"
    ):
        edited(sae, tmp_path / "after", edit)
    assert not (tmp_path / "after").exists()


def test_a_metric_is_taken_along(table: Path, tmp_path: Path) -> None:
    metric = torch.linspace(0.5, 1.5, D).double().diag()
    sae = plant(tmp_path / "off", table, off=0.2, metric=metric)
    edited(sae, tmp_path / "after", "refit")
    assert torch.equal(load_file(tmp_path / "after" / "metric.safetensors")["metric"], metric)


def test_what_cannot_be_edited_is_refused(table: Path, tmp_path: Path) -> None:
    topk = plant(tmp_path / "topk", table)
    gated = tmp_path / "gated"
    of_saelens("gated").save_model(gated)
    pursuit = tmp_path / "pursuit"
    of_saelens("matching_pursuit").save_model(pursuit)
    new = tmp_path / "new"
    refused: list[tuple[list[Path], str, Path, str]] = [
        ([topk, gated], "prune", new, "--prune: 2 SAEs are given, and one is written"),
        ([gated], "prune", new, "--prune: gated is a gated SAE, and this is for jumprelu"),
        ([pursuit], "refit", new, "--refit: pursuit is a matching_pursuit SAE, and this is for"),
        ([topk], "refit", tmp_path, f"--output {tmp_path}: is there already"),
        ([topk], "refit", table, f"--output {table}: is a file"),
    ]
    for paths, edit, output, message in refused:
        with pytest.raises(BadInputError) as error:
            to_be_edited(paths, edit, output)
        assert message in str(error.value)
        assert "\n" not in str(error.value)
