"""The model card, rendered from what the runs say of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import transformer_lens.loading_from_pretrained as transformer_lens_names
from huggingface_hub import ModelCardData
from jinja2 import Environment, StrictUndefined

import wsae_plugin
from wsae_plugin.assets import BUNDLED_MODEL_NAME
from wsae_plugin.errors import BadInputError
from wsae_plugin.hub.card_tables import (
    gamma_table,
    procedure,
    sae_table,
    saebench_table,
    score_table,
    unmatched,
)
from wsae_plugin.hub.markdown import bibtex, code, plain
from wsae_plugin.hub.marker import sign
from wsae_plugin.hub.records import SAERecord

FIGURES = "figures"


@dataclass(frozen=True)
class CardOptions:
    """What the runs do not know.

    Args:
        repo: `user/name` on the Hub; None for a folder that is not there.
        author: Of the SAEs; None for the owner of the repository.
        license: Of the weights, a licence id of the Hub.
        language: Of the text, ISO 639 or `code`.
        baseline: What the weighted SAEs are compared with where no comparison says so.
    """

    repo: str | None = None
    author: str | None = None
    license: str = "mit"
    language: str = "en"
    baseline: SAERecord | None = None


def render_card(
    records: Sequence[SAERecord],
    options: CardOptions,
    gammas: dict[str, dict[str, Any]],
    saebench: Sequence[dict[str, Any]] = (),
) -> str:
    """The whole README.md.

    Args:
        records: The SAEs.
        options: What the runs do not know.
        gammas: From `gamma_summaries`; each hook has a figure at `figure_path`.
        saebench: Scores of saebench/scores.json, those of these SAEs.

    Raises:
        BadInputError: The model or the data set is a folder of this machine, or the SAEs do not
            share one model.
    """
    model, dataset = _the_one("model_name", records), _the_one("dataset_path", records)
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.filters |= {"code": code, "plain": plain, "bibtex": bibtex, "repr": repr}
    template = environment.from_string(
        files("wsae_plugin.hub").joinpath("card.md.j2").read_text(encoding="utf-8")
    )
    front_matter = ModelCardData(
        library_name="saelens",
        license=options.license,
        base_model=base_model(model, records[0].metadata.get("model_class_name", "")),
        datasets=[dataset],
        language=options.language.split(","),
        tags=["sparse-autoencoder", "saelens", "weighted-sae", "mechanistic-interpretability"],
    )
    body = template.render(
        records=records,
        first=records[0],
        options=options,
        author=options.author or (options.repo.split("/")[0] if options.repo else None),
        model=model,
        dataset=dataset,
        is_bundled=model == BUNDLED_MODEL_NAME,
        weighted=[record for record in records if record.proxy is not None],
        sae_table=sae_table(records),
        score_table=score_table(records, options.baseline),
        unmatched=unmatched(records, options.baseline),
        gamma_table=gamma_table(gammas),
        figures={hook: figure_path(hook) for hook in gammas},
        procedure=procedure(records),
        saebench=saebench_table(saebench),
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
