"""Saved SAEs in, agreement out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE

from tests.measures.draws import draw, save
from tests.training.tiny import D_MODEL, D_SAE, TinyWorld, make_world, sae, write_config
from wsae_plugin.errors import BadInputError
from wsae_plugin.measures.identifiability import agreement
from wsae_plugin.measures.identify import find_saes, identify
from wsae_plugin.training import load_run_config, train


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    torch.set_num_threads(1)
    return make_world(tmp_path_factory.mktemp("tiny"))


def run(folder: Path, values: dict[str, Any], *overrides: str) -> Path:
    config = load_run_config(write_config(folder.parent / "config.yaml", values), overrides)
    return train(config, folder).folder


def only(result: dict[str, Any]) -> dict[str, Any]:
    (compared,) = result["saes"]
    return compared


def scalars(measured: dict[str, Any]) -> list[float]:
    one_to_one = [measured["assignment"][key] for key in ("share", "mean_cosine")]
    sides = [measured[side][key] for side in ("forward", "backward") for key in ("share", "mmcs")]
    return one_to_one + sides


def test_a_copy_a_permuted_copy_and_a_stranger(tmp_path: Path) -> None:
    decoder = draw(96, 24, 0)
    order = torch.randperm(96, generator=torch.Generator().manual_seed(0))
    paths = [
        save(tmp_path / name, weights)
        for name, weights in {
            "original": decoder,
            "copy": decoder,
            "permuted": decoder[order] * torch.linspace(0.5, 3, 96).unsqueeze(1),
            "stranger": draw(96, 24, 1),
        }.items()
    ]
    result = identify(paths)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    compared = only(result)
    assert (compared["d_in"], len(compared["pairs"])) == (24, 6)
    assert [member["run"] for member in compared["members"]] == [0, 1, 2, 3]
    for pair in compared["pairs"]:
        chance = [pair[key]["assignment"]["mean_cosine"] for key in ("random", "rotated")]
        assert [pair[key]["assignment"]["share"] for key in ("random", "rotated")] == [0, 0]
        if pair["second"] == 3:
            stranger = pair["agreement"]["assignment"]
            assert stranger["share"] == 0
            assert chance == pytest.approx([stranger["mean_cosine"]] * 2, abs=0.03)
        elif pair["second"] == 1:
            assert scalars(pair["agreement"]) == [1.0] * 6
        else:
            # The norms are rounded to float32, and so the directions by a few 1e-8.
            assert scalars(pair["agreement"]) == pytest.approx([1.0] * 6, abs=1e-12)
    mean = compared["mean"]["agreement"]
    shares = [pair["agreement"]["assignment"]["share"] for pair in compared["pairs"]]
    assert mean["share"] == pytest.approx(sum(shares) / 6) == 0.5
    assert set(mean) == {"share", "mean_cosine", "best_match_share", "mmcs"}


def test_two_seeds_of_one_config(world: TinyWorld, tmp_path: Path) -> None:
    folders = [run(tmp_path / f"{seed}", world.synthetic(), f"seed={seed}") for seed in (0, 1)]
    result = identify([*folders, folders[0]])
    assert [(entry["path"], entry["seed"]) for entry in result["runs"]] == [
        (str(folders[index]), index) for index in (0, 1, 0)
    ]
    compared = only(result)
    assert compared["name"] == "sae"
    assert compared["members"][1] == {
        "run": 1,
        "path": str(folders[1] / "sae"),
        "architecture": "topk",
        "d_sae": D_SAE,
    }
    apart, same, _ = compared["pairs"]
    assert (same["first"], same["second"]) == (0, 2)
    assert scalars(same["agreement"]) == [1.0] * 6
    assert apart["agreement"]["assignment"]["mean_cosine"] < 0.9
    # It is the plain decoders that were compared, of whatever architecture.
    decoders = [SAE.load_from_disk(folder / "sae").W_dec for folder in folders]
    expected = agreement(*decoders).assignment
    assert expected is not None
    assert apart["agreement"]["assignment"]["mean_cosine"] == expected.mean_cosine
    # A folder of plain SAELens beside a run folder: one SAE each, so names do not matter.
    plain = save(tmp_path / "plain", draw(10, D_MODEL, 0))
    assert only(identify([folders[0], plain]))["members"][1]["d_sae"] == 10


@pytest.mark.filterwarnings("ignore:All samples in the training dataset")
def test_runs_of_several_are_compared_name_by_name(world: TinyWorld, tmp_path: Path) -> None:
    first = run(tmp_path / "first", world.multi())
    fewer = {"baseline": sae(architecture="topk", alpha=None), "alpha-2": sae(alpha=2, d_sae=40)}
    second = run(tmp_path / "second", world.multi(saes=fewer, seed=1))
    assert set(find_saes(first)) == {"alpha-0", "alpha-1", "baseline"}
    result = identify([first, second])
    assert only(result)["name"] == "baseline"
    assert sorted((entry["run"], entry["name"]) for entry in result["left_out"]) == [
        (0, "alpha-0"),
        (0, "alpha-1"),
        (1, "alpha-2"),
    ]
    with pytest.raises(BadInputError, match="no SAE is in two runs under one name: .* has alpha-0"):
        identify([first, save(tmp_path / "plain", draw(4, D_MODEL, 0))])
    # Naming the SAEs themselves compares any two.
    wide, narrow = first / "saes" / "alpha-1", second / "saes" / "alpha-2"
    (pair,) = only(identify([wide, narrow]))["pairs"]
    assert len(pair["agreement"]["assignment"]["curve"]) == 40


def test_large_saes_are_compared_by_best_matches(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{seed}", draw(30, 8, seed)) for seed in (0, 1)]
    compared = only(identify(paths, largest_assignment=29))
    (pair,) = compared["pairs"]
    assert pair["agreement"]["assignment"] is None
    assert compared["mean"]["agreement"]["share"] is None
    both = [pair["agreement"][side]["mmcs"] for side in ("forward", "backward")]
    assert compared["mean"]["agreement"]["mmcs"] == pytest.approx(sum(both) / 2)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    good = save(tmp_path / "good", draw(10, 8, 0))
    with pytest.raises(BadInputError, match="1 run is given"):
        identify([good])
    with pytest.raises(BadInputError, match="threshold is 1.5"):
        identify([good, good], threshold=1.5)
    with pytest.raises(BadInputError, match="nowhere: holds no SAE"):
        identify([good, tmp_path / "nowhere"])
    other = save(tmp_path / "other", draw(10, 9, 0))
    with pytest.raises(BadInputError, match=r"d_in is 8 in .*good and 9 in .*other"):
        identify([good, other])
    diverged = save(tmp_path / "diverged", draw(10, 8, 0) / 0)
    with pytest.raises(BadInputError, match=r"diverged: W_dec holds values that are not finite"):
        identify([good, diverged])
    (other / "sae_weights.safetensors").write_bytes(b"nonsense")
    with pytest.raises(BadInputError, match="other: SAELens cannot load this SAE"):
        identify([good, other])
    (other / "cfg.json").write_text("{}")
    with pytest.raises(BadInputError, match="other: SAELens cannot load this SAE"):
        identify([good, other])
