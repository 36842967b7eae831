"""`wsae saelens`: SAELens's own command line, which knows no plugins by itself."""

from __future__ import annotations

import argparse
import json
import pickle
from contextlib import suppress

import typer

from wsae_plugin.cli.trust import loads_models
from wsae_plugin.credentials import refuse_credentials
from wsae_plugin.errors import BadInputError
from wsae_plugin.messages import one_line
from wsae_plugin.remote_code import way_out


@loads_models
def saelens(context: typer.Context) -> None:
    """SAELens's own training command, with the weighted architectures among its choices.

    Everything after `wsae saelens` is read by SAELens: `wsae saelens --help` for its flags,
    `wsae saelens --architecture weighted_topk --help` for an architecture's. A command
    `python -m sae_lens.llm_sae_training_runner --architecture topk …` becomes a weighted one as
    `wsae saelens --architecture weighted_topk --alpha 1.0 …`. One flag is ours: without
    `--trust-remote-code` no code and no pickle that a model or a data set brings is run.
    """
    from sae_lens.llm_sae_training_runner import (
        _run_cli,  # pyright: ignore[reportPrivateUsage, reportUnknownVariableType]
    )

    sections: list[object] = []
    for argument in context.args:
        # SAELens takes sections as JSON.
        with suppress(ValueError):
            sections.append(json.loads(argument.partition("=")[2] or argument))
    refuse_credentials(sections, "the command line")
    try:
        _run_cli(context.args)
    except (argparse.ArgumentError, ValueError, OSError, pickle.UnpicklingError) as error:
        raise BadInputError(
            f"SAELens refused the arguments: {one_line(error)}{way_out(error)}"
        ) from error
