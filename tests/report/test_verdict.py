"""The sentences say what was planted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.report.made_up import (
    BASELINE,
    SHUFFLED,
    WEIGHTED,
    Plan,
    change_json,
    write_comparison,
)
from wsae_plugin.report.inputs import read_inputs
from wsae_plugin.report.summary import summarize
from wsae_plugin.report.text import interval_text, number


def verdict(folder: Path, plan: Plan) -> list[str]:
    return summarize(read_inputs(write_comparison(folder / "c", plan)))["verdict"]


def sentences(folder: Path, plan: Plan) -> list[str]:
    """What follows the opening sentence."""
    return verdict(folder, plan)[1:]


HALF = {**WEIGHTED, "name": "half", "label": "WSAE, α = 0.5", "alpha": 0.5}
WORSE, MORE_ABSORPTION = {"explained_variance": -0.03}, {"absorption": 0.05}


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (
            Plan({"alpha-1": {**WORSE, **MORE_ABSORPTION}}),
            "made reconstruction worse and made absorption <fraction> worse.",
        ),
        (
            Plan({"alpha-1": WORSE}),
            "made reconstruction worse, with no clear change in absorption <fraction>.",
        ),
        (
            Plan({"alpha-1": {"explained_variance": 0.03, "absorption": 0.05}}),
            "made reconstruction better and made absorption <fraction> worse.",
        ),
        (
            Plan({"alpha-1": {"explained_variance": 0.03, "ce_loss_score": -0.02}}),
            "made explained variance better and made CE loss score worse, "
            "with no clear change in absorption <fraction>.",
        ),
        (Plan({}), "changed none of 3 tested scores clearly."),
        (
            Plan({}, seeds=(0, 1)),
            "changed none of 3 tested scores clearly, as far as 2 seeds can tell.",
        ),
        (
            Plan({"alpha-1": WORSE, "shuffled": WORSE}),
            "made reconstruction worse (not clearly beyond what shuffled weights did), "
            "with no clear change in absorption <fraction>.",
        ),
        (
            Plan({"half": WORSE}, arms=(BASELINE, HALF, WEIGHTED, SHUFFLED)),
            "made reconstruction worse in 1 of 2 arms, "
            "with no clear change in absorption <fraction>.",
        ),
        (
            Plan({"alpha-1": {"l0": 3.2}}),
            "changed none of 3 tested scores clearly; but L0 is not matched.",
        ),
    ],
)
def test_the_first_sentence_is_plain(plan: Plan, expected: str, tmp_path: Path) -> None:
    assert verdict(tmp_path, plan)[0] == f"Weighting by the variance {expected}"


def relabelled(folder: Path, plan: Plan, **fields: str) -> str:
    """The first sentence where absorption is another metric."""
    write_comparison(folder, plan)
    for file in folder.glob("runs/*/scores/saebench.json"):
        change_json(file, lambda document: document["scores"][0].update(fields))
    return summarize(read_inputs(folder))["verdict"][0]


@pytest.mark.parametrize(
    ("fields", "effect", "expected"),
    [
        ({"label": "dead latents"}, 0.05, "left more latents dead, with"),
        ({"label": "dead latents"}, -0.05, "left fewer latents dead, with"),
        ({"eval": "saebench/sae_probes"}, 0.05, "made probing scores worse, with"),
        ({"eval": "corrected/sparse_probing"}, -0.05, "made probing scores better, with"),
        ({"eval": "optimality"}, 0.05, "moved the SAEs farther from an optimum, with"),
    ],
)
def test_topics_have_words_of_their_own(
    fields: dict[str, str], effect: float, expected: str, tmp_path: Path
) -> None:
    plan = Plan({"alpha-1": {"absorption": effect}}, layers=(1,))
    assert expected in relabelled(tmp_path / "c", plan, **fields)


def test_a_note_on_all_changes_is_said_once_and_how_far_it_holds(tmp_path: Path) -> None:
    moved = {**WORSE, **MORE_ABSORPTION}
    plan = Plan({"alpha-1": moved, "shuffled": moved}, layers=(1,))
    note = "not clearly beyond what shuffled weights did"
    said = f"worse and made absorption <fraction> worse, each {note}."
    assert verdict(tmp_path / "each", plan)[0].endswith(said)
    arms = (BASELINE, HALF, WEIGHTED, SHUFFLED)
    plan = Plan(dict.fromkeys(("half", "alpha-1", "shuffled"), WORSE), arms=arms, layers=(1,))
    assert f"worse ({note} where they were tried), with" in verdict(tmp_path / "some", plan)[0]


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        ("latent_variance", "Weighting by the latent variance changed"),
        ("file", "Weighting changed"),
        ("own.proxies:mean", "Weighting changed"),
    ],
)
def test_a_proxy_is_named_if_its_name_is_a_word(proxy: str, expected: str, tmp_path: Path) -> None:
    plan = Plan({}, arms=(BASELINE, {**WEIGHTED, "proxy": proxy}), layers=(1,))
    assert verdict(tmp_path, plan)[0].startswith(expected)


def test_a_searched_coefficient_is_told(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", Plan({}, layers=(1,)))
    match = {"sae": "layer-1-alpha-1", "field": "l1_coefficient", "found": 7.5, "written": 5.0}
    match |= {"arm": "alpha-1", "l0": 31.9, "baseline_l0": 32.0, "trainings": 6}
    change_json(folder / "manifest.json", lambda manifest: manifest.update(l0_matching=[match]))
    assert (
        "layer-1-alpha-1: l1_coefficient 7.5 in place of 5, searched for as what gives its "
        "baseline's L0 in short trainings (31.9, and 32.0)."
    ) in summarize(read_inputs(folder))["verdict"]


def test_a_change_beyond_the_shuffled_one_has_no_such_note(tmp_path: Path) -> None:
    plan = Plan({"alpha-1": {"absorption": 0.1}, "shuffled": {"absorption": 0.05}})
    assert "shuffled" not in verdict(tmp_path, plan)[0]
    # one of two clear metrics of a topic is enough
    both = {"explained_variance": -0.03, "ce_loss_score": -0.02}
    plan = Plan({"alpha-1": both, "shuffled": {**both, "ce_loss_score": 0.0}})
    assert "shuffled" not in verdict(tmp_path / "topic", plan)[0]


def test_a_change_is_not_beyond_a_control_that_moves_less_and_is_not_told_apart(
    tmp_path: Path,
) -> None:
    plan = Plan({"alpha-1": {"explained_variance": -0.03}}, arms=(BASELINE, WEIGHTED, SHUFFLED))
    folder = write_comparison(tmp_path / "c", plan)

    def scatter(document: dict[str, Any]) -> None:
        document["scores"][0]["value"] += 0.05 if "seed-0" in document["run"] else -0.02

    for file in folder.glob("runs/*shuffled*/scores/held_out.json"):
        change_json(file, scatter)
    summary = summarize(read_inputs(folder))
    (metric,) = [m for m in summary["metrics"] if m["metric"] == "explained_variance"]
    assert metric["arms"]["alpha-1"]["against_controls"]["shuffled"]["outcome"] == "undecided"
    assert "worse (not clearly beyond what shuffled weights did), with" in summary["verdict"][0]


def test_the_first_sentence_counts_the_seeds_of_its_own_tests(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", Plan({"alpha-1": MORE_ABSORPTION}))
    for seed in (2, 3, 4):
        for file in folder.glob(f"runs/*alpha-1-seed-{seed}/scores/saebench.json"):
            file.unlink()
    first, *others = summarize(read_inputs(folder))["verdict"]
    assert first.endswith(", as far as 2 seeds can tell.")
    said = "Not every score was measured in all 5 seeds: WSAE, α = 1 in as few as 2."
    assert said in others
    assert said not in verdict(tmp_path / "all", Plan({"alpha-1": MORE_ABSORPTION}))


def test_the_first_sentence_says_that_trainings_differ(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", Plan({"alpha-1": WORSE}))

    def differ(manifest: dict[str, Any]) -> None:
        weighted = [run["run"] for run in manifest["runs"] if run["arm"] == "alpha-1"]
        manifest["unmatched"] = dict.fromkeys(weighted[:5], {"lr": [1e-3, 1e-4]})

    change_json(folder / "manifest.json", differ)
    first, second, *_ = summarize(read_inputs(folder))["verdict"]
    assert first.endswith("<fraction>; but the trainings are not matched.")
    assert second.startswith("Not matched: layer-1-k-32-alpha-1-seed-0, layer-3-")
    assert "-seed-1, 2 more and what it is compared with differ in lr (0.001 and 0.0001)" in second


def test_an_arm_that_was_not_measured_is_not_counted(tmp_path: Path) -> None:
    both = {"half": MORE_ABSORPTION, "alpha-1": MORE_ABSORPTION}
    folder = write_comparison(tmp_path / "c", Plan(both, arms=(BASELINE, HALF, WEIGHTED, SHUFFLED)))
    for file in folder.glob("runs/*half*/scores/saebench.json"):
        file.unlink()
    (first, *_) = summarize(read_inputs(folder))["verdict"]
    assert "made absorption <fraction> worse, with" in first


def test_the_first_sentence_names_what_is_not_weighted_or_not_by_one_proxy(tmp_path: Path) -> None:
    gba = {**WEIGHTED, "name": "gba", "label": "GBA", "alpha": 0.0}
    (first, *_) = verdict(tmp_path / "gba", Plan({"gba": WORSE}, arms=(BASELINE, gba)))
    assert first.startswith("GBA made reconstruction worse")
    both = (BASELINE, gba, WEIGHTED)
    (first, *_) = verdict(tmp_path / "both", Plan({"gba": WORSE, "alpha-1": WORSE}, arms=both))
    assert first.startswith("The 2 arms beside SAE, α = 0 made reconstruction worse")
    kurtosis = {**HALF, "proxy": "kurtosis"}
    (first, *_) = verdict(tmp_path / "two", Plan({}, arms=(BASELINE, kurtosis, WEIGHTED)))
    assert first == "Weighting changed none of 3 tested scores clearly."
    inverse = {**HALF, "alpha": -0.5}
    (first, *_) = verdict(tmp_path / "inverse", Plan({}, arms=(BASELINE, inverse)))
    assert first == "Weighting changed none of 3 tested scores clearly."
    (first, *_) = verdict(tmp_path / "none", Plan({}, arms=(BASELINE, SHUFFLED)))
    assert first == "No weighted arm has a headline metric that was measured in two seeds or more."


def test_an_arm_that_is_better(tmp_path: Path) -> None:
    found = sentences(tmp_path, Plan({"alpha-1": {"absorption": -0.05, "ce_loss_score": 0.02}}))
    assert found[0].startswith("WSAE, α = 1: of 3 metrics, clearly better in 2 (")
    assert "absorption <fraction> −0.05" in found[0]
    assert "worse in none" in found[0]
    assert "no clear difference in 1" in found[0]
    assert found[1].startswith("WSAE, α = 1 beside shuffled Γ, α = 1: clearly beyond it in ")
    assert "as much" not in found[1]
    assert "Controls against the baseline: shuffled Γ, α = 1 clear in none of 3." in found


def test_an_arm_that_is_worse(tmp_path: Path) -> None:
    found = sentences(tmp_path, Plan({"alpha-1": {"absorption": 0.05}}))
    assert "better in none, clearly worse in 1 (absorption <fraction> +0.05" in found[0]


def test_no_difference(tmp_path: Path) -> None:
    found = sentences(tmp_path, Plan({}))
    assert found[0].startswith("WSAE, α = 1: no clear difference in any of 3 metrics")
    assert not any("beside" in sentence for sentence in found)
    assert not any("few" in sentence for sentence in found)
    assert "L0 is matched: within 0.0 % of the baseline's in every arm." in found


def test_a_control_that_moves_as_much(tmp_path: Path) -> None:
    moved = {"ce_loss_score": 0.02, "explained_variance": -0.03}
    found = sentences(tmp_path, Plan({"alpha-1": moved, "shuffled": moved}))
    assert "clearly better in 1" in found[0]
    assert "The shuffled control moves as much in " in found[1]
    assert "no evidence, there, that it matters which dimensions are weighted." in found[1]
    assert "beyond" not in found[1]
    assert "Controls against the baseline: shuffled Γ, α = 1 better in 1, worse in 1 of 3." in found


def test_a_control_that_moves_further(tmp_path: Path) -> None:
    effects = {"alpha-1": {"ce_loss_score": 0.02}, "shuffled": {"ce_loss_score": 0.04}}
    found = sentences(tmp_path, Plan(effects))
    assert "The shuffled control moves further in CE loss score: no evidence" in found[1]


def test_no_shuffled_control(tmp_path: Path) -> None:
    plan = Plan({"alpha-1": {"ce_loss_score": 0.02}}, arms=(BASELINE, WEIGHTED))
    assert "WSAE, α = 1 has no shuffled control" in sentences(tmp_path, plan)[1]


def test_an_unweighted_arm_of_another_architecture_needs_no_shuffled_control(
    tmp_path: Path,
) -> None:
    gba = {**WEIGHTED, "name": "gba", "label": "GBA", "alpha": 0.0}
    found = sentences(tmp_path, Plan({"gba": {"ce_loss_score": 0.02}}, arms=(BASELINE, gba)))
    assert found[0].startswith("GBA: of 3 metrics, clearly better in 1")
    assert not any("shuffled" in sentence for sentence in found)


def test_a_control_of_another_alpha_is_not_this_arms(tmp_path: Path) -> None:
    effects = {name: {"ce_loss_score": 0.02} for name in ("alpha-1", "half")}
    found = sentences(tmp_path, Plan(effects, arms=(BASELINE, HALF, WEIGHTED, SHUFFLED)))
    assert "WSAE, α = 0.5 has no shuffled control" in found[1]
    assert found[3].startswith("WSAE, α = 1 beside shuffled Γ, α = 1")


def test_constant_gamma_is_a_control_of_its_own(tmp_path: Path) -> None:
    constant = {**SHUFFLED, "name": "constant", "label": "Γ = cI", "control": "constant"}
    effects = {name: {"ce_loss_score": 0.02} for name in ("alpha-1", "constant")}
    found = " ".join(sentences(tmp_path, Plan(effects, arms=(BASELINE, WEIGHTED, constant))))
    assert "The constant control moves as much in CE loss score" in found
    assert "rather than the loss's scale" in found


def test_sparsity_that_is_not_matched_comes_first(tmp_path: Path) -> None:
    found = sentences(tmp_path, Plan({"alpha-1": {"l0": 3.2}}))
    assert found[0].startswith("Caution: WSAE, α = 1 is not matched in sparsity: its L0 is 35.2")
    assert "10.0 %, over 5 %" in found[0]
    assert not any("L0 is matched" in sentence for sentence in found)


def test_an_arm_without_pairs_has_no_sparsity_that_is_matched(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", Plan({}))
    for file in folder.glob("runs/*alpha-1*/sae/cfg.json"):
        change_json(file, lambda cfg: cfg.update(d_sae=128))
    found = summarize(read_inputs(folder))["verdict"]
    assert found[0].startswith("No weighted arm has a headline metric")
    assert "No pair has an L0, so it is not known to be matched, for WSAE, α = 1." in found
    assert "L0 is matched: within 0.0 % of the baseline's in every other arm." in found
    assert not any("in every arm" in sentence for sentence in found)


def test_few_seeds_are_called_few(tmp_path: Path) -> None:
    found = sentences(tmp_path, Plan({}, seeds=(0, 1, 2)))
    assert any(sentence.startswith("3 seeds are few: a difference is called") for sentence in found)


def test_few_seeds_alone_are_seen_beside_the_spread_over_batches(tmp_path: Path) -> None:
    # Each batch of an arm differs from the baseline's by the same: next to no spread.
    plan = Plan({"alpha-1": {"explained_variance": 0.03}}, scatter=0, seeds=(0, 1))
    (sentence,) = [s for s in sentences(tmp_path, plan) if "held-out batches" in s]
    assert sentence.startswith(
        "Of these seeds alone, by more than half the 95 % interval over held-out batches"
    )
    assert "WSAE, α = 1 explained variance +0.03" in sentence
    assert "shuffled" not in sentence
    enough = sentences(tmp_path / "enough", Plan(plan.effects, scatter=0))
    assert not any("held-out batches" in sentence for sentence in enough)


@pytest.mark.parametrize(("effect", "is_named"), [(0.012, True), (0.004, False)])
def test_a_difference_is_named_beyond_half_the_interval(
    effect: float, is_named: bool, tmp_path: Path
) -> None:
    plan = Plan({"alpha-1": {"explained_variance": effect}}, scatter=0, seeds=(0, 1), layers=(1,))
    folder = write_comparison(tmp_path / "c", plan)

    def differ(document: dict[str, Any]) -> None:
        document["per_batch"]["explained_variance"][0] += 0.01

    # One of four batches differs by 0.01 more: half the interval is 3.182 · 0.01 / 4 = 0.008.
    for file in folder.glob("runs/*alpha-1*/scores/held_out.json"):
        change_json(file, differ)
    found = summarize(read_inputs(folder))["verdict"]
    assert any("held-out batches" in sentence for sentence in found) == is_named


def test_the_surest_is_named_first_and_equal_labels_are_told_apart(tmp_path: Path) -> None:
    effects = {"explained_variance": 0.2, "ce_loss_score": 0.02}
    folder = write_comparison(tmp_path / "c", Plan({"alpha-1": effects}))

    def rename(document: dict[str, Any]) -> None:
        document["scores"][1]["label"] = "explained variance"

    for file in folder.glob("runs/*/scores/saebench.json"):
        change_json(file, rename)
    _, arm, *_ = summarize(read_inputs(folder))["verdict"]
    labels = "explained variance (held-out data)", "explained variance (SAEBench core)"
    assert f"({labels[0]} +0.20; {labels[1]} +0.0" in arm


def test_one_seed_is_no_evidence(tmp_path: Path) -> None:
    found = verdict(tmp_path, Plan({"alpha-1": {"ce_loss_score": 0.02}}, seeds=(0,)))
    assert found[0].startswith("One seed: the differences are shown without intervals")
    assert not any("clearly" in sentence for sentence in found)


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        (
            {"mean": -0.02074, "low": -0.02114, "high": -0.02031},
            ("−0.02074", "[−0.02114, −0.02031]"),
        ),
        ({"mean": 43.1, "low": 40.2, "high": 46.2}, ("+43.1", "[40.2, 46.2]")),
        ({"mean": 0.01234}, ("+0.012", "")),
    ],
)
def test_differences_have_the_digits_of_their_interval(
    difference: dict[str, float], expected: tuple[str, str]
) -> None:
    assert interval_text(difference) == expected


@pytest.mark.parametrize(
    ("value", "sign", "text"),
    [(-1e-17, "", "0.0000"), (-1e-17, "+", "+0.0000"), (-0.2, "", "−0.2000")],
)
def test_what_rounds_to_zero_has_no_sign(value: float, sign: str, text: str) -> None:
    assert number(value, 0.0012, sign) == text


def test_numbers_without_a_scale() -> None:
    assert number(-0.123456) == "−0.1235"
    assert number(1234.5, 100) == "1,234"
    assert number(0.0, 0.0) == "0"
