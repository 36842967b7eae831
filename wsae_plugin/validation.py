"""Values from YAML and JSON files against the annotations of dataclasses, by pydantic.

`resolve` turns the mapping that a file holds into the full mapping of a dataclass: every key known,
every value of the annotated type, every default filled in. The result is still plain (what YAML can
hold), so it can be compared, written down and read again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache, reduce
from operator import or_
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from annotated_types import BaseMetadata, Ge, Gt, Le, Len, Lt
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)

from wsae_plugin.errors import BadInputError
from wsae_plugin.messages import nearest, one_line
from wsae_plugin.saelens_fields import LIMITS

OUR_DEFAULTS: dict[str, Any] = {
    "log_to_wandb": False,
    # `datasets` dropped the option: True only logs an error that stops nothing.
    "dataset_trust_remote_code": False,
    # None: the run folder is runs/<name of the config file>.
    "output_path": None,
}
"""Where a field left out of a config means something else than in SAELens."""


def _file_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text):
        raise ValueError("names files: letters, digits, '-', '_' and '.', no other")
    return text


FileName = Annotated[str, AfterValidator(_file_name)]
"""A text that can be a file's name anywhere."""


def _path_inside(value: Any) -> Path:
    text = value if isinstance(value, str) else ""
    windows, posix = PureWindowsPath(text), PurePosixPath(text)
    is_relative = text and not posix.is_absolute() and not windows.anchor
    if not is_relative or ".." in windows.parts or "\0" in text or "\\" in text:
        raise ValueError("must be a relative path that stays inside the folder")
    return Path(text)


PathInside = Annotated[Path, PlainValidator(_path_inside)]
"""A relative path with forward slashes that leads out of no folder; `refuse_links` looks at links.
"""

_RECORDED_ELSEWHERE = {"sae_lens_version", "sae_lens_training_version"}
# `evaluator` is a Python callable, which YAML cannot hold.
_NOT_IN_FILES = _RECORDED_ELSEWHERE | {"evaluator"}
_UNIONS = (Union, UnionType)
_MAPPINGS = (dict, Mapping)


def resolve(
    cls: type[Any], values: Mapping[str, Any], where: str = "", others_allowed: bool = False
) -> dict[str, Any]:
    """Check `values` against the dataclass `cls` and fill in what it leaves out.

    Args:
        cls: A dataclass.
        values: What the file holds for it.
        where: Dotted path of the section, for messages; empty for the whole file.
        others_allowed: Whether it may hold other fields too, which are left out of the result.

    Returns:
        Field name → plain value, in the dataclass's order.

    Raises:
        BadInputError: A key that is no field, a field without default left out, a wrong type, or a
            value that the field cannot have in any config.
    """
    hints = hints_of(cls)
    known = {
        field.name: field
        for field in fields(cls)
        if field.init and not field.name.startswith("_") and field.name not in _NOT_IN_FILES
    }
    prefix = f"{where}." if where else ""
    for key in () if others_allowed else values:
        if key not in known and key not in _RECORDED_ELSEWHERE:
            raise BadInputError(f"{prefix}{key}: unknown field; {nearest(key, known)}")
    return {
        name: convert(values[name], hints[name], prefix + name, others_allowed)
        if name in values
        else _default(field, prefix + name)
        for name, field in known.items()
    }


