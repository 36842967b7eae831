"""The card: complete, and nothing that a user wrote breaks it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.hub.conftest import Wsae
from wsae_plugin.errors import BadInputError
from wsae_plugin.hub.markdown import code, plain, table
from wsae_plugin.hub.marker import is_untouched, sign
from wsae_plugin.hub.safe_paths import path_inside

pytestmark = pytest.mark.filterwarnings("ignore:All samples in the training dataset")


@given(st.text())
def test_any_text_is_shown_as_it_is(text: str) -> None:
    shown = "".join(c for c in " ".join(text.split()) if c.isprintable())
    page = MarkdownIt("commonmark").enable("table").parse(table(("a",), [(plain(text),)]))
    inlines = [token for token in page if token.type == "inline"]
    assert len(inlines) == 2
    children = inlines[1].children or []
    assert all(child.type in ("text", "text_special") for child in children)
    assert "".join(child.content for child in children).strip() == shown.strip()


@given(st.text(alphabet="`|\\ <ab>\n"))
def test_a_code_span_stays_one(text: str) -> None:
    page = MarkdownIt("commonmark").enable("table").parse(f"x {code(text)} y")
    (inline,) = [token for token in page if token.type == "inline"]
    assert [child.type for child in inline.children or []] == ["text", "code_inline", "text"]


def test_the_marker_tells_an_edit() -> None:
    card = sign("# A card\n")
    assert is_untouched(card)
    assert is_untouched(card.replace("\n", "\r\n"))
    assert not is_untouched(card.replace("A card", "My card"))
    assert not is_untouched("# A card\n")


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "C:\\a", "a\\..\\b", "", "a\0"])
def test_a_path_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInputError, match="stays inside"):
        path_inside(tmp_path, name, "config.json")


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    with pytest.raises(BadInputError, match="leads out"):
        path_inside(tmp_path / "in", "link/a", "config.json")


def test_the_card_is_complete(wsae: Wsae, runs: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "card" / "README.md"
    author = "<script>alert(1)</script> | \n# {Eve} ```"
    arguments = ("card", *runs, "--output", output, "--repo", "me/my-saes", "--author", author)
    assert wsae(*arguments)[0] == 0
    text = output.read_text()
    front_matter = yaml.safe_load(text.split("---\n")[1])
    assert front_matter["library_name"] == "saelens"
    assert front_matter["base_model"] == "bundled/python-neox"
    assert {"license", "datasets", "language", "tags"} <= set(front_matter)
    scores = json.loads((runs[1] / "eval.json").read_text())["scores"]
    (measured,) = [s["value"] for s in scores if s["metric"] == "explained_variance"]
    assert f"{measured:.4f}" in text
    assert "SAE.from_pretrained('me/my-saes', 'ordinary')" in text
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert "<script>" not in html
    headings = ("Load", "The SAEs", "Scores", "Γ", "Data and procedure", "Limits", "Citation")
    assert all(f"<h2>{heading}</h2>" in html for heading in headings)
    (figure,) = (tmp_path / "card" / "figures").iterdir()
    assert f"figures/{figure.name}" in text
    assert wsae(*arguments)[0] == 0, "an unedited card is written again"
    output.write_text("mine")
    assert wsae(*arguments)[0] == 2


@pytest.mark.parametrize(
    ("file", "field"),
    [
        ("eval.json", "held_out"),
        ("eval.json", "scores"),
        ("run.json", "versions"),
        ("sae/cfg.json", "d_sae"),
        ("sae/cfg.json", "metadata"),
    ],
)
def test_a_missing_field_is_named(
    wsae: Wsae, runs: list[Path], tmp_path: Path, file: str, field: str
) -> None:
    path = runs[1] / file
    document = json.loads(path.read_text())
    del document[field]
    path.write_text(json.dumps(document))
    output = tmp_path / "card.md"
    exit_code, printed = wsae("card", *runs, "--output", output)
    assert exit_code == 2
    assert f"{field}: missing" in printed
    assert not output.exists()


def test_a_run_that_was_not_measured_is_refused(
    wsae: Wsae, runs: list[Path], tmp_path: Path
) -> None:
    (runs[0] / "eval.json").unlink()
    exit_code, printed = wsae("card", *runs, "--output", tmp_path / "card.md")
    assert exit_code == 2
    assert "`wsae eval` makes it" in printed
