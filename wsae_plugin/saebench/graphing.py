"""SAEBench's own plotting functions on our results, through relabelled copies."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from wsae_plugin.errors import BadInputError
from wsae_plugin.files import write_text_atomic
from wsae_plugin.saebench.scores import FILENAME

# SAEBench tells the eval by these parts of a path, so a run named "description" would be SCR.
_MISREAD = re.compile("tpp|scr|sparse_probing|absorption|autointerp|unlearning|core")
_FOLDERS = {"sae_probes": "sparse_probing_sae_probes"}
_NOT_DRAWN = ("meta_structure",)


def graphing_copies(folder: Path) -> Path:
    """Copies of the results of a benchmark that `graphing_utils.get_eval_results` reads aright.

    In them `architecture`, which chooses the marker, is the arm's name (an exported weighted SAE
    is a plain one, and results of sae-probes have none), and no run's name reads as an eval's.
    SAEBench looks at whole paths: be in the folder that is returned, and pass it relative paths.

    Args:
        folder: Of the benchmark, with scores.json.

    Returns:
        A folder in its cache/, with a folder for each eval that SAEBench can draw.

    Raises:
        BadInputError: There are no results.
    """
    if not (folder / FILENAME).is_file():
        raise BadInputError(f"{folder}: has no {FILENAME}; `wsae bench` makes it")
    target = folder / "cache" / "graphing"
    shutil.rmtree(target, ignore_errors=True)
    for file in sorted((folder / "results").glob("*/*_eval_results.json")):
        if file.parent.name in _NOT_DRAWN:
            continue
        result = json.loads(file.read_text(encoding="utf-8"))
        result["sae_cfg_dict"]["architecture"] = _arm(folder, file)
        copy = target / _FOLDERS.get(file.parent.name, file.parent.name) / _safe(file.name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        # As SAEBench writes them: the deviation over one latent of autointerp is NaN.
        write_text_atomic(copy, json.dumps(result))
    return target


def _safe(name: str) -> str:
    return _MISREAD.sub(lambda found: f"{found[0][0]}~{found[0][1:]}", name)


def _arm(folder: Path, file: Path) -> str:
    run = file.name.removesuffix("_custom_sae_eval_results.json")
    records = sorted((folder / "records" / file.parent.name).glob(f"{run}.seed-*.json"))
    return json.loads(records[0].read_text(encoding="utf-8"))["arm"] if records else run
