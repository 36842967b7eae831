"""A language model asked over the OpenAI protocol: once per question, slowly enough, again on need.

The key comes from OPENAI_API_KEY, and goes into the request's header and nowhere else.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wsae_plugin.credentials import redacted
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.files import write_json_atomic
from wsae_plugin.fingerprint import fingerprint_of
from wsae_plugin.messages import one_line
from wsae_plugin.validation import read_json

KEY = "OPENAI_API_KEY"
_ATTEMPTS = 8  # over half a minute
_TIMEOUT = 60.0
_NO_ANSWER = "no answer"


@dataclass
class Judge:
    """A judge with a memory on disk.

    Args:
        url: Of the API, ending in `/v1` as a rule; None for OPENAI_BASE_URL or OpenAI itself.
        model: The model's name there.
        answers: Folder of the answers given so far, one file each.
        rate: Calls a minute at most; None for no limit.
    """

    url: str | None
    model: str
    answers: Path
    rate: float | None = None
    _next_call: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.rate is not None and self.rate <= 0:
            raise BadInputError(f"--judge-rate {self.rate:g}: must be calls a minute, more than 0")
        if self.url is None:
            return
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInputError(
                "--judge-url: must be the http(s) address of an API, such as "
                "http://localhost:8000/v1"
            )
        if parts.username or parts.password or parts.query:
            raise BadInputError(
                f"--judge-url: must hold no user, password or query; give the key in {KEY}"
            )

    def require_key(self) -> None:
        """Refuse early what would fail at the first question.

        Raises:
            BadInputError: There is no key and the judge is not on this machine.
        """
        host = urlsplit(self.url or "").hostname
        if not os.environ.get(KEY) and host not in ("localhost", "127.0.0.1", "::1"):
            raise BadInputError(f"{KEY} is not set; the judge's key is read from there")

    def ask(self, messages: Sequence[dict[str, str]], max_tokens: int) -> str:
        """The answer, from disk if the same was asked before.

        Raises:
            RunFailedError: The judge refuses, or does not answer after several attempts. What was
                answered so far is kept.
        """
        question = {
            "url": self.url,
            "model": self.model,
            "messages": list(messages),
            "max_tokens": max_tokens,
        }
        file = self.answers / f"{fingerprint_of(question)}.json"
        if file.is_file():
            return str(read_json(file, made_by="wsae bench")["answer"])
        answer = self._answer(messages, max_tokens)
        self.answers.mkdir(parents=True, exist_ok=True)
        write_json_atomic(file, {"model": self.model, "answer": answer})
        return answer

    def _answer(self, messages: Sequence[dict[str, str]], max_tokens: int) -> str:
        import openai  # pyright: ignore[reportMissingImports]

        try:
            result = self._client.chat.completions.create(
                model=self.model, messages=list(messages), n=1, max_tokens=max_tokens, stream=False
            )
        # Neither is chained: the library's error holds the request with its header.
        except (
            openai.APIConnectionError,
            openai.RateLimitError,
            openai.InternalServerError,
        ) as error:
            raise RunFailedError(
                f"the judge did not answer in {_ATTEMPTS} attempts: {redacted(one_line(error))}; "
                "run the command again, answers so far are kept"
            ) from None
        except openai.OpenAIError as error:
            raise RunFailedError(f"the judge refuses: {redacted(one_line(error))}") from None
        content = result.choices[0].message.content if result.choices else None
        # SAEBench crashes on null, and takes an empty answer for "None", which scores 10 of 14.
        return (content or "").strip() or _NO_ANSWER

    @cached_property
    def _client(self) -> Any:
        """It tries again by itself, later and later, where the judge is busy or out of reach."""
        import openai  # pyright: ignore[reportMissingImports]

        return openai.OpenAI(
            api_key=os.environ.get(KEY) or "none",
            base_url=self.url,
            max_retries=_ATTEMPTS - 1,
            timeout=_TIMEOUT,
            http_client=openai.DefaultHttpxClient(event_hooks={"request": [self._wait_for_turn]}),
        )

    def _wait_for_turn(self, _: object) -> None:
        if self.rate is None:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next_call)
            self._next_call = turn + 60 / self.rate
        time.sleep(turn - now)
