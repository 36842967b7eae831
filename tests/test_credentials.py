"""What is told to be a credential, and what is not."""

from __future__ import annotations

import io
import json
import logging
import signal
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, quote_plus

import pytest
import yaml
from sae_lens import LanguageModelSAERunnerConfig, LoggingConfig
from sae_lens.multi_sae_training_runner import MultiSAETrainingRunnerConfig
from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY
from sae_lens.saes.sae import SAEMetadata
from sae_lens.synthetic import SyntheticSAERunnerConfig
from transformers import (
    Gemma2Config,
    GemmaConfig,
    GenerationConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
)

from wsae_plugin.credentials import redacted, redacting, refuse_credentials
from wsae_plugin.errors import BadInputError
from wsae_plugin.files import write_json_atomic

FORMS = {
    "a token of Hugging Face": [
        *("hf_" + "aB" * 17, "hf_oauth_" + "a.b-c_" * 5, "api_org_" + "x" * 34),
        *("run_hf_" + "aB" * 17, "xhf_" + "aB" * 17),
    ],
    "an API key": [
        *("sk-proj-" + "aB3-_" * 8, "sk-" + "aB3" * 16, "sk-ant-api03-" + "aB3" * 10),
        *("AIza" + "B" * 35, "local-" + "0f" * 20, "wandb_v1_" + "aB3" * 10),
        "run_sk-" + "aB3" * 16,
    ],
    "a token of GitHub or GitLab": [
        *("ghp_" + "a" * 36, "github_pat_" + "a1_" * 10, "glpat-" + "a" * 20),
        "my" + "ghp_" + "a" * 36,
    ],
    "a token of Slack": [
        "xoxb-1234567890-abcdef",
        "hooks.slack.com/services/T0000/B0000/" + "abcdef" * 4,
    ],
    "an access key of AWS": ["AKIA" + "ABCDEFGH12345678"],
    "a signed token": ["eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMe"],
    "a bearer token": ["Bearer abcdefghijklmnop1234", "BEARER abcdefghijklmnop1234"],
    "a password in a header": ["Basic dXNlcjpwYXNzd29yZA==", "Authorization: basic dXNlcjpwYXNz"],
    "a password in an address": [
        *("https://me:word@host/path", "postgresql://me:word@host", "redis://:word@host/0"),
        *("https://me:p@ss@host", "https://me:pa/ss@host", "https://me:word@host:8000/a"),
    ],
    "a token in an address": [
        "https://oauth1234567890abcdef@host",
        "git+https://a1-_" + "b" * 20 + "@h",
    ],
    "a key of a connection": [
        "AccountName=a;AccountKey=abcdefghij==",
        "SharedAccessKey=abcdefghij=",
    ],
    "a key in an address": [
        "https://host/x?a=1&token=abcdefghij",
        "s3://b/x?X-Amz-Signature=0123456789",
        *("https://host/x?password=hunter2", "https://host/x?X-Amz-Security-Token=abcdefghij"),
    ],
    "a private key": [
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blb\n-----END OPENSSH PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----",
    ],
}
NAMES = [
    "token", "use_auth_token", "hf_token", "HF_TOKEN", "accessToken", "api_key", "apikey",
    "API-Key", "OPENAI_API_KEY", "password", "db_password", "passwd", "client_secret", "secret",
    "secret_key", "aws_secret_access_key", "aws_access_key_id", "authorization", "Authorization",
    "private_key", "credentials", "wandb_api_key", "wandb_key", "hftoken", "accesstoken",
    "hf_tokens", "wandbkey", "bearer", "pwd", "pass", "db_pass", "passcode", "auth", "x_auth",
    "login", "pat", "github_pat", "cookie", "session_id", "ssh_key", "subscription_key",
    "license_key", "pgpassword", "password2", "api_key_1", "apiKey2", "hf_token_value",
    "hf_token_2",
]  # fmt: skip
ORDINARY_NAMES = [
    "sequence_separator_token", "training_tokens", "special_tokens", "bos_token", "add_bos_token",
    "pad_token", "exclude_special_tokens", "tokenizer", "token_ids", "store_batch_size_prompts",
    "key", "keys", "keyword", "monkey", "hook_name", "wandb_project", "secretary",
    "passwords_of_the_day", "prepend_bos", "n_tokens", "token_consistency",
    "begin_sequence_token", "begin_batch_token", "train_tokens", "storekey", "hooks_per_pass",
    "pattern", "pass_1", "pass_at_1", "author", "path", "compass", "forward_pass", "token_1",
    "token2", "pad_token_2", "nats_per_token", "login_count", "authors", "cookie_cutter",
    "token_value_ids", "cls_token_value",
]  # fmt: skip
ORDINARY_TEXTS = [
    "hf_hub", "hf_transfer_of_many_words_and_more_words", "sk-learn-like-names-are-no-keys-2024",
    "risk-averse-and-many-words", "EleutherAI/pythia-160m-deduped", "git@github.com:me/x.git",
    "ssh://git@github.com/x", "a" * 40, "0f" * 20, "http://localhost:8000/v1", "bearer of bad news",
    "http://localhost:8000/a@b", "http://[::1]:8000/a@b", "https://huggingface.co/x@main/y:z@w",
    "a basic GPT2LMHeadModel", "basic information about", "task-" + "0f" * 16,
    "ssh://some-user-name@host", "x?row_keys=abcdefgh", "https://huggingface.co/datasets/x?row=1",
    "blocks.2.hook_resid_post", "AKIA", "eyJ",
]  # fmt: skip


