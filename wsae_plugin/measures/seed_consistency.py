"""Whether SAEs trained from other seeds found the same latents."""

from __future__ import annotations

from collections.abc import Callable

from wsae_plugin.measures.identifiability import LARGEST_ASSIGNMENT, Agreement, Seeds
from wsae_plugin.measures.measure import Evidence, measure
from wsae_plugin.measures.sums import Found


@measure("agreement between seeds", "up", headline=True)
def seed_consistency(evidence: Evidence) -> Found:
    """Cosine between the latents of SAEs trained from different seeds, matched one to one: whether
    they find the same directions."""
    what = "|cosine| of one-to-one matched latents"
    return _mean(evidence.seeds, what, lambda a: a.assignment and a.assignment.mean_cosine)


@measure("best match between seeds", "up")
def seed_best_match(evidence: Evidence) -> Found:
    """Largest cosine of each latent with those of SAEs trained from different seeds: whether they
    find the same directions."""
    what = "largest cosine of each latent (MMCS)"
    return _mean(evidence.seeds, what, lambda a: (a.forward.mmcs + a.backward.mmcs) / 2)


def _mean(seeds: Seeds, what: str, of: Callable[[Agreement], float | None]) -> Found:
    """Over the pairs, beside what knows nothing of the other seed; `of` is None where too large."""
    whose = f"mean over the pairs of seeds {', '.join(map(str, seeds.seeds))}"
    if not seeds.pairs:
        whose = "needs runs of two seeds or more"
    note = f"{what}, {whose}; chance: random directions; control: a rotated copy"
    columns = [
        [of(pair[key]) for pair in seeds.pairs] for key in ("agreement", "random", "rotated")
    ]
    if None in columns[0]:
        note = f"more than {LARGEST_ASSIGNMENT:,} latents: no one-to-one assignment"
        return Found(None, note=note)
    known = [[value for value in column if value is not None] for column in columns]
    value, chance, control = (sum(column) / len(column) if column else None for column in known)
    return Found(value, chance, control, note=note)
