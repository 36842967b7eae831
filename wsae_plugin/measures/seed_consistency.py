"""Whether SAEs trained from other seeds found the same latents."""

from __future__ import annotations

from dataclasses import replace

from wsae_plugin.measures.evidence import Evidence
from wsae_plugin.measures.identify import LARGEST_ASSIGNMENT
from wsae_plugin.measures.measure import Found, measure


@measure("agreement between seeds", "up", headline=True)
def seed_consistency(evidence: Evidence) -> Found:
    """Cosine between the latents of SAEs trained from different seeds, matched one to one: whether
    they find the same directions."""
    return _noted(evidence, 0, "|cosine| of one-to-one matched latents")


@measure("best match between seeds", "up")
def seed_best_match(evidence: Evidence) -> Found:
    """Largest cosine of each latent with those of SAEs trained from different seeds: whether they
    find the same directions."""
    return _noted(evidence, 1, "largest cosine of each latent (MMCS)")


def _noted(evidence: Evidence, which: int, what: str) -> Found:
    seeds = evidence.seeds
    whose = f"mean over the pairs of seeds {', '.join(map(str, seeds.seeds))}"
    if seeds.agreement is None:
        found, whose = Found(None), "needs runs of two seeds or more"
    elif (found := seeds.agreement[which]) is None:
        note = f"more than {LARGEST_ASSIGNMENT:,} latents: no one-to-one assignment"
        return Found(None, note=note)
    note = f"{what}, {whose}; chance: random directions; control: a rotated copy"
    return replace(found, note=note)
