"""Of a local path, what is published says no more than the last name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsae_plugin.local_paths import dataset_and_split, is_local, without_local_paths

NAMES = st.text(alphabet="abcXYZ019._-", min_size=1).filter(lambda name: name.strip("."))


@pytest.mark.parametrize(
    ("private", "public"),
    [
        ("/home/ann/texts/held-out.jsonl", "held-out.jsonl"),
        ("/home/ann lee/held out (1).jsonl (train)", "held out (1).jsonl (train)"),
        ("C:\\Users\\ann\\held-out", "held-out"),
        ("../../ann/held-out/", "held-out"),
        ("file:///home/ann/held-out.jsonl", "held-out.jsonl"),
        ("OSError: /home/ann/x.pt: no such file", "OSError: x.pt: no such file"),
        ("cannot read '~/ann/x.pt'", "cannot read 'x.pt'"),
    ],
)
def test_of_a_path_the_last_name_stays(private: str, public: str) -> None:
    assert without_local_paths({"a": [private]}) == {"a": [public]}


@pytest.mark.parametrize(
    "text",
    [
        "me/my-texts",
        "me/my-texts (validation)",
        "https://huggingface.co/me/my-saes",
        "blocks.2.hook_resid_post",
        "1 − error / deviation, wins / ties / losses, and/or",
        "<|endoftext|>",
        "/",
        "",
    ],
)
def test_everything_else_stays(text: str) -> None:
    assert without_local_paths(text) == text


@given(st.lists(NAMES, min_size=2, max_size=5), st.sampled_from(["/", "../", "~/", "C:/"]))
def test_any_path_is_cut(names: list[str], root: str) -> None:
    path = root + "/".join(names)
    assert is_local(path)
    assert without_local_paths(path) == names[-1]
    assert without_local_paths(f"see {path}, please") == f"see {names[-1]}, please"


def test_a_data_set_and_its_split() -> None:
    assert dataset_and_split("me/texts (train)") == ("me/texts", "train")
    assert dataset_and_split("/a (b)/c") == ("/a (b)/c", None)


def test_parentheses_in_a_file_s_name_are_no_split(tmp_path: Path) -> None:
    file = tmp_path / "text (mine)"
    assert dataset_and_split(str(file)) == (str(tmp_path / "text"), "mine")
    file.touch()
    assert dataset_and_split(str(file)) == (str(file), None)