def refusal(value: object) -> str:
    with pytest.raises(BadInputError) as error:
        refuse_credentials(value, "config.yaml")
    return str(error.value)


@pytest.mark.parametrize("kind", FORMS)
def test_a_credential_is_told_by_its_form(kind: str) -> None:
    for text in FORMS[kind]:
        for shown in (text, f"see {text}, and so on", f'{{"a": "{text}"}}'):
            message = refusal({"a": [{"b": shown}]})
            assert f"config.yaml: a[0].b: holds {kind};" in message
            assert text not in message
            assert text not in redacted(shown) and "***" in redacted(shown)


def test_all_of_a_password_is_hidden() -> None:
    for password in ("p@sswordrest", "pa/ss", "p@/:s", "word"):
        assert redacted(f"https://me:{password}@host/x") == "https://***@host/x"


@pytest.mark.parametrize("name", NAMES)
def test_a_credential_is_told_by_its_name(name: str) -> None:
    for value in ("abc", 1234, ["abc"], {"value": "abc"}, [{"value": "abc"}]):
        message = refusal({"kwargs": {name: value}})
        assert f"config.yaml: kwargs.{name}: is a credential by its name; " in message
        assert "abc" not in message and "1234" not in message
        assert "HF_TOKEN" in message and "hf auth login" in message


def test_what_is_none() -> None:
    for name in NAMES:
        for nothing in (None, False, True, "", "none", [], {}):
            refuse_credentials({name: nothing}, "config.yaml")
    for name in ORDINARY_NAMES:
        refuse_credentials({name: "abc"}, "config.yaml")
    for text in ORDINARY_TEXTS:
        refuse_credentials({"a": text, text: 1}, "config.yaml")
        assert redacted(text) == text


def test_everything_that_yaml_can_hold_is_looked_at() -> None:
    token = FORMS["a token of Hugging Face"][0]
    for value in ({token}, token.encode(), [("a", token)], {"a": {"b": frozenset([token])}}):
        assert "holds a token of Hugging Face" in refusal({"note": value})


def test_values_that_hold_themselves_or_one_another_many_times() -> None:
    ring: list[object] = []
    ring.append({"again": ring})
    many: object = ["x"]
    for _ in range(60):
        many = [many] * 9
    refuse_credentials({"ring": ring, "many": many, "token": []}, "config.yaml")
    for held in (ring, many):
        assert "token: is a credential by its name" in refusal({"token": held})


def test_a_credential_as_a_key_is_not_shown_either() -> None:
    token = FORMS["a token of Hugging Face"][0]
    message = refusal({"arms": {token: {"alpha": 1}}})
    assert "arms.***: holds a token of Hugging Face" in message and token not in message


def test_credentials_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = "0123456789abcdef" * 2 + "01234567"
    monkeypatch.setenv("WANDB_API_KEY", key)
    message = refusal({"logger": {"run_name": f"run {key}"}})
    assert "logger.run_name: holds the value of WANDB_API_KEY;" in message and key not in message
    assert redacted(f"failed: {key}") == "failed: ***"
    for name in ("PGPASSWORD", "GITHUB_PAT", "REDISCLI_AUTH"):
        monkeypatch.setenv(name, secret := f"{name}/with+plus&more than that")
        for shown in (secret, quote(secret), quote(secret, safe=""), quote_plus(secret)):
            assert f"holds the value of {name};" in refusal({"a": f"b {shown}"})
            assert redacted(f"b {shown}") == "b ***"
    # A short word, a variable that is none of the kind, and the name of a file are no credentials.
    monkeypatch.setenv("SOME_TOKEN", "yes")
    monkeypatch.setenv("SOME_TOKENS", "many words")
    monkeypatch.setenv("SOME_SECRET", str(tmp_path))
    refuse_credentials(["yes", "many words", str(tmp_path)], "config.yaml")


