"""JSON objects read field by field, where no dataclass says what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NoReturn, TypeVar, cast

from wsae_plugin.errors import BadInputError
from wsae_plugin.validation import FileName, convert
from wsae_plugin.validation import read_json as read_json

T = TypeVar("T")
S = TypeVar("S", bound=str)


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
        annotation: Any = kind | None if or_null else kind
        return convert(self.fields[field], annotation, f"{self.where}: {field}")

    def number(self, field: str) -> float:
        """A whole number or a fraction, as it stands there."""
        return self.value(field, cast("Any", Annotated[int | float, "as it stands there"]))

    def choice(self, field: str, allowed: Sequence[S]) -> S:
        """A field that is one of the `allowed` texts."""
        return self.value(field, cast("Any", Literal[tuple(allowed)]))

    def name(self, field: str) -> str:
        """A text that can be a file's name anywhere."""
        return self.value(field, cast("Any", FileName))

    def sections(self, field: str) -> list[JsonSection]:
        """A list of objects."""
        values = self.value(field, cast("Any", list[Any]))
        return [JsonSection(v, f"{self.where}: {field}[{n}]") for n, v in enumerate(values)]
