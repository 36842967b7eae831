"""The model card: what the runs, and the report of them, say, in the words of a template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pprint import pformat
from textwrap import indent
from typing import Any
from urllib.parse import quote

from huggingface_hub import ModelCardData

import wsae_plugin
from wsae_plugin.assets import BUNDLED_MODEL_NAME
from wsae_plugin.errors import BadInputError
from wsae_plugin.files import write_text_atomic
from wsae_plugin.hub import tables
from wsae_plugin.hub.exported import check_as_trained
from wsae_plugin.hub.gamma import gamma_figures, gammas_by_hook, gammas_of
from wsae_plugin.hub.markdown import bibtex, code, few, plain
from wsae_plugin.hub.marker import is_untouched, sign
from wsae_plugin.hub.names import check_repo_name
from wsae_plugin.hub.records import SAERecord, read_records
from wsae_plugin.hub.remeasure import local_paths_of
from wsae_plugin.local_paths import dataset_and_split, is_local, last_name, without_local_paths
from wsae_plugin.report.inputs import Frame, Inputs, read_inputs
from wsae_plugin.report.summary import summarize
from wsae_plugin.report.text import Report, how_intervals_are_made, number
from wsae_plugin.scores import OPTIMALITY
from wsae_plugin.templates import filled

FIGURES = "figures"
MOST_ROWS = 12
"""A table of more SAEs than this is not read row by row."""
_BY_HOOK = ("explained_variance", "ce_loss_recovered")
"""What is also shown hook by hook, of held-out text."""
_RECOVERABLE = {
    "codes": "better codes of the same dictionary would recover {} of the squared error",
    "dictionary": "a refit of the dictionary {} of what the best codes leave",
}
"""Metric of optimality → what the card says of it."""
_CONTROLS = {
    "shuffled": "*shuffled*: the weights of the arm it controls for, on the wrong dimensions",
    "opposite": "*opposite*: weighted the other way, with −α",
    "constant": "*constant*: one weight for all dimensions, as large as those of its arm",
    "whitening": "*whitened*: trained on whitened activations; the whitening is folded into the "
    "weights, so it loads like the others",
}


@dataclass(frozen=True)
class CardOptions:
    """What the runs do not know.

    Args:
        repo: `user/name` on the Hub; None for a folder that is not there.
        author: Of the SAEs; None for the owner of the repository.
        license: Of the weights, a licence id of the Hub.
        language: Of the text, ISO 639 or `code`.
        baseline: The run of the ordinary SAE for weighted ones that have none beside them.
        base_model: The name on the Hub of a model, or synthetic model, that was a folder here.
        dataset: The name on the Hub of a data set that was a file or folder here.
    """

    repo: str | None = None
    author: str | None = None
    license: str = "mit"
    language: str = "en"
    baseline: Path | None = None
    base_model: str | None = None
    dataset: str | None = None


def write_card(paths: Sequence[Path], output: Path, options: CardOptions) -> list[Path]:
    """Write the card of the SAEs in comparison folders and run folders, and its figures.

    Returns:
        The files, the card first.

    Raises:
        BadInputError: `output` is a folder, or was written or edited by hand; or see `make_card`.
    """
    if output.is_dir():
        raise BadInputError(f"--output {output}: is a folder; give a file, such as README.md")
    if output.exists() and not is_untouched(output.read_text(encoding="utf-8", errors="replace")):
        raise BadInputError(f"--output {output}: was written or edited by hand; name another file")
    if options.repo is not None:
        check_repo_name(options.repo)
    records = published(read_records(paths), options)
    text, figures = make_card(paths, records, options)
    output.parent.mkdir(parents=True, exist_ok=True)
    for name, png in figures.items():
        (output.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (output.parent / name).write_bytes(png)
    write_text_atomic(output, text)
    return [output, *(output.parent / name for name in figures)]


def published(records: Sequence[SAERecord], options: CardOptions) -> list[SAERecord]:
    """The records with the names on the Hub of a model and a data set that are folders here.

    Raises:
        BadInputError: A name is none, the records do not share one folder, or what they name is on
            the Hub already.
    """
    model = _model_field(records)
    given = {model: options.base_model, "dataset_path": options.dataset}
    names = {field: name for field, name in given.items() if name is not None}
    if model == _SYNTHETIC and options.dataset is not None:
        raise BadInputError(
            f"--dataset-name {options.dataset}: an SAE on a synthetic model has no data set; leave "
            "it out"
        )
    for field, name in names.items():
        recorded, option = _shared(field, records), _OPTIONS[field]
        # `wsae embed` writes down what a folder of images is called.
        is_bare = records[0].table is not None and "/" not in str(recorded)
        of_images = is_bare and option == "--dataset-name"
        is_folder = isinstance(recorded, str) and (is_local(recorded) or of_images)
        if recorded and not is_folder:
            raise BadInputError(
                f"{option} {name}: the SAEs say {field} = {recorded!r}, which is no folder of this "
                "machine; leave it out"
            )
        # SAELens has the folder of a synthetic model in its repository after a colon.
        repo = name.partition(":")[0] if field == _SYNTHETIC else name
        check_repo_name(repo, option, needs_owner=False)
    if model != _SYNTHETIC and not (_shared(model, records) or options.base_model):
        raise BadInputError(
            "--base-model: missing, no file of the SAEs says what computed the activations of "
            "their table; give its name on the Hub"
        )
    return [record.with_hub_names(names) for record in records]


def make_card(
    paths: Sequence[Path], records: Sequence[SAERecord], options: CardOptions
) -> tuple[str, dict[str, bytes]]:
    """README.md, and its figures: path beside it → PNG.

    Args:
        paths: Comparison folders and run folders.
        records: The SAEs in them.
        options: What they do not know.

    Raises:
        BadInputError: The model or the data set is a folder of this machine, the SAEs do not share
            one model, the baseline's run is broken, what the weights say is, or an SAE is not what
            was trained.
    """
    is_synthetic = _model_field(records) == _SYNTHETIC
    synthetic_model = _synthetic_model(records) if is_synthetic else None
    model = synthetic_model.name if synthetic_model else _the_one("model_name", records)
    dataset = None if is_synthetic else _the_one("dataset_path", records)
    inputs = read_inputs(*paths, baseline=options.baseline)
    for record in (*records, *read_records([options.baseline] if options.baseline else [])):
        check_as_trained(record)
    local = set[str | None]().union(*map(local_paths_of, records))
    report: Report = without_local_paths(summarize(inputs), local)
    gammas = gammas_of(records)
    drawn = gamma_figures(model, gammas) if len(gammas) else {}
    first = records[0]
    is_table = first.table is not None
    front_matter = ModelCardData(
        library_name="saelens",
        license=options.license,
        base_model=first.base_model,
        datasets=[dataset] if dataset and (not is_table or "/" in dataset) else None,
        language=None if is_synthetic or is_table else options.language.split(","),
        tags=[
            *("sparse-autoencoder", "saelens", "weighted-sae", "mechanistic-interpretability"),
            *(["synthetic-data"] if is_synthetic else []),
        ],
    )
    weighted = [record for record in records if record.proxy is not None]
    class_name = first.metadata.get("model_class_name")
    body = filled(
        Path(__file__).with_name("card.md.j2"),
        {"code": code, "plain": plain, "bibtex": bibtex, "repr": repr, "url": quote},
        records=records,
        # What a reader came for: a weighted SAE that is no control, if there is one.
        first=next((r for r in weighted if r.run.role != "control"), first),
        options=options,
        author=options.author or (options.repo.split("/")[0] if options.repo else None),
        model=model,
        base_model=first.base_model,
        synthetic_model=synthetic_model,
        seed=first.config.get("seed"),
        is_table=is_table,
        samples="samples" if is_synthetic or is_table else "tokens",
        dataset=dataset,
        text="" if is_synthetic else _held_out_text(records),
        held_out=first.held_out,
        is_bundled=model == BUNDLED_MODEL_NAME,
        has_model_snippet=class_name == "HookedTransformer" and model != BUNDLED_MODEL_NAME,
        weighted=weighted,
        metrics=sorted({record.metric for record in records if record.metric is not None}),
        is_many=len(records) > MOST_ROWS,
        controls=list(dict.fromkeys(_CONTROLS[kind] for r in records if (kind := r.control))),
        report=report,
        missing=_missing(report),
        recoverable=_recoverable(report),
        unmatched=few([code(name) for name in _unmatched(records, inputs, report)]),
        how_intervals_are_made=how_intervals_are_made(report),
        figures={hook: figure_path(hook) for hook in drawn},
        version=wsae_plugin.__version__,
        year=first.record["ended"][:4],
        **_tables(records, inputs, report, gammas),
    )
    text = sign(f"---\n{front_matter.to_yaml()}\n---\n\n{body}")
    return text, {figure_path(hook): png for hook, png in drawn.items()}


def figure_path(hook_name: str) -> str:
    """Where the figure of a hook's Γ is, relative to the card."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in hook_name)
    return f"{FIGURES}/gamma_spectrum_{name}.png"


