"""What study.py found, in numbers: a test for each cell, one family of all, and the rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rate_distortion import nats_of_choice, predicted_change

from wsae_plugin.gamma.sensitivity import Sensitivity
from wsae_plugin.plots.style import MARKERS, PALETTE, new_figure, save_png, tidy
from wsae_plugin.statistics import compare, rounded, rounded_cell, t_interval

KL = "kl_divergence"
BESIDE = {
    "explained_variance": "explained variance",
    "ce_loss_recovered": "cross-entropy recovered",
    "l0": "L0",
    "dead_share": "dead latents",
    "token_consistency": "token consistency",
    "seed_consistency": "agreement between seeds",
    "sae_top_1_test_auc": "sae-probes AUC, 1 latent",
}
YES = -5.0
"""The rule says yes where it expects the divergence to fall by so many percent or more."""
K = 32
"""For the rule, of architectures whose L0 a penalty sets: it is not known before training."""


def confirmed(table: Any, rates: Mapping[str, Mapping[str, float]], plan: Mapping[str, Any]) -> Any:
    """The rows of the parts, each arm at its own learning rate, with the part's plain name."""
    table = table.assign(part=table["part"].str.replace(r"-0p\d+$", "", regex=True))
    table = table[table["part"].isin(plan["parts"])]
    of = table["part"].map({name: part["of"] for name, part in plan["parts"].items()})
    is_matched = table["part"].map({n: "match_l0" in p for n, p in plan["parts"].items()})
    under_fisher = table["arm"].isin(("fisher", "both", "loss-only"))
    metric = under_fisher.map({True: "fisher", False: "uniform"})
    metric = metric.where(~is_matched, "uniform")
    own = [rates[name][each] for name, each in zip(of, metric, strict=True)]
    return table[table["lr"] == own]


def pairs(table: Any, metric: str) -> Iterator[tuple[str, str, Any]]:
    """Part, arm, and the arm beside its baseline: `after` and `before` by hook, sparsity, seed."""
    rows = table[table["metric"] == metric]
    wide = rows.pivot_table(
        index=["hook_name", "sparsity", "seed"], columns=["part", "arm"], values="value"
    )
    columns = list(rows.groupby(["part", "arm"], sort=False).groups)
    # These stand beside what topk has of the same seed, on the same batches.
    bases = {part: (_FURTHER.get(part, part), "uniform") for part, _ in columns}
    found = [(part, arm, (part, arm), bases[part]) for part, arm in columns]
    found.append(("zero", "fisher", ("topk", "fisher"), ("zero", "zero")))
    for part, arm, column, base in found:
        if column != base and {column, base} <= set(wide.columns):
            both = pd.DataFrame({"after": wide[column], "before": wide[base]})
            both = both.dropna(how="any" if part in _FURTHER else "all")
            if both.isna().any(axis=None):
                raise ValueError(f"{part}, {arm}: {metric} is missing in some SAEs")
            if len(both):
                yield part, arm, both


_SHARED = "seed_consistency"
_FURTHER = dict.fromkeys(("longer", "zero", "beside", "controls"), "topk")


def effects(table: Any) -> Any:
    """A row for each cell and arm: by how many percent the divergence changes, seed by seed."""
    found = pd.DataFrame(
        [
            {"part": part, "hook_name": hook, "sparsity": sparsity, "arm": arm}
            | {"uniform": float(cell["before"].mean())}
            | {"changes": (100 * (cell["after"] / cell["before"] - 1)).tolist()}
            for part, arm, both in pairs(table, KL)
            for (hook, sparsity), cell in both.groupby(level=["hook_name", "sparsity"])
        ]
    )
    tests = compare(found["changes"].tolist(), [0.0] * len(found))
    return pd.concat([found, pd.DataFrame([rounded_cell(test) for test in tests])], axis=1)


def beside(table: Any) -> list[dict[str, Any]]:
    """What else changed in each part: mean difference over its cells, interval over seeds."""
    rows: list[dict[str, Any]] = []
    for metric in BESIDE:
        for part, arm, both in pairs(table, metric):
            by_seed = (both["after"] - both["before"]).groupby(level="seed").mean()
            interval = t_interval(by_seed.tolist())
            mean, half = rounded(interval.mean), rounded(interval.high - interval.mean)
            if metric == _SHARED:  # one number for all seeds
                half = None
            found = {"part": part, "arm": arm, "metric": metric, "difference": mean, "half": half}
            rows.append(found | {"uniform": rounded(float(both["before"].mean()))})
    return rows


def predictions(cells: Any, folder: Path, plan: Mapping[str, Any]) -> Any:
    """The cells of the metric alone, with the change that rate–distortion theory predicts, in %."""
    cells = cells[cells["arm"].eq("fisher") & ~cells["part"].isin(_FURTHER)].copy()
    files = {
        file.name.removesuffix("-2000.safetensors"): file
        for file in sorted(folder.glob("*/groups/seed-200/metric/*.safetensors"))
    }
    predicted: list[float] = []
    for row in cells.to_dict("records"):
        found, _ = Sensitivity.read(files[row["hook_name"]])
        k = int(row["sparsity"].removeprefix("k = ") or K)
        d_sae = plan["parts"][row["part"]].get("sae", plan["base"]["sae"])["d_sae"]
        nats = nats_of_choice(d_sae, k)
        predicted.append(100 * predicted_change(found.fisher, found.covariance, nats))
    return cells.assign(predicted=predicted)


