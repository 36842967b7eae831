"""Wording."""

from __future__ import annotations

import pytest

from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.messages import naming, nearest, one_line, refusals_as_bad_input


def test_one_line() -> None:
    assert one_line(ValueError("a\n  b\tc")) == "a b c"
    assert len(one_line("x" * 10_000)) < 500


def test_nearest() -> None:
    assert nearest("alhpa", ["alpha", "lr"]) == "did you mean 'alpha'?"
    assert nearest("zzz", ["lr", "alpha"]) == "there is alpha, lr"
    assert nearest("zzz", map(str, range(500))) == "none of the 500 known names is near it"


def test_errors_are_prefixed_and_translated() -> None:
    with (
        pytest.raises(BadInputError, match="^file: field: wrong$"),
        naming("file"),
        refusals_as_bad_input("field"),
    ):
        raise OSError("wrong")
    with pytest.raises(RunFailedError, match="^diverged$"), refusals_as_bad_input("field"):
        raise RunFailedError("diverged")
    with pytest.raises(ZeroDivisionError), naming("file"), refusals_as_bad_input():
        raise ZeroDivisionError
