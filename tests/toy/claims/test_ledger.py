from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.toy.claims import (
    CLAIMS,
    VERDICTS,
    check_claims,
    closed_form,
    ledger_markdown,
    necessity,
    optima,
    outline,
    reweighting,
    structure,
)
from wsae_plugin.toy.claims import ledger as ledger_module

ROOT = Path(__file__).parents[3]
COMMITTED = ROOT / "eval" / "toy" / "claims.json"
LONG = ("v1-theorem-1", "v1-gap-and-recovery", "v2-theorem-2")
MODULES = (closed_form, necessity, optima, outline, reweighting, structure)
QUICK = [name for name in CLAIMS if name not in LONG]


def committed() -> dict[str, Any]:
    return json.loads(COMMITTED.read_text())


def without_clock(ledger: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in claim.items() if key != "seconds"}
        for claim in ledger["claims"]
    ]


def outcome(claim: dict[str, Any]) -> Any:
    """All that does not depend on the machine's last digits."""
    parts = [claim["condition"] or {}, claim["correction"] or {}]
    evidence = [claim["evidence"], *(part.get("evidence", []) for part in parts)]
    return (
        claim["verdict"],
        [part.get("verdict") for part in parts],
        [[(number["name"], number["needed"], number["met"]) for number in e] for e in evidence],
    )


def test_every_public_theorem_and_example_is_there() -> None:
    first = {f"v1-{kind}-{n}" for kind in ("theorem", "counterexample") for n in range(1, 5)}
    second = {f"v2-theorem-{n}" for n in range(1, 6)} | {"v2-example-1", "v2-example-2"}
    assert first | second | {"v1-example-1", "v1-equation-16"} <= set(CLAIMS)


def test_every_claim_can_be_judged() -> None:
    checks = [
        name.replace("_", "-")
        for module in MODULES
        for name in vars(module)
        if name.startswith(("v1_", "v2_", "optima_"))
    ]
    assert sorted(checks) == sorted(CLAIMS)
    for name, claim in ledger_module.STATEMENTS.items():
        # Of some the title alone is public; what is checked then is a reading of it.
        assert {"printed", "correction"} & claim.keys(), name
        paper = claim.get("paper", ledger_module.WSAE)
        assert str(claim["version"]) in ledger_module.PAPERS[paper]
        assert name.startswith("optima-" if "paper" in claim else f"v{claim['version']}-")


def test_the_committed_ledger_holds_every_claim_and_its_page_is_made_from_it() -> None:
    ledger = committed()
    assert [claim["id"] for claim in ledger["claims"]] == list(CLAIMS)
    assert (ROOT / "docs" / "claims.md").read_text() == ledger_markdown(ledger)


@pytest.mark.parametrize("name", QUICK)
def test_a_claim_comes_out_as_committed(name: str) -> None:
    (claim,) = check_claims([name])["claims"]
    (before,) = (claim for claim in committed()["claims"] if claim["id"] == name)
    assert outcome(claim) == outcome(before)
    assert claim["verdict"] in VERDICTS
    assert (claim["verdict"] == "holds") == all(
        number["met"] in (True, None) for number in claim["evidence"] or [{"met": False}]
    )
    if claim["verdict"] == "refuted as printed":
        assert claim["correction"]["verdict"] == "holds"
    if claim["verdict"] == "holds under a stated extra condition":
        assert claim["condition"]["verdict"] == "holds"


@pytest.mark.slow
def test_all_claims_come_out_as_committed_and_twice_the_same() -> None:
    ledger = check_claims()
    assert [outcome(claim) for claim in ledger["claims"]] == [
        outcome(claim) for claim in committed()["claims"]
    ]
    again = check_claims()["claims"]
    assert [outcome(claim) for claim in again] == [outcome(claim) for claim in ledger["claims"]]


def test_the_same_numbers_twice() -> None:
    names = ["v1-theorem-3", "v1-weight-principle", "v2-theorem-3"]
    first, second = check_claims(names), check_claims(names)
    assert without_clock(first)[:2] == without_clock(second)[:2]
    # Where a search ends depends on the rounding of scipy's sums, and so on its arrays' places.
    assert outcome(first["claims"][2]) == outcome(second["claims"][2])
    assert first["counts"] == {**dict.fromkeys(VERDICTS, 0), **first["counts"]}
    assert sum(first["counts"].values()) == 3


def test_an_unknown_claim_is_named() -> None:
    with pytest.raises(BadInputError, match="v1-theorm-2: no such claim; did you mean 'v1-theor"):
        check_claims(["v1-theorm-2"])


def test_a_crash_names_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash() -> Any:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setitem(ledger_module.CLAIMS, "v1-example-1", crash)
    with pytest.raises(RunFailedError, match="claim v1-example-1: its check crashed: ZeroDiv"):
        check_claims(["v1-example-1"])
