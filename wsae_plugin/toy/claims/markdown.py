"""The ledger as a page, from its JSON alone."""

from __future__ import annotations

from typing import Any

_INTRODUCTION = """# What the WSAE papers state, and what was found

Every theorem, example and counter-example of arXiv 2506.15963 that is public, and the statements
around them that matter, each as an executable check (`wsae claims`). *v1* is the first version of
the paper, *v2* the second, of which only an outline is public. A verdict is computed from numbers:
a statement holds if and only if every number that it needs came out as needed. Numbers below 1e-10
are rounding, and written as 0.

In the statements p_i is the direction of feature i, column i of W_p; S the probability that a
feature is 0; z the codes and e = x − z; W_p* minimises E‖x − ReLU(W_pᵀW_px)‖²; I* permutes rows; Γ*
is the Γ that makes ‖W_pᵀΓ²W_p − I‖_F smallest. "S → 1" is the limit in which every sample holds one
feature: a limit loss is Σ_u of the loss at x = e_u.

This page is made by `wsae claims --markdown`; do not edit it.
"""


def ledger_markdown(ledger: dict[str, Any]) -> str:
    """The page, in Markdown.

    Args:
        ledger: what `check_claims` returns.
    """
    counts = ", ".join(f"{number} {name}" for name, number in ledger["counts"].items() if number)
    lines = [
        _INTRODUCTION,
        f"{len(ledger['claims'])} statements: {counts}.\n",
        "| claim | source | verdict |",
        "| --- | --- | --- |",
    ]
    for claim in ledger["claims"]:
        source = _cell(f"v{claim['version']}, {claim['source']}")
        lines.append(f"| [{claim['id']}](#{claim['id']}) | {source} | {claim['verdict']} |")
    for claim in ledger["claims"]:
        lines += ["", *_section(claim)]
    return "\n".join(lines) + "\n"


def _section(claim: dict[str, Any]) -> list[str]:
    lines = [
        f"## {claim['id']}",
        "",
        f"*Version {claim['version']}, {_prose(claim['source'])}.* {_prose(claim['statement'])}",
        "",
        f"**{claim['verdict'].capitalize()}.**",
        *_table(claim["evidence"]),
    ]
    reading = "Instead" if claim["evidence"] else "As read here"
    for title, key in (("Condition", "condition"), (reading, "correction")):
        part = claim[key]
        if part is not None:
            lines += ["", f"**{title}** ({part['verdict']}). {_prose(part['statement'])}"]
            lines += _table(part["evidence"])
    return lines


def _table(evidence: list[dict[str, Any]]) -> list[str]:
    if not evidence:
        return []
    rows = [
        f"| {_cell(number['meaning'])} | {_value(number)} | {number['needed'] or ''} "
        f"| {_met(number)} |"
        for number in evidence
    ]
    return ["", "| number | value | needed | met |", "| --- | --- | --- | --- |", *rows]


def _value(number: dict[str, Any]) -> str:
    value = f"{number['value']:.4g}"
    return value if number["exact"] in (None, value) else f"{number['exact']} = {value}"


def _met(number: dict[str, Any]) -> str:
    return "" if number["met"] is None else "yes" if number["met"] else "**no**"


def _prose(text: str) -> str:
    return text.replace("*", "\\*").replace("_", "\\_")


def _cell(text: str) -> str:
    return _prose(text).replace("|", "\\|")