def test_names_and_places_of_the_user_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGIN", "some-user")
    monkeypatch.setenv("PWD", "/no/longer/there")
    refuse_credentials(["some-user/model", "/no/longer/there/x"], "config.yaml")


def keys(value: object) -> set[str]:
    if isinstance(value, Mapping):
        entries = cast("Mapping[Any, Any]", value)
        return {str(key) for key in entries}.union(*map(keys, entries.values()))
    return set[str]().union(*map(keys, value)) if isinstance(value, list) else set()


def test_no_field_of_a_config_is_named_as_one() -> None:
    """Of SAELens, of language models, of this project."""
    classes = {LanguageModelSAERunnerConfig, LoggingConfig, SyntheticSAERunnerConfig}
    classes |= {MultiSAETrainingRunnerConfig, SAEMetadata}
    classes |= {config for registry in (SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY)
                for _, config in registry.values()}  # fmt: skip
    names = {field.name for cls in classes if is_dataclass(cls) for field in fields(cls)}
    for cls in (GPT2Config, GPTNeoXConfig, LlamaConfig, GemmaConfig, Gemma2Config):
        names |= keys(cls().to_dict()) | keys(GenerationConfig().to_dict())
    for file in (Path(__file__).parents[1] / "configs").rglob("*.yaml"):
        names |= keys(yaml.safe_load(file.read_text()))
    assert len(names) > 300
    for name in names:
        refuse_credentials({name: "abc"}, "a config")


HOSTILE = [
    "-eyJabcdefgh", "eyJabcdefgh.", "-----BEGIN PRIVATE KEY-----", "PRIVATE KEY ",
    "-----BEGIN PRIVATE KEY-----x-----END ", "://a:b", "://a:/@ ", "://:", "://" + "a" * 24, "://0",
    "hf_oauth_", "sk-or-", "xoxb-", "hooks.slack.com/a/", "Basic aaaa", "Basic", "earer ",
    "?token", "&x=?password", "AccountKey=", "authorization: basic ",
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_a_megabyte_from_elsewhere_keeps_nobody_waiting(unit: str) -> None:
    """A second is plenty; a form that is quadratic in the length takes many minutes."""

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    try:
        redacted(unit * (1_000_000 // len(unit)))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_picture_is_left_alone() -> None:
    """In base64 any letters may follow one another."""
    picture = "data:image/png;base64," + "AKIA" + "ABCDEFGH12345678" * 4 + "AIza" + "B" * 60 + "=="
    assert redacted(picture) == picture


def test_what_is_written_holds_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "the-token-of-this-machine")
    values = {form: [f'"{text}"' for text in texts] for form, texts in FORMS.items()}
    monkeypatch.setenv("DB_PASSWORD", 'a "word" of\\mine')
    values["ours"] = ["Traceback: the-token-of-this-machine was refused"]
    values["quoted"] = ['a "word" of\\mine']
    write_json_atomic(tmp_path / "run.json", values)
    text = (tmp_path / "run.json").read_text()
    assert list(json.loads(text)) == list(values)
    assert json.loads(text)["ours"] == ["Traceback: *** was refused"]
    assert json.loads(text)["quoted"] == ["***"]
    assert not [t for texts in FORMS.values() for t in texts if t in text]


def test_what_is_shown_holds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "the-key-of-this-machine")
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    logger, handler = logging.getLogger("of a library"), logging.StreamHandler(err)
    logger.addHandler(handler)
    monkeypatch.setattr(logger, "propagate", False)
    with redacting():
        sys.stdout.write("the-key-of-this-machine and more\n")
        sys.stdout.writelines(["the-key-of-this-machine\n"])
        logger.error("refused: %s", "the-key-of-this-machine")
        try:
            raise ValueError("the-key-of-this-machine")
        except ValueError:
            logger.exception("failed")
        assert not sys.stderr.isatty()
    logger.removeHandler(handler)
    assert out.getvalue() == "*** and more\n***\n"
    assert err.getvalue().startswith("refused: ***\nfailed\nTraceback")
    assert err.getvalue().endswith("ValueError: ***\n")
    assert sys.stdout is out and sys.stderr is err
