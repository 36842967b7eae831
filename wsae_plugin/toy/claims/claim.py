"""From what a claim states and the numbers that were measured to its verdict: pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

HOLDS = "holds"
HOLDS_IF = "holds under a stated extra condition"
REFUTED = "refuted as printed"
UNDECIDED = "cannot be decided as printed"
VERDICTS = (HOLDS, HOLDS_IF, REFUTED, UNDECIDED)

Numbers = Mapping[str, float | Fraction]
"""Name → number; a Fraction where the arithmetic is exact."""

Measured = Mapping[str, Numbers]
"""What a check returns: for each statement of a claim (printed, condition, correction)."""

Check = Callable[[], Measured]


def judge_claim(claim: Mapping[str, Any], numbers: Measured) -> dict[str, Any]:
    """The verdict, from the numbers alone, and all that it rests on.

    Args:
        claim: an entry of `claims.yaml`.
        numbers: of each of its statements, what its check measured.

    Returns:
        {"version", "source", "statement", "verdict", "why", "condition", "evidence",
        "correction"}: strict JSON, as `check_claims` describes it.
    """
    judged = {
        part: judge_statement(numbers=numbers[part], **claim[part])
        for part in ("printed", "condition", "correction")
        if part in claim
    }
    holding = [part for part, statement in judged.items() if statement["verdict"] == HOLDS]
    public, words = "title", "Only the title of this is public."
    if "abstract" in claim:
        public, words = "abstract", f"Only the abstract is public: “{claim['abstract']}”."
    if "printed" in judged:
        why = judged["printed"]["why"]
        refuted = HOLDS_IF if "condition" in holding else REFUTED
        verdict = HOLDS if "printed" in holding else refuted
    else:
        outcome = "holds" if "correction" in holding else "is refuted"
        reading = judged["correction"]["why"]
        why = f"only the {public} is public; as read here it {outcome}: {reading}"
        verdict = UNDECIDED
    printed = judged.get("printed", {"statement": words, "evidence": []})
    return {
        "version": claim["version"],
        "source": claim["source"],
        "statement": printed["statement"],
        "verdict": verdict,
        "why": why,
        "condition": judged.get("condition"),
        "evidence": printed["evidence"],
        "correction": judged.get("correction"),
    }


def judge_statement(
    statement: str, needs: Mapping[str, Mapping[str, Any]], numbers: Numbers
) -> dict[str, Any]:
    """A statement holds if and only if all of its numbers are as needed.

    Args:
        statement: its text.
        needs: name → the keyword arguments of `judge_number`.
        numbers: the values, under the same names.

    Returns:
        {"statement", "verdict", "why", "evidence"}. `why` is the first number that is not as
        needed, or else the first that had to be something.

    Raises:
        ValueError: the names differ, no number could have come out wrong, or one is not finite.
    """
    if numbers.keys() != needs.keys():
        raise ValueError(f"the check measured {list(numbers)}; {list(needs)} are needed.")
    evidence = [judge_number(name, numbers[name], **need) for name, need in needs.items()]
    deciding = [number for number in evidence if number["needed"] is not None]
    if not deciding:
        raise ValueError(f"no number decides {statement!r}, so it cannot be judged.")
    first = next((number for number in deciding if not number["met"]), deciding[0])
    value = first["exact"] or f"{first['value']:.4g}"
    return {
        "statement": statement,
        "verdict": HOLDS if first["met"] else "refuted",
        "why": f"{first['meaning']}: {value}, needed {first['needed']}",
        "evidence": evidence,
    }


def judge_number(
    name: str,
    value: float | Fraction,
    *,
    meaning: str,
    at_most: float | None = None,
    at_least: float | None = None,
) -> dict[str, Any]:
    """A number beside what it would have to be; without a bound it is context.

    Args:
        name: an identifier, unique within its statement.
        value: the number; a Fraction where the arithmetic is exact.
        meaning: what it is, for a reader.
        at_most: the statement needs value ≤ at_most.
        at_least: the statement needs value ≥ at_least.

    Returns:
        {"name", "value", "exact", "meaning", "needed", "met"}: the value `rounded`, the exact
        fraction where there is one; needed and met are None for context.

    Raises:
        ValueError: the value is NaN or infinite, so the check went wrong.
    """
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}; a finite number is needed.")
    bounds = [("≤", at_most), ("≥", at_least)]
    needed = " and ".join(f"{sign} {bound:.4g}" for sign, bound in bounds if bound is not None)
    met = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
    return {
        "name": name,
        "value": rounded(value),
        "exact": str(value) if isinstance(value, Fraction) else None,
        "meaning": meaning,
        "needed": needed or None,
        "met": met if needed else None,
    }


def rounded(value: float | Fraction) -> float:
    """Six digits, and 0 below 1e-10: the rest is rounding, and not the same in every run."""
    return 0.0 if abs(value) < 1e-10 else float(f"{float(value):.6g}")
