"""Figures from JSON alone."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.plots.results import gamma_result
from wsae_plugin.plots.gamma import gamma_spectrum
from wsae_plugin.plots.style import cumulative, save_png


def test_gamma_figure_leaves_out_what_has_no_gamma(tmp_path: Path) -> None:
    figure = gamma_spectrum(gamma_result())
    save_png(figure, tmp_path / "gamma.png")
    with Image.open(tmp_path / "gamma.png") as image:
        assert image.size[0] > 900
    assert [path.name for path in tmp_path.iterdir()] == ["gamma.png"]
    weights, shares = figure.axes
    assert len(weights.lines) == len(shares.lines) == 1
    assert list(weights.lines[0].get_ydata()) == [*range(12, 0, -1)]
    assert "γ" in weights.get_title()
    assert all(axes.get_xlabel() for axes in figure.axes)


def test_cumulative_starts_with_the_largest() -> None:
    assert cumulative([1.0, 3.0, 2.0]) == [3.0, 5.0, 6.0]
