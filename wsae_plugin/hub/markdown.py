"""Any text as harmless Markdown: what a user wrote cannot become markup, HTML or a table cell."""

from __future__ import annotations

import re
from collections.abc import Sequence

from wsae_plugin.report.text import table

__all__ = ["bibtex", "code", "few", "plain", "table"]

_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~$^=:@-])")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def plain(text: object) -> str:
    """Text that a renderer shows as it is, on one line, also inside a table and at its start."""
    line = _one_line(text)
    escaped = "".join(_HTML.get(character, character) for character in line)
    # `&lt;` holds no markup, so the backslashes cannot break it.
    return re.sub(r"^(\d+)([.)])", r"\1\\\2", _MARKUP.sub(r"\\\1", escaped))


def code(text: object) -> str:
    """A code span that shows the text as it is, also inside a table.

    A pipe ends a table's cell even inside a code span; GitHub's and the Hub's tables unescape it
    there, so it is escaped. A backtick needs a longer fence and spaces to keep them apart.
    """
    line = _one_line(text).replace("|", r"\|") or " "
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{fence}{space}{line}{space}{fence}"


def few(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _one_line(text: object) -> str:
    """Whitespace is one space, and nothing is invisible or turns the direction of reading."""
    return "".join(c for c in " ".join(str(text).split()) if c.isprintable())


def bibtex(text: object) -> str:
    """Text for a BibTeX field in braces, inside a fenced block: no brace, backslash or fence."""
    return re.sub(r"([&%$#_])", r"\\\1", re.sub(r"[{}\\`]", "", _one_line(text)))
