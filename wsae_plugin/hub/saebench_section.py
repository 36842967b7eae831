"""SAEBench's scores in the card: a row an SAE or a variant, a column a score, and the caveats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from wsae_plugin.hub.markdown import code, plain, table
from wsae_plugin.hub.records import SAERecord
from wsae_plugin.hub.variant_tables import label_cell
from wsae_plugin.hub.variants import is_worth_grouping, level, variants_of
from wsae_plugin.report.text import eval_label

_ARROWS = {"up": " ↑", "down": " ↓"}


@dataclass(frozen=True)
class SAEBenchSection:
    """What the card says of SAEBench.

    Args:
        table: The headline scores.
        details: The same with a row an SAE, where `table` has a row a variant; else empty.
        legend: A sentence a column, with its caveats.
        settings: How much was measured.
        not_measured: Evaluation → why it has no scores.
    """

    table: str
    details: str
    legend: list[str]
    settings: str
    not_measured: dict[str, str]


def saebench_section(
    document: Mapping[str, Any] | None, records: Sequence[SAERecord]
) -> SAEBenchSection | None:
    """From `saebench_of`; None without any headline score of these SAEs.

    Args:
        document: As `saebench_of` gives it.
        records: The SAEs.
    """
    columns: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for score in document["scores"] if document else ():
        if score["headline"]:
            columns.setdefault((score["eval"], score["metric"]), []).append(score)
    if document is None or not columns:
        return None
    grouped = is_worth_grouping(records)
    by_sae = _table("SAE", _sae_rows(columns, records), columns)
    by_variant = _table("variant", _variant_rows(columns, records), columns) if grouped else ""
    failed = {
        name: f"failed: {found.get('error', 'no reason recorded')}"
        for name, found in document.get("evals", {}).items()
        if found.get("status") == "failed"
    }
    return SAEBenchSection(
        by_variant or by_sae,
        by_sae if grouped else "",
        [_legend(scores) for scores in columns.values()],
        _settings(document),
        failed | dict(document.get("refused", {})),
    )


def _table(
    what: str,
    rows: list[tuple[str, ...]],
    columns: Mapping[tuple[str, str], list[Mapping[str, Any]]],
) -> str:
    headings = [
        f"{plain(scores[0]['label'])}{_ARROWS.get(scores[0]['direction'], '')}"
        for scores in columns.values()
    ]
    levels = [
        (f"*{name}*", *(_number(_mean(scores, name)) for scores in columns.values()))
        for name in ("chance", "noise")
    ]
    return table((what, *headings), [*rows, *levels])


def _sae_rows(
    columns: Mapping[tuple[str, str], list[Mapping[str, Any]]], records: Sequence[SAERecord]
) -> list[tuple[str, ...]]:
    values = [{score["run"]: score["value"] for score in scores} for scores in columns.values()]
    measured = [record for record in records if any(record.sae_id in of for of in values)]
    return [
        (code(record.sae_id), *(_number(of.get(record.sae_id)) for of in values))
        for record in measured
    ]


def _variant_rows(
    columns: Mapping[tuple[str, str], list[Mapping[str, Any]]], records: Sequence[SAERecord]
) -> list[tuple[str, ...]]:
    values = [{score["run"]: score["value"] for score in scores} for scores in columns.values()]
    rows: list[tuple[str, ...]] = []
    for variant in variants_of(records):
        cells: list[str] = []
        for of in values:
            found = level(variant.records, _reader(of))
            spread = "" if found is None or found.sd is None else f"\xa0±\xa0{found.sd:.2g}"
            cells.append(_number(None if found is None else found.mean) + spread)
        if any(cell != "–" for cell in cells):
            rows.append((label_cell(variant), *cells))
    return rows


def _reader(values: Mapping[str, float | None]) -> Callable[[SAERecord], float | None]:
    return lambda record: values.get(record.sae_id)


def _legend(scores: Sequence[Mapping[str, Any]]) -> str:
    name, definition = eval_label(scores[0]["eval"]), scores[0].get("definition")
    text = " ".join(filter(None, (definition, *map(plain, _notes(scores)))))
    return f"*{plain(scores[0]['label'])}* ({plain(name)})" + (f": {text}" if text else ".")


def _notes(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each remark once; with how many SAEs it is about where that is not all of them."""
    runs: dict[str, set[str]] = {}
    for score in scores:
        for part in filter(None, score["note"].split("; ")):
            runs.setdefault(part, set()).add(score["run"])
    together: dict[frozenset[str], list[str]] = {}
    for part, names in runs.items():
        together.setdefault(frozenset(names), []).append(part)
    return [
        _sentence("; ".join(parts))
        if len(names) == len(scores)
        else f"Of {len(names)} SAEs: {'; '.join(parts)}."
        for names, parts in together.items()
    ]


def _settings(document: Mapping[str, Any]) -> str:
    version = document.get("versions", {}).get("sae-bench")
    profiles = dict.fromkeys(
        str(found["profile"])
        for found in document.get("evals", {}).values()
        if found.get("profile")
    )
    quick = (
        " The profile *quick* takes fewer samples and fewer tasks than SAEBench's own settings: "
        "compare the SAEs here with each other, not with published results."
        if "quick" in profiles
        else ""
    )
    shown = f"SAEBench {plain(version)}" if version else "SAEBench"
    return (
        f"Measured by `wsae bench` with {shown}, profile {', '.join(profiles) or 'unknown'}.{quick}"
    )


def _mean(scores: Sequence[Mapping[str, Any]], field: str) -> float | None:
    known = [score[field] for score in scores if score.get(field) is not None]
    return fmean(known) if known else None


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}".replace("-", "−")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
