"""The tables of the card: a row an SAE, an arm or a hook; every cell is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from wsae_plugin.hub.markdown import code, plain, table
from wsae_plugin.hub.records import HELD_OUT, SAERecord
from wsae_plugin.local_paths import without_local_paths
from wsae_plugin.report.inputs import Frame
from wsae_plugin.report.paired import level
from wsae_plugin.report.text import (
    Report,
    compared_text,
    control_kinds,
    eval_label,
    level_text,
    number,
    title,
    value_text,
)
from wsae_plugin.scores import OPTIMALITY

_ALSO_SHOWN = ("own_weighted_explained_variance", "uniqueness", "true_l0")
"""What no other table shows, beside the headline: under an SAE's own Γ, and of known features."""
SCORES, SAEBENCH = "Scores", "SAEBench"
_HEADINGS = {
    **{HELD_OUT: SCORES, "saebench": SAEBENCH, "corrected": SAEBENCH},
    OPTIMALITY: "How far from an optimum",
}
"""First part of an eval's name → where the card has its scores; of others under their own name."""


def facts_of(records: Sequence[SAERecord]) -> Frame:
    """A row an SAE, by its name, and a column for everything that is said of its training."""
    rows = [_kind(record) | _training(record) for record in records]
    return pd.DataFrame(rows, index=[record.sae_id for record in records])


def differing(facts: Frame) -> Frame:
    """The columns in which SAEs differ; of equal SAEs, and of one alone, what kind they are."""
    differ = facts.nunique() > 1
    return facts.loc[:, differ] if differ.any() else facts[_KIND]


def sae_table(facts: Frame) -> str:
    """What each SAE is, as far as they differ."""
    shown = differing(facts)
    rows = [
        (code(sae_id), *cells) for sae_id, cells in zip(shown.index, shown.to_numpy(), strict=True)
    ]
    return table(("SAE", *shown), rows, left=1 + shown.shape[1])


def arm_table(facts: Frame, labels: Mapping[str, str], patterns: Mapping[str, str]) -> str:
    """The same of arms, and what their SAEs are called.

    Args:
        facts: From `facts_of`.
        labels: SAE → the label of its arm.
        patterns: Label → the names of its SAEs, from `pattern_of`.
    """
    shown = differing(facts).drop(columns="hook", errors="ignore")
    rows = [
        (
            f"**{label_cell(label)}**, {len(saes)}\N{NO-BREAK SPACE}SAEs"
            f"<br>{code(patterns[label])}",
            *(", ".join(saes[column].unique()) for column in saes),
        )
        for label, saes in shown.groupby(shown.index.map(labels), sort=False)
    ]
    return table(("variant", *shown), rows, left=1 + shown.shape[1])


def sections_of(report: Report) -> dict[str, list[Report]]:
    """Heading of the card → the metrics below it that were measured in some SAE."""
    found: dict[str, list[Report]] = {}
    for metric in report["metrics"]:
        if (metric["headline"] or metric["metric"] in _ALSO_SHOWN) and metric["values"]:
            kind = metric["eval"].partition("/")[0]
            own = plain(eval_label(kind))
            found.setdefault(_HEADINGS.get(kind, own[:1].upper() + own[1:]), []).append(metric)
    return found


def sae_scores(metrics: Sequence[Report], names: Iterable[str]) -> str:
    """What each SAE scores, ± half its 95 % interval over batches."""
    rows = [(code(name), *(value_text(metric, name) for metric in metrics)) for name in names]
    return _score_table("SAE", metrics, rows)


def arm_scores(
    report: Report, scores: Frame, metrics: Sequence[Report], labels: Mapping[str, str]
) -> str:
    """What each arm scores, and below it the paired difference to the baseline.

    Args:
        report: The report.
        scores: The `table` of its `Inputs`.
        metrics: Those to show.
        labels: Arm → label.
    """
    kinds = control_kinds(report)

    def cell(metric: Report, arm: str) -> str:
        entry = metric["arms"].get(arm)
        compared = compared_text(entry, kinds) if entry else ""
        return "<br>".join(filter(None, (_level(scores, metric, arm=arm), compared)))

    rows = [(label_cell(label), *(cell(m, arm) for m in metrics)) for arm, label in labels.items()]
    return _score_table("variant", metrics, rows)


def hook_table(
    metric: Report, scores: Frame, hooks: Sequence[str], labels: Mapping[str, str]
) -> str:
    """One metric under its name, a row a hook and a column an arm; see `arm_scores`."""
    rows = [
        (code(hook), *(_level(scores, metric, arm=arm, hook_name=hook) for arm in labels))
        for hook in hooks
    ]
    title = plain(metric["label"][:1].upper() + metric["label"][1:])
    shown = table(("hook", *map(label_cell, labels.values())), rows)
    return f"**{title}, hook by hook**\n\n{shown}"


