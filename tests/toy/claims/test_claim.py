"""The verdict is a function of the numbers, and can come out each way."""

from __future__ import annotations

from fractions import Fraction

import pytest

from wsae_plugin.toy.claims.claim import (
    HOLDS,
    HOLDS_IF,
    REFUTED,
    UNDECIDED,
    Claim,
    Evidence,
    Statement,
    rounded,
    verdict,
    why,
)

TRUE = Statement("2 + 2 = 4", (Evidence("sum", 4, "2 + 2", at_most=4, at_least=4),))
FALSE = Statement("2 + 2 = 5", (Evidence("sum", 4, "2 + 2", at_most=5, at_least=5),))


def claim(
    printed: Statement, condition: Statement | None = None, correction: Statement | None = None
) -> Claim:
    return Claim(1, "somewhere", printed, condition, correction)


def test_each_verdict_can_come_out() -> None:
    assert verdict(claim(TRUE)) == HOLDS
    assert verdict(claim(FALSE)) == REFUTED
    assert verdict(claim(FALSE, condition=TRUE)) == HOLDS_IF
    assert verdict(claim(FALSE, condition=FALSE)) == REFUTED
    assert verdict(claim(FALSE, correction=TRUE)) == REFUTED
    # A condition does not weaken what holds without it.
    assert verdict(claim(TRUE, condition=TRUE)) == HOLDS


def test_a_statement_that_is_not_public_is_not_judged() -> None:
    title = Statement("a title", ())
    assert verdict(Claim(2, "outline", title, is_public=False)) == UNDECIDED
    read = Claim(2, "outline", title, correction=FALSE, is_public=False)
    assert verdict(read) == UNDECIDED
    assert why(read) == (
        "only the title is public; as read here it is refuted: 2 + 2: 4, needed ≤ 5 and ≥ 5"
    )
    assert why(Claim(2, "outline", title, is_public=False)) == "only the title is public"


@pytest.mark.parametrize(
    ("bounds", "met"),
    [
        ({"at_most": 2}, True),
        ({"at_most": 1.9}, False),
        ({"at_least": 2}, True),
        ({"at_least": 2.1}, False),
        ({"at_most": 3, "at_least": 1}, True),
        ({"at_most": 3, "at_least": 2.5}, False),
    ],
)
def test_bounds_are_closed(bounds: dict[str, float], met: bool) -> None:
    for value in (2.0, Fraction(2)):
        number = Evidence("two", value, "two", **bounds)
        assert number.met is met
        assert Statement("", (number,)).holds is met


def test_one_number_that_is_not_met_decides() -> None:
    good = Evidence("good", 0, "a good number", at_most=0)
    bad = Evidence("bad", Fraction(1, 4), "a bad number", at_most=0)
    context = Evidence("context", 7, "a number to know")
    statement = Statement("both are 0", (context, good, bad))
    assert not statement.holds
    assert statement.why == "a bad number: 1/4, needed ≤ 0"
    assert Statement("the good is 0", (context, good)).why == "a good number: 0, needed ≤ 0"


def test_what_no_number_decides_cannot_be_judged() -> None:
    statement = Statement("anything", (Evidence("context", 7, "a number to know"),))
    with pytest.raises(ValueError, match="no number decides 'anything'"):
        _ = statement.holds


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_an_error(value: float) -> None:
    with pytest.raises(ValueError, match="a finite number"):
        Evidence("value", value, "a value", at_most=0)


def test_json_keeps_fractions_and_drops_rounding_noise() -> None:
    number = Evidence("third", Fraction(1, 3), "a third", at_least=0.25)
    assert number.as_json() == {
        "name": "third",
        "value": 0.333333,
        "exact": "1/3",
        "meaning": "a third",
        "needed": "≥ 0.25",
        "met": True,
    }
    assert Evidence("context", 2.0, "").as_json()["met"] is None
    assert rounded(-3e-13) == 0
    assert rounded(0.12345678) == 0.123457
