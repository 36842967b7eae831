r"""Group Bias Adaptation where features are known: what the recipe's open points do to recovery.

    python eval/toy/gba_ablation.py --output eval/toy/gba_ablation.json       # all, one seed
    python eval/toy/gba_ablation.py --output eval/toy/gba_ablation.json \
        --variant width-2048 --seeds 5                                    # adds to what is there

The world is the imbalanced one of `wsae toy gba` (arXiv 2506.14002: 128 features in 42 dimensions,
half of the samples with 3 of them, half with 20), the training is that study's, and "base" is its
arm "gba", the defaults. The other variants change what their names say. Beside what the defaults
decide, open in the text are the learning rate, the width, b_pre (where it starts), how unit length
is kept, and whether a latent that fires gives its pre-activation (JumpReLU) or what is above the
threshold (ReLU).
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from torch import Tensor
from torch.nn.functional import normalize
from tqdm.auto import tqdm
from typing_extensions import override

from wsae_plugin.errors import BadInputError
from wsae_plugin.files import write_json_atomic
from wsae_plugin.provenance import versions
from wsae_plugin.saes.gba import PRINTED_GBA, GBATrainingSAE
from wsae_plugin.toy.study.gba import IMBALANCED, world_of
from wsae_plugin.toy.study.gba_arms import gba, recipe
from wsae_plugin.toy.study.gba_training import train
from wsae_plugin.toy.study.settings import GBASettings


class ReLUVariant(GBATrainingSAE):
    """A latent gives what its pre-activation exceeds the threshold by."""

    @override
    def encode_with_hidden_pre(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden_pre = self.encoder_input(x) @ self.W_enc
        return (hidden_pre + self.bias).relu(), hidden_pre


class ProjectedVariant(GBATrainingSAE):
    """Unit length by projection after a step, with gradients that point off the sphere."""

    @property
    @override
    def feature_directions(self) -> Tensor:
        return self.directions

    @override
    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        with torch.no_grad():
            self.directions.copy_(normalize(self.directions, dim=-1))
        return super().training_forward_pass(step_input)


class BPreFromZeroVariant(GBATrainingSAE):
    """b_pre starts at 0 and not at the first batch's mean."""

    @override
    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        # A start that is not 0 is kept.
        if step_input.n_training_steps == 0:
            with torch.no_grad():
                self.b_dec.fill_(1e-9)
        return super().training_forward_pass(step_input)


@dataclass(frozen=True)
class Variant:
    """One thing changed.

    Attributes:
        sae_class: the class that is trained.
        fields: of its config, beside those of "base".
        lr: Adam's learning rate.
        d_sae: latents.
        n_steps: Adam steps.
    """

    sae_class: type[GBATrainingSAE] = GBATrainingSAE
    fields: tuple[tuple[str, Any], ...] = ()
    lr: float = 1e-3
    d_sae: int = GBASettings.d_sae
    n_steps: int = GBASettings.n_steps


def changed(**fields: Any) -> Variant:
    """A variant with other values of the config."""
    return Variant(fields=tuple(fields.items()))


VARIANTS: dict[str, Variant] = {
    "base": Variant(),
    "width-512": Variant(d_sae=512),
    "width-2048": Variant(d_sae=2048),
    "long": Variant(n_steps=10_000),
    "printed-long": Variant(fields=tuple(PRINTED_GBA.items()), n_steps=10_000),
    "directions-reconstruct": changed(direction_scale=None),
    "directions-as-if-alone": changed(direction_scale=0.0),
    "direction-scale-1": changed(direction_scale=1.0),
    "direction-scale-1.9": changed(direction_scale=1.9),
    "p-0.5-to-0.001": changed(highest_target_frequency=0.5),
    "p-0.1-to-0.001": changed(highest_target_frequency=0.1),
    "p-0.2-to-0.02": changed(lowest_target_frequency=0.02),
    "bias-step-0.01": changed(bias_step_size=0.01),
    "bias-step-0.1": changed(bias_step_size=0.1),
    "lr-3e-4": Variant(lr=3e-4),
    "lr-3e-3": Variant(lr=3e-3),
    "b-pre-from-0": Variant(BPreFromZeroVariant),
    "relu": Variant(ReLUVariant),
    "projected": Variant(ProjectedVariant),
}


def run(name: str, seed: int, settings: GBASettings) -> dict[str, Any]:
    """The record of one training."""
    variant = VARIANTS[name]
    make = gba(variant.sae_class, **dict(variant.fields))
    settings = replace(settings, d_sae=variant.d_sae, n_steps=variant.n_steps)
    return train(make, world_of(IMBALANCED, settings), variant.lr, seed, settings)[0]


def main(
    variant: Annotated[list[str] | None, typer.Option(help="One of the variants; all.")] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each.")] = 1,
    jobs: Annotated[int, typer.Option(help="Runs at a time, one thread each.")] = 2,
    output: Annotated[
        Path | None, typer.Option(help="JSON to write, or to add to: what is there stays.")
    ] = None,
) -> None:
    """Train each variant over several seeds and print the mean FRR."""
    settings = GBASettings()
    names = variant or list(VARIANTS)
    about = {"settings": asdict(settings), "recipe": recipe(), "versions": versions()}
    results: dict[str, Any] = {}
    if output is not None and output.exists():
        found = json.loads(output.read_text(encoding="utf-8"))
        if found["recipe"] != about["recipe"]:
            raise BadInputError(f"{output} holds other defaults: choose another --output.")
        results = found["variants"]
    runs = {name: results.get(name, {}).get("runs", [])[:seeds] for name in names}
    todo = [(name, seed) for name in names for seed in range(len(runs[name]), seeds)]

    def write() -> None:
        for name in names:
            facts = vars(VARIANTS[name]) | {"sae_class": VARIANTS[name].sae_class.__name__}
            results[name] = facts | {"fields": dict(VARIANTS[name].fields), "runs": runs[name]}
        if output is not None:
            ordered = {
                name: results[name] for name in VARIANTS if results.get(name, {}).get("runs")
            }
            write_json_atomic(output, {**about, "variants": ordered})

    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        found = pool.map(run, *zip(*todo, strict=True), [settings] * len(todo)) if todo else ()
        for (name, _), record in zip(todo, tqdm(found, total=len(todo)), strict=True):
            runs[name].append(record)
            write()
    write()
    columns = ("frr_0.8", "frr_0.9", "latents_that_are_features", "explained_variance", "l0")
    table = Table("variant", "seeds", *columns, "least frr_0.9")
    for name in names:
        means = [f"{mean(one[column] for one in runs[name]):.3g}" for column in columns]
        least = f"{min(one['frr_0.9'] for one in runs[name]):.3g}"
        table.add_row(name, str(len(runs[name])), *means, least)
    Console(width=140).print(table)


if __name__ == "__main__":
    typer.run(main)
