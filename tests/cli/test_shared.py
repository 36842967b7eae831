"""Tables and prose in a terminal of 80 columns, and in a pipe."""

from __future__ import annotations

import pytest

from wsae_plugin.cli import _shared

METRICS = {n: f"metric {n}" for n in range(8)}
LEVELS = {"chance": dict.fromkeys(METRICS, 0.5), "control": dict.fromkeys(METRICS, None)}


def name(seed: int) -> str:
    return f"blocks-1-hook_resid_post-k-16-variance-half-seed-{seed}"


def shown(capsys: pytest.CaptureFixture[str], n_runs: int, n_metrics: int = 8) -> list[str]:
    columns = {n: METRICS[n] for n in range(n_metrics)}
    score = {"value": 0.12345, "spread": 0.0678}
    runs = {name(seed): dict.fromkeys(columns, score) for seed in range(n_runs)}
    _shared.print_table(_shared.score_table("Scores", columns, runs, LEVELS, ".4g"))
    return capsys.readouterr().out.splitlines()


def test_names_and_numbers_are_whole_and_what_has_no_room_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = shown(capsys, n_runs=20)
    assert max(map(len, lines)) <= 80
    for seed in range(20):
        (row,) = [line for line in lines if name(seed) + " " in line]
        assert row.count("0.1235") == 3
    said = " ".join(lines)
    assert "No room at 80 columns for: metric 3, metric 4, metric 5, metric 6, metric 7;" in said


def test_few_runs_of_many_metrics_are_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = shown(capsys, n_runs=1)
    (heading,) = [line for line in lines if name(0) in line]
    assert heading.split() == [name(0), "chance", "control"]
    rows = [line for line in lines if line.strip().startswith("metric")]
    assert [row.split()[:3] for row in rows] == [["metric", str(n), "0.1235"] for n in range(8)]
    assert "No room" not in " ".join(lines)


def test_a_table_that_fits_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = shown(capsys, n_runs=3, n_metrics=2)
    assert [line.split()[0] for line in lines if "blocks-1" in line] == list(map(name, range(3)))


def test_in_a_pipe_a_row_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    (row,) = [line for line in shown(capsys, n_runs=20) if name(7) in line]
    assert row.split() == [name(7), *["0.1235", "±0.068"] * 8]
    _shared.print_text("a sentence of some length " * 20)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_text_beside_text_is_wrapped_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    table = _shared.plain_table("", "arm", "label")
    table.add_row("a-name-that-is-rather-long-for-the-place", "constant Γ = cI, α = 1, and more")
    _shared.print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert any("a-name-that-is-rather-long-for-the-place" in line for line in lines)


def test_the_way_round_that_shows_more_numbers_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    # As it is, five columns of four numbers have no room; turned, three of eight.
    lines = shown(capsys, n_runs=2)
    for seed in range(2):
        (row,) = [line for line in lines if name(seed) in line]
        assert row.count("0.1235") == 3


def test_a_table_of_text_is_not_turned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "55")
    table = _shared.plain_table("", "arm", "role", "label")
    table.add_row("a-name-that-is-rather-long-for-the-place", "weighted", "incomprehensible")
    _shared.print_table(table)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0].split() == ["arm", "role"]
    assert "No room at 55 columns for: label;" in " ".join(lines)
