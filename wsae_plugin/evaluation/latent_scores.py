"""The scores of latents one by one: how specific to tokens, and found again from other seeds."""

from __future__ import annotations

from wsae_plugin.evaluation.interpretability import (
    FEWEST_TOKENS,
    STANDING_OUT_BY_CHANCE,
    TOP_TOKENS,
    Specificity,
)
from wsae_plugin.evaluation.score_record import Record, record
from wsae_plugin.evaluation.seed_consistency import SeedConsistency
from wsae_plugin.measures.identify import LARGEST_ASSIGNMENT

_LABELS = {"token": "token", "context": "previous token", "token_class": "token class"}


def specificity_records(
    run: str, kind: str, latents: Specificity, random_directions: Specificity
) -> list[Record]:
    """The consistency of top tokens, the share of latents that stand out by it, and a baseline.

    Args:
        run: name of the run.
        kind: `token`, `context` (the token before) or `token_class`.
        latents: measured on the SAE's latents.
        random_directions: on random directions of the activations.
    """
    label = _LABELS[kind]
    whose = f"the {latents.n_latents} latents active on {FEWEST_TOKENS} held-out tokens or more"
    return [
        record(
            run,
            f"{kind}_consistency",
            f"{label} consistency",
            latents.mean,
            "up",
            headline=kind == "token",
            chance=latents.chance,
            control=latents.control,
            note=f"how often two of a latent's {TOP_TOKENS} most activating tokens agree, mean "
            f"over {whose}; control: shuffled within contexts",
        ),
        record(
            run,
            f"{kind}_consistent_share",
            f"latents of consistent {label}",
            latents.standing_out,
            "up",
            chance=STANDING_OUT_BY_CHANCE,
            control=latents.standing_out_control,
            note=f"share above {1 - STANDING_OUT_BY_CHANCE:.0%} of the shuffled, of {whose}",
        ),
        record(
            run,
            f"{kind}_consistency_of_random_directions",
            f"{label} consistency of random directions",
            random_directions.mean,
            "none",
            chance=random_directions.chance,
            control=random_directions.control,
            note=f"the same for {random_directions.n_latents} random directions of the "
            "activations: what a latent must exceed to be more than any direction",
        ),
    ]


def seed_records(run: str, seeds: list[int], measured: SeedConsistency | None) -> list[Record]:
    """Whether other seeds found the same latents.

    Args:
        run: name of the run.
        seeds: of all runs of this arm, hook and sparsity.
        measured: None for a single seed.
    """
    if measured is None:
        whose, assigned, best = "needs runs of two seeds or more", None, None
    else:
        whose = f"mean over the pairs of seeds {', '.join(map(str, seeds))}"
        assigned, best = measured.assigned, measured.best_match
    controls = "chance: random directions; control: a rotated copy"
    too_wide = measured is not None and assigned is None
    return [
        record(
            run,
            "seed_consistency",
            "agreement between seeds",
            assigned.value if assigned else None,
            "up",
            headline=True,
            chance=assigned.random if assigned else None,
            control=assigned.rotated if assigned else None,
            note=f"more than {LARGEST_ASSIGNMENT:,} latents: no one-to-one assignment"
            if too_wide
            else f"|cosine| of one-to-one matched latents, {whose}; {controls}",
        ),
        record(
            run,
            "seed_best_match",
            "best match between seeds",
            best.value if best else None,
            "up",
            chance=best.random if best else None,
            control=best.rotated if best else None,
            note=f"largest cosine of each latent (MMCS), {whose}; {controls}",
        ),
    ]