def beside_defaults(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from the defaults of `cls`, also within its sections; all that has none.

    Args:
        cls: A dataclass.
        values: What `resolve` made for it; a key that is no field of it stays.
    """
    known = {field.name: field for field in fields(cls)}

    def default(name: str) -> Any:
        try:
            return _default(known[name], name)
        except (KeyError, BadInputError):
            return MISSING

    hints = hints_of(cls)
    return {
        name: _section_beside_defaults(value, hints.get(name))
        for name, value in values.items()
        if value != default(name)
    }


def _section_beside_defaults(value: Any, annotation: Any) -> Any:
    """A section, or several by name, as far as it differs; what is no section as it is."""
    if not isinstance(value, dict):
        return value
    from sae_lens import TrainingSAEConfig

    written = cast("dict[str, Any]", value)
    members = get_args(annotation) if get_origin(annotation) in _UNIONS else (annotation,)
    is_sae = "architecture" in written  # also where no field of a dataclass says so
    section = TrainingSAEConfig if is_sae else next(filter(None, map(_section_of, members)), None)
    if section is None:
        return {name: _section_beside_defaults(inner, None) for name, inner in written.items()}
    cls, chosen = _chosen(section, written, "")
    return chosen | beside_defaults(cls, {k: v for k, v in written.items() if k not in chosen})


def convert(value: Any, annotation: Any, field: str, others_allowed: bool = False) -> Any:
    """`value` as the annotated type, in plain values.

    A number may be written as YAML 1.1 reads text (`1e-4`); true and false are no numbers.

    Args:
        value: What the file holds.
        annotation: A type, which may be or hold a dataclass.
        field: Dotted path of the field, for messages.
        others_allowed: As for `resolve`, in every dataclass inside.

    Raises:
        BadInputError: It is not of that type; the message names `field` and what is allowed.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(value, dict):
        written = cast("dict[str, Any]", value)
        members = arguments if origin in _UNIONS else (annotation,)
        section = next((cls for cls in map(_section_of, members) if cls is not None), None)
        if section is not None:
            cls, chosen = _chosen(section, written, field)
            rest = {key: inner for key, inner in written.items() if key not in chosen}
            return chosen | resolve(cls, rest, field, others_allowed)
        if origin in _MAPPINGS:
            names, inside = arguments
            return {
                convert(key, names, field): convert(v, inside, f"{field}.{key}", others_allowed)
                for key, v in written.items()
            }
    if isinstance(value, list) and origin is list and _section_of(arguments[0]) is not None:
        return [
            convert(inner, arguments[0], f"{field}[{n}]", others_allowed)
            for n, inner in enumerate(cast("list[Any]", value))
        ]
    return _checked(_adapter(_strict(annotation)), value, annotation, field)


def check_fields(config: Any, cls: type[Any]) -> None:
    """Refuse a dataclass with a value that the annotation of a field does not allow.

    Args:
        config: An instance of `cls`.
        cls: The dataclass that is the first to declare the fields to look at.

    Raises:
        BadInputError: The first such field; the message names it and what is allowed.
    """
    hints = hints_of(cls)
    inherited = {name for base in cls.__mro__[1:] for name in vars(base).get("__annotations__", ())}
    for name in [name for name in cls.__annotations__ if name not in inherited]:
        _checked(_adapter(hints[name]), getattr(config, name), hints[name], name)


def _checked(adapter: TypeAdapter[Any], value: Any, annotation: Any, field: str) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        (first, *_) = errors = error.errors()
        own = first.get("ctx", {}).get("error")  # what a validator in the annotation says
        limits = any(e["type"].startswith(("greater_than", "less_than")) for e in errors)
        raise BadInputError(
            f"{field} = {value!r}: {own or f'must be {_describe(annotation, limits)}'}"
        ) from None


def read_json(file: Path, made_by: str) -> dict[str, Any]:
    """The object in a strict JSON file.

    Args:
        file: The file.
        made_by: The command that makes such files, for the message when there is none.

    Raises:
        BadInputError: It is missing, no object, or not JSON; NaN and infinities are not.
    """

    def refuse_constant(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        value = json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse_constant)
    except FileNotFoundError:
        raise BadInputError(f"{file}: no such file; `{made_by}` makes it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadInputError(f"{file}: cannot be read as JSON: {one_line(error)}") from None
    if not isinstance(value, dict):
        raise BadInputError(f"{file}: must be an object with named fields")
    return cast("dict[str, Any]", value)


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


@cache
def hints_of(cls: type[Any]) -> dict[str, Any]:
    """The annotations of a dataclass; SAELens's fields with the limits that SAELens leaves out."""
    hints = get_type_hints(cls, include_extras=True)
    # A table's config has SAELens's fields without being one of its classes.
    is_run = "sae_lens_version" in hints
    if not is_run and not any(base.__module__.startswith("sae_lens.") for base in cls.__mro__):
        return hints
    return {name: _limited(hint, LIMITS.get(name, ())) for name, hint in hints.items()}


def _limited(annotation: Any, limits: tuple[Any, ...]) -> Any:
    if get_origin(annotation) in _UNIONS:
        return reduce(or_, (_limited(member, limits) for member in get_args(annotation)))
    is_plain = limits and annotation in (int, float, str)
    return Annotated[(annotation, *limits)] if is_plain else annotation


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False))


