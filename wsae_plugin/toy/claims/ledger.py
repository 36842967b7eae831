"""All claims, checked one after the other, as JSON."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from tqdm.auto import tqdm

from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.messages import nearest
from wsae_plugin.toy.claims import (
    closed_form,
    necessity,
    optima,
    outline,
    reweighting,
    structure,
)
from wsae_plugin.toy.claims.claim import VERDICTS, Check, judge_claim
from wsae_plugin.toy.page import render

STATEMENTS: dict[str, Any] = yaml.safe_load(
    Path(__file__).with_name("claims.yaml").read_text(encoding="utf-8")
)
"""Identifier → what the claim states and needs; in the order of the papers' arguments."""

WSAE = "arXiv 2506.15963"

PAPERS = {
    WSAE: {
        "1": "On the Theoretical Understanding of Identifiable Sparse Autoencoders and Beyond",
        "2": "On the Limits of Sparse Autoencoders: A Theoretical Framework and Reweighted "
        "Remedy (outline only)",
    },
    "arXiv 2606.02385": {
        "1": "How Optimality Structures Sparse Dictionaries: A Theory for Understanding SAE "
        "Representations (abstract only)",
    },
}
"""Paper → version → title."""

_FUNCTIONS = {
    name: function
    for module in (closed_form, necessity, reweighting, outline, optima, structure)
    for name, function in vars(module).items()
}

CLAIMS: dict[str, Check] = {name: _FUNCTIONS[name.replace("-", "_")] for name in STATEMENTS}
"""Identifier → the function of that name, which measures the numbers; in the same order."""


def check_claims(only: Sequence[str] = ()) -> dict[str, Any]:
    """Run the checks.

    Args:
        only: identifiers from `CLAIMS`; none means all.

    Returns:
        {"papers", "counts": {verdict: number}, "claims": [{"id", "paper", "version", "source",
        "statement", "verdict", "why", "condition", "evidence", "correction", "seconds"}]}: strict
        JSON. Papers are `PAPERS`. Evidence is a list of {"name", "value", "exact", "meaning",
        "needed", "met"}; condition and correction are null or {"statement", "verdict", "why",
        "evidence"}. All but `seconds` is the same in every run on one machine.

    Raises:
        BadInputError: an identifier is unknown.
        RunFailedError: a check crashed; names it.
    """
    for name in only:
        if name not in CLAIMS:
            raise BadInputError(f"--only {name}: no such claim; {nearest(name, CLAIMS)}")
    bar = tqdm([name for name in CLAIMS if not only or name in only], "Claims", unit="claim")
    claims: list[dict[str, Any]] = []
    for name in bar:
        bar.set_postfix_str(name)
        claims.append(_check(name))
    counts = Counter(claim["verdict"] for claim in claims)
    return {
        "papers": PAPERS,
        "counts": {name: counts[name] for name in VERDICTS},
        "claims": claims,
    }


def ledger_markdown(ledger: dict[str, Any]) -> str:
    """The claims as a page in Markdown, from what `check_claims` returns alone."""
    return render(Path(__file__).with_name("page.md.j2"), ledger)


def _check(name: str) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        judged = judge_claim(STATEMENTS[name], CLAIMS[name]())
    except Exception as error:
        raise RunFailedError(f"claim {name}: its check crashed: {error!r}") from error
    paper = STATEMENTS[name].get("paper", WSAE)
    return {"id": name, "paper": paper, **judged, "seconds": round(time.perf_counter() - start, 3)}
