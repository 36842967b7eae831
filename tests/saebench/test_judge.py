"""The judge: asked once, slowly enough, again on need; the key is nowhere to be found."""

from __future__ import annotations

import time
from pathlib import Path

import openai
import pytest

from tests.saebench.judge_server import JudgeServer
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.saebench.judge import Judge

KEY = "sk-very-secret"
QUESTION = [{"role": "user", "content": "1 + 1?"}]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(openai.OpenAI, "_calculate_retry_timeout", lambda *_: 0.001)


def test_a_question_is_asked_once(tmp_path: Path) -> None:
    with JudgeServer(lambda _: " two. ") as server:
        judge = Judge(server.url, "llama", tmp_path)
        assert judge.ask(QUESTION, 30) == judge.ask(QUESTION, 30) == "two."
        assert Judge(server.url, "llama", tmp_path).ask(QUESTION, 30) == "two."
        (request,) = server.requests
        assert request["path"] == "/v1/chat/completions"
        assert (request["model"], request["max_tokens"], request["n"]) == ("llama", 30, 1)
        assert server.keys == [f"Bearer {KEY}"]
        Judge(server.url, "other", tmp_path).ask(QUESTION, 30)
        judge.ask(QUESTION, 31)
        assert len(server.requests) == 3


def test_passing_failures_are_waited_out(tmp_path: Path) -> None:
    with JudgeServer(lambda _: "two", failures=(429, 500, 503)) as server:
        judge = Judge(server.url, "llama", tmp_path)
        assert judge.ask(QUESTION, 30) == "two"
        assert len(server.requests) == 4


@pytest.mark.parametrize(("statuses", "said"), [((401,), "refuses"), ((500,) * 8, "8 attempts")])
def test_the_key_is_in_no_error_and_no_file(
    tmp_path: Path, statuses: tuple[int, ...], said: str
) -> None:
    with JudgeServer(lambda _: "two", failures=statuses) as server:
        judge = Judge(server.url, "llama", tmp_path)
        with pytest.raises(RunFailedError, match=said) as caught:
            judge.ask(QUESTION, 30)
        judge.ask(QUESTION, 30)
    error: BaseException | None = caught.value
    while error is not None:
        assert KEY not in str(error)
        error = error.__cause__
    assert KEY not in repr(judge)
    assert all(KEY not in file.read_text() for file in tmp_path.rglob("*.json"))


def test_an_empty_answer_is_no_none(tmp_path: Path) -> None:
    with JudgeServer(lambda _: None) as server:
        assert Judge(server.url, "llama", tmp_path).ask(QUESTION, 30) == "no answer"


def test_calls_keep_to_the_rate(tmp_path: Path) -> None:
    with JudgeServer(lambda _: "two") as server:
        judge = Judge(server.url, "llama", tmp_path, rate=600)
        started = time.monotonic()
        for tokens in range(4):
            judge.ask(QUESTION, tokens + 1)
        assert time.monotonic() - started >= 3 * 60 / 600


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://judge", "http://user:hunter2@judge/v1", "http://judge/?key=hunter2"],
)
def test_addresses_that_are_none_or_hold_secrets_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(BadInputError, match="--judge-url") as caught:
        Judge(url, "llama", tmp_path)
    assert "hunter2" not in str(caught.value)


def test_a_distant_judge_needs_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    Judge("http://127.0.0.1:1/v1", "llama", tmp_path).require_key()
    for url in (None, "https://judge.example/v1"):
        with pytest.raises(BadInputError, match="OPENAI_API_KEY is not set"):
            Judge(url, "llama", tmp_path).require_key()


def test_a_rate_is_positive(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="--judge-rate 0"):
        Judge(None, "llama", tmp_path, rate=0)
