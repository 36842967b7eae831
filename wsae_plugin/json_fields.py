"""JSON objects read field by field, with messages that name the file, the field and its type."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from wsae_plugin.errors import BadInputError

T = TypeVar("T")
S = TypeVar("S", bound=str)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def read_json(file: Path, made_by: str) -> Any:
    """The content of a strict JSON file.

    Args:
        file: The file.
        made_by: The command that makes such files, for the message when there is none.

    Raises:
        BadInputError: It is missing or not JSON; NaN and infinities are not.
    """

    def refuse_constant(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        return json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse_constant)
    except FileNotFoundError:
        raise BadInputError(f"{file}: no such file; `{made_by}` makes it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadInputError(f"{file}: cannot be read as JSON: {error}") from None


class JsonSection:
    """A JSON object whose fields are read by name and type; messages say where it stands.

    Args:
        value: What should be an object.
        where: File and path of fields, for messages.
    """

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise BadInputError(f"{where}: must be an object with named fields")
        self.fields = cast("dict[str, Any]", value)
        self.where = where

    def refuse(self, field: str, allowed: str) -> NoReturn:
        """Say that a field has a value that is not allowed, and what is."""
        raise BadInputError(f"{self.where}: {field} = {self.fields[field]!r}: {allowed}")

    def value(self, field: str, kind: type[T], or_null: bool = False) -> T:
        """A field of one type; true and false are no numbers."""
        if field not in self.fields:
            raise BadInputError(f"{self.where}: {field}: missing")
        value = self.fields[field]
        if not (type(value) is kind or (or_null and value is None)):
            self.refuse(field, f"must be {_WORDS[kind]}{' or null' if or_null else ''}")
        return cast("T", value)

    def number(self, field: str) -> float:
        """A whole number or a fraction, as it stands there."""
        value = self.fields.get(field)
        return value if type(value) is int else self.value(field, float)

    def choice(self, field: str, allowed: Sequence[S]) -> S:
        """A field that is one of the `allowed` texts."""
        value = self.value(field, str)
        if value not in allowed:
            self.refuse(field, f"must be {' or '.join(map(repr, allowed))}")
        return allowed[allowed.index(cast("S", value))]

    def name(self, field: str) -> str:
        """A text that can be a file's name anywhere."""
        value = self.value(field, str)
        if not _NAME.fullmatch(value):
            self.refuse(field, "names files: letters, digits, '-', '_' and '.', no other")
        return value

    def values_of(self, field: str, kind: type[T]) -> list[T]:
        """A list of values of one type."""
        values = self.value(field, list)
        if not all(type(value) is kind for value in values):
            self.refuse(field, f"must hold {_WORDS[kind]} each")
        return values

    def sections(self, field: str) -> list[JsonSection]:
        """A list of objects."""
        values = self.value(field, list)
        return [JsonSection(v, f"{self.where}: {field}[{n}]") for n, v in enumerate(values)]

    def refuse_repeated(self, field: str, names: list[str]) -> None:
        """Refuse names that do not tell the entries of a list apart."""
        for name, count in Counter(names).items():
            if count > 1:
                raise BadInputError(f"{self.where}: {field}: the name {name!r} is there twice")


_WORDS: dict[type[Any], str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}
