"""Strict reading of YAML, and `--set`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsae_plugin.credentials import refuse_credentials
from wsae_plugin.errors import BadInputError
from wsae_plugin.yaml_file import read_yaml, to_yaml, with_overrides

UNREADABLE = {
    "empty": (b"", "is empty"),
    "comments only": (b"# nothing\n", "is empty"),
    "a list": (b"- sae\n", "holds a list"),
    "a number": (b"3\n", "holds the value 3"),
    "not YAML": (b"sae: {d_in: 1\nlr: 2\n", "not YAML"),
    "a tab": (b"sae:\n\td_in: 1\n", "line 2: not YAML"),
    "a key twice": (b"lr: 1\nlr: 2\n", "line 2: the key 'lr' is there twice"),
    "a key twice inside": (b"sae:\n  k: 1\n  k: 2\n", "line 3: the key 'k' is there twice"),
    "a key that is no text": (b"1: a\n", "the key 1 is not text"),
    "two documents": (b"a: 1\n---\nb: 2\n", "not YAML"),
    "a Python object": (b"a: !!python/object/apply:os.getcwd []\n", "not YAML"),
    "an unknown alias": (b"a: *nowhere\n", "not YAML"),
    "binary": (b"\x89PNG\r\n\x1a\n\x00\xff", "is not a text file"),
    "control characters": (b"a: \x00\n", "not YAML"),
    "an impossible date": (b"a: 2020-13-45\n", "not YAML"),
}


@pytest.mark.parametrize(("content", "message"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_unreadable_files_are_refused_in_one_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInputError) as error:
        read_yaml(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(BadInputError, match="is a folder"):
        read_yaml(tmp_path)


def test_merge_keys_are_allowed(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("a: &a {k: 1, d: 2}\nb: {<<: *a, k: 3}\n")
    assert read_yaml(path)["b"] == {"k": 3, "d": 2}


def test_overrides_are_yaml_and_make_sections() -> None:
    values = {"lr": 1, "sae": {"k": 4}}
    overrides = ["sae.k=8", "logger.run_name=a=b", "flag=true", "none=", "list=[1, 2]"]
    assert with_overrides(values, overrides) == {
        "lr": 1,
        "sae": {"k": 8},
        "logger": {"run_name": "a=b"},
        "flag": True,
        "none": None,
        "list": [1, 2],
    }
    assert values == {"lr": 1, "sae": {"k": 4}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sae.k", "must read FIELD=VALUE"),
        ("=3", "must read FIELD=VALUE"),
        ("sae..k=3", "must read FIELD=VALUE"),
        ("lr.x=3", "lr is the value 1, not a section"),
        ("lr={", "not YAML"),
    ],
)
def test_malformed_overrides_are_refused(override: str, message: str) -> None:
    with pytest.raises(BadInputError) as error:
        with_overrides({"lr": 1}, [override])
    assert message in str(error.value)
    assert f"--set {override}" in str(error.value)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")))
)
names = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1)
documents = st.dictionaries(
    names, st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(names, inner))
).filter(bool)


def holds_no_credential(values: dict[str, Any]) -> bool:
    """Hypothesis also draws what stands in the package, such as the name `token`."""
    try:
        refuse_credentials(values, "")
    except BadInputError:
        return False
    return True


@given(values=documents.filter(holds_no_credential))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("yaml") / "config.yaml"
    path.write_text(to_yaml(values), encoding="utf-8")
    assert read_yaml(path) == values
