"""SAEs as a comparison that the report can summarize, also where nobody planned one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wsae_plugin.compare.manifest import is_comparison, refuse_repeated_runs
from wsae_plugin.hub.records import SAERecord
from wsae_plugin.report.inputs import Inputs, read_inputs


def inputs_of(
    paths: Sequence[Path], records: Sequence[SAERecord], baseline: SAERecord | None = None
) -> Inputs:
    """What a report of these SAEs is made from.

    A comparison folder alone says itself what pairs with what. Of other SAEs, those that were
    trained in one way, at whatever hooks and seeds, are an arm, and each pairs with the ordinary
    SAE beside it, if there is one.

    Args:
        paths: Comparison folders and run folders.
        records: The SAEs in them.
        baseline: The ordinary SAE for those that have none beside them.

    Raises:
        BadInputError: See `read_inputs`, or the baseline has the name of another SAE.
    """
    if len(paths) == 1 and is_comparison(paths[0]):
        return read_inputs(paths[0])
    folder = baseline and baseline.run.path.resolve()
    baseline = next((sae for sae in records if sae.run.path.resolve() == folder), baseline)
    saes = [*records, *([baseline] if baseline and baseline not in records else [])]
    refuse_repeated_runs([sae.run for sae in saes])
    ordinary = {sae.sae_id: ordinary_beside(sae, saes, baseline) for sae in saes}
    arms = _arms(saes)
    runs = [
        replace(
            sae.run,
            arm=arms[sae.sae_id],
            role=_role(sae) if (other := ordinary[sae.sae_id]) else "baseline",
            pair=other.sae_id if other else sae.sae_id,
        )
        for sae in saes
    ]
    roles = {run.arm: run.role for run in sorted(runs, key=lambda run: run.role != "baseline")}
    compared_with = {arms[other.sae_id] for other in ordinary.values() if other}
    first = {arms[sae.sae_id]: sae for sae in reversed(saes)}
    manifest: dict[str, Any] = {
        "model_name": saes[0].metadata["model_name"],
        "seeds": sorted({run.seed for run in runs}),
        "arms": [
            {
                **{"name": arm, "label": arm, "role": roles[arm], "control": None},
                **{"alpha": first[arm].alpha, "proxy": first[arm].proxy},
            }
            for arm in sorted(dict.fromkeys(arms.values()), key=lambda a: a not in compared_with)
        ],
    }
    return Inputs(
        manifest=manifest,
        runs=runs,
        scores={sae.sae_id: sae.scores for sae in saes},
        cfgs={sae.sae_id: sae.cfg for sae in saes},
        records={sae.sae_id: sae.record for sae in saes},
    )


def ordinary_beside(
    record: SAERecord, records: Sequence[SAERecord], baseline: SAERecord | None
) -> SAERecord | None:
    """The ordinary SAE to compare with: its pair's, the one given, or one of the same hook."""
    if record.is_ordinary or record is baseline:
        return None
    ordinary = [other for other in records if other.is_ordinary]

    def pair(sae: SAERecord) -> tuple[object, ...]:
        return sae.run.pair, sae.run.path.parent

    def place(sae: SAERecord) -> tuple[object, ...]:
        return sae.run.hook_name, sae.cfg["d_sae"], sae.sparsity, sae.run.seed

    paired = [other for other in ordinary if pair(other) == pair(record)]
    given = [baseline] if baseline and baseline.run.hook_name == record.run.hook_name else []
    alike = [other for other in ordinary if place(other) == place(record)]
    return next(iter((*paired, *given, *alike)), None)


def _role(record: SAERecord) -> Any:
    return "control" if record.run.role == "control" else "weighted"


def _arms(records: Sequence[SAERecord]) -> dict[str, str]:
    """SAE → what is said of all that were trained in the same way."""
    kinds = {r.sae_id: (r.variant, r.sparsity, f"{r.cfg['d_sae']:,} latents") for r in records}
    of_variant = [variant for variant, *_ in set(kinds.values())]
    return {
        sae_id: ", ".join(kind) if of_variant.count(kind[0]) > 1 else kind[0]
        for sae_id, kind in kinds.items()
    }
