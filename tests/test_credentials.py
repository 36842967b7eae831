"""What is told to be a credential, and what is not."""

from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path

import pytest

from wsae_plugin.credentials import redacted, redacting, refuse_credentials
from wsae_plugin.errors import BadInputError
from wsae_plugin.files import write_json_atomic

FORMS = {
    "a token of Hugging Face": [
        *("hf_" + "aB" * 17, "hf_oauth_" + "a.b-c_" * 5, "api_org_" + "x" * 34),
    ],
    "an API key": [
        *("sk-proj-" + "aB3-_" * 8, "sk-" + "aB3" * 16, "sk-ant-api03-" + "aB3" * 10),
        *("AIza" + "B" * 35, "local-" + "0f" * 20, "wandb_v1_" + "aB3" * 10),
    ],
    "a token of GitHub or GitLab": [
        *("ghp_" + "a" * 36, "github_pat_" + "a1_" * 10, "glpat-" + "a" * 20),
    ],
    "a token of Slack": ["xoxb-1234567890-abcdef"],
    "an access key of AWS": ["AKIA" + "ABCDEFGH12345678"],
    "a signed token": ["eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMe"],
    "a bearer token": ["Bearer abcdefghijklmnop1234", "BEARER abcdefghijklmnop1234"],
    "a password in an address": ["https://me:word@host/path", "postgresql://me:word@host"],
    "a key in an address": [
        "https://host/x?a=1&token=abcdefghij",
        "s3://b/x?X-Amz-Signature=0123456789",
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
    "hf_tokens", "wandbkey", "bearer",
]  # fmt: skip
ORDINARY_NAMES = [
    "sequence_separator_token", "training_tokens", "special_tokens", "bos_token", "add_bos_token",
    "pad_token", "exclude_special_tokens", "tokenizer", "token_ids", "store_batch_size_prompts",
    "key", "keys", "keyword", "monkey", "hook_name", "wandb_project", "secretary",
    "passwords_of_the_day", "prepend_bos", "n_tokens", "token_consistency",
    "begin_sequence_token", "begin_batch_token", "train_tokens", "storekey",
]  # fmt: skip
ORDINARY_TEXTS = [
    "hf_hub", "hf_transfer_of_many_words_and_more_words", "sk-learn-like-names-are-no-keys-2024",
    "risk-averse-and-many-words", "EleutherAI/pythia-160m-deduped", "git@github.com:me/x.git",
    "ssh://git@github.com/x", "a" * 40, "0f" * 20, "http://localhost:8000/v1", "bearer of bad news",
    "https://huggingface.co/datasets/x?row=1", "blocks.2.hook_resid_post", "AKIA", "eyJ",
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
    # A short word, a variable that is none of the kind, and the name of a file are no credentials.
    monkeypatch.setenv("SOME_TOKEN", "yes")
    monkeypatch.setenv("SOME_TOKENS", "many words")
    monkeypatch.setenv("SOME_SECRET", str(tmp_path))
    refuse_credentials(["yes", "many words", str(tmp_path)], "config.yaml")


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
