"""Does each line of `wsae optimality` fire on its own defect, and on no other?

In a world of 40 sparse features in 32 dimensions, whose true dictionary is known and was learned to
convergence, one defect is planted at a time. Thresholds were set on seeds 100 to 103, and that of
`width` on 0 to 19, so that these tell how often they are right.

    python eval/optimality/planted.py --first 20 --output eval/optimality/planted.json
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from tqdm.auto import tqdm

from wsae_plugin.files import write_json_atomic
from wsae_plugin.optimality import Coded, best_support, matched_penalty, nonnegative_lasso
from wsae_plugin.optimality.evidence import OptimalityEvidence
from wsae_plugin.optimality.lasso import unit
from wsae_plugin.optimality.lines import LINES
from wsae_plugin.optimality.refit import refitted

N, D, M, N_BATCHES = 4000, 32, 40, 8
RATE, NOISES, PENALTY = 0.08, (0.03, 0.08), 0.1
STEPS = 12
_OF_CONTROLS = 10_000
"""Seeds from here on: those of the worlds would draw the true dictionary as the random one."""

DEFECTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "none": ("", ()),
    "absorbed child": ("absorption", ()),
    "split atom": ("redundant", ()),
    "antipodal pair": ("antipodal", ()),
    "too narrow": ("width", ("split",)),
    "too wide": ("faint", ()),
    "stopped early": ("dictionary", ()),
    "encoder: activations": ("codes", ("codes_on_support", "prune")),
    "encoder: spurious latents": ("prune", ("codes", "codes_on_support")),
}
"""Defect → the line that has to fire, and those that say the same."""


def code(x: Tensor, atoms: Tensor) -> Coded:
    """As an ideal encoder does: the best support as large as that of the lasso."""
    lasso = nonnegative_lasso(x, atoms, PENALTY)
    n_active = (lasso.values > 0).sum(dim=1)
    best = best_support(x, atoms, n_active, lasso.latents, lasso.latents[:, :0])
    return Coded(x, atoms, best.latents, best.values)


def learn(x: Tensor, atoms: Tensor) -> Coded:
    for _ in range(STEPS):
        atoms = unit(refitted(code(x, atoms), 0.01), dim=1)
    return code(x, atoms)


def randn(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def worlds(seed: int) -> Iterator[tuple[str, Coded]]:
    """Every defect of one seed: half of the seeds have more noise."""
    g = torch.Generator().manual_seed(seed)
    true = unit(randn(M, D, generator=g), dim=1)
    on = torch.rand(N, M, generator=g) < RATE
    codes = on * (0.5 + torch.rand(N, M, generator=g, dtype=torch.float64))
    noise = NOISES[seed % 2] * randn(N, D, generator=g)
    x = codes @ true + noise
    clean = learn(x, true)
    yield "none", clean

    # A child that never comes without its parent, and as strong: a unit atom for both.
    nested, with_parent = true.clone(), codes.clone()
    nested[1] = unit(true[1] - (true[1] @ true[0]) * true[0])
    parent = torch.rand(N, generator=g) < 0.2
    with_parent[:, 0] = parent * (0.5 + torch.rand(N, generator=g, dtype=torch.float64))
    with_parent[:, 1] = with_parent[:, 0] * (torch.rand(N, generator=g) < 0.4)
    absorbed = nested.clone()
    absorbed[1] = (nested[0] + nested[1]) / 2**0.5
    yield "absorbed child", learn(with_parent @ nested + noise, absorbed)

    across = randn(D, generator=g)
    across = unit(across - (across @ clean.atoms[5]) * clean.atoms[5])
    halves = clean.atoms[5] + 0.35 * torch.stack([across, -across])
    split = torch.cat([clean.atoms[:5], halves, clean.atoms[6:]])
    yield "split atom", code(x, unit(split, dim=1))

    reversed_ = codes.clone()
    reversed_[:, 7] *= 1 - 2 * (torch.rand(N, generator=g) < 0.5).double()
    yield (
        "antipodal pair",
        learn(reversed_ @ true + noise, torch.cat([true, -true[7:8]])),
    )

    yield "too narrow", learn(x, torch.cat([true[:10], true[18:]]))
    yield "too wide", learn(x, unit(torch.cat([true, randn(24, D, generator=g)]), dim=1))
    yield "stopped early", code(x, unit(true + 0.45 * randn(M, D, generator=g) / D**0.5, dim=1))

    wrong = 1 + 0.2 * randn(*clean.values.shape, generator=g)
    values = clean.values * wrong.clamp(min=0.1)
    yield "encoder: activations", replace(clean, values=values)

    extra = torch.randint(M, (N, 1), generator=g)
    fresh = ~(clean.latents == extra).any(dim=1, keepdim=True)
    latents = torch.cat([clean.latents, extra.where(fresh, -1)], dim=1)
    values = torch.cat([clean.values, 0.1 * fresh.double()], dim=1)
    yield "encoder: spurious latents", replace(clean, latents=latents, values=values)


def lines_of(seed: int) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    batch = torch.arange(N) // (N // N_BATCHES)
    found: list[dict[str, Any]] = []
    for defect, coded in worlds(seed):
        evidence = OptimalityEvidence(coded, batch, matched_penalty(coded), _OF_CONTROLS + seed)
        values = {
            name: score.value for name, line in LINES.items() for score in line.score(evidence)
        }
        found.append({"seed": seed, "defect": defect, "values": values})
    return found


def fires(values: dict[str, float], name: str) -> bool:
    return values[name] > LINES[name].above


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    detected: dict[str, float] = {}
    alarms: dict[str, dict[str, float]] = {}
    for defect, (own, also) in DEFECTS.items():
        values = [each["values"] for each in found if each["defect"] == defect]
        if own:
            detected[defect] = sum(fires(v, own) for v in values) / len(values)
        alarms[defect] = {
            name: sum(fires(v, name) for v in values) / len(values)
            for name in LINES
            if name != own and name not in also
        }
    return {"detected": detected, "false alarms": alarms}


def main(
    seeds: Annotated[int, typer.Option(help="How many.")] = 20,
    first: Annotated[int, typer.Option(help="The first of them.")] = 0,
    processes: int = 2,
    output: Annotated[Path | None, typer.Option(help="Where the JSON goes.")] = None,
) -> None:
    """Plant every defect with every seed, and count what fires."""
    with ProcessPoolExecutor(processes) as pool:
        parts = pool.map(lines_of, range(first, first + seeds))
        found = [each for some in tqdm(parts, "Seeds", seeds) for each in some]
    result = summary(found)
    for defect, (own, _) in DEFECTS.items():
        some = [each["values"] for each in found if each["defect"] == defect]
        rate = f"{own} in {result['detected'][defect]:.0%}" if own else ""
        typer.echo(f"{defect}: {rate}")
        for name in LINES:
            values = [each[name] for each in some]
            typer.echo(f"    {name:18}{min(values):8.3f} to {max(values):.3f}")
    worst = max(rate for rates in result["false alarms"].values() for rate in rates.values())
    typer.echo(f"Most false alarms of a line on another defect: {worst:.0%}")
    if output:
        thresholds = {name: line.above for name, line in LINES.items()}
        seeds_of = [*range(first, first + seeds)]
        document = {"seeds": seeds_of, "thresholds": thresholds, **result, "found": found}
        write_json_atomic(output, document)


if __name__ == "__main__":
    typer.run(main)
