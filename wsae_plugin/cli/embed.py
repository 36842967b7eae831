"""`wsae embed`: a folder of images in, a table of a vision model's embeddings out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from wsae_plugin.cli import _shared
from wsae_plugin.cli.trust import loads_models


@loads_models
def embed(
    images: Annotated[
        Path,
        typer.Argument(metavar="IMAGES", help="A folder of images; its folders are classes."),
    ],
    model: Annotated[
        str,
        typer.Option("--model", metavar="NAME", help="A vision model of the Hub, or a folder."),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="The folder of the table to write."),
    ],
    hooks: Annotated[
        list[str] | None,
        typer.Option(
            "--hook",
            metavar="MODULE",
            help="A module of the model, such as layers.11, whose output to take. Repeatable. By "
            "default the last hidden state.",
        ),
    ] = None,
    tokens: Annotated[
        Literal["cls", "mean", "patches"],
        typer.Option("--tokens", help="What makes a row; see above."),
    ] = "mean",
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Images that the model sees at once.")
    ] = 32,
    device: Annotated[
        str | None,
        typer.Option("--device", help="Such as cuda:1. By default a GPU if there is one."),
    ] = None,
    as_json: _shared.JSON = False,
) -> None:
    """Turn a folder of images into a table of embeddings, to train SAEs on.

    Images are read by pillow, prepared by the model's own image processor and shown to the model,
    which transformers loads: any that AutoModel and AutoImageProcessor know, such as ViT, DINOv2,
    CLIP's and SigLIP's image side, Swin, ConvNeXt and ResNet. IMAGES/CLASS/... gives labels;
    images that lie in IMAGES itself have none.

    \b
      wsae embed photos --model facebook/dinov2-small --output dinov2
      wsae embed train --model google/vit-base-patch16-224 --tokens cls -o vit
      wsae embed train --model openai/clip-vit-base-patch32 -o clip \\
          --hook vision_model.encoder.layers.10 --tokens patches
      wsae embed train --model openai/clip-vit-base-patch32 -o projected \\
          --hook visual_projection

    --tokens says what makes a row: cls, the CLS token; mean, the mean over the patches, without
    CLS and registers; patches, every patch, row by row of the image. The positions of a
    convolutional network are its patches, so its mean is the global average pool. Where a module
    gives one vector for an image, that is the row. --hook also takes a field of the model's output:
    last_hidden_state, image_embeds, pooler_output or logits, of which the first that the model has
    is the default.

    The folder gets metadata.json, images.txt (the images in the order of the rows) and
    rows-00000.safetensors and so on: a float32 tensor for each hook, and the labels. After Ctrl-C
    the same command goes on behind the last whole file. HF_HUB_OFFLINE=1 looks in the Hub's cache
    alone. Checkpoints of timm (timm/...) need the extra "vision" of wsae-plugin.

    Exit codes: 0 done, 1 an image cannot be read, or interrupted, 2 the request is wrong.
    """
    # Imported here: transformers takes seconds, and `wsae --help` should not.
    import torch

    from wsae_plugin.saelens_fields import LIMITS
    from wsae_plugin.validation import convert
    from wsae_plugin.vision import embed_folder

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    convert(device, Annotated[(str, *LIMITS["device"])], "--device")
    result = embed_folder(images, model, output, hooks or [], tokens, batch_size, device)
    if as_json:
        _shared.print_json({"output": str(output), **result})
    else:
        _show(result, output)


def _show(result: dict[str, Any], output: Path) -> None:
    table = _shared.plain_table(f"Embedded: {output}", "hook", "d_in", numbers=1)
    for hook, width in result["d_in"].items():
        table.add_row(hook, str(width))
    _shared.print_table(table)
    classes = result["classes"]
    _shared.print_plain(
        f"{result['n_rows']:,} rows: {result['n_images']:,} images with "
        f"{result['rows_per_image']:,} each, "
        + ("without labels" if classes is None else f"of {len(classes):,} classes")
    )
