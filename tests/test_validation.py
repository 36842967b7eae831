"""Values against annotations."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sae_lens import LanguageModelSAERunnerConfig
from sae_lens.synthetic import SyntheticSAERunnerConfig

from wsae_plugin.errors import BadInputError
from wsae_plugin.validation import PathInside, beside_defaults, convert, resolve

ALLOWED: list[tuple[Any, Any, Any]] = [
    (3, int, 3),
    (3, float, 3.0),
    ("1e-4", float, 1e-4),
    ("1e-4", float | None, 1e-4),
    (None, float | None, None),
    (3, int | float, 3),
    (True, bool | float, True),
    (2, bool | int, 2),
    ("bos", int | Literal["bos", "eos"] | None, "bos"),
    ([1, 2], list[int], [1, 2]),
    ([], list[int], []),
    ([None, 3], tuple[int | None, ...], [None, 3]),
    ([2, 3], tuple[int, int], [2, 3]),
    ({"a": 1}, dict[str, int], {"a": 1}),
    ({"a": object}, dict[str, Any], {"a": object}),
]

REFUSED: list[tuple[Any, Any, str]] = [
    (True, int, "a whole number"),
    (3.0, int, "a whole number"),
    ("3", int, "a whole number"),
    (True, float, "a number"),
    ("fast", float, "a number"),
    (float("nan"), float, "a number"),
    ("inf", float, "a number"),
    (None, float, "a number"),
    (1, bool, "true or false"),
    ("yes", bool, "true or false"),
    (1, str, "text"),
    ("pad", int | Literal["bos", "eos"] | None, "one of 'bos', 'eos' or null"),
    (1, Literal[True], "one of True"),
    (3, list[int], "a list of: a whole number"),
    ([1, "2"], list[int], "a list of: a whole number"),
    ([1, 2, 3], tuple[int, int], "a list of: a whole number"),
    (3, dict[str, int], "a mapping of names to: a whole number"),
]


@pytest.mark.parametrize(("value", "annotation", "expected"), ALLOWED)
def test_allowed_values(value: Any, annotation: Any, expected: Any) -> None:
    converted = convert(value, annotation, "field")
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(("value", "annotation", "allowed"), REFUSED)
def test_refused_values(value: Any, annotation: Any, allowed: str) -> None:
    with pytest.raises(BadInputError) as error:
        convert(value, annotation, "a.field")
    assert str(error.value).startswith(f"a.field = {value!r}: must be ")
    assert allowed in str(error.value)


@pytest.mark.parametrize(
    "path", ["../a", "/a", "a/../../b", "C:\\a", "C:a", "a\\b", "", "a\0", 3, None]
)
def test_a_path_out_of_the_folder(path: Any) -> None:
    with pytest.raises(BadInputError, match="where = .*: must be .* stays inside the folder"):
        convert(path, PathInside, "where")
    with pytest.raises(BadInputError, match="stays inside the folder"):
        convert({path: "x"}, dict[PathInside, str], "where")


def test_a_path_inside_the_folder() -> None:
    assert convert("runs/a..b", PathInside, "where") == Path("runs/a..b")
    assert convert({"a/b": 1}, dict[PathInside, int], "where") == {Path("a/b"): 1}


@given(value=st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_may_be_written_as_text(value: float) -> None:
    assert convert(repr(value), float, "field") == float(value)


@dataclass
class Inner:
    width: int
    depth: int = 2


@dataclass
class Outer:
    inner: Inner
    other: Inner | None = None
    names: tuple[str, ...] = ("a",)
    table: dict[str, Inner] = field(default_factory=dict)


def test_sections_are_resolved_and_defaults_filled_in() -> None:
    resolved = resolve(Outer, {"inner": {"width": 1}, "table": {"x": {"width": 3}}})
    assert resolved == {
        "inner": {"width": 1, "depth": 2},
        "other": None,
        "names": ["a"],
        "table": {"x": {"width": 3, "depth": 2}},
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "inner: missing; it has no default"),
        ({"inner": {}}, "inner.width: missing; it has no default"),
        ({"inner": 3}, "inner = 3: must be a section"),
        ({"inner": {"width": 1, "dpeth": 3}}, "inner.dpeth: unknown field; did you mean 'depth'?"),
        ({"inner": {"width": 1}, "other": {"width": "x"}}, "other.width = 'x': must be a whole"),
        ({"inner": {"width": 1}, "table": {"x": {"width": None}}}, "table.x.width = None"),
        ({"inner": {"width": 1}, "xyz": 1}, "xyz: unknown field; there is inner, names, other"),
    ],
)
def test_a_wrong_section_names_the_dotted_field(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError) as error:
        resolve(Outer, values)
    assert message in str(error.value)


def test_architectures_and_generators_are_looked_up_by_name() -> None:
    resolved = resolve(
        SyntheticSAERunnerConfig,
        {
            "sae": {"architecture": "topk", "d_in": 4, "d_sae": 8, "k": 2},
            "synthetic_model": {
                "num_features": 6,
                "hidden_dim": 4,
                "firing_probability": {"generator_name": "constant", "probability": "1e-1"},
                "mean_firing_magnitudes": {"generator_name": "linear", "start": 1, "end": 2},
            },
        },
    )
    model = resolved["synthetic_model"]
    assert model["firing_probability"] == {"generator_name": "constant", "probability": 0.1}
    assert model["mean_firing_magnitudes"]["end"] == 2.0
    assert resolved["sae"]["k"] == 2


@pytest.mark.parametrize(
    ("sae", "message"),
    [
        ({"d_in": 4, "d_sae": 8}, "sae.architecture: missing"),
        (
            {"architecture": "weigthed_topk", "d_in": 4, "d_sae": 8},
            "sae.architecture = 'weigthed_topk': unknown; did you mean 'weighted_topk'?",
        ),
        (
            {"architecture": "weighted_topk", "d_in": 4, "d_sae": 8, "alhpa": 1},
            "sae.alhpa: unknown field; did you mean 'alpha'?",
        ),
        (
            {"architecture": "topk", "d_in": 4, "d_sae": 8, "alpha": 1},
            "sae.alpha: unknown field",
        ),
    ],
)
def test_an_sae_is_checked_against_its_own_architecture(sae: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError) as error:
        resolve(LanguageModelSAERunnerConfig, {"sae": sae})
    assert message in str(error.value)


def test_our_defaults_differ_from_saelens_where_the_readme_says_so() -> None:
    sae = {"architecture": "topk", "d_in": 4, "d_sae": 8}
    resolved = resolve(LanguageModelSAERunnerConfig, {"sae": sae})
    assert resolved["logger"]["log_to_wandb"] is False
    assert resolved["dataset_trust_remote_code"] is False
    assert resolved["output_path"] is None


@pytest.mark.parametrize(
    ("cls", "written"),
    [
        (
            LanguageModelSAERunnerConfig,
            {
                "sae": {"architecture": "weighted_topk", "d_in": 4, "d_sae": 8, "k": 2},
                "lr": 0.5,
                "logger": {"log_to_wandb": True},
            },
        ),
        (
            SyntheticSAERunnerConfig,
            {
                "synthetic_model": {"num_features": 8, "hidden_dim": 4},
                "sae": {"architecture": "topk", "d_in": 4, "d_sae": 8, "k": 2},
                "training_samples": 100,
            },
        ),
    ],
)
def test_what_differs_from_the_defaults_makes_the_whole_again(
    cls: type[Any], written: dict[str, Any]
) -> None:
    whole = resolve(cls, written)
    shown = beside_defaults(cls, whole)
    assert shown == written
    assert resolve(cls, shown) == whole


def test_an_explicit_default_is_not_shown() -> None:
    sae = {"architecture": "weighted_topk", "d_in": 4, "d_sae": 8, "k": 2, "alpha": 0.5}
    whole = resolve(LanguageModelSAERunnerConfig, {"sae": sae, "adam_beta1": 0.9})
    assert "alpha" not in beside_defaults(LanguageModelSAERunnerConfig, whole)["sae"]
    sae["alpha"] = 0.25
    whole = resolve(LanguageModelSAERunnerConfig, {"sae": sae})
    assert beside_defaults(LanguageModelSAERunnerConfig, whole)["sae"]["alpha"] == 0.25