def _tables(
    records: Sequence[SAERecord], inputs: Inputs, report: Report, gammas: Frame
) -> dict[str, Any]:
    """Every table and legend, by its name in the template."""
    scores = inputs.table.astype({"value": float})
    sections = tables.sections_of(report)
    layers = {record.run.hook_name: record.run.layer for record in records}
    hooks = sorted(layers, key=lambda hook: (layers[hook] is None, layers[hook], hook))
    labels = {
        arm["name"]: arm["label"] + (" (control)" if arm["role"] == "control" else "")
        for arm in report["arms"]
    }
    label_of = {run.run: labels[run.arm] for run in inputs.runs}
    arms: dict[str, list[SAERecord]] = {}
    for record in records:
        arms.setdefault(label_of[record.sae_id], []).append(record)
    patterns = {label: tables.pattern_of(saes) for label, saes in arms.items()}
    facts = tables.facts_of(records)
    names = [record.sae_id for record in records]
    return {
        "arms": arms,
        "hooks": hooks,
        "sae_table": tables.sae_table(facts),
        "arm_table": tables.arm_table(facts, label_of, patterns),
        "procedure": facts.drop(columns=tables.differing(facts).columns).iloc[0],
        "sections": {
            heading: {
                "saes": tables.sae_scores(metrics, names),
                "arms": tables.arm_scores(report, scores, metrics, labels),
                "legend": [tables.legend(metric, scores) for metric in metrics],
            }
            for heading, metrics in sections.items()
        },
        "scores_by_hook": [
            tables.hook_table(metric, scores, hooks, labels)
            for metric in sections[tables.SCORES]
            if metric["metric"] in _BY_HOOK
        ],
        "gammas": list(gammas.itertuples()),
        "gammas_by_hook": gammas_by_hook(gammas, label_of, hooks) if len(gammas) else "",
    }


