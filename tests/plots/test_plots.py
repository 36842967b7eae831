"""Figures, verdict and report, from JSON alone."""

from __future__ import annotations

import copy
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from wsae_plugin.plots.demo import FIGURES
from wsae_plugin.plots.report import columns, write_report
from wsae_plugin.plots.verdict import headline, is_clear, verdict

from tests.plots.results import demo_result, gamma_result
from wsae_plugin.plots.gamma import gamma_spectrum
from wsae_plugin.plots.style import cumulative, save_png


@pytest.mark.parametrize("name", FIGURES)
def test_figures_name_their_axes(name: str, tmp_path: Path) -> None:
    figure = FIGURES[name](demo_result())
    save_png(figure, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert image.size[0] > 900
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]
    assert all(axes.get_xlabel() for axes in figure.axes)
    assert figure.axes[0].get_ylabel() or figure.axes[0].get_yticklabels()


def test_gamma_figure_leaves_out_what_has_no_gamma(tmp_path: Path) -> None:
    figure = gamma_spectrum(gamma_result())
    save_png(figure, tmp_path / "gamma.png")
    weights, shares = figure.axes
    assert len(weights.lines) == len(shares.lines) == 1
    assert "γ" in weights.get_ylabel()


def test_cumulative_starts_with_the_largest() -> None:
    assert cumulative([1.0, 3.0, 2.0]) == [3.0, 5.0, 6.0]


def test_a_difference_is_clear_beyond_its_spread() -> None:
    assert is_clear({"value": -0.02, "spread": 0.01})
    assert not is_clear({"value": 0.01, "spread": 0.01})
    assert not is_clear({"value": 0.0, "spread": 0.0})


def test_the_verdict_says_what_the_numbers_say() -> None:
    text = " ".join(verdict(demo_result()))
    # 0.5: +0.004 within 0.01; 1: +0.03
    assert "Under their own Γ, 1 of 2 weighted SAEs explain more than the unweighted one" in text
    assert "α = 0.5: +0.0040 ± 0.0100; α = 1: +0.0300 ± 0.0100" in text
    assert "Unweighted, 0 of 2 explain more by more than the spread, and 1 less" in text
    assert "fell from 0.8000 to 0.7500 (−0.0500 ± 0.0100, more than the spread)" in text
    assert "shuffled Γ, α = 1, a control: under its own Γ the explained variance rose" in text
    assert "Caution: a handful of dimensions" in text
    assert "dead 3 and 4" in text


def test_the_verdict_turns_with_the_numbers() -> None:
    result = demo_result()
    for arm in result["arms"]:
        for name in arm["difference"]["weighted_explained_variance"]:
            arm["difference"]["weighted_explained_variance"][name]["value"] *= -1
        arm["spectrum"]["concentrated"] = False
    text = " ".join(verdict(result))
    assert "Under their own Γ, 0 of 2 weighted SAEs explain more than the unweighted" in text
    assert "by more than the spread, and 1 less" in headline(result)[1]
    assert "Caution" not in text


class _Resources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_report_is_one_file_that_loads_nothing(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text(json.dumps(demo_result()))
    page = write_report(tmp_path)

    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"demo.json", "report.html", *(f"{name}.png" for name in FIGURES)}
    text = page.read_text(encoding="utf-8")
    parser = _Resources()
    parser.feed(text)
    assert len(parser.loaded) == len(FIGURES)
    assert all(source.startswith("data:image/png;base64,") for source in parser.loaded)
    assert not {"script", "link", "iframe"} & set(parser.tags)
    assert "@import" not in text
    assert "url(" not in text
    assert "a model with &lt;angles&gt;" in text
    for sentence in headline(demo_result()):
        assert sentence in html.unescape(text)
    table = text[text.index("<table>") : text.index("</table>")]
    rows = re.findall(r"<tr>.*?</tr>", table, flags=re.DOTALL)
    assert len(rows) == 1 + len(demo_result()["arms"])
    assert all(heading in rows[0] for heading, _ in columns(demo_result()))
    assert "−0.0500 ± 0.0100 *" in rows[3]


def test_the_report_is_drawn_from_the_json_it_finds(tmp_path: Path) -> None:
    result = copy.deepcopy(demo_result())
    result["held_out"]["ce_loss"] = 1.2345
    (tmp_path / "demo.json").write_text(json.dumps(result))
    assert "1.2345" in write_report(tmp_path).read_text(encoding="utf-8")
