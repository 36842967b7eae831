"""The tables of the card, one row an SAE; every cell is escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wsae_plugin.hub.markdown import code, plain, table
from wsae_plugin.hub.records import SAERecord, Score

_MATCHED = 0.1
"""L0 that differ by more than this share are not matched."""


def sae_table(records: Sequence[SAERecord]) -> str:
    """What each SAE is."""
    return table(
        ("SAE", "hook", "width", "loads as", "trained as", "sparsity", "α", "proxy s", "seed"),
        [
            (
                code(record.sae_id),
                code(record.run.hook_name),
                f"{record.cfg['d_sae']:,}",
                code(record.cfg["architecture"]),
                code(record.metadata["training_architecture"]),
                code(record.sparsity),
                f"{record.alpha:g}",
                "none (Γ = I)" if record.proxy is None else code(record.proxy),
                str(record.run.seed),
            )
            for record in records
        ],
        left=5,
    )


def score_table(records: Sequence[SAERecord], baseline: SAERecord | None) -> str:
    """What each SAE scores on held-out text: unweighted explained variance first."""
    return table(
        (
            "SAE",
            "explained variance",
            "under its Γ",
            "CE recovered",
            "L0",
            "dead",
            "ordinary SAE at matched L0",
        ),
        [
            (
                code(record.sae_id),
                _score(record.scores["explained_variance"], 4),
                "the same (Γ = I)" if record.proxy is None else _score(_weighted(record), 4),
                _score(record.scores["ce_loss_recovered"], 4),
                _score(record.scores["l0"], 2),
                _share(record.scores["dead_share"]),
                _baseline_cell(record, baseline_of(record, records, baseline)),
            )
            for record in records
        ],
    )


def baseline_of(
    record: SAERecord, records: Sequence[SAERecord], baseline: SAERecord | None
) -> SAERecord | None:
    """The ordinary SAE to compare with: its pair's, the one given, or one of the same hook."""
    if record.proxy is None:
        return None
    ordinary = [other for other in records if other.proxy is None]
    paired = [o for o in ordinary if o.run.pair == record.run.pair]
    alike = [
        o
        for o in ordinary
        if (o.run.hook_name, o.cfg["d_sae"], o.sparsity, o.run.seed)
        == (record.run.hook_name, record.cfg["d_sae"], record.sparsity, record.run.seed)
    ]
    given = [baseline] if baseline and baseline.run.hook_name == record.run.hook_name else []
    return next(iter((*paired, *given, *alike)), None)


def unmatched(records: Sequence[SAERecord], baseline: SAERecord | None) -> list[str]:
    """Weighted SAEs without any ordinary SAE beside them."""
    return [
        record.sae_id
        for record in records
        if record.proxy is not None and baseline_of(record, records, baseline) is None
    ]


def gamma_table(gammas: dict[str, dict[str, Any]]) -> str:
    """How uneven each Γ is, and on how few dimensions the loss rests."""
    rows: list[tuple[str, ...]] = []
    for summary in gammas.values():
        for entry in summary["gammas"][1:]:
            spectrum = entry["spectrum"]
            rows.append(
                (
                    code(entry["sae_id"]),
                    f"{entry['tokens']:,}",
                    *(f"{spectrum['gamma'][name]:.3g}" for name in ("min", "median", "max")),
                    f"{spectrum['effective_dimensions']:.1f} of {spectrum['d_in']}",
                    f"{spectrum['weighted_variance_share']['top_5']:.0%}",
                )
            )
    headings = ("SAE", "tokens", "min γ", "median γ", "max γ", "effective dimensions", "top 5 hold")
    return table(headings, rows)


def procedure(records: Sequence[SAERecord]) -> str:
    """How the SAEs were trained; a value that differs between them is listed with its SAEs."""
    fields: dict[str, Callable[[SAERecord], str]] = {
        "training tokens": lambda r: f"{r.config['training_tokens']:,}",
        "context size": lambda r: f"{r.config['context_size']:,} tokens",
        "batch": lambda r: f"{r.config['train_batch_size_tokens']:,} tokens",
        "learning rate": lambda r: f"{r.config['lr']:g}, {r.config['lr_scheduler_name']}",
        "warm-up, decay": lambda r: (
            f"{r.config.get('lr_warm_up_steps', 0):,} and "
            f"{r.config.get('lr_decay_steps', 0):,} steps"
        ),
        "seed": lambda r: str(r.config["seed"]),
        "loss weights": lambda r: (
            "none"
            if r.proxy is None
            else f"normalization {r.details['gamma_normalization']}, clip "
            f"{r.details.get('gamma_clip') or 'none'}, frozen after "
            f"{r.details.get('gamma_freeze_step') or 'no'} steps"
        ),
        "software": lambda r: ", ".join(f"{n} {v}" for n, v in r.record["versions"].items()),
        "code revision": lambda r: str(r.record.get("git_revision") or "not in a repository"),
        "finished": lambda r: r.record["ended"][:10],
    }
    rows: list[tuple[str, str]] = []
    for name, read in fields.items():
        by_value: dict[str, list[str]] = {}
        for record in records:
            by_value.setdefault(read(record), []).append(code(record.sae_id))
        values = [
            plain(value) + ("" if len(by_value) == 1 else f" ({_few(ids)})")
            for value, ids in by_value.items()
        ]
        rows.append((name, "; ".join(values)))
    return table(("", "value"), rows, left=2)


def saebench_table(scores: Sequence[dict[str, Any]]) -> str:
    """SAEBench's scores with their chance level and noise; empty without any."""
    if not scores:
        return ""
    arrows = {"up": "↑", "down": "↓"}
    return table(
        ("SAE", "evaluation", "score", "value", "chance", "noise"),
        [
            (
                code(score["run"]),
                plain(score["eval"]),
                f"{plain(score['label'])} {arrows.get(score['direction'], '')}".strip(),
                *(_number(score.get(field)) for field in ("value", "chance", "noise")),
            )
            for score in scores
            if score["headline"]
        ],
        left=3,
    )


def _weighted(record: SAERecord) -> Score:
    missing = Score(None, None, "not in eval.json")
    own = record.scores.get("own_weighted_explained_variance")
    return own or record.scores.get("weighted_explained_variance", missing)


def _baseline_cell(record: SAERecord, baseline: SAERecord | None) -> str:
    if record.proxy is None:
        return "it is one"
    if baseline is None:
        return "none given"
    ours, theirs = record.scores["l0"].value, baseline.scores["l0"].value
    matched = ours and theirs and abs(ours - theirs) <= _MATCHED * theirs
    cell = f"{_score(baseline.scores['explained_variance'], 4)} at L0 {_number(theirs)}"
    return cell if matched else f"{cell} (not matched)"


def _score(score: Score, digits: int) -> str:
    if score.value is None:
        return f"not measured: {plain(score.note)}"
    spread = (
        ""
        if score.spread is None
        else f"\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{score.spread:.{digits}f}"
    )
    return f"{score.value:.{digits}f}{spread}"


def _share(score: Score) -> str:
    return f"not measured: {plain(score.note)}" if score.value is None else f"{score.value:.1%}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _few(ids: Sequence[str]) -> str:
    return ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