def _unmatched(records: Sequence[SAERecord], inputs: Inputs, report: Report) -> list[str]:
    """The SAEs that stand beside no ordinary one, though they are none."""
    refused = {entry["run"] for entry in report["refused_pairs"]}
    paired = {run.run for run in inputs.runs if run.role != "baseline"} - refused
    return [r.sae_id for r in records if not r.is_ordinary and r.sae_id not in paired]


def _held_out_text(records: Sequence[SAERecord]) -> str:
    """Which text the scores are of; of a file of this machine only what it is called."""
    shown: dict[str, None] = {}
    for record in records:
        name, split = dataset_and_split(record.held_out["dataset"])
        suffix = "" if split is None else f", split {plain(split)}"
        if is_local(name):
            shown[f"{code(last_name(name))}{suffix}, a file that is not published"] = None
        elif name == "bundled-held-out":
            shown["files of Python's standard library that were not trained on"] = None
        else:
            shown[code(name) + suffix] = None
    return "; ".join(shown)


def _missing(report: Report) -> list[str]:
    """What was not measured though it could be, and pairs that were refused; a line a reason."""
    refused = (report["bench"] or {}).get("refused", {})
    unmeasured = [metric for metric in report["metrics"] if metric["headline"]]
    entries = [
        *((entry["what"], entry["reason"]) for entry in report["missing"]),
        *((entry["run"], entry["reason"]) for entry in report["refused_pairs"]),
        *((f"saebench/{name}", reason) for name, reason in refused.items()),
        *((m["label"], "; ".join(m["notes"])) for m in unmeasured if not m["values"]),
    ]
    reasons: dict[str, list[str]] = {}
    for what, reason in entries:
        reasons.setdefault(reason, []).append(what)
    return [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]


