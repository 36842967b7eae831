"""All claims, checked one after the other, as JSON."""

from __future__ import annotations

import difflib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tqdm.auto import tqdm

from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.toy.claims import (
    activation_needed,
    closed_form,
    decompositions,
    gap,
    optimality,
    principle,
    recovery,
    sparsity_needed,
    sufficiency,
    top_k,
    uniqueness,
    version_2,
    weights,
    width_needed,
)
from wsae_plugin.toy.claims.claim import VERDICTS, Claim, verdict, why

CLAIMS: dict[str, Callable[[], Claim]] = {
    **recovery.CLAIMS,
    **optimality.CLAIMS,
    **top_k.CLAIMS,
    **uniqueness.CLAIMS,
    **sufficiency.CLAIMS,
    **sparsity_needed.CLAIMS,
    **activation_needed.CLAIMS,
    **width_needed.CLAIMS,
    **decompositions.CLAIMS,
    **gap.CLAIMS,
    **weights.CLAIMS,
    **principle.CLAIMS,
    **closed_form.CLAIMS,
    **version_2.CLAIMS,
}
"""Identifier → its check, which runs the numbers; in the order of the papers' arguments."""


def check_claims(only: Sequence[str] = ()) -> dict[str, Any]:
    """Run the checks.

    Args:
        only: identifiers from `CLAIMS`; none means all.

    Returns:
        {"paper", "versions", "counts": {verdict: number}, "claims": [{"id", "version", "source",
        "statement", "verdict", "why", "condition", "evidence", "correction", "seconds"}]}: strict
        JSON. Evidence is a list of {"name", "value", "exact", "meaning", "needed", "met"};
        condition and correction are null or {"statement", "verdict", "why", "evidence"}. All but
        `seconds` is the same in every run on one machine.

    Raises:
        BadInputError: an identifier is unknown.
        RunFailedError: a check crashed; names it.
    """
    for name in only:
        if name not in CLAIMS:
            close = difflib.get_close_matches(name, CLAIMS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(CLAIMS)}"
            raise BadInputError(f"--only {name}: no such claim; {hint}")
    names = [name for name in CLAIMS if not only or name in only]
    bar = tqdm(names, "Claims", unit="claim")
    claims: list[dict[str, Any]] = []
    for name in bar:
        bar.set_postfix_str(name)
        claims.append(_check(name))
    counts = Counter(claim["verdict"] for claim in claims)
    return {
        "paper": "arXiv 2506.15963",
        "versions": {
            "1": "On the Theoretical Understanding of Identifiable Sparse Autoencoders and Beyond",
            "2": "On the Limits of Sparse Autoencoders: A Theoretical Framework and Reweighted "
            "Remedy (outline only)",
        },
        "counts": {name: counts[name] for name in VERDICTS},
        "claims": claims,
    }


def _check(name: str) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        claim = CLAIMS[name]()
        document = {
            "id": name,
            "version": claim.version,
            "source": claim.source,
            "statement": claim.printed.text,
            "verdict": verdict(claim),
            "why": why(claim),
            "condition": claim.condition and claim.condition.as_json(),
            "evidence": [number.as_json() for number in claim.printed.evidence],
            "correction": claim.correction and claim.correction.as_json(),
        }
    except Exception as error:
        raise RunFailedError(f"claim {name}: its check crashed: {error!r}") from error
    return {**document, "seconds": round(time.perf_counter() - start, 3)}
