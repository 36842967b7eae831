"""The tables that the documentation keeps by hand, against what they are about."""

from __future__ import annotations

import re
from pathlib import Path

from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY

from tests.architectures import ARCHITECTURES, forward

ROOT = Path(__file__).parents[1]


def table(file: str, header: str) -> list[list[str]]:
    """The cells of the rows below a header."""
    _, _, below = (ROOT / file).read_text(encoding="utf-8").partition(f"{header}\n")
    assert below, header
    rows, _, _ = below.partition("\n\n")
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()[1:]]


def of_saelens(registry: dict[str, tuple[type, type]]) -> set[str]:
    return {name for name, (cls, _) in registry.items() if cls.__module__.startswith("sae_lens.")}


def test_the_readme_says_of_every_architecture_of_saelens_what_is_weighted() -> None:
    rows: dict[str, list[str]] = {}
    for names, *cells in table(
        "README.md", "| SAELens | weighted | weighted terms | published as |"
    ):
        rows |= dict.fromkeys(re.findall(r"`(\w+)`", names), cells)
    trained = of_saelens(SAE_TRAINING_CLASS_REGISTRY)
    assert rows.keys() == of_saelens(SAE_CLASS_REGISTRY) | trained
    # The contract tests run on all that can be trained.
    assert {arch.name for arch in ARCHITECTURES} == trained
    for name in rows.keys() - trained:
        assert rows[name] == ["none", "none: SAELens loads these and does not train them", ""]
    for arch in ARCHITECTURES:
        sae = arch.weighted(alpha=1.0)
        auxiliary = "via-gate" if arch.name == "gated" else "dead latents"
        said = {"mse": "reconstruction", "inner": "inner", "auxiliary": auxiliary}
        losses = [name.split("_") for name in forward(sae).losses]
        terms = {said[first] for weighted, first, *_ in losses if weighted == "weighted"}
        published = sae.cfg.get_inference_config_class().architecture()
        ours, weighted_terms, published_as = rows[arch.name]
        assert (ours, published_as) == (f"`{sae.cfg.architecture()}`", f"`{published}`")
        assert set(weighted_terms.split(", ")) == terms, arch.name
