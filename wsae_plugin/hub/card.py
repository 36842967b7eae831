"""The model card, rendered from what the runs say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import transformer_lens.loading_from_pretrained as transformer_lens_names
from huggingface_hub import ModelCardData
from jinja2 import Environment, StrictUndefined

import wsae_plugin
from wsae_plugin.assets import BUNDLED_MODEL_NAME
from wsae_plugin.errors import BadInputError
from wsae_plugin.hub.card_tables import (
    few,
    gamma_table,
    procedure,
    sae_table,
    score_table,
    unmatched,
)
from wsae_plugin.hub.markdown import bibtex, code, plain
from wsae_plugin.hub.marker import sign
from wsae_plugin.hub.records import SAERecord
from wsae_plugin.hub.saebench_section import SAEBenchSection
from wsae_plugin.hub.variant_tables import (
    controls_legend,
    gamma_hook_table,
    hook_tables,
    variant_score_table,
    variant_table,
)
from wsae_plugin.hub.variants import hooks_of, is_worth_grouping, variants_of
from wsae_plugin.local_paths import dataset_and_split, is_local, last_name

FIGURES = "figures"
_MOST_FIGURES = 4
"""More than these are folded away."""


@dataclass(frozen=True)
class CardOptions:
    """What the runs do not know.

    Args:
        repo: `user/name` on the Hub; None for a folder that is not there.
        author: Of the SAEs; None for the owner of the repository.
        license: Of the weights, a licence id of the Hub.
        language: Of the text, ISO 639 or `code`.
        baseline: What the weighted SAEs are compared with where no comparison says so.
        report: What `wsae report` says of the comparison, if the SAEs are one.
    """

    repo: str | None = None
    author: str | None = None
    license: str = "mit"
    language: str = "en"
    baseline: SAERecord | None = None
    report: Mapping[str, Any] | None = None


def render_card(
    records: Sequence[SAERecord],
    options: CardOptions,
    gammas: dict[str, dict[str, Any]],
    saebench: SAEBenchSection | None = None,
) -> str:
    """The whole README.md.

    Args:
        records: The SAEs.
        options: What the runs do not know.
        gammas: From `gamma_summaries`; each hook has a figure at `figure_path`.
        saebench: What it says of SAEBench, if that was run.

    Raises:
        BadInputError: The model or the data set is a folder of this machine, or the SAEs do not
            share one model.
    """
    model, dataset = _the_one("model_name", records), _the_one("dataset_path", records)
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.filters |= {
        "code": code,
        "plain": plain,
        "bibtex": bibtex,
        "repr": repr,
        "url": quote,
    }
    template = environment.from_string(
        files("wsae_plugin.hub").joinpath("card.md.j2").read_text(encoding="utf-8")
    )
    class_name = records[0].metadata.get("model_class_name", "")
    front_matter = ModelCardData(
        library_name="saelens",
        license=options.license,
        base_model=base_model(model, class_name),
        datasets=[dataset],
        language=options.language.split(","),
        tags=["sparse-autoencoder", "saelens", "weighted-sae", "mechanistic-interpretability"],
    )
    weighted = [record for record in records if record.proxy is not None]
    variants = variants_of(records)
    grouped = is_worth_grouping(records)
    hooks = hooks_of(records)
    body = template.render(
        records=records,
        # What a reader came for: a weighted SAE that is no control, if there is one.
        first=next((r for r in weighted if r.run.role != "control"), records[0]),
        options=options,
        author=options.author or (options.repo.split("/")[0] if options.repo else None),
        model=model,
        base_model=base_model(model, class_name),
        dataset=dataset,
        text=_held_out_text(records),
        is_bundled=model == BUNDLED_MODEL_NAME,
        has_model_snippet=class_name == "HookedTransformer" and model != BUNDLED_MODEL_NAME,
        weighted=weighted,
        grouped=grouped,
        variants=variants,
        has_patterns=grouped and any("*" in variant.pattern for variant in variants),
        hooks=code(hooks[0]) if len(hooks) == 1 else f"{len(hooks)} hooks",
        n_hooks=len(hooks),
        n_seeds=len({record.run.seed for record in records}),
        controls=controls_legend(records),
        sae_table=sae_table(records),
        variant_table=variant_table(variants),
        score_table=score_table(records, options.baseline),
        variant_score_table=variant_score_table(variants, records, options.baseline),
        hook_tables=hook_tables(variants, records),
        unmatched=few([code(r.sae_id) for r in unmatched(records, options.baseline)]),
        gamma_table=gamma_table(gammas) if gammas else "",
        gamma_hook_table=gamma_hook_table(records, gammas),
        figures={hook: figure_path(hook) for hook in gammas},
        most_figures=_MOST_FIGURES,
        procedure=procedure(records),
        saebench=saebench,
        verdict=options.report["verdict"] if options.report else [],
        missing=_missing(options.report) if options.report else [],
        held_out=records[0].evaluation["held_out"],
        version=wsae_plugin.__version__,
        year=records[0].record["ended"][:4],
    )
    return sign(f"---\n{front_matter.to_yaml()}\n---\n\n{body}")


def figure_path(hook_name: str) -> str:
    """Where the figure of a hook's Γ is, relative to the card."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in hook_name)
    return f"{FIGURES}/gamma_spectrum_{name}.png"


def base_model(model_name: str, class_name: str) -> str:
    """The model's name on the Hub: TransformerLens has short names of its own."""
    if class_name == "HookedTransformer":
        return transformer_lens_names.make_model_alias_map().get(model_name.lower(), model_name)
    return model_name


def _held_out_text(records: Sequence[SAERecord]) -> str:
    """Which text the scores are of; of a file of this machine only what it is called."""
    shown: dict[str, None] = {}
    for record in records:
        recorded = str(record.evaluation["held_out"].get("dataset", "not recorded"))
        name, split = dataset_and_split(recorded)
        suffix = "" if split is None else f", split {plain(split)}"
        if is_local(name):
            shown[f"{code(last_name(name))}{suffix}, a file that is not published"] = None
        elif name == "bundled-held-out":
            shown["files of Python's standard library that were not trained on"] = None
        else:
            shown[code(name) + suffix] = None
    return "; ".join(shown)


def _missing(report: Mapping[str, Any]) -> list[str]:
    """What was not measured, and pairs that were refused; a line a reason."""
    reasons: dict[str, list[str]] = {}
    for entry in (*report["missing"], *report["refused_pairs"]):
        reasons.setdefault(entry["reason"], []).append(entry.get("what") or entry["run"])
    return [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]


def _the_one(field: str, records: Sequence[SAERecord]) -> str:
    found = dict.fromkeys(str(record.metadata[field]) for record in records)
    if len(found) > 1:
        raise BadInputError(
            f"{field}: the runs have {', '.join(map(repr, found))}; publish one at a time"
        )
    (name,) = found
    parts = name.split("/")
    if name.startswith(("/", ".", "~")) or "\\" in name or len(parts) > 2 or not all(parts):
        raise BadInputError(
            f"{field} = {name!r}: a folder of this machine, which no reader of the card has; "
            "publish runs whose model and data set are on the Hub"
        )
    return name
