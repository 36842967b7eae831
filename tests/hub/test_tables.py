"""The tables of the card, from a few scores made up by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd

from wsae_plugin.hub.tables import hook_table, legend

METRIC = {"eval": "saebench/a", "metric": "m", "label": "m", "definition": "What it is."}


def scores(values: list[float | None], notes: list[str]) -> Any:
    rows = [
        {"eval": "saebench/a", "metric": "m", "run": f"r{n}", "arm": "x", "hook_name": "h"}
        | {"sparsity": "k = 8", "seed": n, "value": value, "note": note}
        for n, (value, note) in enumerate(zip(values, notes, strict=True))
    ]
    return pd.DataFrame(rows)


def test_a_remark_says_how_many_it_is_about_if_not_all() -> None:
    said = legend(METRIC, scores([0.2, 0.4], ["one; two", "one"]))
    assert said == "*m* (SAEBench a): What it is. one. Of 1 SAEs\\: two."
    # On held-out text only why there is no value.
    held_out = scores([0.2, None], ["one", "not there"]).assign(eval="held_out")
    said = legend(METRIC | {"eval": "held_out"}, held_out)
    assert said == "*m* (held\\-out data): What it is. Of 1 SAEs\\: not there."


def test_a_number_that_seeds_share_is_one() -> None:
    table = scores([0.2, 0.4], ["", ""])
    by_seed = hook_table(METRIC | {"shared_over_seeds": False}, table, ["h"], {"x": "X"})
    assert by_seed.splitlines()[-1] == "| `h` | 0.30 ± 0.14 |"
    shared = hook_table(METRIC | {"shared_over_seeds": True}, table, ["h"], {"x": "X"})
    assert shared.splitlines()[-1] == "| `h` | 0.4 |"
