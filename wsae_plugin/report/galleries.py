"""What excites a few latents of each arm, in pictures that `wsae eval` left in the run folders."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from wsae_plugin.errors import BadInputError
from wsae_plugin.messages import naming
from wsae_plugin.report.inputs import Inputs
from wsae_plugin.scores import GALLERY
from wsae_plugin.validation import convert, read_json

_PNG = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+=*")


@dataclass(frozen=True)
class _Entry:
    kind: str
    which: str
    number: int
    consistency: float
    of: str
    images: list[str]


def read_galleries(inputs: Inputs) -> list[dict[str, Any]]:
    """The gallery of the first run of each arm that has one, in the order of the runs.

    Returns:
        `arm`, `run` and `entries`, see `measures.gallery`, for each.

    Raises:
        BadInputError: A gallery is broken, or would load something from elsewhere.
    """
    found: dict[str, dict[str, Any]] = {}
    for run in inputs.runs:
        file = run.path / GALLERY
        if run.arm in found or not file.is_file():
            continue
        with naming(str(file)):
            written = read_json(file, "wsae eval").get("entries")
            entries = convert(written, list[_Entry], "entries")
        if not all(_PNG.fullmatch(image) for entry in entries for image in entry["images"]):
            raise BadInputError(f"{file}: images: must be PNGs as `wsae eval` writes them")
        found[run.arm] = {"arm": run.arm, "run": run.run, "entries": entries}
    return [*found.values()]
