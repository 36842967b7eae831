"""The verdict is a function of the numbers, and can come out each way."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from wsae_plugin.toy.claims.claim import (
    HOLDS,
    HOLDS_IF,
    REFUTED,
    UNDECIDED,
    judge_claim,
    judge_number,
    judge_statement,
    rounded,
)

TRUE = {
    "statement": "2 + 2 = 4",
    "needs": {"sum": {"meaning": "2 + 2", "at_most": 4, "at_least": 4}},
}
FALSE = {
    "statement": "2 + 2 = 5",
    "needs": {"sum": {"meaning": "2 + 2", "at_most": 5, "at_least": 5}},
}


def judged(**statements: dict[str, Any]) -> dict[str, Any]:
    claim = {"version": 1, "source": "somewhere", **statements}
    return judge_claim(claim, {part: {"sum": 4} for part in statements})


def test_each_verdict_can_come_out() -> None:
    assert judged(printed=TRUE)["verdict"] == HOLDS
    assert judged(printed=FALSE)["verdict"] == REFUTED
    assert judged(printed=FALSE, condition=TRUE)["verdict"] == HOLDS_IF
    assert judged(printed=FALSE, condition=FALSE)["verdict"] == REFUTED
    assert judged(printed=FALSE, correction=TRUE)["verdict"] == REFUTED
    # A condition does not weaken what holds without it.
    assert judged(printed=TRUE, condition=TRUE)["verdict"] == HOLDS


def test_the_document_holds_each_statement_with_its_numbers() -> None:
    document = judged(printed=FALSE, condition=TRUE)
    assert (document["version"], document["source"]) == (1, "somewhere")
    assert (document["statement"], document["why"]) == ("2 + 2 = 5", "2 + 2: 4, needed ≤ 5 and ≥ 5")
    assert [number["name"] for number in document["evidence"]] == ["sum"]
    assert document["condition"] == judge_statement(**TRUE, numbers={"sum": 4})
    assert document["correction"] is None


def test_a_statement_that_is_not_public_is_not_judged() -> None:
    read = judged(correction=FALSE)
    assert read["verdict"] == judged(correction=TRUE)["verdict"] == UNDECIDED
    assert read["why"] == (
        "only the title is public; as read here it is refuted: 2 + 2: 4, needed ≤ 5 and ≥ 5"
    )
    assert "as read here it holds: 2 + 2" in judged(correction=TRUE)["why"]
    assert (read["statement"], read["evidence"]) == ("Only the title of this is public.", [])
    claim = {"version": 1, "source": "Abstract", "abstract": "a sum", "correction": TRUE}
    words = judge_claim(claim, {"correction": {"sum": 4}})
    assert words["statement"] == "Only the abstract is public: “a sum”."
    assert words["why"].startswith("only the abstract is public; as read here it holds: 2 + 2")


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
        assert judge_number("two", value, meaning="two", **bounds)["met"] is met
        needs = {"two": {"meaning": "two", **bounds}}
        assert judge_statement("", needs, {"two": value})["verdict"] == (
            HOLDS if met else "refuted"
        )


def test_one_number_that_is_not_met_decides() -> None:
    needs = {
        "context": {"meaning": "a number to know"},
        "good": {"meaning": "a good number", "at_most": 0},
        "bad": {"meaning": "a bad number", "at_most": 0},
    }
    numbers = {"context": 7, "good": 0, "bad": Fraction(1, 4)}
    statement = judge_statement("both are 0", needs, numbers)
    assert statement["verdict"] == "refuted"
    assert statement["why"] == "a bad number: 1/4, needed ≤ 0"
    del needs["bad"], numbers["bad"]
    assert judge_statement("", needs, numbers)["why"] == "a good number: 0, needed ≤ 0"


def test_what_no_number_decides_cannot_be_judged() -> None:
    needs = {"context": {"meaning": "a number to know"}}
    with pytest.raises(ValueError, match="no number decides 'anything'"):
        judge_statement("anything", needs, {"context": 7})


@pytest.mark.parametrize("numbers", [{}, {"sum": 4, "product": 4}])
def test_what_is_measured_is_what_is_needed(numbers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"measured \[.*\]; \['sum'\] are needed"):
        judge_statement(**TRUE, numbers=numbers)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_an_error(value: float) -> None:
    with pytest.raises(ValueError, match="a finite number"):
        judge_number("value", value, meaning="a value", at_most=0)


def test_json_keeps_fractions_and_drops_rounding_noise() -> None:
    assert judge_number("third", Fraction(1, 3), meaning="a third", at_least=0.25) == {
        "name": "third",
        "value": 0.333333,
        "exact": "1/3",
        "meaning": "a third",
        "needed": "≥ 0.25",
        "met": True,
    }
    assert judge_number("context", 2.0, meaning="")["met"] is None
    assert rounded(-3e-13) == 0
    assert rounded(0.12345678) == 0.123457
