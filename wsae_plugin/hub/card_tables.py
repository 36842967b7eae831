"""The tables of the card in which every SAE has a row; every cell is escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wsae_plugin.hub.markdown import code, plain, table, table_of_differences
from wsae_plugin.hub.records import SAERecord, Score
from wsae_plugin.hub.variants import variants_of

_MATCHED = 0.1
"""L0 that differ by more than this share are not matched."""
_FEW = 3
_PM = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"
_EXACTLY = f"{_PM}0.00"


def sae_table(records: Sequence[SAERecord]) -> str:
    """What each SAE is."""
    return table_of_differences(
        ("SAE", "hook", "width", "loads as", "trained as", "sparsity", "α", "proxy s", "seed"),
        [
            (
                code(record.sae_id),
                code(record.run.hook_name),
                f"{record.cfg['d_sae']:,}",
                code(record.cfg["architecture"]),
                code(record.metadata["training_architecture"]),
                code(record.sparsity),
                f"{record.alpha:g}".replace("-", "−"),
                proxy_cell(record),
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
                "the same (Γ = I)" if record.proxy is None else _score(own_weighted(record), 4),
                _score(record.scores["ce_loss_recovered"], 4),
                _score(record.scores["l0"], 2).removesuffix(_EXACTLY),
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
    if record.is_ordinary:
        return None
    ordinary = [other for other in records if other.is_ordinary]
    paired = [o for o in ordinary if o.run.pair == record.run.pair]
    alike = [
        o
        for o in ordinary
        if (o.run.hook_name, o.cfg["d_sae"], o.sparsity, o.run.seed)
        == (record.run.hook_name, record.cfg["d_sae"], record.sparsity, record.run.seed)
    ]
    given = [baseline] if baseline and baseline.run.hook_name == record.run.hook_name else []
    return next(iter((*paired, *given, *alike)), None)


def is_matched(record: SAERecord, baseline: SAERecord) -> bool:
    """Whether both have the same L0, but for a tenth."""
    ours, theirs = record.scores["l0"].value, baseline.scores["l0"].value
    return bool(ours and theirs and abs(ours - theirs) <= _MATCHED * theirs)


def unmatched(records: Sequence[SAERecord], baseline: SAERecord | None) -> list[SAERecord]:
    """SAEs without any ordinary SAE beside them that are none."""
    return [
        record
        for record in records
        if not record.is_ordinary and baseline_of(record, records, baseline) is None
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
    rows = [(name, _by_value(records, read)) for name, read in fields.items()]
    return table(("", "value"), rows, left=2)


def proxy_cell(record: SAERecord) -> str:
    """What s is."""
    return "none (Γ = I)" if record.proxy is None else code(record.proxy)


def own_weighted(record: SAERecord) -> Score:
    """Explained variance under the Γ that the SAE was trained with."""
    missing = Score(None, None, "not in scores/held_out.json")
    own = record.scores.get("own_weighted_explained_variance")
    return own or record.scores.get("weighted_explained_variance", missing)


def few(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more


def _by_value(records: Sequence[SAERecord], read: Callable[[SAERecord], str]) -> str:
    """A value; several with whose they are: variants where they decide it, else SAEs if few."""
    owners: dict[str, list[SAERecord]] = {}
    for record in records:
        owners.setdefault(read(record), []).append(record)
    if len(owners) == 1:
        return plain(next(iter(owners)))
    variants: dict[str, list[str]] = {}
    for variant in variants_of(records):
        for value in dict.fromkeys(map(read, variant.records)):
            variants.setdefault(value, []).append(variant.label)
    if sum(map(len, variants.values())) == len(variants_of(records)) < len(records):
        return "<br>".join(
            f"{plain(value)} ({' · '.join(map(plain, labels))})"
            for value, labels in variants.items()
        )
    if len(owners) > len(records) / 2 or len(owners) <= _FEW and len(records) <= 2 * _FEW:
        return "<br>".join(
            f"{plain(value)} ({few([code(record.sae_id) for record in found])})"
            for value, found in owners.items()
        )
    return ", ".join(map(plain, owners))


def _baseline_cell(record: SAERecord, baseline: SAERecord | None) -> str:
    if record.is_ordinary:
        return "it is one"
    if baseline is None:
        return "none given"
    theirs = baseline.scores["l0"].value
    shown = "none" if theirs is None else f"{theirs:.4g}"
    cell = f"{_score(baseline.scores['explained_variance'], 4)} at L0 {shown}"
    return cell if is_matched(record, baseline) else f"{cell} (not matched)"


def _score(score: Score, digits: int) -> str:
    if score.value is None:
        return f"not measured: {plain(score.note)}"
    spread = "" if score.spread is None else f"{_PM}{score.spread:.{digits}f}"
    return f"{score.value:.{digits}f}{spread}"


def _share(score: Score) -> str:
    return f"not measured: {plain(score.note)}" if score.value is None else f"{score.value:.1%}"
