"""Pages in Markdown, drawn from a study's JSON alone by the template that lies beside its code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wsae_plugin.templates import filled


def render(template: Path, document: dict[str, Any]) -> str:
    """Write a page.

    Args:
        template: of Jinja2; beside Jinja's own filters it has `prose`, which escapes text for
            Markdown, `cell`, the same within a table, and `percent`, which writes `98.4%`.
        document: its variables, JSON.
    """
    filters = {"prose": _prose, "cell": _cell, "percent": "{:.1%}".format}
    return filled(template, filters, **document)


def _prose(text: str) -> str:
    return text.replace("*", "\\*").replace("_", "\\_")


def _cell(text: str) -> str:
    return _prose(text).replace("|", "\\|")
