"""YAML values against the annotations of SAELens's config dataclasses.

`resolve_section` turns the mapping a user wrote into the full mapping of a dataclass: every key
known, every value of the annotated type, every default filled in. The result is still plain (what
YAML can hold), so it can be compared, written down and read again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from sae_lens import TrainingSAEConfig
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY
from sae_lens.saes.sae import SAEMetadata
from sae_lens.synthetic.firing_magnitudes import MagnitudeConfig
from sae_lens.synthetic.firing_probabilities import FiringProbabilityConfig
from sae_lens.synthetic.registry import FIRING_PROB_REGISTRY, MAGNITUDE_REGISTRY

from wsae_plugin.errors import BadInputError
from wsae_plugin.training.messages import nearest

OUR_DEFAULTS: dict[str, Any] = {
    "log_to_wandb": False,
    # `datasets` dropped the option: True only logs an error that stops nothing.
    "dataset_trust_remote_code": False,
    # None: the run folder is runs/<name of the config file>.
    "output_path": None,
}
"""Where a field left out of a config means something else than in SAELens."""

_RECORDED_ELSEWHERE = {"sae_lens_version", "sae_lens_training_version"}
_SECTION = "a section with fields of its own"


class _Mismatch(ValueError):
    """The value is not of the annotated type; the caller knows the field and says so."""


def resolve_section(cls: type[Any], values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Check `values` against the dataclass `cls` and fill in what it leaves out.

    Args:
        cls: A dataclass.
        values: What the user wrote for it.
        where: Dotted path of the section, for messages; empty for the whole file.

    Returns:
        Field name → plain value, in the dataclass's order.

    Raises:
        BadInputError: A key that is no field, a field without default left out, a wrong type.
    """
    hints = get_type_hints(cls)
    known = {field.name: field for field in _settable_fields(cls)}
    prefix = f"{where}." if where else ""
    for key in values:
        if key not in known and key not in _RECORDED_ELSEWHERE:
            raise BadInputError(f"{prefix}{key}: unknown field; {nearest(key, known)}")
    resolved: dict[str, Any] = {}
    for name, field in known.items():
        if name in values:
            resolved[name] = convert(values[name], hints[name], prefix + name)
        elif name in OUR_DEFAULTS:
            resolved[name] = OUR_DEFAULTS[name]
        else:
            resolved[name] = _default(field, prefix + name)
    return resolved


def convert(value: Any, annotation: Any, field: str) -> Any:
    """`value` as the annotated type.

    A number may be written as YAML 1.1 reads text (`1e-4`); true and false are no numbers.

    Raises:
        BadInputError: It is not of that type; the message names `field` and what is allowed.
    """
    try:
        return _convert(value, annotation, field)
    except _Mismatch:
        raise BadInputError(f"{field} = {value!r}: must be {_describe(annotation)}") from None


def _convert(value: Any, annotation: Any, field: str) -> Any:
    if annotation is Any:
        return value
    if _named(annotation) is not None or _is_section(annotation):
        return _convert_section(value, annotation, field)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return _convert_union(value, arguments, field)
    if origin is Literal:
        return _require(any(value == a and type(value) is type(a) for a in arguments), value)
    if origin in (list, tuple):
        _require(isinstance(value, list), value)
        types = arguments if origin is tuple and arguments[-1] is not ... else arguments[:1]
        if len(types) == 1:
            types = types * len(value)
        _require(len(types) == len(value), value)
        return [_convert(v, t, field) for v, t in zip(value, types, strict=True)]
    if origin is not None and issubclass(origin, Mapping):
        _require(isinstance(value, dict), value)
        return {k: convert(v, arguments[1], f"{field}.{k}") for k, v in value.items()}
    # An annotation that is not in the table is left to the dataclass's own __post_init__.
    return _PRIMITIVES.get(annotation, lambda value: value)(value)


def _convert_union(value: Any, members: tuple[Any, ...], field: str) -> Any:
    # float last: it also takes whole numbers and numeric text, which another member may want.
    for member in sorted(members, key=lambda member: member is float):
        try:
            return _convert(value, member, field)
        except _Mismatch:
            continue
    raise _Mismatch


def _convert_section(value: Any, annotation: Any, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Mismatch
    section = cast("dict[str, Any]", value)
    named = _named(annotation)
    if named is None:
        return resolve_section(annotation, section, field)
    key, classes = named
    if key not in section:
        raise BadInputError(f"{field}.{key}: missing; one of {', '.join(sorted(classes))}")
    name = section[key]
    if name not in classes:
        raise BadInputError(f"{field}.{key} = {name!r}: unknown; {nearest(str(name), classes)}")
    rest = {k: v for k, v in section.items() if k != key}
    return {key: name, **resolve_section(classes[name], rest, field)}


def _named(annotation: Any) -> tuple[str, Mapping[str, type[Any]]] | None:
    """The key that picks one of several dataclasses, and the dataclasses by name."""
    if isinstance(annotation, TypeVar):
        annotation = annotation.__bound__
    if annotation is TrainingSAEConfig:
        configs = {name: config for name, (_, config) in SAE_TRAINING_CLASS_REGISTRY.items()}
        return "architecture", configs
    if annotation is FiringProbabilityConfig:
        return "generator_name", FIRING_PROB_REGISTRY
    if annotation is MagnitudeConfig:
        return "generator_name", MAGNITUDE_REGISTRY
    return None


def _is_section(annotation: Any) -> bool:
    # SAEMetadata takes any names, so it has no fields to check.
    return annotation is not SAEMetadata and is_dataclass(annotation)


def _settable_fields(cls: type[Any]) -> list[Field[Any]]:
    return [
        field
        for field in fields(cls)
        if field.init
        and not field.name.startswith("_")
        and field.name not in _RECORDED_ELSEWHERE
        # a Python callable, which YAML cannot hold
        and field.name != "evaluator"
    ]


def _default(field: Field[Any], where: str) -> Any:
    if field.default is not MISSING:
        return _plain(field.default)
    if field.default_factory is not MISSING:
        return _plain(field.default_factory())
    raise BadInputError(f"{where}: missing; it has no default")


def _plain(value: Any) -> Any:
    if isinstance(value, SAEMetadata):
        return {}
    if isinstance(value, FiringProbabilityConfig | MagnitudeConfig):
        return value.to_dict()
    if is_dataclass(value):
        return resolve_section(type(value), {})
    return list(value) if isinstance(value, tuple) else value


def _require(condition: bool, value: Any) -> Any:
    if not condition:
        raise _Mismatch
    return value


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _Mismatch
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise _Mismatch from None
    return _require(math.isfinite(number), number)


def _exactly(cls: type[Any]) -> Callable[[Any], Any]:
    return lambda value: _require(type(value) is cls, value)


_PRIMITIVES: dict[Any, Callable[[Any], Any]] = {
    bool: _exactly(bool),
    int: _exactly(int),
    float: _float,
    str: _exactly(str),
    NoneType: lambda value: _require(value is None, value),
    dict: _exactly(dict),
    list: _exactly(list),
    SAEMetadata: _exactly(dict),
}

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    NoneType: "null",
    Any: "anything",
}


def _describe(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _WORDS:
        return _WORDS[annotation]
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(_describe, arguments)))
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin in (list, tuple):
        return f"a list of: {_describe(arguments[0])}"
    if origin is not None:
        return f"a mapping of names to: {_describe(arguments[1])}"
    return _SECTION
