"""The flag `--trust-remote-code`, which every command has that loads a language model."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from wsae_plugin.remote_code import FLAG, trusting

_Flag = Annotated[
    bool,
    typer.Option(
        FLAG,
        help="Run code and pickles that a model or a data set brings, and a gamma_proxy of yours "
        "(module:function), where the config asks for it. Without it none is run.",
    ),
]


def loads_models(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flag, which holds while the command runs."""

    @functools.wraps(command)
    def trusted_or_not(*args: Any, trust_remote_code: bool = False, **kwargs: Any) -> None:
        with trusting(trust_remote_code):
            command(*args, **kwargs)

    signature = inspect.signature(command, eval_str=True)
    flag = inspect.Parameter(
        "trust_remote_code", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_Flag
    )
    parameters = [*signature.parameters.values(), flag]
    # What typer makes the options of.
    vars(trusted_or_not)["__signature__"] = signature.replace(parameters=parameters)
    return trusted_or_not
