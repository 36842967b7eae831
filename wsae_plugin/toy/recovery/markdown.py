"""The recovery study as a page, from its JSON alone."""

from __future__ import annotations

from typing import Any

Result = dict[str, Any]

_HEAD = (
    "| | learning rate | FRR(0.8) | FRR(0.9) | printed 0.8 / 0.9 | latents that are features "
    "| consistency | L0 | dead | explained variance |"
)


def page(result: Result) -> str:
    """Verdict, a table for each world beside the printed numbers, and how it was made."""
    settings = result["settings"]
    lines = [
        f"# {result['title']}",
        "",
        *(f"- {sentence}" for sentence in result["verdict"]),
        "",
        f"n = {settings['n_features']} features in d = {settings['d_in']} dimensions, "
        f"{settings['d_sae']} latents, {settings['n_steps']:,} steps of {settings['batch_size']} "
        f'samples, mean of {settings["n_seeds"]} seeds on one V. "Printed" is arXiv 2506.14002, '
        "which does not say its learning rate, its steps or its width. GBA, without more, is the "
        'config\'s defaults; "as printed" is PRINTED_GBA: frequencies from 0.5 to 0.001, biases '
        "that move by 1 % of the reach, directions that learn from the reconstruction loss. "
        "FRR(τ): features with a "
        "latent at a cosine of τ or more. Latents that are features: live latents at 0.9 or more. "
        "Consistency: live latents with a twin, above 0.9, in another seed.",
    ]
    for world, about in result["worlds"].items():
        cells = [cell for cell in result["cells"] if cell["world"] == world]
        rows = [_row(cell, result) for cell in cells]
        lines += ["", f"## {world.capitalize()}: {about}", "", _HEAD, "|---" * 10 + "|", *rows]
    return "\n".join(lines) + "\n"


def _row(cell: Result, result: Result) -> str:
    (arm,) = (arm for arm in result["arms"] if arm["name"] == cell["arm"])
    scores = {name: score["mean"] for name, score in cell["scores"].items()}
    printed = arm["printed"] if cell["world"] == "imbalanced" else None
    columns = [
        arm["label"],
        f"{cell['lr']:g}",
        f"{scores['frr_0.8']:.1%}",
        f"{scores['frr_0.9']:.1%}",
        " / ".join(f"{share:.1%}" for share in printed) if printed else "",
        f"{scores['latents_that_are_features']:.1%}",
        f"{cell['consistency']['mean']:.1%}",
        f"{scores['l0']:.1f}",
        f"{scores['dead']:.1%}",
        f"{scores['explained_variance']:.3f}",
    ]
    return f"| {' | '.join(columns)} |"
