from __future__ import annotations

from wsae_plugin.toy.claims import check_claims, ledger_markdown


def test_the_page_shows_each_number_and_what_was_needed() -> None:
    page = ledger_markdown(check_claims(["v1-counterexample-1", "v2-theorem-3"]))
    assert "2 statements: 1 holds under a stated extra condition, 1 cannot be decided" in page
    assert "| [v1-counterexample-1](#v1-counterexample-1) | v1, Counterexample 1, eq" in page
    assert "\n## v1-counterexample-1\n" in page
    assert "| ‖ReLU(W\\_pᵀW\\_px) − (1, 0, 0)ᵀ‖² | 1 | ≤ 0 | **no** |" in page
    assert "**Condition** (holds). σ = Top-1" in page
    assert "**Instead** (holds). x = (0, 1, 1)ᵀ" in page
    assert "**As read here** (refuted)." in page


def test_the_page_and_the_ledger_say_which_paper_a_claim_is_of() -> None:
    ledger = check_claims(["v1-example-1", "optima-codes"])
    first, second = ledger["claims"]
    assert (first["paper"], second["paper"]) == ("arXiv 2506.15963", "arXiv 2606.02385")
    assert {first["paper"], second["paper"]} == set(ledger["papers"])
    page = ledger_markdown(ledger)
    assert "| [v1-example-1](#v1-example-1) | v1, Example 1" in page
    assert "| [optima-codes](#optima-codes) | optima, T1 and T4" in page
    assert "\n*Version 1, Example 1" in page
    assert "\n*arXiv 2606.02385, T1 and T4" in page


def test_bars_and_stars_do_not_break_the_page() -> None:
    page = ledger_markdown(check_claims(["v1-counterexample-3", "v1-equation-16"]))
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert all(row.replace("\\|", "").count("|") in (4, 5) for row in rows)
    assert "W\\_m\\*x\\_p ≠ x" in page
