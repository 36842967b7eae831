"""The tables of a card of many SAEs: a row a variant, and a row a hook."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wsae_plugin.hub.card_tables import baseline_of, is_matched, own_weighted, proxy_cell
from wsae_plugin.hub.markdown import code, plain, table, table_of_differences
from wsae_plugin.hub.records import SAERecord
from wsae_plugin.hub.variants import Variant, hooks_of, level, variants_of

_PM = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"
_CONTROLS = {
    "shuffled": "*shuffled*: the weights of the arm it controls for, on the wrong dimensions",
    "opposite": "*opposite*: weighted the other way, with −α",
    "constant": "*constant*: one weight for all dimensions, as large as those of its arm",
    "whitening": "*whitened*: trained on whitened activations; the whitening is folded into the "
    "weights, so it loads like the others",
}

Value = Callable[[SAERecord], float | None]


def variant_table(variants: Sequence[Variant]) -> str:
    """What the SAEs of each variant are, and what they are called."""
    return table_of_differences(
        ("variant", "width", "loads as", "trained as", "sparsity", "α", "proxy s"),
        [
            (
                f"**{label_cell(variant)}**, {len(variant.records)}\N{NO-BREAK SPACE}SAEs"
                f"<br>{code(variant.pattern)}",
                f"{variant.first.cfg['d_sae']:,}",
                code(variant.first.cfg["architecture"]),
                code(variant.first.metadata["training_architecture"]),
                code(variant.first.sparsity),
                f"{variant.first.alpha:g}".replace("-", "−"),
                proxy_cell(variant.first),
            )
            for variant in variants
        ],
    )


def controls_legend(records: Sequence[SAERecord]) -> list[str]:
    """What the controls among the arms are, a phrase each."""
    found = dict.fromkeys(str(r.arm["control"]) for r in records if r.arm and r.arm.get("control"))
    return [_CONTROLS[kind] for kind in found if kind in _CONTROLS]


def variant_score_table(
    variants: Sequence[Variant], records: Sequence[SAERecord], baseline: SAERecord | None
) -> str:
    """Scores of each variant: mean ± standard deviation over seeds, of hooks' means."""

    def gain(record: SAERecord) -> float | None:
        other = baseline_of(record, records, baseline)
        if other is None or not is_matched(record, other):
            return None
        ours, theirs = _of("explained_variance")(record), _of("explained_variance")(other)
        return None if ours is None or theirs is None else ours - theirs

    rows: list[tuple[str, ...]] = []
    for variant in variants:
        rows.append(
            (
                label_cell(variant),
                _level(variant.records, _of("explained_variance"), ".4f"),
                "it is one"
                if variant.first.is_ordinary
                else _level(variant.records, gain, "+.4f", missing="none at matched L0"),
                "the same"
                if variant.first.proxy is None
                else _level(variant.records, lambda record: own_weighted(record).value, ".4f"),
                _level(variant.records, _of("ce_loss_recovered"), ".4f"),
                _level(variant.records, _of("l0"), ".2f"),
                _level(variant.records, _of("dead_share"), ".1%"),
            )
        )
    return table(
        (
            "variant",
            "explained variance",
            "difference to the ordinary SAE at matched L0",
            "under its Γ",
            "CE recovered",
            "L0",
            "dead",
        ),
        rows,
    )


def hook_tables(variants: Sequence[Variant], records: Sequence[SAERecord]) -> list[tuple[str, str]]:
    """Title and table, a row a hook and a column a variant; none where there is one hook."""
    if len(hooks_of(records)) == 1:
        return []

    def by_hook(metric: str) -> str:
        return _hook_table(variants, records, lambda found: _mean(found, _of(metric)))

    return [
        ("Explained variance, hook by hook", by_hook("explained_variance")),
        ("CE recovered, hook by hook", by_hook("ce_loss_recovered")),
    ]


def gamma_hook_table(records: Sequence[SAERecord], gammas: Mapping[str, Mapping[str, Any]]) -> str:
    """Effective dimensions and the share of the first five, means over seeds."""
    spectra = {
        entry["sae_id"]: entry["spectrum"]
        for summary in gammas.values()
        for entry in summary["gammas"][1:]
    }
    weighted = [record for record in records if record.sae_id in spectra]

    def cell(found: Sequence[SAERecord]) -> str:
        effective = level(found, lambda r: spectra[r.sae_id]["effective_dimensions"])
        first_five = level(found, lambda r: spectra[r.sae_id]["weighted_variance_share"]["top_5"])
        if effective is None or first_five is None:
            return "–"
        return f"{effective.mean:.1f}; {first_five.mean:.0%}"

    return _hook_table(variants_of(weighted), weighted, cell)


def _hook_table(
    variants: Sequence[Variant],
    records: Sequence[SAERecord],
    cell: Callable[[Sequence[SAERecord]], str],
) -> str:
    rows = [
        (
            code(hook),
            *(
                cell([record for record in variant.records if record.run.hook_name == hook])
                for variant in variants
            ),
        )
        for hook in hooks_of(records)
    ]
    return table(("hook", *map(label_cell, variants)), rows)


def label_cell(variant: Variant) -> str:
    """Its label, not broken around the sign in `α = 1`."""
    return plain(variant.label).replace(r" \= ", "\N{NO-BREAK SPACE}\\=\N{NO-BREAK SPACE}")


def _of(metric: str) -> Value:
    return lambda record: record.scores[metric].value


def _mean(records: Sequence[SAERecord], value: Value) -> str:
    found = level(records, value)
    return "–" if found is None else f"{found.mean:.4f}"


def _level(records: Sequence[SAERecord], value: Value, form: str, missing: str = "–") -> str:
    found = level(records, value)
    if found is None:
        return missing
    # Of a Top-k's L0, every seed has the same.
    spread = "" if not found.sd else f"{_PM}{found.sd:{form.removeprefix('+')}}"
    return f"{found.mean:{form}}".replace("-", "−") + spread
