"""A claim, the numbers that decide it, and the verdict: a function of the numbers alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

HOLDS = "holds"
HOLDS_IF = "holds under a stated extra condition"
REFUTED = "refuted as printed"
UNDECIDED = "cannot be decided as printed"
VERDICTS = (HOLDS, HOLDS_IF, REFUTED, UNDECIDED)


@dataclass(frozen=True)
class Evidence:
    """A number that was computed and, if it decides anything, what it would have to be.

    Attributes:
        name: an identifier, unique within its statement.
        value: the number; a Fraction where the arithmetic is exact.
        meaning: what it is, for a reader.
        at_most: the statement needs value ≤ at_most.
        at_least: the statement needs value ≥ at_least.

    Raises:
        ValueError: the value is NaN or infinite, so the check went wrong.
    """

    name: str
    value: float | Fraction
    meaning: str
    at_most: float | Fraction | None = None
    at_least: float | Fraction | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"{self.name} is {self.value}; a finite number is needed.")

    @property
    def decides(self) -> bool:
        """Whether the statement needs anything of the number; others are context."""
        return self.at_most is not None or self.at_least is not None

    @property
    def met(self) -> bool:
        """Whether the number is what the statement needs; context always is."""
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    @property
    def needed(self) -> str | None:
        """The requirement in words; None for context."""
        bounds = [("≤", self.at_most), ("≥", self.at_least)]
        return (
            " and ".join(
                f"{sign} {float(bound):.4g}" for sign, bound in bounds if bound is not None
            )
            or None
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values, the number `rounded`; `exact` is the fraction, where there is one."""
        return {
            "name": self.name,
            "value": rounded(self.value),
            "exact": str(self.value) if isinstance(self.value, Fraction) else None,
            "meaning": self.meaning,
            "needed": self.needed,
            "met": self.met if self.decides else None,
        }


@dataclass(frozen=True)
class Statement:
    """Something that is true or not, and the evidence.

    Attributes:
        text: the statement, formula included.
        evidence: it holds if and only if all of it is met.
    """

    text: str
    evidence: tuple[Evidence, ...]

    @property
    def deciding(self) -> Evidence:
        """The first number that is not met, or else the first that had to be.

        Raises:
            ValueError: nothing in the evidence could have come out wrong.
        """
        deciding = [number for number in self.evidence if number.decides]
        if not deciding:
            raise ValueError(f"no number decides {self.text!r}, so it cannot be judged.")
        return next((number for number in deciding if not number.met), deciding[0])

    @property
    def holds(self) -> bool:
        """Whether all evidence is met."""
        return self.deciding.met

    @property
    def why(self) -> str:
        """The deciding number in a line."""
        number = self.deciding
        return f"{number.meaning}: {number_text(number.value)}, needed {number.needed}"

    def as_json(self) -> dict[str, Any]:
        """The statement, whether it holds, and every number."""
        return {
            "statement": self.text,
            "verdict": HOLDS if self.holds else "refuted",
            "why": self.why,
            "evidence": [number.as_json() for number in self.evidence],
        }


@dataclass(frozen=True)
class Claim:
    """A statement of a paper, and what is to be said of it.

    Attributes:
        version: of arXiv 2506.15963: 1 is the full first version, 2 the outline of the second.
        source: where it stands.
        printed: the statement as printed, in other words than the paper's but with its formula.
        condition: a hypothesis that is not printed, and evidence that the statement holds under
            it.
        correction: what is true instead; for a statement that is not public, the reading of its
            title that was checked.
        is_public: whether the statement is printed anywhere public, or only its title.
    """

    version: int
    source: str
    printed: Statement
    condition: Statement | None = None
    correction: Statement | None = None
    is_public: bool = True


def verdict(claim: Claim) -> str:
    """One of `VERDICTS`, from the numbers alone."""
    if not claim.is_public:
        return UNDECIDED
    if claim.printed.holds:
        return HOLDS
    if claim.condition is not None and claim.condition.holds:
        return HOLDS_IF
    return REFUTED


def why(claim: Claim) -> str:
    """One line with the number that decides."""
    if claim.is_public:
        return claim.printed.why
    if claim.correction is None:
        return "only the title is public"
    outcome = "holds" if claim.correction.holds else "is refuted"
    return f"only the title is public; as read here it {outcome}: {claim.correction.why}"


def number_text(value: float | Fraction) -> str:
    """Exact where it can be, else four digits."""
    if isinstance(value, Fraction):
        return str(value)
    return f"{rounded(value):.4g}"


def rounded(value: float | Fraction) -> float:
    """Six digits, and 0 below 1e-10: the rest is rounding, and not the same in every run."""
    return 0.0 if abs(value) < 1e-10 else float(f"{float(value):.6g}")
