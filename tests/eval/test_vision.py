"""The images, the encoders and the tables of the vision study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.testing import assert_close
from vision_encoders import Recipe, contrastive_loss, embed, live_dimensions, rep_relu, train, views
from vision_images import Splits, bands, digits, pictures, pixels, textures, write_table
from vision_outcome import contrasts, draw, outcome, page
from vision_study import comparison, trained, write_leak
from vision_tables import class_shares, described, page_of_encoders

from wsae_plugin.report.inputs import read_inputs
from wsae_plugin.statistics import t_interval
from wsae_plugin.yaml_file import to_yaml

PLAN = yaml.safe_load(
    (Path(__file__).parents[2] / "eval" / "vision" / "study.yaml").read_text(encoding="utf-8")
)
SMALL = {"epochs": 2, "width": 2, "d": 8, "batch": 16}


def some_images(n: int = 40, size: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size), dtype=np.uint8)


def test_no_pixel_is_in_both_splits() -> None:
    rows, columns = 40, 30
    place = np.arange(rows * columns).reshape(rows, columns)
    found = bands(place, height=13, size=4, stride=3)
    train_pixels, held_out = (set(found[split].ravel().tolist()) for split in found)
    assert train_pixels
    assert held_out
    assert not train_pixels & held_out
    # A band of 13 rows holds 4 patches above each other, and 30 columns hold 9; the fourth band
    # has one row and no patch.
    assert {split: patches.shape for split, patches in found.items()} == {
        "train": (2 * 4 * 9, 4, 4),
        "held_out": (4 * 9, 4, 4),
    }


@pytest.mark.parametrize(
    ("make", "n_classes", "n_train", "n_held_out", "size"),
    [
        (textures, 3, 24003, 24003, 8),
        (pictures, 17, 18700, 9350, 16),
        (digits, 10, 1198, 599, 8),
    ],
)
def test_classes_are_as_frequent_as_each_other(
    make: Callable[[], Splits], n_classes: int, n_train: int, n_held_out: int, size: int
) -> None:
    found = make()
    assert [len(found[split].labels) for split in ("train", "held_out")] == [n_train, n_held_out]
    for of in found.values():
        assert of.images.shape[1:] == (size, size)
        assert (of.images.dtype, of.labels.dtype) == (np.uint8, np.int64)
        assert len(of.classes) == n_classes
        counts = np.bincount(of.labels)
        assert len(counts) == n_classes
        assert counts.max() <= 1.1 * counts.min()
    again = make()
    assert all(np.array_equal(found[split].images, again[split].images) for split in found)


def test_no_digit_is_in_both_splits() -> None:
    found = digits()
    both = [{image.tobytes() for image in of.images} for of in found.values()]
    assert not both[0] & both[1]


def test_a_table_keeps_images_beside_their_labels(tmp_path: Path) -> None:
    splits = digits()
    rows = {split: pixels(of.images) for split, of in splits.items()}
    write_table(tmp_path / "table", rows, splits)
    for split, of in splits.items():
        folder = tmp_path / "table" / split
        activations, labels, images = (
            np.load(folder / f"{name}.npy") for name in ("activations", "labels", "images")
        )
        assert activations.dtype == np.float32
        np.testing.assert_array_equal(activations, pixels(images))
        assert (folder / "classes.txt").read_text().split() == list("0123456789")
        of_image = {
            image.tobytes(): label for image, label in zip(of.images, of.labels, strict=True)
        }
        assert [of_image[image.tobytes()] for image in images] == labels.tolist()
        assert not np.array_equal(labels, of.labels)


def test_features_of_an_encoder_are_of_length_1_and_those_of_ncl_not_negative() -> None:
    images = some_images()
    for is_non_negative in (False, True):
        features = embed(train(images, Recipe(is_non_negative, **SMALL)), images)
        assert features.shape == (40, 8)
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
        assert (features >= 0).all() == is_non_negative


def test_training_is_set_by_the_seed_and_leaves_the_global_state_alone() -> None:
    images = some_images()
    state = torch.get_rng_state()
    one, same, other = (
        embed(train(images, Recipe(True, **SMALL, seed=seed)), images) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_loss_falls_where_views_are_those_of_one_image() -> None:
    # Two images, four views: of the three others, one is right. With opposite features the right
    # one has a similarity of 1, the wrong ones −1.
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    wrong = 2 * np.exp(-1 / 0.2)
    expected = -np.log(np.exp(1 / 0.2) / (np.exp(1 / 0.2) + wrong))
    assert_close(float(contrastive_loss(features, features)), expected, rtol=1e-4, atol=1e-7)
    assert contrastive_loss(features, -features) > 9


def test_rep_relu_is_relu_with_the_derivative_of_gelu() -> None:
    z = torch.tensor([-3.0, -0.5, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
    found = rep_relu(z)
    assert_close(found, torch.relu(z))
    (ours,) = torch.autograd.grad(found.sum(), z)
    (theirs,) = torch.autograd.grad(torch.nn.functional.gelu(z).sum(), z)
    assert_close(ours, theirs)


def test_views_differ_and_stay_in_range() -> None:
    images = torch.from_numpy(some_images(6)).float() / 255
    one, other = (views(images, True, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert one.shape == images.shape
    assert not torch.equal(one, other)
    assert float(one.min()) >= 0
    assert float(one.max()) <= 1


def test_the_consistency_of_dimensions_by_hand() -> None:
    # 30 images of class 0 and 30 of class 1.
    labels = np.repeat([0, 1], 30)
    step = np.linspace(1, 2, 60)
    features = np.stack(
        [
            np.where(labels == 0, step, 0),  # class 0 alone
            step,  # both, most of class 1
            np.where(np.arange(60) % 3 == 0, 1, -step),  # 20 positive ones, 10 of each
            np.where(np.arange(60) < 19, 1, 0),  # too few
        ],
        axis=1,
    ).astype(np.float32)
    found = class_shares(features, labels)
    nan = np.nan
    np.testing.assert_allclose(found["consistency_of_active"], [1, 0.5, 0.5, nan])
    np.testing.assert_allclose(found["consistency_of_top"], [1, 1, 0.5, nan])
    assert live_dimensions(features).tolist() == [0, 1, 2]


def test_pixels_of_digits_tell_them_apart_and_their_page_says_so() -> None:
    splits = digits()
    found = described({split: pixels(of.images) for split, of in splits.items()}, splits)
    assert found["one_nn"] > 0.95
    assert found["probe"] > 0.9
    rows = [
        {"set": "digits", "encoder": encoder, "seed": seed, "seconds": 1.0, **found}
        | {"consistency_of_top": found["consistency_of_top"] + added + 1e-3 * seed * added}
        for encoder, added in (("ncl", 0.3), ("contrastive", 0.0))
        for seed in range(3)
    ]
    rows.append({"set": "digits", "encoder": "pixels", "seed": 0, "seconds": 0.0, **found})
    text = page_of_encoders(pd.DataFrame(rows), {"digits": 0.1})
    assert f"| digits | pixels | {found['one_nn']:.3g} | {found['probe']:.3g} | 64 |" in text
    assert "digits 0.100" in text
    assert "among the top 20: NCL's dimensions are more consistent (+0.300 [" in text
    assert "among the active: NCL's dimensions are not clearly different (+0.000" in text


def scores(part: str, effects: dict[str, float]) -> list[dict[str, object]]:
    """Every score of all seeds: 0.4 and what the arm adds, but for a little."""
    drawn = np.random.default_rng(0)
    return [
        {"part": part, "arm": arm, "seed": seed, "metric": metric, "chance": 0.1}
        | {"value": 0.4 + effects.get(arm, 0) + 0.01 * seed + 1e-3 * drawn.normal()}
        for metric in (PLAN["primary"], *PLAN["others"])
        for arm in PLAN["base"]["arms"]
        for seed in PLAN["seeds"]
    ]


def test_arms_are_paired_with_those_they_are_put_beside(tmp_path: Path) -> None:
    effects = {"beta_1": 0.02, "shuffled_1": 0.02, "beta_2": -0.03}
    table = pd.DataFrame(scores("pictures, ncl", effects) + scores("digits, ncl", {}))
    found = outcome(table, PLAN)
    assert found["family"] == len(found["cells"]) == 2 * len(list(contrasts(PLAN)))
    assert found["family"] == 2 * (len(PLAN["base"]["arms"]) - 1 + 7)
    cells = {(row["part"], row["arm"], row["beside"]): row for row in found["cells"]}
    one = cells["pictures, ncl", "beta_1", "sae"]
    assert one["mean"] == pytest.approx(0.02, abs=2e-3)
    assert one["clear"]
    assert not cells["pictures, ncl", "beta_1", "shuffled_1"]["clear"]
    assert not cells["digits, ncl", "beta_1", "sae"]["clear"]
    told = {sentence.partition(":")[0]: sentence for sentence in found["sentences"]}
    assert "clearly higher in 1, clearly lower in 0 of 2" in told["beta_1 beside sae"]
    assert "clearly higher in 0, clearly lower in 0 of 2" in told["beta_1 beside shuffled_1"]
    assert "clearly higher in 0, clearly lower in 1 of 2" in told["beta_2 beside sae"]
    assert "| digits, ncl | beta_1 | labels_1 |" in page(found)
    (other,) = (
        row
        for row in found["others"]
        if (row["part"], row["metric"], row["arm"], row["beside"])
        == ("pictures, ncl", PLAN["others"][0], "beta_2", "sae")
    )
    half = t_interval(other["differences"]).high - other["mean"]
    assert f"| {other['mean']:+.4f} ± {half:.4f} |" in page(found)
    assert f"{100 * one['mean']:+.1f} [{100 * one['low']:+.1f}, {100 * one['high']:+.1f}]" in page(
        found
    )
    draw(found, PLAN, tmp_path / "study.png")
    assert (tmp_path / "study.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="digits, ncl: semantic_consistency is missing in some"):
        outcome(table.drop(table[table["part"] == "digits, ncl"].index[3]), PLAN)


def test_a_comparison_reads_the_table_and_the_leak_alone_its_held_out_labels(
    tmp_path: Path,
) -> None:
    splits = digits()
    write_table(tmp_path, {split: pixels(of.images) for split, of in splits.items()}, splits)
    write_leak(tmp_path)
    found = comparison(PLAN, tmp_path, "digits", seed=3)
    assert found["sae"] == PLAN["base"]["sae"] | {"d_sae": 64, "d_in": 64}
    assert found["seeds"] == [3]
    assert found["labels"] == str(tmp_path / "train" / "labels.npy")
    assert found["held_out"] == str(tmp_path / "held_out" / "activations.npy")
    with_files = {name: arm for name, arm in found["arms"].items() if "gamma_file" in arm}
    assert list(with_files) == ["leak_1"]
    (beta,) = load_file(with_files["leak_1"]["gamma_file"]).values()
    assert beta.shape == (64,)
    assert 0.1 < float(beta.max()) <= 1
    assert {"gamma_file", "labels"} & set(PLAN["base"]) == set()


@pytest.mark.slow
def test_a_table_is_trained_on_and_has_every_score_of_the_study(tmp_path: Path) -> None:
    splits = digits()
    table = tmp_path / "digits"
    write_table(table, {split: pixels(of.images) for split, of in splits.items()}, splits)
    write_leak(table)
    short = {"training_samples": 2048, "lr_warm_up_steps": 1, "lr_decay_steps": 1}
    config = tmp_path / "saes.yaml"
    config.write_text(to_yaml(comparison(PLAN, table, "digits", seed=0) | short))
    output = trained(config, batches=2)
    found = read_inputs(output).table
    wide = found.pivot(index="arm", columns="metric", values="value")
    assert wide.index.tolist() == sorted(PLAN["base"]["arms"])
    assert wide[[PLAN["primary"], *PLAN["others"]]].notna().all(axis=None)
    assert found["seed"].unique().tolist() == [0]
    assert trained(config, batches=2) == output
