"""Credentials in what is read, written, shown and published: found by name, by form, by being ours.

A credential comes from the environment or from a login. Anything else that holds one is recorded,
logged and published sooner or later.
"""

from __future__ import annotations

import json
import logging
import netrc
import os
import re
import sys
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from itertools import chain
from typing import Any, TextIO, cast
from urllib.parse import quote, quote_plus

from wsae_plugin.errors import BadInputError
from wsae_plugin.replaced import replaced

_HIDDEN = "***"
_SHORTEST = 8
"""Letters of a credential of this machine that is told by its value: shorter ones are words."""

_NAME = re.compile(
    r"(?:(?:.*_)?(?:auth|authorization|bearer|cookies?|credentials?|passcode|passphrase|passwd|pat|pwd"
    r"|secrets?|session_?id|token|(?:access|api|auth|hf|wandb)_?(?:key|token)s?"
    r"|(?:access|account|encryption|license|private|secret|signing|ssh|subscription)_?key(?:_id)?)"
    r"|.*password|login|(?:db_?|ftp_?|mail_?|proxy_?|smtp_?|user_?)?pass)(?:_value|_?\d+)?"
)
_NOTHING = ("", "0", "~", "false", "none", "null", "true")
_ORDINARY = re.compile(
    r"(?:.*_)?(?:batch|begin|bos|cls|end|eos|image|mask|pad|per|separator|sep|sequence|special|start"
    r"|stop|unk)_token(?:_value|_?\d+)?|(?:pass|token)_?\d+"
)
"""Tokens of a text and passes over it, which are no secrets."""
_OF_THE_USER = ("LOGIN", "PWD")
"""Variables with a name or a place of the user, which are in ordinary texts."""

_QUOTES = r"\s\\\"'<>"
# A form that letters of a picture in base64 could have does not begin or end in a longer word.
_BEGIN, _END = r"(?<![A-Za-z0-9+])", r"(?![A-Za-z0-9+])"
_PART = r"(?:(?!eyJ)[\w-]){8,}"
# What each begins with or holds, to look for first since that is fast, and its form. Texts can be
# hostile, so no form goes over the same letters from many places: it ends where it could begin.
_FORMS = {
    "a token of Hugging Face": (
        ("hf_", "api_org_"),
        r"hf_[A-Za-z0-9]{30,}|hf_oauth_[\w.-]{20,}|api_org_[A-Za-z]{30,}",
    ),
    "an API key": (
        ("sk-", "AIza", "wandb_v", "local-"),
        rf"{_BEGIN}(?:sk-(?:admin|ant|or|proj|svcacct)-[\w-]{{20,}}|sk-[A-Za-z0-9]{{32,}}"
        rf"|(?:AIza[\w-]{{35}}|local-[0-9a-f]{{40}}){_END})|wandb_v\d_\w{{20,}}",
    ),
    "a token of GitHub or GitLab": (
        ("gho_", "ghp_", "ghr_", "ghs_", "ghu_", "github_pat_", "glpat-"),
        r"gh[oprsu]_\w{36,}|github_pat_\w{22,}|glpat-[\w-]{20,}",
    ),
    "a token of Slack": (
        ("xox", "hooks.slack.com"),
        r"xox[abeoprs]-[\w-]{10,}|hooks\.slack\.com/\w+/[\w/-]{20,}",
    ),
    "an access key of AWS": (("AKIA", "ASIA"), rf"{_BEGIN}(?:AKIA|ASIA)[A-Z0-9]{{16}}{_END}"),
    "a signed token": (("eyJ",), rf"eyJ{_PART}\.eyJ{_PART}\.[\w-]{{8,}}"),
    "a bearer token": (("earer ", "EARER "), rf"{_BEGIN}(?i:bearer) +[\w.~+/-]{{16,}}=*"),
    "a password in a header": (
        ("asic ", "ASIC "),
        r"(?i:authorization[\\\"':= ]{1,5}basic) +[\w+/-]{8,}=*"
        rf"|{_BEGIN}(?i:basic) +(?:[\w+/-]{{4}})+(?:[\w+/-]{{2}}==|[\w+/-]{{3}}=)(?![\w=])",
    ),
    "a password in an address": (
        ("://",),
        # It may hold what should have been escaped. What looks like a port is none.
        rf"(?<=://)[^/:@\[{_QUOTES}]*:(?!\d+[/?#])[^/@{_QUOTES}]*(?:[/@][^/@{_QUOTES}]*){{0,8}}(?=@)",
    ),
    "a token in an address": (("://",), r"(?<=://)(?=[\w.~%+-]*\d)[\w.~%+-]{20,}(?=@)"),
    "a key of a connection": (("Key=",), rf"(?:Account|SharedAccess)Key=[^;&{_QUOTES}]{{8,}}"),
    "a key in an address": (
        ("?", "&"),
        r"(?<=[?&])(?i:[\w.-]*(?:token|api_?key|password|passwd|pwd|secret|sig|signature))="
        rf"[^&{_QUOTES}]{{6,}}",
    ),
    "a private key": (
        ("PRIVATE KEY",),
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
        r"(?:(?:(?!-----BEGIN)[^\"'])*?-----END [A-Z ]*KEY-----)?",
    ),
}
_PATTERNS = {kind: (hints, re.compile(form)) for kind, (hints, form) in _FORMS.items()}


