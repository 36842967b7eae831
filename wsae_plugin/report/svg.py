"""A figure as SVG that stands inside a page and takes its colours of ink from there."""

from __future__ import annotations

import html
import io
import re
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# What matplotlib draws in these colours follows the page, dark or light.
_INK = {"#000000": "currentColor", "#666666": "var(--muted)", "#dddddd": "var(--line)"}
# matplotlib numbers its groups alike in every figure: figure_1, axes_2, xtick_3.
_GROUP_ID = re.compile(r' id="[A-Za-z0-9.]+_\d+"')


def inline_svg(figure: Figure, name: str, alt: str) -> str:
    """The `<svg>` element of a figure, without a fixed size and with text as text.

    Args:
        figure: The figure.
        name: Unique in the page: the figure's ids are made from it.
        alt: What it shows, for those who cannot see it.
    """
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}
    stream = io.StringIO()
    with matplotlib.rc_context(settings):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = _GROUP_ID.sub("", text)
    # Ids that are referred to, such as clip paths, must differ between the figures of a page.
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    head, body = text.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    text = f'{head} role="img" aria-label="{html.escape(alt)}">{body}'
    for colour, replacement in _INK.items():
        text = text.replace(colour, replacement)
    return text
