"""Which scores eval.json has of latents one by one, and what they stand beside."""

from __future__ import annotations

from wsae_plugin.evaluation.interpretability import Specificity
from wsae_plugin.evaluation.latent_scores import seed_records, specificity_records
from wsae_plugin.evaluation.score_record import Record
from wsae_plugin.evaluation.seed_consistency import Matched, SeedConsistency

SHOWN = ("metric", "value", "direction", "headline", "chance", "control")


def shown(records: list[Record]) -> list[tuple[object, ...]]:
    return [tuple(record[field] for field in SHOWN) for record in records]


def test_specificity() -> None:
    latents = Specificity(0.5, 0.1, 0.2, 0.4, 0.06, 300)
    directions = Specificity(0.3, 0.11, 0.21, 0.25, 0.04, 512)
    for kind, headline in (("token", True), ("context", False)):
        assert shown(specificity_records("run", kind, latents, directions)) == [
            (f"{kind}_consistency", 0.5, "up", headline, 0.1, 0.2),
            (f"{kind}_consistent_share", 0.4, "up", False, 0.05, 0.06),
            (f"{kind}_consistency_of_random_directions", 0.3, "none", False, 0.11, 0.21),
        ]
    first, second, third = specificity_records("run", "context", latents, directions)
    assert first["label"] == "previous token consistency"
    assert "the 300 latents" in first["note"] and "the 300 latents" in second["note"]
    assert "above 95% of the shuffled" in second["note"]
    assert "512 random directions" in third["note"]


def test_seeds() -> None:
    measured = SeedConsistency(Matched(0.7, 0.2, 0.25), Matched(0.8, 0.3, 0.35))
    assert shown(seed_records("run", [0, 1], measured)) == [
        ("seed_consistency", 0.7, "up", True, 0.2, 0.25),
        ("seed_best_match", 0.8, "up", False, 0.3, 0.35),
    ]
    assert shown(seed_records("run", [0], None)) == [
        ("seed_consistency", None, "up", True, None, None),
        ("seed_best_match", None, "up", False, None, None),
    ]