def rule(cells: Any) -> dict[str, Any]:
    """A line through the Top-k cells of the residual stream, tried on the other cells.

    Architectures at the same hook have the same prediction, and hooks of one layer are alike: what
    was fitted is tried on hooks of its own (`outputs`), on other layers (without which it is then
    fitted) and on other architectures apart.
    """
    fitted = cells[cells["part"] == "topk"]
    slope, intercept = np.polyfit(fitted["predicted"], fitted["mean"], 1)
    cells = cells.assign(expected=intercept + slope * cells["predicted"])
    groups = {
        "fitted: topk": cells["part"] == "topk",
        "other hooks: outputs": cells["part"] == "outputs",
        "other width: wide": cells["part"] == "wide",
        "other architectures, same hooks": ~cells["part"].isin(("topk", "outputs", "wide")),
    }
    of = {name: _judged(cells[chosen], fitted) for name, chosen in groups.items()}
    residual = cells[cells["part"] != "outputs"]
    layers = residual["hook_name"].unique()
    apart = [_without(layer, residual, fitted) for layer in layers if len(layers) > 1]
    of["each layer, fitted without it"] = _judged(pd.concat(apart), fitted)
    return {
        "slope": rounded(slope),
        "intercept": rounded(intercept),
        "yes_below": YES,
        "of": of,
    }


def _without(hook: str, cells: Any, fitted: Any) -> Any:
    """The cells of a hook, with what a line through the others expects."""
    others, mine = fitted[fitted["hook_name"] != hook], cells[cells["hook_name"] == hook]
    slope, intercept = np.polyfit(others["predicted"], others["mean"], 1)
    return mine.assign(expected=intercept + slope * mine["predicted"])


def _judged(cells: Any, fitted: Any) -> dict[str, Any]:
    if not len(cells):
        return {"cells": 0}
    is_yes = cells["expected"] <= YES
    return {
        "cells": len(cells),
        "correlation": rounded(cells["expected"].corr(cells["mean"])) if len(cells) > 2 else None,
        "rms_error": _rms(cells["mean"] - cells["expected"]),
        "rms_error_of_the_mean": _rms(cells["mean"] - fitted["mean"].mean()),
        "yes": _counted(cells[is_yes]),
        "no": _counted(cells[~is_yes]),
    }


def _rms(errors: Any) -> float:
    return rounded(float(np.sqrt(errors.pow(2).mean())))


def _counted(cells: Any) -> dict[str, int]:
    """Holm's over so many cells finds little in five seeds: intervals are counted as well."""
    return {
        "cells": len(cells),
        "lower_by_5": int(((cells["mean"] <= YES) & (cells["high"] < 0)).sum()),
        "interval_above_0": int((cells["low"] > 0).sum()),
        "clearly_lower": int((cells["clear"] & (cells["mean"] < 0)).sum()),
        "clearly_higher": int((cells["clear"] & (cells["mean"] > 0)).sum()),
    }


