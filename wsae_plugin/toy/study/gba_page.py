"""The study of Group Bias Adaptation as a page, from its JSON alone."""

from __future__ import annotations

from typing import Any

Result = dict[str, Any]

_COLUMNS = {
    "FRR(0.8)": ("frr_0.8", ".1%"),
    "FRR(0.9)": ("frr_0.9", ".1%"),
    "printed 0.8 / 0.9": ("printed", ""),
    "latents that are features": ("latents_that_are_features", ".1%"),
    "consistency": ("consistency", ".1%"),
    "L0": ("l0", ".1f"),
    "dead": ("dead", ".1%"),
    "explained variance": ("explained_variance", ".3f"),
}


def page(result: Result) -> str:
    """Write verdict, a table for each world beside the printed numbers, and how it was made."""
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
    heads = ("", "learning rate", *_COLUMNS)
    for world, about in result["worlds"].items():
        head = f"| {' | '.join(heads).lstrip()} |"
        lines += ["", f"## {world.capitalize()}: {about}", "", head, "|---" * len(heads) + "|"]
        cells = [cell for cell in result["cells"] if cell["world"] == world]
        lines += [
            _row(c, arm) for c in cells for arm in result["arms"] if arm["name"] in c["scores"]
        ]
    return "\n".join(lines) + "\n"


def _row(cell: Result, arm: Result) -> str:
    values: Result = {name: score["mean"] for name, score in cell["scores"][arm["name"]].items()}
    values["consistency"] = cell["consistency"][arm["name"]]["mean"]
    printed = arm["printed"] if cell["world"] == "imbalanced" else None
    values["printed"] = " / ".join(f"{share:.1%}" for share in printed or ())
    columns = [f"{values[name]:{form}}" for name, form in _COLUMNS.values()]
    return f"| {' | '.join([arm['label'], format(cell['lr'], 'g'), *columns])} |"
