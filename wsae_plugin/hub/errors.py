"""What the Hub and its client say when they refuse, in one line that never holds the token."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from wsae_plugin.credentials import redacted
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.messages import one_line

_REFUSED = (
    "there is no such repository for your token, or the token is wrong or may not do this; check "
    "the name, `hf auth whoami`, and that the token has {} permission"
)
_COMMITTED = (
    "somebody else committed to the repository meanwhile; nothing was changed: look at their "
    "commit, then run this again"
)
_HTTP_LOGGERS = ("httpx", "httpx2", "huggingface_hub")


@contextmanager
def hub_errors(what: str, writes: bool = False) -> Generator[None]:
    """Turn every failure of the Hub inside into a `RunFailedError`: no traceback, no token.

    Args:
        what: What was being done, such as "push to user/name".
        writes: Whether it is a commit that failed, and not a download.
    """
    levels = {name: logging.getLogger(name).level for name in _HTTP_LOGGERS}
    for name in _HTTP_LOGGERS:  # a line a request, with signed addresses in it
        logging.getLogger(name).setLevel(logging.ERROR)
    message = ""
    try:
        yield
    except (BadInputError, RunFailedError):
        raise
    except LocalTokenNotFoundError:
        message = "no token is at hand: `hf auth login`, or set HF_TOKEN"
    except Exception as error:  # the client raises its HTTP library's errors as they are
        message = _reason(error, writes)
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    if message:
        # Outside of the handler: no chained traceback holds the request's headers.
        raise RunFailedError(redacted(f"{what}: {message}"))


def _reason(error: BaseException, writes: bool) -> str:
    # Older clients raise this without a response where they had no connection.
    response = getattr(error, "response", None)
    if isinstance(error, HfHubHTTPError) and response is not None:
        status, said = response.status_code, one_line(error.server_message or "no reason given")
        if status in (409, 412):
            return _COMMITTED
        if isinstance(error, RevisionNotFoundError):
            return (
                "no such revision; name a branch, tag or commit that is there (in hf://…@REVISION, "
                "a slash of its name is %2F)"
            )
        if isinstance(error, RepositoryNotFoundError) or status in (401, 403):
            return f"the Hub refused ({status}): {_REFUSED.format('write' if writes else 'read')}"
        return f"the Hub answered {status}: {said}"
    if isinstance(error, RuntimeError) and error.__cause__ is not None:
        return f"{one_line(error)} ({_reason(error.__cause__, writes)})"
    line = one_line(error) or type(error).__name__
    nothing = "nothing was committed, so " if writes else ""
    return f"{type(error).__name__}: {line}; {nothing}run it again"