def _strict(annotation: Any) -> Any:
    """What pydantic checks for: a list where Python has a tuple, and numbers that are finite."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is float:
        return Annotated[float, BeforeValidator(_number)]
    if origin is Annotated and isinstance(arguments[1], BaseMetadata):
        return Annotated[(_strict(arguments[0]), *arguments[1:])]
    if origin is Literal:
        kinds = set(map(type, arguments))  # 1 == True, and is no True
        return Annotated[annotation, BeforeValidator(lambda v: v if type(v) in kinds else ...)]
    if origin in _UNIONS:
        return reduce(or_, map(_strict, arguments))
    if origin in (list, tuple):
        n = None if origin is list or arguments[-1] is ... else len(arguments)
        return Annotated[list[_strict(arguments[0])], Len(n or 0, n)]
    if origin in _MAPPINGS:
        return dict[arguments[0], _strict(arguments[1])]
    if _section_of(annotation) is not None or annotation is Mapping:
        return dict
    # Any other annotation is left to the dataclass's own __post_init__.
    return annotation if annotation in _WORDS or origin is Annotated else Any


def _section_of(annotation: Any) -> type[Any] | None:
    """The dataclass that an annotation is; None for one of another kind."""
    if isinstance(annotation, TypeVar):
        annotation = annotation.__bound__
    return cast("type[Any]", annotation) if is_dataclass(annotation) else None


def _chosen(
    section: type[Any], values: Mapping[str, Any], field: str
) -> tuple[type[Any], dict[str, str]]:
    """The dataclass that `values` are for, and the key that picks it among several, if any."""
    key, classes = _named(section) or ("", {})
    if not key:
        return section, {}
    if key not in values:
        raise BadInputError(f"{field}.{key}: missing; one of {', '.join(sorted(classes))}")
    name = str(values[key])
    if name not in classes:
        raise BadInputError(f"{field}.{key} = {values[key]!r}: unknown; {nearest(name, classes)}")
    return classes[name], {key: name}


def _named(cls: type[Any]) -> tuple[str, Mapping[str, type[Any]]] | None:
    """The key that picks one of several dataclasses of SAELens, and the dataclasses by name."""
    if not cls.__module__.startswith("sae_lens."):
        return None
    # Imported here: files of ours are read without SAELens.
    from sae_lens import TrainingSAEConfig
    from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY
    from sae_lens.synthetic.firing_magnitudes import MagnitudeConfig
    from sae_lens.synthetic.firing_probabilities import FiringProbabilityConfig
    from sae_lens.synthetic.registry import FIRING_PROB_REGISTRY, MAGNITUDE_REGISTRY

    configs = {name: config for name, (_, config) in SAE_TRAINING_CLASS_REGISTRY.items()}
    return {
        TrainingSAEConfig: ("architecture", configs),
        FiringProbabilityConfig: ("generator_name", FIRING_PROB_REGISTRY),
        MagnitudeConfig: ("generator_name", MAGNITUDE_REGISTRY),
    }.get(cls)


def _default(field: Field[Any], where: str) -> Any:
    if field.name in OUR_DEFAULTS:
        return OUR_DEFAULTS[field.name]
    if field.default_factory is not MISSING:
        value = field.default_factory()
    elif field.default is not MISSING:
        value = field.default
    else:
        raise BadInputError(f"{where}: missing; it has no default")
    if any(map(_named, type(value).__mro__)):
        return value.to_dict()
    if is_dataclass(value):
        return resolve(type(value), {})
    if isinstance(value, tuple):
        return list(cast("tuple[Any, ...]", value))
    # The one default that is not plain is SAEMetadata, which takes any names.
    return value if value is None or isinstance(value, str | int | float | list | dict) else {}


_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    NoneType: "null",
    dict: "a section",
    list: "a list",
    Any: "anything",
}


_LIMITS = {Gt: "above {.gt}", Ge: "at least {.ge}", Lt: "below {.lt}", Le: "at most {.le}"}


def _describe(annotation: Any, limits: bool = False) -> str:
    """What is allowed: a type, or the limits of a number that is of the right type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _WORDS:
        return _WORDS[annotation]
    if origin is Annotated:
        told = [_LIMITS[type(m)].format(m) for m in arguments[1:] if limits and type(m) in _LIMITS]
        return " and ".join(told) or _describe(arguments[0])
    if origin in _UNIONS:
        members = (_describe(member, limits) for member in arguments)
        return " or ".join(dict.fromkeys(members))
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin in (list, tuple):
        return f"a list of: {_describe(arguments[0], limits)}"
    if origin in _MAPPINGS:
        return f"a mapping of names to: {_describe(arguments[1])}"
    return "a section with fields of its own"


def dotted(value: Any, path: str = "") -> dict[str, Any]:
    """Every value of nested mappings by its path, as in `sae.alpha`."""
    if not isinstance(value, Mapping):
        return {path: value}
    parts = (dotted(inner, f"{path}.{name}" if path else name) for name, inner in value.items())
    return {name: inner for part in parts for name, inner in part.items()}
