"""The claims as a page, from their JSON alone: `page.md.j2` with the filters that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined


def ledger_markdown(ledger: dict[str, Any]) -> str:
    """The page, in Markdown.

    Args:
        ledger: what `check_claims` returns.
    """
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters.update(prose=_prose, cell=_cell, value=_value)
    source = Path(__file__).with_name("page.md.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(ledger)


def _value(number: dict[str, Any]) -> str:
    value = f"{number['value']:.4g}"
    return value if number["exact"] in (None, value) else f"{number['exact']} = {value}"


def _prose(text: str) -> str:
    return text.replace("*", "\\*").replace("_", "\\_")


def _cell(text: str) -> str:
    return _prose(text).replace("|", "\\|")
