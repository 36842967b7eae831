"""The report of a comparison: one page that loads nothing, figures, and Markdown."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.made_up import METRICS, Plan, write_comparison
from wsae_plugin.plots.style import new_figure
from wsae_plugin.report.figures import FIGURES, drawable, style
from wsae_plugin.report.inputs import read_inputs
from wsae_plugin.report.page import markdown, render, write_pages
from wsae_plugin.report.summary import summarize
from wsae_plugin.report.svg import inline_svg
from wsae_plugin.report.text import eval_label

MOVED = {"ce_loss_score": 0.02, "explained_variance": -0.03}
PLAN = Plan({"alpha-1": MOVED, "shuffled": {"explained_variance": -0.03}}, k=(16, 32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_comparison(tmp_path_factory.mktemp("report") / "comparison", PLAN)
    write_pages(folder, summarize(read_inputs(folder)))
    return folder


@pytest.fixture
def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href"):
                self.loaded.append(value or "")


def parsed(text: str) -> _Page:
    page = _Page()
    page.feed(text)
    return page


def test_the_page_is_one_file_that_loads_nothing(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = parsed(text)
    assert not {"script", "link", "iframe", "img"} & set(page.tags)
    assert all(target.startswith("#") for target in page.loaded)
    assert {target[1:] for target in page.loaded} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    assert "a model with &lt;angles&gt;" in text
    assert "absorption <fraction>" not in text


def test_the_page_says_what_the_json_says(folder: Path, report: dict[str, Any]) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    plain = html.unescape(re.sub(r"<[^>]+>", "", text))
    for sentence in report["verdict"]:
        assert sentence in plain
    assert f'<p class="lead">{html.escape(report["verdict"][0])}</p>' in text
    table = text[text.index("<table>") : text.index("</table>")]
    rows = re.findall(r"<tr>.*?</tr>", table, flags=re.DOTALL)
    assert len(rows) == 1 + sum(m[4] for m in METRICS)
    row = next(row for row in rows if "CE loss score" in row)
    # words, not only colours
    assert "✓ better" in row
    assert "20 / 0 / 0" in row
    assert "beyond shuffled" in row
    row = next(row for row in rows if "explained variance" in row)
    assert row.count("✗ worse") == 2
    assert "shuffled as much" in row
    assert "Student's 95 % interval of the mean over the 5 seeds" in plain
    for name in ("wsae compare some.yaml", "sae-bench 0.6.0", "needs Gemma", "seeds:"):
        assert name in plain


def test_no_column_is_kept_wide(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    tables = re.findall(r"<table>.*?</table>", text, flags=re.DOTALL)
    kept = re.findall(r'class="[^"]*number"[^>]*>([^<]*)<', "".join(tables))
    # What may not be wrapped is a number or a word: ten columns of it find room at 1,200 px.
    assert kept
    assert max(map(len, kept)) <= 14, max(kept, key=len)


def test_dark_light_and_print(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert "currentColor" in text
    figures = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert len(figures) == 6
    for figure in figures:
        assert 'role="img" aria-label="' in figure
        assert "#000000" not in figure


def test_figures_name_their_axes(report: dict[str, Any]) -> None:
    figures = drawable(report)
    assert figures == ["differences", "trade", "levels", "pareto", "gamma", "learning"]
    for name in figures:
        axes = [panel for panel in FIGURES[name](report).axes if panel.axison]
        assert all(panel.get_xlabel() and panel.get_title() for panel in axes)
    labels = [line.get_label() for line in FIGURES["learning"](report).axes[0].lines]
    assert labels == [arm["label"] for arm in report["arms"]]
    difference = FIGURES["differences"](report)
    titles = [panel.get_title() for panel in difference.axes if panel.axison]
    assert titles == ["explained variance ↑", "absorption <fraction> ↓", "CE loss score ↑"]


def test_arms_differ_by_more_than_colour(report: dict[str, Any]) -> None:
    styles = [style(report, arm["name"]) for arm in report["arms"]]
    for field in ("color", "marker", "linestyle"):
        assert len({str(each[field]) for each in styles}) == len(styles)


def test_ten_arms_beside_the_baseline_have_ten_colours(report: dict[str, Any]) -> None:
    baseline, weighted, control = report["arms"]
    others = [{**weighted, "name": str(n)} for n in range(9)]
    # Also where the baseline is not the first of its file.
    arms = [control, baseline, *others]
    styles = [style({"arms": arms}, arm["name"]) for arm in arms]
    assert len({each["color"] for each in styles}) == 11
    assert styles[1]["color"] == "#000000"


def test_many_arms_stand_within_the_place_of_their_layer(report: dict[str, Any]) -> None:
    baseline, weighted, _ = report["arms"]
    names = list(map(str, range(13)))
    report["arms"] = [baseline, *({**weighted, "name": name} for name in names)]
    for metric in report["metrics"]:
        metric["arms"] = dict.fromkeys(names, metric["arms"]["alpha-1"])
    panel = FIGURES["differences"](report).axes[0]
    places = [bars.lines[0].get_xdata() for bars in panel.containers[:13]]
    assert all(abs(x - layer) < 0.5 for found in places for layer, x in enumerate(found))
    assert len({tuple(found) for found in places}) == 13


def of_hooks(folder: Path, *hooks: str) -> dict[str, Any]:
    """The report of the same scores at other hooks: the first is what was layer 1."""
    (folder / "manifest.json").write_text(
        (folder / "manifest.json").read_text().replace("blocks.1.hook_resid_post", hooks[0])
    )
    return summarize(read_inputs(folder))


def test_no_line_joins_hooks_of_two_kinds(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", PLAN)
    of_one_kind = FIGURES["differences"](summarize(read_inputs(folder))).axes[0]
    assert [len(bars.lines[0].get_xdata()) for bars in of_one_kind.containers[:2]] == [2, 2]
    assert of_one_kind.get_xlabel() == "layer"
    assert "Layer by layer" in render(summarize(read_inputs(folder)))
    # two layers, but of two kinds
    other = of_hooks(folder, "blocks.1.hook_mlp_out")
    panel = FIGURES["differences"](other).axes[0]
    # The legend has two more, without points.
    arms = [bars.lines[0] for bars in panel.containers[:2]]
    for line in arms:
        # a point, a gap, a point
        assert list(np.isnan(np.asarray(line.get_xdata(), dtype=float))) == [False, True, False]
    assert panel.get_xlabel() == "hook"
    shown = [tick.get_text() for tick in panel.get_xticklabels()]
    assert shown == ["blocks.1.hook_mlp_out", "blocks.3.hook_resid_post"]
    assert "Hook by hook" in render(other)


def test_layers_stand_in_their_order_however_their_runs_were_given(tmp_path: Path) -> None:
    # As folders are sorted by name: layer 10 before layer 2.
    plan = Plan({"alpha-1": {"explained_variance": -0.01}}, layers=(10, 2))
    report = summarize(read_inputs(write_comparison(tmp_path / "c", plan)))
    figure = FIGURES["levels"](report).axes[0]
    assert [tick.get_text() for tick in figure.get_xticklabels()] == ["2", "10"]
    baseline = {row["layer"]: row["mean"] for row in report["metrics"][0]["baseline"]["per_layer"]}
    shown = list(figure.containers[0].lines[0].get_ydata())
    assert shown == [baseline[2], baseline[10]]


def test_a_band_is_named_where_it_is_drawn(report: dict[str, Any]) -> None:
    def legend() -> list[str]:
        return [text.get_text() for text in FIGURES["differences"](report).legends[0].get_texts()]

    assert legend().count("noise floor") == 1
    for metric in report["metrics"]:
        metric["noise"] = None
    assert "noise floor" not in legend()
    assert "noise floor" not in render(report)


def test_chance_is_named_where_it_is_drawn(report: dict[str, Any]) -> None:
    def named() -> list[list[str]]:
        axes = [panel for panel in FIGURES["levels"](report).axes if panel.axison]
        return [[text.get_text() for text in panel.texts] for panel in axes]

    # 0.5, far from a score of 0.95
    assert not any(named())
    report["metrics"][0]["chance"] = report["metrics"][0]["baseline"]["mean"]
    assert named() == [["chance"], *[[]] * (len(named()) - 1)]


def test_panels_of_one_label_are_told_apart(report: dict[str, Any]) -> None:
    for metric in report["metrics"]:
        if metric["metric"] == "ce_loss_score":
            metric["label"] = "explained variance"
    titles = [axes.get_title() for axes in FIGURES["levels"](report).axes if axes.axison]
    assert "explained variance (held-out data) ↑" in titles
    assert "explained variance (SAEBench core) ↑" in titles


def test_no_title_of_a_trade_lies_on_another(report: dict[str, Any]) -> None:
    (found,) = [report["trade"][arm] for arm in ("alpha-1",)]
    report["arms"] = [
        {**report["arms"][1], "name": str(n), "label": "WSAE, α = 1, a name of some length"}
        for n in range(9)
    ]
    report["trade"] = {str(n): found for n in range(9)}
    figure = FIGURES["trade"](report)
    figure.draw_without_rendering()
    shown = [axes for axes in figure.axes if axes.axison]
    boxes = [text.get_window_extent() for a in shown for text in (a.title, a.xaxis.label)]
    assert len(boxes) == 18
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


def test_the_markdown_has_a_row_for_each_headline_metric(folder: Path) -> None:
    lines = (folder / "report.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + sum(m[4] for m in METRICS)
    assert {row.count("|") for row in rows} == {rows[0].count("|")}
    assert "✓ better<br>+0.0" in next(row for row in rows if "CE loss score ↑" in row)


def test_a_report_without_tests_or_figures(tmp_path: Path) -> None:
    plan = Plan({}, seeds=(0,), layers=(1,))
    folder = write_comparison(tmp_path / "c", plan, evals=False)
    report = summarize(read_inputs(folder))
    assert drawable(report) == ["differences", "levels", "learning"]
    text = render(report)
    assert "One seed: no intervals and no tests." in text
    assert "✓" not in text
    assert "Not everything has been measured" in text


def test_a_run_folder_alone_is_shown_with_its_levels(tmp_path: Path) -> None:
    folder = next(write_comparison(tmp_path / "c", Plan({})).glob("runs/*alpha-1*"))
    report = summarize(read_inputs(folder))
    assert drawable(report) == ["gamma", "learning"]
    for text in (render(report), markdown(report)):
        assert folder.name in text
        assert "L0" in text and "32" in text
        assert "nothing is compared" in text


def test_an_eval_is_named_in_words() -> None:
    assert eval_label("saebench/sparse_probing") == "SAEBench sparse probing"


def test_svg_ids_belong_to_one_figure() -> None:
    def draw(name: str) -> str:
        figure = new_figure(2, 2)
        figure.subplots().plot([0, 1], [0, 1], "o", color="#000000")
        return inline_svg(figure, name, 'a "quoted" <alt>')

    first, second = draw("first"), draw("second")
    assert first == draw("first")
    assert not set(parsed(first).ids) & set(parsed(second).ids)
    assert "a &quot;quoted&quot; &lt;alt&gt;" in first
    assert not re.search(r'<svg[^>]* width="', first)
