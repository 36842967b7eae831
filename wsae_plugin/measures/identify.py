"""Two or more saved SAEs → how far their latents agree, beside chance, as JSON-able numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from wsae_plugin.errors import BadInputError
from wsae_plugin.files import refuse_links
from wsae_plugin.measures.evaluated_run import load_sae
from wsae_plugin.measures.identifiability import LARGEST_ASSIGNMENT, agreement_beside_chance

_Member = tuple[int, Path]
"""The number of a run, and the folder of one of its SAEs."""


def find_saes(path: Path) -> dict[str, Path]:
    """Find the SAEs in a run folder, or those that SAELens saved in `path`, one or several.

    Returns:
        SAE name → the folder that plain SAELens loads.

    Raises:
        BadInputError: there is none, or a link leads out of the folder.
    """
    refuse_links(path)
    if (path / "cfg.json").is_file():
        return {path.resolve().name: path}
    configs = sorted(path.glob("*/cfg.json")) or sorted(path.glob("saes/*/cfg.json"))
    if not configs:
        raise BadInputError(
            f"{path}: holds no SAE; give a folder in which SAELens saved one (with cfg.json), or a "
            "finished run folder of 'wsae train' (with sae/ or saes/)"
        )
    return {config.parent.name: config.parent for config in configs}


def identify(
    paths: Sequence[Path], threshold: float = 0.9, largest_assignment: int = LARGEST_ASSIGNMENT
) -> dict[str, Any]:
    """Compare every two of the runs, SAE by SAE: those of one name belong together.

    Where each path holds one SAE only, names do not matter. Each pair is measured three times: as
    it is, and with its second decoder replaced by random directions, and by a rotated copy of
    itself. Both of these are chance, the second for a dictionary of just this shape.

    Args:
        paths: two or more, each as `find_saes` takes it.
        threshold: the cosine above which two latents count as the same.
        largest_assignment: pairs in which both SAEs have more latents are compared by best matches
            alone, and their "assignment" is None.

    Returns:
        {"threshold", "largest_assignment", "runs": [{"path", "seed"}], "saes": [{"name", "d_in",
        "members": [{"run", "path", "architecture", "d_sae"}], "pairs": [{"first", "second",
        "agreement", "random", "rotated"}], "mean": {"agreement", "random", "rotated"}}],
        "left_out": [{"run", "name"}]}. "first" and "second" index "members", "run" indexes "runs".
        The measures of a pair are `Agreement`s; those of the mean over the pairs, and over both
        directions, are {"share", "mean_cosine", "best_match_share", "mmcs"}. "left_out" are the
        SAEs that no other run has a namesake of.

    Raises:
        BadInputError: fewer than two paths, a path without an SAE, no name that two runs share, a
            file that cannot be loaded, different d_in, a threshold out of range.
    """
    if not 0 < threshold < 1:
        raise BadInputError(f"threshold is {threshold}; it is a cosine between 0 and 1.")
    if len(paths) < 2:
        raise BadInputError(
            f"{len(paths)} run is given; two or more are compared, such as a config trained with "
            "two seeds: wsae identify runs/seed-0 runs/seed-1"
        )
    runs = [find_saes(path) for path in paths]
    groups = _by_name(runs)
    shared = {name: members for name, members in groups.items() if len(members) > 1}
    if not shared:
        raise BadInputError(
            "no SAE is in two runs under one name: "
            + "; ".join(
                f"{path} has {', '.join(run)}" for path, run in zip(paths, runs, strict=True)
            )
            + "; name the folders of single SAEs instead, such as RUN/saes/NAME"
        )
    return {
        "threshold": threshold,
        "largest_assignment": largest_assignment,
        "runs": [{"path": str(path), "seed": _seed(path / "run.json")} for path in paths],
        "saes": [
            _compare(name, members, threshold, largest_assignment)
            for name, members in shared.items()
        ],
        "left_out": [
            {"run": members[0][0], "name": name}
            for name, members in groups.items()
            if len(members) == 1
        ],
    }


def _by_name(runs: list[dict[str, Path]]) -> dict[str, list[_Member]]:
    names = list(dict.fromkeys(name for run in runs for name in run))
    if all(len(run) == 1 for run in runs):
        # One SAE each: they belong together whatever they are called.
        name = names[0] if len(names) == 1 else "sae"
        runs = [{name: path} for run in runs for path in run.values()]
        names = [name]
    return {name: [(i, run[name]) for i, run in enumerate(runs) if name in run] for name in names}


def _compare(
    name: str, members: list[_Member], threshold: float, largest_assignment: int
) -> dict[str, Any]:
    architectures, decoders = zip(*(_load(path) for _, path in members), strict=True)
    for (_, path), decoder in zip(members, decoders, strict=True):
        if decoder.shape[1] != decoders[0].shape[1]:
            raise BadInputError(
                f"d_in is {decoders[0].shape[1]} in {members[0][1]} and {decoder.shape[1]} in "
                f"{path}; only SAEs of the same activations have latents to compare"
            )
    pairs: list[dict[str, Any]] = []
    numbers = list(combinations(range(len(members)), 2))
    for first, second in tqdm(numbers, f"Comparing {name}", unit="pair"):
        found = agreement_beside_chance(
            decoders[first], decoders[second], threshold, largest_assignment
        )
        measured = {key: asdict(agreement) for key, agreement in found.items()}
        pairs.append({"first": first, "second": second, **measured})
    return {
        "name": name,
        "d_in": decoders[0].shape[1],
        "members": [
            {"run": run, "path": str(path), "architecture": architecture, "d_sae": len(decoder)}
            for (run, path), architecture, decoder in zip(
                members, architectures, decoders, strict=True
            )
        ],
        "pairs": pairs,
        "mean": {
            key: _mean([pair[key] for pair in pairs]) for key in ("agreement", "random", "rotated")
        },
    }


def _mean(agreements: list[dict[str, Any]]) -> dict[str, float | None]:
    one_to_one = [measured["assignment"] for measured in agreements]
    one_sided = [measured[side] for measured in agreements for side in ("forward", "backward")]

    def mean(measured: list[Any], key: str) -> float | None:
        return None if None in measured else sum(one[key] for one in measured) / len(measured)

    return {
        "share": mean(one_to_one, "share"),
        "mean_cosine": mean(one_to_one, "mean_cosine"),
        "best_match_share": mean(one_sided, "share"),
        "mmcs": mean(one_sided, "mmcs"),
    }


def _load(path: Path) -> tuple[str, Tensor]:
    """Load the architecture and the decoder, shape (d_sae, d_in)."""
    sae = load_sae(path)
    decoder = sae.W_dec.detach()
    if not torch.isfinite(decoder).all():
        raise BadInputError(
            f"{path}: W_dec holds values that are not finite, so its training diverged; leave it "
            "out, or train it again with a smaller lr"
        )
    return sae.cfg.architecture(), decoder


def _seed(run_file: Path) -> int | None:
    try:
        return json.loads(run_file.read_text(encoding="utf-8"))["seed"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
