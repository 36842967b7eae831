"""Strict YAML: one mapping a file, no key twice, and `--set` on top of it."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from wsae_plugin.credentials import refuse_credentials
from wsae_plugin.errors import BadInputError
from wsae_plugin.files import refuse_links
from wsae_plugin.messages import one_line

_RECORDS = ("run.json", "manifest.json")
"""One of them is in every folder of ours."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Args:
        path: The file.

    Returns:
        The mapping, with text keys at every level.

    Raises:
        BadInputError: The file is missing, a folder, not text, not YAML, empty, not a mapping, has
            a key twice or a key that is not text, holds a credential, or is a link out of a run
            folder or a comparison folder.
    """
    if path.is_symlink() and any((path.parent / name).is_file() for name in _RECORDS):
        refuse_links(path.parent)
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise BadInputError(f"{path}: no such file; give the path of a YAML config") from None
    except IsADirectoryError:
        raise BadInputError(f"{path}: is a folder; give the path of a YAML file in it") from None
    except UnicodeDecodeError:
        raise BadInputError(f"{path}: is not a text file; a config is YAML in UTF-8") from None
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read: {error.strerror}") from error
    value = _parse(text, str(path))
    if value is None:
        raise BadInputError(f"{path}: is empty; a config is a mapping such as 'sae: {{...}}'")
    if not isinstance(value, dict):
        raise BadInputError(
            f"{path}: holds {_kind(value)}; a config is a mapping of field names to values"
        )
    refuse_credentials(value, str(path))
    return cast("dict[str, Any]", value)


def read_config(path: Path, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], str]:
    """A YAML file with `overrides` on top, and what to call the two in messages.

    Raises:
        BadInputError: As for `read_yaml` and `with_overrides`.
    """
    values = with_overrides(read_yaml(path), overrides)
    return values, f"{path} (--set {', '.join(overrides)})" if overrides else str(path)


def with_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `values` in which each `PATH=VALUE` of `overrides` is set.

    Args:
        values: A config as `read_yaml` gives it.
        overrides: Dotted paths and YAML values, such as `sae.alpha=0.5`. Sections that are not
            there yet are made; whether a field exists is checked later, with the whole config.

    Raises:
        BadInputError: No `=`, an empty path, a value that is not YAML or is a credential, or a path
            through a field that is not a section.
    """
    result = copy.deepcopy(values)
    for override in overrides:
        path, equals, text = override.partition("=")
        names = path.split(".")
        # Before any message shows the text.
        refuse_credentials({path: text}, "--set")
        if not equals or not all(names):
            raise BadInputError(f"--set {override}: must read FIELD=VALUE, as in sae.alpha=0.5")
        value = _parse(text, f"--set {override}")
        section = result
        for depth, name in enumerate(names[:-1], start=1):
            inner = section.setdefault(name, {})
            if not isinstance(inner, dict):
                raise BadInputError(
                    f"--set {override}: {'.'.join(names[:depth])} is {_kind(inner)}, not a section "
                    "with fields of its own"
                )
            section = cast("dict[str, Any]", inner)
        section[names[-1]] = value
    refuse_credentials(result, "--set")
    return result


def to_yaml(values: dict[str, Any]) -> str:
    """`values` as YAML that `read_yaml` gives back unchanged."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


class _StrictLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys and takes any key; this one refuses both."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise BadInputError(f"line {line}: the key {key!r} is not text; quote it")
            if key in seen:
                raise BadInputError(f"line {line}: the key {key!r} is there twice; keep one")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _StrictLoader)  # noqa: S506 - a SafeLoader
    except BadInputError as error:
        raise BadInputError(f"{source}: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise BadInputError(f"{source}: {where}not YAML: {one_line(error.problem)}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInputError(f"{source}: not YAML: {one_line(error)}") from None


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "a list"
    # The text may be anything, such as a file that was never meant to be a config.
    return "text" if isinstance(value, str) else f"the value {value!r}"
