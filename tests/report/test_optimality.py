"""How far SAEs are from an optimum, in the report: levels of arms, actions, and what is not met."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.made_up import Plan, change_json, write_comparison, write_optimality
from wsae_plugin.errors import BadInputError
from wsae_plugin.fingerprint import fingerprint_of_weights
from wsae_plugin.report.inputs import read_inputs
from wsae_plugin.report.page import markdown, render
from wsae_plugin.report.summary import summarize
from wsae_plugin.report.text import line_text

PLAN = Plan({}, seeds=(0, 1, 2), layers=(1,))
CODES = {"sae": (0.3, 0.34, 0.35), "alpha-1": (0.09, 0.1, 0.14), "shuffled": (0.3, 0.33, 0.36)}


def summary_of(folder: Path) -> dict[str, Any]:
    return summarize(read_inputs(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_comparison(tmp_path / "c", PLAN)
    for arm, values in CODES.items():
        for seed, value in enumerate(values):
            run = folder / "runs" / f"layer-1-k-32-{arm}-seed-{seed}"
            write_optimality(run, value, samples=20_000 - seed, duality_gap=1e-7 * (seed + 1))
    return folder


def test_lines_are_levels_of_arms(folder: Path) -> None:
    found = summary_of(folder)["optimality"]
    codes, prune = found["lines"]
    assert codes["arms"]["alpha-1"] == {
        "mean": pytest.approx(np.mean(CODES["alpha-1"]), abs=1e-4),
        "sd": pytest.approx(np.std(CODES["alpha-1"], ddof=1), abs=1e-4),
        **{"n_seeds": 3, "spread": None, "control": 0.02, "n_runs": 3, "n_unmet": 1},
    }
    assert codes["arms"]["sae"]["n_unmet"] == 3
    assert codes["actions"] == ["refine the <encoder> | or k"]
    assert prune["actions"] == [] and prune["arms"]["sae"]["n_unmet"] == 0
    assert found["samples"] == [19_998, 20_000]
    assert found["duality_gap"] == 3e-7
    assert found["is_matched"]


def test_arms_are_compared_and_the_verdict_says_so(folder: Path) -> None:
    summary = summary_of(folder)
    (codes,) = [
        m for m in summary["metrics"] if (m["eval"], m["metric"]) == ("optimality", "codes")
    ]
    differences = np.subtract(CODES["alpha-1"], CODES["sae"])
    assert codes["arms"]["alpha-1"]["difference"]["mean"] == pytest.approx(np.mean(differences))
    assert codes["arms"]["alpha-1"]["wins"] == 3
    assert codes["arms"]["alpha-1"]["difference"]["outcome"] == "better"
    assert "moved the SAEs nearer to an optimum" in summary["verdict"][0]
    assert summary["missing"] == []
    main = render(summary).split("<table>")[1].split("</table>")[0]
    assert "error that &lt;codes&gt; recover" in main
    assert "cost nothing" not in main
    assert "and of random atoms" in render(summary)


def test_the_pages_have_a_section(folder: Path) -> None:
    summary = summary_of(folder)
    page = render(summary)
    section = page.split("<h2>How far from an optimum</h2>")[1].split("</p>")[0]
    plain = html.unescape(re.sub(r"<[^>]+>", " ", section))
    for said in (
        *("not met in 1 of 3", "not met in 3 of 3", "control 0.020", "refine the <encoder> | or k"),
        *("19,998 to 20,000 held-out samples", "λ = 0.50, where they are as sparse", "3.0e-07"),
    ):
        assert said in plain
    assert "<encoder>" not in page
    rows = [line for line in markdown(summary).split("## How far")[1].splitlines() if "|" in line]
    # Pipes that are escaped end no cell.
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}
    assert "0.110 ± 0.026, control 0.020, not met in 1 of 3" in rows[2]


def test_one_sae_has_the_interval_over_batches(folder: Path) -> None:
    summary = summary_of(folder / "runs" / "layer-1-k-32-alpha-1-seed-2")
    codes, _ = summary["optimality"]["lines"]
    ((_, entry),) = codes["arms"].items()
    assert line_text(entry) == "0.1400 ± 0.0080, control 0.0200, not met"
    assert summary["compared"]["n_pairs"] == 0


def test_runs_that_were_never_tested_miss_nothing(folder: Path, tmp_path: Path) -> None:
    untested = summary_of(write_comparison(tmp_path / "untested", PLAN))
    assert untested["optimality"] is None
    assert untested["missing"] == []
    for text in (render(untested), markdown(untested)):
        assert "optim" not in text
    # Where some were, what stands beside them is.
    (folder / "runs" / "layer-1-k-32-sae-seed-0" / "scores" / "optimality.json").unlink()
    what = "layer-1-k-32-sae-seed-0"
    assert summary_of(folder)["missing"] == [{"what": what, "reason": "no score of optimality"}]


def test_a_value_that_was_not_found_is_in_no_mean(folder: Path) -> None:
    for seed in range(3):
        file = folder / "runs" / f"layer-1-k-32-shuffled-seed-{seed}" / "scores" / "optimality.json"
        change_json(file, lambda document: document["scores"][0].update(value=None))
    summary = summary_of(folder)
    assert "shuffled" not in summary["optimality"]["lines"][0]["arms"]
    section = render(summary).split("<h2>How far from an optimum</h2>")[1].split("</p>")[0]
    assert section.count("not measured") == 1
    assert " – |" in markdown(summary).split("## How far")[1]


def test_a_penalty_that_was_asked_for_is_said_to_be(folder: Path) -> None:
    run = folder / "runs" / "layer-1-k-32-sae-seed-0"
    settings = {"dataset": "a text", "penalty": 0.25}
    write_optimality(run, 0.3, penalty=0.25, settings=settings)
    assert "λ = 0.25 to 0.50, as it was asked for" in render(summary_of(folder))


def test_scores_of_weights_that_were_there_before_are_refused(folder: Path) -> None:
    run = folder / "runs" / "layer-1-k-32-sae-seed-0"
    (run / "sae" / "sae_weights.safetensors").write_bytes(b"mine")
    settings = {"dataset": "a text", "penalty": None}
    now = fingerprint_of_weights(run / "sae")
    write_optimality(run, 0.3, settings=settings | {"weights": now})
    summary_of(folder)
    write_optimality(run, 0.3, settings=settings | {"weights": "others"})
    with pytest.raises(BadInputError, match="of another SAE.*run `wsae optimality` again"):
        read_inputs(folder)