def outcome(
    table: Any, rates: Mapping[str, Mapping[str, float]], plan: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Everything that is said of the study, as plain values.

    Args:
        table: A row for each score of each SAE, from all comparisons, the tuning's too.
        rates: Architecture → metric → learning rate.
        plan: study.yaml.
        folder: Of the comparisons.
    """
    kl = table[table["metric"] == KL]
    tuned = kl[kl["part"].str.startswith("tune-")]
    ours = confirmed(table, rates, plan)
    cells = effects(ours)
    predicted = predictions(cells, folder, plan)
    return {
        "tuning": tuned.groupby(["part", "arm"], sort=False)["value"]
        .mean()
        .map(rounded)
        .reset_index()
        .to_dict("records"),
        "family": len(cells),
        "cells": cells.assign(predicted=predicted["predicted"])
        .astype(object)
        .where(lambda frame: frame.notna(), None)
        .to_dict("records"),
        "pooled": pooled(cells),
        "beside": beside(ours),
        "rule": rule(predicted),
    }


def pooled(cells: Any) -> list[dict[str, Any]]:
    """Each part's and arm's mean change over its cells, %, with its interval over the seeds."""
    rows: list[dict[str, Any]] = []
    # The parts that `beside` is to be read against, in its places alone.
    place = cells["hook_name"] + cells["sparsity"]
    is_there = place.isin(place[cells["part"] == "beside"])
    same = cells[is_there & cells["part"].isin(("topk", "longer"))]
    cells = pd.concat([cells, same.assign(part=same["part"] + ", where beside is")])
    for (part, arm), group in cells.groupby(["part", "arm"], sort=False):
        interval = t_interval(np.mean(group["changes"].tolist(), axis=0).tolist())
        half = interval.high - interval.mean
        rows.append(
            {
                **{"part": part, "arm": arm, "cells": len(group)},
                **{"mean": rounded(interval.mean), "half": rounded(half)},
                **_counted(group),
            }
        )
    return rows


def page(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    whole = pd.DataFrame(result["cells"])
    shown = whole.assign(
        hook=whole["hook_name"].str.removeprefix("blocks.").str.replace("hook_", ""),
        KL=whole["uniform"].map("{:.3f}".format),
        change=[f"{r['mean']:+.1f} [{r['low']:+.1f}, {r['high']:+.1f}]" for r in result["cells"]],
        p_holm=[f"{r['p_holm']:.2g}{' *' if r['clear'] else ''}" for r in result["cells"]],
        predicted=[
            "" if r["predicted"] is None else f"{r['predicted']:+.0f}" for r in result["cells"]
        ],
    )[["part", "hook", "sparsity", "arm", "KL", "change", "p_holm", "predicted"]]
    pools = pd.DataFrame(result["pooled"])
    pools["change"] = [f"{r['mean']:+.1f} ± {r['half']:.1f}" for r in result["pooled"]]
    others = pd.DataFrame(result["beside"])
    others["difference"] = [
        f"{r['difference']:+.4f}" + ("" if r["half"] is None else f" ± {r['half']:.4f}")
        for r in result["beside"]
    ]
    others["metric"] = others["metric"].map(BESIDE)
    wide = others.pivot(index=["part", "arm"], columns="metric", values="difference")
    rule_rows = pd.DataFrame(
        [
            {"tried on": name, "cells": of["cells"], "correlation": of["correlation"]}
            | {"rms error": of["rms_error"], "of the mean": of["rms_error_of_the_mean"]}
            | {"says yes": of["yes"]["cells"], "lower by 5 %": of["yes"]["lower_by_5"]}
            | {"interval above 0": of["yes"]["interval_above_0"], "says no": of["no"]["cells"]}
            | {"lower by 5 % too": of["no"]["lower_by_5"]}
            for name, of in result["rule"]["of"].items()
            if of["cells"]
        ]
    )
    rule_line = (
        f"expected change = {result['rule']['intercept']:+.2f} + {result['rule']['slope']:.3f} × "
        f"predicted change, in percent, through the cells of the part topk; it says yes at "
        f"{result['rule']['yes_below']:g} or less."
    )
    tuned = pd.DataFrame(result["tuning"]).pivot(index="part", columns="arm", values="value")
    sections = {
        "KL divergence by part": _markdown(pools.drop(columns=["mean", "half"])),
        "What else changed": _markdown(wide.reset_index().fillna("")),
        "The rule": rule_line + "\n\n" + _markdown(rule_rows),
        "Every cell": _markdown(shown),
        "How learning rates were chosen": _TUNED + _markdown(tuned.reset_index().fillna("")),
    }
    body = "\n\n".join(f"## {name}\n\n{text}" for name, text in sections.items())
    return f"{_INTRODUCTION.format(family=result['family'])}\n\n{body}\n"


_INTRODUCTION = """# Where the Fisher metric helps

Written by `python eval/sensitivity/study.py FOLDER`; what is trained stands in study.yaml. Changes
are of KL(model ‖ model with x̂), nats per token, in percent of that of the same SAE without a metric
(`uniform`, whose `b_dec` starts at the mean too) with the same seed, on the same batches. Brackets
and ± hold Student's 95 % intervals over seeds. p is Holm's, over all {family} changes of the last
table as one family; * below 0.05. `lower_by_5` counts cells whose mean is −5 % or less with an
interval that ends below 0."""


_TUNED = """Mean KL divergence on the validation windows, at the rate in the part's name. Rates of
k = 16 and 64, of the other width and of the other hooks are those of k = 32 at 512 latents, and
gated's was not tuned, since its L0 moves with the rate.

"""


def _markdown(frame: Any) -> str:
    head = "| " + " | ".join(map(str, frame.columns)) + " |"
    rule_line = "|" + " --- |" * len(frame.columns)
    rows = ["| " + " | ".join(map(str, row)) + " |" for row in frame.to_numpy().tolist()]
    return "\n".join([head, rule_line, *rows])


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw what was predicted before training beside what was measured."""
    figure = new_figure(6.5, 4.2)
    axes = figure.subplots()
    cells = pd.DataFrame([cell for cell in result["cells"] if cell["predicted"] is not None])
    for n, (part, group) in enumerate(cells.groupby("part", sort=False)):
        label = f"{part} (fitted)" if part == "topk" else str(part)
        axes.errorbar(
            group["predicted"].astype(float),
            group["mean"],
            yerr=(group["high"] - group["low"]) / 2,
            fmt=MARKERS[n % len(MARKERS)],
            color=PALETTE[n],
            label=label,
            linewidth=0.8,
            markersize=5,
        )
    ends = np.array([cells["predicted"].min(), 0.0], dtype=float)
    line = result["rule"]["intercept"] + result["rule"]["slope"] * ends
    axes.plot(ends, line, color="#888888", linestyle="--", linewidth=1)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlabel("change that rate–distortion theory predicts before training, %")
    axes.set_ylabel("measured change of the KL divergence, %")
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)
    save_png(figure, path)