def _recoverable(report: Report) -> list[str]:
    """What better codes and a refit would recover, in per cent: of several SAEs from where to
    where."""
    told: list[str] = []
    for metric in report["metrics"]:
        text = _RECOVERABLE.get(metric["metric"]) if metric["eval"] == OPTIMALITY else None
        if text is None or not metric["values"]:
            continue
        ends = sorted({min(metric["values"].values()), max(metric["values"].values())})
        shown = " % to ".join(number(100 * value, 1) for value in ends)
        spreads = list(metric["spreads"].values()) if len(metric["values"]) == 1 else []
        told.append(text.format(" ± ".join([f"{shown} %", *(number(100 * s, 1) for s in spreads)])))
    return told


_SYNTHETIC = "synthetic_model"
_OPTIONS = {
    "model_name": "--base-model",
    _SYNTHETIC: "--base-model",
    "dataset_path": "--dataset-name",
}


def _model_field(records: Sequence[SAERecord]) -> str:
    """The field that says what the activations are of."""
    are_synthetic = any(record.synthetic_model is not None for record in records)
    return _SYNTHETIC if are_synthetic else "model_name"


def _shared(field: str, records: Sequence[SAERecord]) -> Any:
    said = [record.config if field == _SYNTHETIC else record.metadata for record in records]
    found = {str(value): value for value in (of.get(field) or "" for of in said)}
    if len(found) > 1:
        raise BadInputError(
            f"{field}: the runs have {', '.join(map(repr, found))}; publish one at a time"
        )
    return next(iter(found.values()))


@dataclass(frozen=True)
class _SyntheticModel:
    """What the card says of a synthetic model.

    Args:
        name: What readers call it.
        source: What SAELens loads it from, as Python.
        repo: Where it is on the Hub; None for one that is drawn.
        drawn_from: The seed of torch before it is drawn; None for one with a seed of its own.
    """

    name: str
    source: str
    repo: str | None = None
    drawn_from: int | None = None


def _synthetic_model(records: Sequence[SAERecord]) -> _SyntheticModel:
    if isinstance(_shared(_SYNTHETIC, records), str):
        name = _the_one(_SYNTHETIC, records)
        return _SyntheticModel(name, repr(name), name.partition(":")[0])
    config: Mapping[str, Any] = _shared(_SYNTHETIC, records)
    seeds = {record.config.get("seed") for record in records}
    if config.get("seed") is None and len(seeds) > 1:
        raise BadInputError(
            f"{_SYNTHETIC}.seed: missing, and each run drew another one; publish one at a time"
        )
    shown = indent(pformat(dict(config), sort_dicts=False), 8 * " ")
    # The same seed draws another one on another kind of device.
    device = str(records[0].config.get("device", "cpu"))
    elsewhere = "" if device == "cpu" else f",\n    device={device!r},"
    return _SyntheticModel(
        f"a synthetic model of {config['num_features']} features in {config['hidden_dim']} "
        "dimensions",
        f"SyntheticModelConfig.from_dict(\n{shown}\n    ){elsewhere}",
        drawn_from=seeds.pop() if config.get("seed") is None else None,
    )


def _the_one(field: str, records: Sequence[SAERecord]) -> str:
    name = str(_shared(field, records))
    parts = name.partition(":")[0].split("/") if field == _SYNTHETIC else name.split("/")
    if is_local(name) or "\\" in name or len(parts) > 2 or not all(parts):
        what = "a folder of this machine, which no reader of the card has" if name else "missing"
        raise BadInputError(
            f"{field} = {name!r}: {what}; say with {_OPTIONS[field]} what it is called on the Hub"
        )
    return name
