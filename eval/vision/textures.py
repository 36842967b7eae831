"""Writes a table of pixels: 48,006 patches of bricks, grass and gravel, 8 × 8 pixels each.

    python eval/vision/textures.py --output runs/textures
    wsae compare configs/vision/textures.yaml

The patches of the upper halves are for training, those of the lower ones are held out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from vision_images import pixels, textures, write_table


def main(
    output: Annotated[Path, typer.Option(help="Folder to write; an existing one is replaced.")],
) -> None:
    """Write the table."""
    splits = textures()
    write_table(output, {split: pixels(of.images) for split, of in splits.items()}, splits)
    shapes = ", ".join(f"{split}: {len(of.labels)} rows" for split, of in splits.items())
    typer.echo(f"{output}: {shapes} of {splits['train'].images[0].size} pixels")


if __name__ == "__main__":
    typer.run(main)