def refuse_credentials(value: object, source: str) -> None:
    """Refuse plain values that hold a credential; it is not shown.

    Args:
        value: What YAML or JSON can hold.
        source: Where it stands, for the message.

    Raises:
        BadInputError: The message names the field.
    """
    found = _credential_in(value, "", _of_this_machine(), set())
    if found is not None:
        raise BadInputError(
            f"{redacted(source)}: {found}; what stands there is recorded and published, so take it "
            "out and let it come from the environment (HF_TOKEN, WANDB_API_KEY, OPENAI_API_KEY) or "
            "from `hf auth login`, `wandb login`"
        )


def redacted(text: str) -> str:
    """`text` with stars for its credentials: those of a known form and those of this machine."""
    for hints, form in _PATTERNS.values():
        if any(hint in text for hint in hints):
            text = form.sub(_HIDDEN, text)
    for secret in _of_this_machine().values():
        for written in _as_written(secret):
            text = text.replace(written, _HIDDEN)
    return text


@contextmanager
def redacting() -> Generator[None]:
    """Show no credential on the terminal, in a log line, a message or a traceback."""
    with (
        redirect_stdout(redacting_stream(sys.stdout)),
        redirect_stderr(redacting_stream(sys.stderr)),
        # Libraries have handlers of their own, on the streams as they were before.
        replaced(logging.LogRecord, getMessage=_hiding(logging.LogRecord.getMessage)),
        replaced(logging.Formatter, formatException=_hiding(logging.Formatter.formatException)),
    ):
        yield


def _hiding(told: Callable[..., str]) -> Callable[..., str]:
    def hidden(*args: Any) -> str:
        return redacted(told(*args))

    return hidden


def redacting_stream(stream: TextIO) -> TextIO:
    """`stream`, which is given texts without their credentials."""
    return cast("TextIO", _Redacting(stream))


class _Redacting:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redacted(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _credential_in(
    value: object, where: str, ours: Mapping[str, str], seen: set[int]
) -> str | None:
    """Where plain values hold a credential, and how it was told; None where they hold none."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        kind = _kind(value, ours)
        holds = f"holds {kind}"
        return kind and (f"{redacted(where)}: {holds}" if where else holds)
    # An alias of YAML gives one value many places, in itself even.
    if not isinstance(value, Collection) or id(value) in seen:
        return None
    seen.add(id(value))
    if isinstance(value, Mapping):
        written = cast("Mapping[Any, Any]", value).items()
        parts = [(f"{where}.{key}" if where else str(key), str(key), v) for key, v in written]
    else:
        entries = enumerate(cast("Collection[Any]", value))
        parts = [(f"{where}[{n}]", "", entry) for n, entry in entries]
    for path, name, entry in parts:
        found = _credential_in(name, path, ours, seen) or _credential_in(entry, path, ours, seen)
        if found is None and _is_named(name) and _holds(entry):
            found = f"{redacted(path)}: is a credential by its name"
        if found is not None:
            return found
    return None


def _kind(text: str, ours: Mapping[str, str]) -> str | None:
    forms = (
        kind
        for kind, (hints, form) in _PATTERNS.items()
        if any(hint in text for hint in hints) and form.search(text)
    )
    own = (n for n, secret in ours.items() if any(form in text for form in _as_written(secret)))
    return next(chain(forms, own), None)


@cache
def _as_written(secret: str) -> tuple[str, ...]:
    """As it is, as JSON has it and as addresses have it."""
    return (
        secret,
        json.dumps(secret)[1:-1],
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
    )


def _is_named(name: str) -> bool:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[.-]", "_", name).lower()
    return _NAME.fullmatch(words) is not None and _ORDINARY.fullmatch(words) is None


def _holds(value: object) -> bool:
    if isinstance(value, Collection) and not isinstance(value, str):
        return len(value) > 0
    return str(value).lower() not in _NOTHING


def _of_this_machine() -> dict[str, str]:
    """What it is → the credential."""
    named = {n: v for n, v in os.environ.items() if _is_named(n) and n not in _OF_THE_USER}
    # Some variables name the file that holds one.
    found = {f"the value of {n}": v for n, v in named.items() if not os.path.exists(v)} | _logins()
    return {name: value for name, value in found.items() if len(value) >= _SHORTEST}


@cache
def _logins() -> dict[str, str]:
    from huggingface_hub import get_token

    try:
        hosts = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        hosts = {}
    found = {f"the password of {host}": entry[2] for host, entry in hosts.items() if entry[2]}
    return {"the login of `hf auth login`": get_token() or ""} | found
