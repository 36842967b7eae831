"""`wsae eval`: what trained SAEs are worth on held-out text."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from wsae_plugin.cli._shared import BASELINE, RUNS, print_json, print_table, print_text, score_table
from wsae_plugin.cli.trust import loads_models


@loads_models
def eval_(
    runs: RUNS,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|bundled-held-out",
            help="The held-out text, or table: a folder, a file, or a name on the Hub. By default "
            "the held-out split of what a run was trained on.",
        ),
    ] = None,
    batches: Annotated[
        int,
        typer.Option(min=2, help="The spread is taken over them; of fewer than 8 it is too small."),
    ] = 32,
    batch_size_prompts: Annotated[int, typer.Option(min=1, help="Contexts in a batch.")] = 8,
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=2**63 - 1, help="Of the order of the text and the shuffled control."
        ),
    ] = 0,
    baseline: BASELINE = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="What no file of an SAE says, such as hook_name=blocks.3.hook_resid_post. "
            "Repeatable. It is kept in config.yaml beside the SAE.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Measure again what has been measured.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print every held_out.json on stdout, as one list.")
    ] = False,
) -> None:
    """Measure trained SAEs on text that none of them has seen.

    Each RUN is a comparison folder of `wsae compare`, a run folder of `wsae train`, what SAELens's
    own runners or a script saved (one SAE, or a folder of several), a training checkpoint, of which
    what would be published is measured, or hf://USER/NAME/SAE on the Hub. All SAEs of one language
    model are measured on the same tokens, and the folder of each gets scores/held_out.json. SAEs of
    a synthetic model are measured on new samples of it, those of a table on the rows that are held
    out, or with --dataset on all of another table. Runs that have been measured with the same
    settings are left alone. A folder may come from elsewhere: of the model that it names,
    safetensors alone are read.

    \b
      wsae eval weighted_topk topk --baseline topk --dataset my-held-out.jsonl
      wsae eval my_sae --set model_name=gpt2 --set hook_name=blocks.3.hook_resid_post
      wsae eval comparison
      wsae eval runs/seed-0 runs/seed-1 --batches 64
      wsae eval runs/mine --dataset my-held-out.jsonl --json

    Unweighted explained variance comes first: a weighted SAE must answer for it too. Beside it are
    explained variance under Γ, what the language model loses when it reads the reconstruction
    (cross-entropy recovered, KL divergence), L0, dead latents, the agreement between seeds, and how
    consistent the tokens are that excite a latent most.

    Chance is not 0: held_out.json has beside each score what a random answer would get (chance),
    and what the same measure says of activations shuffled over the tokens of each context, or of
    rotated decoders (control). The token scores of random directions of the activations are there
    too, far above chance: a latent must exceed those. All token scores grow with the amount of
    text, so compare runs on equally much.

    Exit codes: 0 done, 1 failed, 2 the request is wrong and nothing was written.
    """
    # Imported here: SAELens takes seconds, and `wsae --help` should not.
    from wsae_plugin.measures.evaluate import EvalSettings, evaluate_runs
    from wsae_plugin.measures.stated_training import stated_trainings

    settings = EvalSettings(dataset, batches, batch_size_prompts, seed)
    with stated_trainings(runs, overrides or []):
        documents = evaluate_runs(runs, settings, force, baseline)
    if as_json:
        print_json(documents)
    else:
        _show(documents)


# What the table shows, in its order: heading and legend. All that is measured is in
# scores/held_out.json.
_COLUMNS = {
    "explained_variance": ("EV", "explained variance, unweighted"),
    "weighted_explained_variance": ("EV, Γ", "under the strongest Γ of the pair"),
    "ce_loss_recovered": ("CE", "cross-entropy recovered"),
    "kl_divergence": ("KL", "nats per token"),
    "l0": ("L0", "active latents"),
    "dead_share": ("dead", "share of latents"),
    "token_consistency": ("token", "how often two of a latent's top tokens are the same"),
    "semantic_consistency": ("class", "share of the modal class among a latent's top samples"),
    "nearest_neighbour_accuracy": ("1-NN", "accuracy of the nearest neighbour's class"),
    "mcc": ("MCC", "mean |cosine| with the true features"),
    "seed_consistency": ("seeds", "|cosine| of matched latents of two seeds"),
}


def _show(documents: list[dict[str, Any]]) -> None:
    runs = {of["run"]: {score["metric"]: score for score in of["scores"]} for of in documents}

    def mean(metric: str, field: str) -> float | None:
        values = [scores.get(metric, {}).get(field) for scores in runs.values()]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    shown = [metric for metric in _COLUMNS if mean(metric, "value") is not None]
    levels = {
        level: {metric: mean(metric, level) for metric in shown} for level in ("chance", "control")
    }
    levels["directions"] = {m: mean(f"{m}_of_random_directions", "value") for m in shown}
    columns = {metric: _COLUMNS[metric][0] for metric in shown}
    print_table(score_table("On held-out data", columns, runs, levels, ".4g"))
    legend = [": ".join(_COLUMNS[metric]) for metric in shown]
    legend += [
        "±: half the 95 % interval over held-out batches",
        "chance, control, directions (random directions of the activations): means over the runs",
        "more: scores/held_out.json in each run folder",
    ]
    print_text("; ".join(legend) + ".", style="dim")
