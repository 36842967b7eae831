"""The card of many SAEs: by variant, and one by one only where it is unfolded."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from tests.hub.conftest import Wsae
from wsae_plugin.compare.gathered import ordinary_beside
from wsae_plugin.hub.records import SAERecord, read_records
from wsae_plugin.report.inputs import read_inputs
from wsae_plugin.report.text import difference_text, level_text
from wsae_plugin.saebench.records import Record, write_scores
from wsae_plugin.saebench.request import Request
from wsae_plugin.scores import Score
from wsae_plugin.statistics import resolution_of, t_interval

pytestmark = [
    pytest.mark.filterwarnings("ignore:All samples in the training dataset"),
    pytest.mark.filterwarnings("ignore:.*SAE has non-empty model_from"),
]


def folded(card: str) -> str:
    """What is on the page before anything is unfolded."""
    return re.sub(r"<details>.*?</details>", "", card, flags=re.DOTALL)


def row(card: str, first: str) -> list[str]:
    """The cells of the row that begins with `first`."""
    (line,) = [line for line in card.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("| ").split(" | ")]


def metric(record: SAERecord, name: str) -> float:
    value = record.values[name]
    assert value is not None
    return value


@pytest.fixture
def card(wsae: Wsae, comparison: Path, tmp_path: Path) -> str:
    output = tmp_path / "card" / "README.md"
    code, printed = wsae("card", comparison, "--repo", "me/study", "--output", output)
    assert code == 0, printed
    return output.read_text()


def test_a_comparison_is_shown_by_variant(card: str, comparison: Path) -> None:
    text = folded(card)
    assert "16 SAEs of 2 hooks" in text
    assert "in 4 variants" in text
    for label in ("SAE, α", "literal Γ", "constant Γ", "whitened SAE"):
        assert label in text
    names = [path.name for path in (comparison / "runs").iterdir()]
    shown = [name for name in names if name in text]
    assert shown == ["layer-1-k-8-literal-seed-0"], "in the snippet alone: a weighted SAE"
    assert all(name in card for name in names), "unfolded, every SAE is there"
    assert "`layer-*-k-8-whitened-seed-*`" in text
    assert "*constant*: one weight for all dimensions" in text


def test_means_are_taken_within_seeds_first(card: str, comparison: Path) -> None:
    records = read_records([comparison])
    literal, ordinary = (
        {seed: [r for r in records if r.run.arm == arm and r.run.seed == seed] for seed in (0, 1)}
        for arm in ("literal", "sae")
    )
    name = "explained_variance"
    of_seed = [fmean(metric(record, name) for record in literal[seed]) for seed in (0, 1)]
    difference = [
        of - fmean(metric(record, name) for record in ordinary[seed])
        for seed, of in enumerate(of_seed)
    ]
    cells = row(folded(card), "WSAE, α\xa0\\=\xa01, literal Γ")
    level, outcome, shown, *_ = cells[1].split("<br>")
    assert level == level_text({"mean": fmean(of_seed), "sd": stdev(of_seed)})
    assert outcome == "· no clear difference"
    values = [metric(record, name) for record in records]
    interval = t_interval(difference, resolution_of(values))
    assert shown == difference_text(asdict(interval))


def test_the_whitened_control_is_no_baseline(comparison: Path) -> None:
    records = read_records([comparison])
    assert {record.run.arm for record in records if record.is_ordinary} == {"sae"}
    # And not when its runs are given one by one, without the manifest.
    alone = read_records(sorted((comparison / "runs").iterdir()))
    assert {r.run.run.split("-")[4] for r in alone if r.is_ordinary} == {"sae"}
    inputs = read_inputs(*(r.run.path for r in alone))
    assert len(inputs.manifest["arms"]) == 4
    planned = read_inputs(comparison)
    assert {(r.run, r.role == "baseline") for r in inputs.runs} == {
        (r.run, r.role == "baseline") for r in planned.runs
    }
    pairs = {run.run: run.pair for run in inputs.runs}
    assert pairs["layer-2-k-8-literal-seed-1"] == "layer-2-k-8-sae-seed-1"


def test_which_ordinary_sae_stands_beside_another() -> None:
    def sae(folder: str, pair: str, hook: str = "a", weighted: bool = False) -> Any:
        run = SimpleNamespace(pair=pair, path=Path(folder, "run"), hook_name=hook, seed=0)
        return SimpleNamespace(
            run=run,
            cfg={"d_sae": 8},
            config={},
            sparsity="k = 4",
            is_ordinary=not weighted,
            metadata={},
            architecture="weighted_topk" if weighted else "topk",
        )

    mine, other = sae("one", "p"), sae("two", "p")
    weighted, alone = (sae("one", pair, weighted=True) for pair in ("p", "alone"))
    everything = [other, mine, weighted, alone]
    assert ordinary_beside(weighted, everything, None) is mine, "pairs of two folders share names"
    assert ordinary_beside(weighted, everything, other) is mine, "its own pair's first"
    assert ordinary_beside(alone, everything, None) is other, "the first like it"
    assert ordinary_beside(alone, everything, mine) is mine, "the one given before one like it"
    elsewhere = sae("one", "q", hook="b")
    assert ordinary_beside(alone, [alone, elsewhere], elsewhere) is None, "of another hook"
    assert ordinary_beside(mine, everything, other) is None


def test_hooks_have_a_table_of_their_own(card: str, comparison: Path) -> None:
    records = read_records([comparison])
    hook = "blocks.2.hook_resid_post"
    of_hook = [
        [metric(r, "explained_variance") for r in records if (r.run.arm, r.run.hook_name) == place]
        for place in ((arm, hook) for arm in ("sae", "literal", "constant", "whitened"))
    ]
    by_hook = folded(card).split("**Explained variance, hook by hook**")[1].split("**")[0]
    assert row(by_hook, f"`{hook}`")[1:] == [
        level_text({"mean": fmean(values), "sd": stdev(values)}) for values in of_hook
    ]


def test_the_verdict_is_that_of_the_report(wsae: Wsae, card: str, comparison: Path) -> None:
    assert wsae("report", comparison)[0] == 0
    verdict = json.loads((comparison / "report.json").read_text())["verdict"]
    page = MarkdownIt("commonmark").enable("table").render(card)
    said = page.split("<h2>What weighting did</h2>")[1].split("</ul>")[0]
    assert said.count("<li>") == len(verdict) > 0


def test_the_front_matter_is_what_the_hub_reads(card: str) -> None:
    parsed: Any = ModelCard(card)
    assert yaml.safe_load(card.split("---\n")[1]) == parsed.data.to_dict()
    assert parsed.data.to_dict()["library_name"] == "saelens"
    assert parsed.data.license == "mit"
    assert parsed.data.language == ["en"]


def test_the_page_is_whole(card: str) -> None:
    page = MarkdownIt("commonmark").enable("table").render(card)
    assert page.count("<details>") == page.count("</details>") > 0
    assert "{{" not in card
    assert "None" not in card
    text = re.sub(r"<[^>]+>", "", re.sub(r"<code.*?</code>", "", page, flags=re.DOTALL))
    assert not re.search(r"\| (:?--|[a-z])", text), "a table that is shown as text"
    for table in re.findall(r"<table>.*?</table>", page, flags=re.DOTALL):
        widths = {len(re.findall("<t[hd][ >]", line)) for line in table.split("</tr>")[:-1]}
        assert len(widths) == 1


def test_twelve_layers(wsae: Wsae, runs: list[Path], tmp_path: Path) -> None:
    folders: list[Path] = []
    for layer in range(12):
        for name, source in zip(("sae", "wsae"), runs, strict=True):
            folder = Path(shutil.copytree(source, tmp_path / f"layer-{layer}-{name}"))
            config = yaml.safe_load((folder / "config.yaml").read_text())
            config["hook_name"] = f"blocks.{layer}.hook_resid_post"
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
            folders.append(folder)
    output = tmp_path / "card" / "README.md"
    code, printed = wsae("card", *folders, "--output", output)
    assert code == 0, printed
    card = output.read_text()
    text = folded(card)
    assert "24 SAEs of 12 hooks" in text
    assert "`layer-*-wsae`" in text
    by_hook = text.split("**Cross\\-entropy recovered, hook by hook**")[1].split("\n\n- ")[0]
    layers = [int(n) for n in re.findall(r"\| `blocks\.(\d+)\.hook_resid_post` \|", by_hook)]
    assert layers == list(range(12)), "in the order of the layers, not of the alphabet"
    assert card.count("![Γ at") == 12
    assert text.count("![Γ at") == 4, "the others are folded away"
    assert len(text) < 14_000


def _metric(name: str, value: float, **changes: Any) -> Score:
    fields: dict[str, Any] = {
        "eval": "saebench/sparse_probing",
        "metric": name,
        "label": "probing accuracy, 1 latent",
        "value": value,
        "direction": "up",
        "headline": True,
        "chance": 0.5,
        "definition": "Test score of a linear probe.",
    }
    return Score.model_validate(fields | changes)


def _bench(folder: Path, runs: dict[str, Path]) -> None:
    """The scores as `wsae bench` writes it, with one remark about one SAE."""
    names = list(runs)
    records = [
        Record(
            eval="sparse_probing",
            run=name,
            arm="arm",
            hook="model hook",
            protocol="p",
            sae=name,
            seed=seed,
            config={"seed": seed},
            seconds=1.0,
            notes=[f"read from {folder}/cache/x.pt"] if name == names[0] else [],
            values=[
                _metric("sae_top_1_test_accuracy", 0.6 + 0.01 * n + 0.02 * seed),
                _metric("ratio", 0.1 * n, label="norm | ratio", direction="down", chance=None),
                _metric("detail", 0.3, headline=False, label="a detail"),
            ],
        )
        for n, name in enumerate(names)
        for seed in (0, 1)
    ]
    folder.mkdir()
    failures = {"core": f"OSError: {folder}/models/missing.bin"}
    write_scores(folder, records, Request(["sparse_probing"]), failures, runs)


def test_saebench_with_chance_noise_and_caveats(
    wsae: Wsae, comparison: Path, tmp_path: Path
) -> None:
    runs = {record.sae_id: record.run.path for record in read_records([comparison])}
    names = list(runs)
    _bench(comparison / "saebench", {n: path for n, path in runs.items() if "constant" not in n})
    output = tmp_path / "card" / "README.md"
    code, printed = wsae("card", comparison, "--output", output)
    assert code == 0, printed
    card = output.read_text()
    section = card.split("## SAEBench")[1].split("\n## ")[0]
    text = folded(section)
    heading = "| variant | probing accuracy, 1 latent ↑ | norm \\| ratio ↓ |"
    assert heading in text
    assert row(text, "*chance*")[1:] == ["0.5", "–"]
    assert row(text, "*noise*")[1] == "0.02"
    values = {
        score["run"]: score["value"]
        for score in json.loads((comparison / "saebench" / "scores.json").read_text())["scores"]
        if score["metric"] == "sae_top_1_test_accuracy"
    }
    ordinary = [
        fmean(value for name, value in values.items() if f"-sae-seed-{seed}" in name)
        for seed in (0, 1)
    ]
    shown = level_text({"mean": fmean(ordinary), "sd": stdev(ordinary)})
    assert row(text, "SAE, α\xa0\\=\xa00")[1] == shown
    assert "constant" not in text, "what was not measured has no row"
    assert "a detail" not in section
    assert "not with published results" in text
    assert "SAEBench sparse probing): Test score of a linear probe" in text, "as the report says it"
    assert "Of 1 SAEs\\: read from x.pt" in text
    missing = card.split("<summary>What has not been measured or paired</summary>")[1].split(
        "</details>"
    )[0]
    assert "saebench/core\\: failed\\: OSError\\: missing.bin" in missing
    assert "saebench/ravel\\: SAEBench" in missing
    assert f"`{names[0]}`" in section
    assert f"`{names[0]}`" not in text


def test_runs_with_nothing_beside_them(wsae: Wsae, runs: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "card" / "README.md"
    assert wsae("card", runs[1], "--output", output)[0] == 0
    text = output.read_text()
    assert "No ordinary SAE at matched L0 stands beside `weighted`" in text
    assert "## What weighting did" not in text
    assert wsae("card", runs[1], "--baseline", runs[0], "--output", output)[0] == 0
    text = output.read_text()
    assert "No ordinary SAE" not in text
    assert "## What weighting did" in text
    assert "is not matched in sparsity" in text
    assert "| `ordinary` |" not in text, "it is shown beside, and is not published"
    assert "| topk, Γ\xa0\\=\xa0I |" in text
    # A difference to a weighted SAE would not say what weighting does.
    code, told = wsae("card", *runs, "--baseline", runs[1], "--output", output)
    assert code == 2
    assert "is no ordinary SAE (" in told
