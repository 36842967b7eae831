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
    with pytest.raises(RunFailedError) as error, hub_errors("push to me/mine"):
        raise NoConnectionError
    message = str(error.value)
    assert message.startswith("push to me/mine: NoConnectionError: Cannot find the file, ***")
    assert error.value.__cause__ is None
