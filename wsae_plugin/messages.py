"""The wording that error messages share."""

from __future__ import annotations

import difflib
import pickle
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager

from jinja2 import TemplateError
from safetensors import SafetensorError

from wsae_plugin.errors import BadInputError, RunFailedError

_OF_LIBRARIES = (
    *(AttributeError, EOFError, IndexError, KeyError, OSError, OverflowError, RuntimeError),
    *(TypeError, ValueError),
    *(SafetensorError, TemplateError, pickle.UnpicklingError),
)
_LONGEST = 400
_LONGEST_LIST = 25
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def one_line(error: object) -> str:
    """The message of another library's error on one line, cut where it turns into a listing."""
    text = " ".join(_COLOUR.sub("", str(error)).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'alpha'?`, or what there is when nothing is near."""
    names = sorted(known)
    matches = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if matches:
        return f"did you mean {matches[0]!r}?"
    if len(names) > _LONGEST_LIST:
        return f"none of the {len(names)} known names is near it"
    return f"there is {', '.join(names)}"


@contextmanager
def naming(source: str) -> Generator[None]:
    """Begin every `BadInputError` raised inside with `source`, the file that is to be mended."""
    try:
        yield
    except BadInputError as error:
        raise BadInputError(f"{source}: {error}") from error.__cause__


@contextmanager
def refusals_as_bad_input(
    field: str = "", way_out: Callable[[Exception], str] = lambda _: ""
) -> Generator[None]:
    """What a library refuses with an error of its own is the user's to mend: one line, exit 2.

    Args:
        field: The field and its value to name, as in `model_name = 'gpt5'`; empty where the
            library's message names them.
        way_out: Error → what to do about it, to end the line with.
    """
    try:
        yield
    except (BadInputError, RunFailedError):
        raise
    except _OF_LIBRARIES as error:
        prefix = f"{field}: " if field else ""
        raise BadInputError(prefix + one_line(error) + way_out(error)) from error
