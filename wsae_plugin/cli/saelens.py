"""`wsae saelens`: SAELens's own command line, which knows no plugins by itself."""

from __future__ import annotations

import argparse

import typer

from wsae_plugin.errors import BadInputError


def saelens(context: typer.Context) -> None:
    """SAELens's own training command, with the weighted architectures among its choices.

    Everything after `wsae saelens` is read by SAELens: `wsae saelens --help` for its flags,
    `wsae saelens --architecture weighted_topk --help` for an architecture's. A command
    `python -m sae_lens.llm_sae_training_runner --architecture topk …` becomes a weighted one as
    `wsae saelens --architecture weighted_topk --alpha 1.0 …`.
    """
    from sae_lens.llm_sae_training_runner import (
        _run_cli,  # pyright: ignore[reportPrivateUsage, reportUnknownVariableType]
    )

    import wsae_plugin

    wsae_plugin.register_all()
    try:
        _run_cli(context.args)
    except (argparse.ArgumentError, ValueError) as error:
        raise BadInputError(f"SAELens refused the arguments: {error}") from error
