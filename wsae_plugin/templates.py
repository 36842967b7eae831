"""Pages from templates of Jinja2, which lie beside the code that fills them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def filled(
    template: Path, filters: Mapping[str, Callable[..., str]] | None = None, **variables: Any
) -> str:
    """A page as text; of HTML every value is escaped that is no `Markup`.

    Args:
        template: `NAME.html.j2` or `NAME.md.j2`.
        filters: Beside Jinja's own, by name.
        variables: Of the template; one that it asks for in vain is an error.
    """
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=template.name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters or {}
    return environment.get_template(template.name).render(variables)
