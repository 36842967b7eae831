"""What all figures share: colours, markers, size, and how one becomes a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# Okabe and Ito's palette, which readers with any common colour blindness can tell apart, and four
# more for figures of many series. Every series has a marker or a line style of its own as well.
PALETTE = (
    *("#000000", "#0072B2", "#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#D55E00"),
    *("#7F5FD9", "#999933", "#A0522D", "#888888"),
)
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1)), (0, (5, 1)), (0, (1, 1)))

_DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """A figure of that many inches, drawn without any display."""
    return Figure(figsize=(width, height), layout="constrained")


def tidy(axes: Any) -> None:
    """A light grid, no box, and 1, 2, 5, 10 on logarithmic axes; call it when all is drawn."""
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(_plain_number))
            axis.set_minor_formatter(NullFormatter())
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _plain_number(value: float, _: int | None) -> str:
    return f"{value:g}"


def cumulative(shares: Sequence[float]) -> list[float]:
    """The running total of `shares`, largest first."""
    return list(accumulate(sorted(shares, reverse=True)))


def save_png(figure: Figure, path: Path) -> None:
    """Write `figure` whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(descriptor)
    temporary = Path(name)
    try:
        figure.savefig(temporary, format="png", dpi=_DPI, facecolor="white")
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
