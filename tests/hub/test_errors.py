"""What the Hub's client raises becomes one line."""

from __future__ import annotations

import pytest
from huggingface_hub.errors import HfHubHTTPError

from wsae_plugin.errors import RunFailedError
from wsae_plugin.hub.errors import hub_errors


class NoConnectionError(HfHubHTTPError):
    """As older clients raise it where the Hub cannot be reached: without a response."""

    def __init__(self) -> None:
        Exception.__init__(self, "Cannot find\nthe file, hf_secret")
        self.response = None  # pyright: ignore[reportAttributeAccessIssue]


def test_an_unreachable_hub_is_one_line_without_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(RunFailedError) as error, hub_errors("push to me/mine", writes=True):
        raise NoConnectionError
    message = str(error.value)
    assert message.startswith("push to me/mine: NoConnectionError: Cannot find the file, ***")
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    ("what", "writes", "way_out"),
    [
        ("push to me/mine", True, "nothing was committed, so run it again"),
        ("download me/mine", False, "ConnectionError: gone; run it again"),
    ],
)
def test_what_is_to_be_done_fits_what_was_done(what: str, writes: bool, way_out: str) -> None:
    with pytest.raises(RunFailedError) as error, hub_errors(what, writes):
        raise ConnectionError("gone")
    assert str(error.value).endswith(way_out)
