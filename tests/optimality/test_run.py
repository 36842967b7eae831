"""scores/optimality.json of whole runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.optimality.planted import D, plant, write_table
from wsae_plugin.compare.runs import runs_of
from wsae_plugin.errors import BadInputError
from wsae_plugin.measures.evaluated_run import EvaluatedRun
from wsae_plugin.optimality.lines import LINES
from wsae_plugin.optimality.run import (
    OptimalitySettings,
    encoded,
    evidence_of,
    held_out_of,
    measure_optimality,
    weight_of,
)

SETTINGS = OptimalitySettings(samples=320, batches=8, penalty=0.1)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("planted") / "table.npy", 1000)


def values(document: dict[str, Any]) -> dict[str, float]:
    return {line["name"]: line["value"] for line in document["lines"]}


def test_the_file_has_every_line_and_the_gap(table: Path, tmp_path: Path) -> None:
    sae = plant(tmp_path / "off", table, off=0.2)
    (document,) = measure_optimality([sae], SETTINGS)
    assert json.loads((sae / "scores" / "optimality.json").read_text()) == document
    assert [*values(document)] == [*LINES]
    assert 0 <= document["duality_gap"] <= 1e-6
    assert document["penalty"] == 0.1
    for line, score in zip(document["lines"], document["scores"], strict=True):
        assert set(line) == {"name", "value", "interval", "control", "action", "latents"}
        assert (score["eval"], score["metric"]) == ("optimality", line["name"])
        assert score["definition"]
        above = LINES[line["name"]].above
        assert (line["action"] is not None) == (line["value"] > above)


def test_the_file_says_what_the_evidence_says(table: Path, tmp_path: Path) -> None:
    sae = plant(tmp_path / "off", table, off=0.2)
    (document,) = measure_optimality([sae], SETTINGS)
    (run,) = (EvaluatedRun.load(found, None) for found in runs_of([sae]))
    evidence = evidence_of(run, held_out_of([run], SETTINGS), SETTINGS)
    assert document["duality_gap"] == float(evidence.optimal.gap.max())
    assert evidence.optimal.gap.max() > evidence.optimal.gap.min()
    for line in document["lines"]:
        (of_random,) = LINES[line["name"]].score(evidence.of_random_atoms)
        assert line["control"] == of_random.value


@pytest.mark.parametrize(("widths", "samples"), [((100, 400), 2000), ((100, 3000), 12_000)])
def test_wider_saes_are_tested_on_more_samples(widths: tuple[int, int], samples: int) -> None:
    runs: Any = [SimpleNamespace(config=run_config(width)) for width in widths]
    assert OptimalitySettings().of(runs).samples == samples
    assert SETTINGS.of(runs).samples == SETTINGS.samples
    assert OptimalitySettings().of([SimpleNamespace(config=run_config(10**6))]).samples == 20_000  # pyright: ignore


def run_config(d_sae: int) -> SimpleNamespace:
    return SimpleNamespace(values={"sae": {"d_sae": d_sae}})


def test_samples_are_drawn_at_random_from_every_batch(table: Path, tmp_path: Path) -> None:
    (run,) = (EvaluatedRun.load(r, None) for r in runs_of([plant(tmp_path / "one", table)]))
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(100, D, generator=generator) for _ in range(8)]
    held_out: Any = SimpleNamespace(activations=lambda _: iter(batches))  # pyright: ignore
    sae, weight = run.load_sae(), torch.ones(D)

    def drawn(seed: int) -> list[list[int]]:
        own, batch = encoded(sae, weight, held_out, replace(SETTINGS, seed=seed))
        assert batch.bincount().tolist() == [40] * 8
        x = own.x + sae.b_dec
        places = [torch.cdist(x[batch == n], batches[n].double()).argmin(dim=1) for n in range(8)]
        return [of_batch.tolist() for of_batch in places]

    first = drawn(0)
    assert all(len({*of_batch}) == 40 for of_batch in first)
    assert all(max(of_batch) >= 60 for of_batch in first)
    assert first == drawn(0) != drawn(1)


def test_an_sae_with_a_wrong_decoder_is_further_from_an_optimum(
    table: Path, tmp_path: Path
) -> None:
    saes = [plant(tmp_path / "off", table, off=0.2), plant(tmp_path / "right", table)]
    off, right = (values(document) for document in measure_optimality(saes, SETTINGS))
    assert off["dictionary"] > 0.3 > 0.1 > right["dictionary"]


def test_what_was_tested_with_the_same_settings_is_left_alone(table: Path, tmp_path: Path) -> None:
    sae = plant(tmp_path / "one", table)
    file = sae / "scores" / "optimality.json"

    def marked(**of_run: Any) -> bool:
        file.write_text(
            file.read_text().replace('"penalty": 0.1,\n  "dual', '"penalty": 7.0,\n  "dual')
        )
        assert json.loads(file.read_text())["penalty"] == 7.0
        (document,) = measure_optimality([sae], **{"settings": SETTINGS} | of_run)
        return document["penalty"] == 7.0

    measure_optimality([sae], SETTINGS)
    assert marked()
    assert not marked(force=True)
    other = OptimalitySettings(samples=320, batches=8, penalty=0.1, seed=1)
    assert not marked(settings=other)
    plant(sae, table, off=0.1)
    assert not marked(settings=other)


def test_a_diagonal_metric_tests_as_the_gamma_that_it_is(table: Path, tmp_path: Path) -> None:
    gamma = torch.linspace(0.5, 1.5, D).double()
    gamma *= (D / gamma.square().sum()).sqrt()
    saes = [
        plant(tmp_path / "gamma", table, off=0.2, gamma=gamma),
        plant(tmp_path / "metric", table, off=0.2, metric=gamma.square().diag()),
        plant(tmp_path / "none", table, off=0.2),
    ]
    roots = [weight_of(EvaluatedRun.load(run, None)) for run in runs_of(saes)]
    torch.testing.assert_close(roots[1], gamma.diag())
    of_gamma, of_metric, of_none = map(values, measure_optimality(saes, SETTINGS))
    assert of_metric == pytest.approx(of_gamma, rel=1e-4, abs=1e-6)
    assert of_none != pytest.approx(of_gamma, rel=1e-2)


def test_a_metric_that_is_gone_is_named(table: Path, tmp_path: Path) -> None:
    sae = plant(tmp_path / "metric", table, metric=torch.eye(D).double())
    (sae / "metric.safetensors").unlink()
    with pytest.raises(BadInputError, match="metric.safetensors: cannot be read"):
        measure_optimality([sae], SETTINGS)


def test_a_silent_sae_is_named(table: Path, tmp_path: Path) -> None:
    sae = plant(tmp_path / "silent", table, bias=-100.0)
    with pytest.raises(BadInputError, match="silent: no latent of the SAE is active"):
        measure_optimality([sae], SETTINGS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batches": 7}, "batches = 7: must be 8 or more"),
        ({"samples": 31}, "samples = 31: must be 32 or more, 2 for each of 16 batches"),
        ({"penalty": 0.0}, "penalty = 0.0: must be a positive, finite number"),
        ({"penalty": float("nan")}, "penalty = nan: must be"),
    ],
)
def test_settings_that_say_nothing(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        OptimalitySettings(**fields)


def test_a_file_that_lacks_lines_is_not_left_alone(table: Path, tmp_path: Path) -> None:
    sae = plant(tmp_path / "one", table)
    (whole,) = measure_optimality([sae], SETTINGS)
    lines = whole["lines"]
    for others in ([], [lines[0] | {"action": "[/x]"}, *lines[1:]]):
        broken = json.dumps(whole | {"lines": others})
        (sae / "scores" / "optimality.json").write_text(broken)
        assert measure_optimality([sae], SETTINGS) == [whole]


def test_the_units_of_the_samples_change_no_line(tmp_path: Path) -> None:
    documents: list[dict[str, Any]] = []
    for scale in (1.0, 1e-9):
        table = write_table(tmp_path / f"{scale}.npy", 1000)
        np.save(table, np.load(table) * np.float32(scale))
        sae = plant(tmp_path / str(scale), table, off=0.2)
        settings = replace(SETTINGS, penalty=0.1 * scale)
        documents += measure_optimality([sae], settings)
    assert values(documents[1]) == pytest.approx(values(documents[0]), rel=1e-4, abs=1e-6)


def test_the_largest_seed_draws_samples(table: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, seed=2**63 - 1)
    assert measure_optimality([plant(tmp_path / "one", table)], settings)[0]["samples"] > 0


def test_random_atoms_that_no_penalty_suits_are_tested_with_the_penalty_that_was_given(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: object) -> float:
        raise BadInputError("no L1 penalty")

    monkeypatch.setattr("wsae_plugin.optimality.evidence.matched_penalty", none)
    (document,) = measure_optimality([plant(tmp_path / "one", table)], SETTINGS)
    assert document["lines"][0]["control"] is not None