def legend(metric: Report, scores: Frame) -> str:
    """What a metric measures, and each remark, with how many SAEs it is about if not all.

    Of scores on held-out text only the reasons why there is none are said.

    Args:
        metric: Of the report.
        scores: See `arm_scores`.
    """
    rows = _rows(scores, metric)
    said = rows[rows["value"].isna()] if metric["eval"] == HELD_OUT else rows
    notes = said.assign(note=said["note"].str.split("; ")).explode("note")
    counts = notes[notes["note"] != ""].groupby("note", sort=False)["run"].nunique()
    remarks = [
        plain(("" if n == len(rows) else f"Of {n} SAEs: ") + without_local_paths(f"{note}."))
        for note, n in counts.items()
    ]
    name = f"*{plain(metric['label'])}* ({plain(eval_label(metric['eval']))})"
    text = " ".join(filter(None, (plain(metric["definition"]), *remarks)))
    return f"{name}: {text}" if text else f"{name}."


def label_cell(label: str) -> str:
    """A label, not broken around the sign in `α = 1`."""
    return plain(label).replace(r" \= ", "\N{NO-BREAK SPACE}\\=\N{NO-BREAK SPACE}")


def _score_table(what: str, metrics: Sequence[Report], rows: Sequence[tuple[str, ...]]) -> str:
    """Rows with any score, and below them what a random answer, or ruined data, would score."""
    shown = [row for row in rows if set(row[1:]) != {"–"}]
    for name in ("chance", "control", "noise"):
        values = [metric[name] for metric in metrics]
        if any(value is not None for value in values):
            shown.append((f"*{name}*", *("–" if v is None else number(v) for v in values)))
    return table((what, *(plain(title(metric)) for metric in metrics)), shown)


def _level(scores: Frame, metric: Report, **place: str) -> str:
    """Mean over hooks within each seed, then mean ± standard deviation over seeds."""
    rows = _rows(scores, metric)
    for column, value in place.items():
        rows = rows[rows[column] == value]
    if metric.get("shared_over_seeds"):
        rows = rows.drop_duplicates(["arm", "hook_name", "sparsity"], keep="last")
    return level_text(level(rows, "value"))


def _rows(scores: Frame, metric: Report) -> Frame:
    return scores[(scores["eval"] == metric["eval"]) & (scores["metric"] == metric["metric"])]


_KIND = ["hook", "width", "loads as", "trained as", "sparsity", "α", "proxy s or metric", "seed"]


def _kind(record: SAERecord) -> dict[str, str]:
    cells = (
        code(record.run.hook_name),
        f"{record.cfg['d_sae']:,}",
        code(record.cfg["architecture"]),
        code(record.metadata["training_architecture"]),
        code(record.sparsity),
        number(record.alpha),
        code(weight) if (weight := record.proxy or record.metric) else "none (Γ = I)",
        str(record.config.get("seed", "not recorded")),
    )
    return dict(zip(_KIND, cells, strict=True))


def _training(record: SAERecord) -> dict[str, str]:
    config, details = record.config, record.details
    if "training_tokens" in config:
        size = {
            "training tokens": f"{config['training_tokens']:,}",
            "context size": f"{config['context_size']:,} tokens",
            "batch": f"{config['train_batch_size_tokens']:,} tokens",
        }
    else:
        size = {
            "training samples": f"{config['training_samples']:,}",
            "batch": f"{config['batch_size']:,} samples",
        }
    steps = [f"{config.get(f'lr_{name}_steps', 0):,}" for name in ("warm_up", "decay")]
    weights = "none"
    if record.metric is not None:
        weights = f"metric {record.metric}, ε = {details['metric_ridge']:g}"
        weights += " in the loss only" if details["metric_in_loss_only"] else ""
    if record.proxy is not None:
        weights = (
            f"normalization {details['gamma_normalization']}, clip "
            f"{details.get('gamma_clip') or 'none'}, frozen after "
            f"{details.get('gamma_freeze_step') or 'no'} steps"
        )
    found = size | {
        "learning rate": f"{config['lr']:g}, {config['lr_scheduler_name']}",
        "warm-up, decay": f"{' and '.join(steps)} steps",
        "loss weights": weights,
        "trained end to end": record.end_to_end or "on no tokens",
        "software": ", ".join(f"{name} {v}" for name, v in record.record["versions"].items()),
        "code revision": str(record.record.get("git_revision") or "not in a repository"),
        "finished": record.record["ended"][:10],
    }
    return {name: plain(value) for name, value in found.items()}


def pattern_of(records: Sequence[SAERecord]) -> str:
    """The names of SAEs: with `*` where they differ if that tells them all."""
    if len(records) == 1:
        return records[0].sae_id
    patterns = {
        re.sub(
            rf"(?<![a-z])(?:(layer)-{sae.run.layer}|(seed)-{sae.run.seed})(?=-|$)",
            lambda found: f"{found[1] or found[2]}-*",
            sae.sae_id,
        )
        for sae in records
    }
    return patterns.pop() if len(patterns) == 1 else f"{records[0].sae_id}, …"
