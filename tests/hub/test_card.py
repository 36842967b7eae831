"""The card: complete, and nothing that a user wrote breaks it."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from sae_lens import SAE, HookedSAETransformer
from safetensors.torch import load_file

from tests.hub.conftest import Wsae
from wsae_plugin.hub.markdown import code, plain, table
from wsae_plugin.hub.marker import is_untouched, sign
from wsae_plugin.optimality.run import OptimalitySettings, measure_optimality
from wsae_plugin.report.text import number

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


def test_a_pipe_in_a_code_span_ends_no_cell() -> None:
    page = MarkdownIt("commonmark").enable("table").parse(table(("a",), [(code("a|b"),)]))
    inlines = [token for token in page if token.type == "inline"]
    assert [child.content for child in inlines[1].children or []] == ["a|b"]


def test_the_marker_tells_an_edit() -> None:
    card = sign("# A card\n")
    assert is_untouched(card)
    assert is_untouched(card.replace("\n", "\r\n"))
    assert not is_untouched(card.replace("A card", "My card"))
    assert not is_untouched("# A card\n")


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
    scores = json.loads((runs[1] / "scores/held_out.json").read_text())["scores"]
    (measured,) = [s for s in scores if s["metric"] == "explained_variance"]
    value, spread = (number(measured[name], measured["spread"]) for name in ("value", "spread"))
    assert f"| `weighted` | {value} ± {spread} |" in text
    assert "SAE.from_pretrained('me/my-saes', 'weighted')" in text
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert "<script>" not in html
    headings = (
        *("Load", "What they are", "The SAEs", "Scores"),
        *("Γ", "Data and procedure", "Limits", "Citation"),
    )
    assert all(f"<h2>{heading}</h2>" in html for heading in headings)
    (figure,) = (tmp_path / "card" / "figures").iterdir()
    assert f"figures/{figure.name}" in text
    tensors = load_file(runs[1] / "sae" / "gamma.safetensors")
    shares = tensors["gamma"].double() ** 2 * tensors["variance"].double()
    shares = (shares / shares.sum()).sort(descending=True).values
    effective = 1 / shares.square().sum().item()
    assert f"| {effective:.1f} of 128 | {shares[:5].sum().item():.0%} |" in text
    assert wsae(*arguments)[0] == 0, "an unedited card is written again"
    output.write_text("mine")
    assert wsae(*arguments)[0] == 2


def test_how_far_from_an_optimum_is_said(wsae: Wsae, runs: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "card" / "README.md"
    assert wsae("card", runs[1], "--output", output)[0] == 0
    assert "optimum" not in output.read_text()
    found = measure_optimality(runs, OptimalitySettings(samples=128, batches=8))
    scores = [{each["metric"]: each for each in document["scores"]} for document in found]
    assert wsae("card", runs[1], "--output", output)[0] == 0

    def section() -> str:
        return output.read_text().split("## How far from an optimum\n")[1].split("\n## ")[0]

    codes, refit = (scores[1][name] for name in ("codes", "dictionary"))
    shown = [f"{100 * s['value']:.1f} % ± {100 * s['spread']:.1f}" for s in (codes, refit)]
    said = (
        f"better codes of the same dictionary would recover {shown[0]} of the squared error, a "
        f"refit of the dictionary {shown[1]} of what the best codes leave. On "
        f"{found[1]['samples']} held-out tokens of each SAE"
    )
    assert said in section().replace("−", "-")
    assert "`wsae optimality`" in section()
    assert f"at most {found[1]['duality_gap']:.1e} of the objective" in section()
    assert wsae("card", *runs, "--output", output)[0] == 0
    ends = sorted(100 * each["codes"]["value"] for each in scores)
    assert f"would recover {ends[0]:.1f} % to {ends[1]:.1f} % of the squared error" in section()
    file = runs[1] / "scores/optimality.json"
    file.write_text(json.dumps({**found[1], "lines": [{}]}))
    code, printed = wsae("card", *runs, "--output", output)
    assert code == 2
    assert f"{file}: lines.0.name: Field required; run `wsae optimality` again" in printed


@pytest.mark.parametrize(
    ("file", "field", "said"),
    [
        ("scores/held_out.json", "held_out", "missing"),
        ("scores/held_out.json", "scores", "Field required; run `wsae eval` again"),
        ("run.json", "versions", "missing"),
        ("sae/cfg.json", "d_sae", "missing"),
        ("sae/cfg.json", "metadata", "missing"),
    ],
)
def test_a_missing_field_is_named(
    wsae: Wsae, runs: list[Path], tmp_path: Path, file: str, field: str, said: str
) -> None:
    path = runs[1] / file
    document = json.loads(path.read_text())
    del document[field]
    path.write_text(json.dumps(document))
    output = tmp_path / "card.md"
    exit_code, printed = wsae("card", *runs, "--output", output)
    assert exit_code == 2
    assert f"{path}: {field}: {said}" in printed
    assert not output.exists()


@pytest.mark.parametrize("field", ["model_name", "dataset_path"])
def test_what_no_reader_of_the_card_has_is_refused(
    wsae: Wsae, runs: list[Path], tmp_path: Path, field: str
) -> None:
    for name in ("/models/mine", "./mine", "~/mine", "a\\b", "a/b/c", "a//b"):
        for run in runs:
            cfg = json.loads((run / "sae" / "cfg.json").read_text())
            cfg["metadata"][field] = name
            (run / "sae" / "cfg.json").write_text(json.dumps(cfg))
        exit_code, printed = wsae("card", *runs, "--output", tmp_path / "card.md")
        assert exit_code == 2
        assert f"{field} = {name!r}: a folder of this machine" in printed
    cfg["metadata"][field] = "another/one"
    (runs[0] / "sae" / "cfg.json").write_text(json.dumps(cfg))
    exit_code, printed = wsae("card", *runs, "--output", tmp_path / "card.md")
    assert exit_code == 2
    assert f"{field}: the runs have 'another/one', 'a//b'; publish one at a time" in printed


def test_a_run_that_was_not_measured_is_refused(
    wsae: Wsae, runs: list[Path], tmp_path: Path
) -> None:
    (runs[0] / "scores/held_out.json").unlink()
    exit_code, printed = wsae("card", *runs, "--output", tmp_path / "card.md")
    assert exit_code == 2
    assert "`wsae eval` makes it" in printed


def test_the_snippet_runs(
    wsae: Wsae, runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in runs:
        cfg = json.loads((run / "sae" / "cfg.json").read_text())
        cfg["metadata"] |= {"model_name": "gpt2", "dataset_path": "me/texts"}
        (run / "sae" / "cfg.json").write_text(json.dumps(cfg))
    output = tmp_path / "card.md"
    code, printed = wsae("card", *runs, "--output", output, "--repo", "me/my-saes")
    assert code == 0, printed
    text = output.read_text()
    assert "[gpt2](https://huggingface.co/" in text
    assert "[me/texts](https://huggingface.co/datasets/me/texts)" in text

    class Model:
        def run_with_cache(
            self, text: str, names_filter: str
        ) -> tuple[None, dict[str, torch.Tensor]]:
            return None, {names_filter: torch.randn(1, len(text), 128)}

    load_model = HookedSAETransformer.from_pretrained_no_processing
    parameters = inspect.signature(load_model)

    def model(*arguments: Any, **options: Any) -> Model:
        assert parameters.bind(*arguments, **options).arguments["model_name"] == "gpt2"
        return Model()

    def sae(repo: str, sae_id: str) -> Any:
        assert repo == "me/my-saes"
        return SAE.load_from_disk(tmp_path / sae_id / "sae")

    monkeypatch.setattr(HookedSAETransformer, "from_pretrained_no_processing", model)
    monkeypatch.setattr(SAE, "from_pretrained", sae)
    names: dict[str, Any] = {}
    (snippet,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    with pytest.warns(UserWarning, match="non-empty model_from_pretrained_kwargs"):
        exec(snippet, names)
    assert names["feature_acts"].shape[-1] == 256
    assert names["reconstruction"].shape == names["activations"].shape


def test_a_name_cannot_become_a_link(wsae: Wsae, runs: list[Path], tmp_path: Path) -> None:
    for run in runs:
        cfg = json.loads((run / "sae" / "cfg.json").read_text())
        cfg["metadata"]["dataset_path"] = "me/a) [x](javascript:alert"
        (run / "sae" / "cfg.json").write_text(json.dumps(cfg))
    output = tmp_path / "card.md"
    assert wsae("card", *runs, "--output", output)[0] == 0
    html = MarkdownIt("commonmark").enable("table").render(output.read_text())
    assert 'href="javascript' not in html
    assert html.count("huggingface.co/datasets/") == 1


@pytest.mark.parametrize("command", ["card", "push"])
def test_an_export_that_is_not_what_was_trained_is_refused(
    wsae: Wsae, runs: list[Path], tmp_path: Path, command: str
) -> None:
    """By what was measured as it was exported; without that, by held-out text."""
    ordinary, weighted = runs
    output = tmp_path / "card" / "README.md"
    options = ["--output", output] if command == "card" else ["--repo", "me/my-saes", "--dry-run"]
    file, scores = weighted / "sae" / "cfg.json", weighted / "scores" / "held_out.json"
    cfg = json.loads(file.read_text())
    check = cfg["metadata"]["export_check"]
    check["exported"] = {"explained_variance": check["trained"]["explained_variance"], "l0": 100.0}
    file.write_text(json.dumps(cfg))
    code, printed = wsae(command, weighted, *options)
    assert code == 2
    printed = " ".join(printed.split())
    assert f"{weighted}: what was exported is not what was trained: on the same" in printed
    assert "train many times 1 / topk_threshold_lr = 100 steps" in printed
    # A baseline of the same kind would flatter what is beside it.
    del cfg["metadata"]["export_check"]
    file.write_text(json.dumps(cfg))
    of_baseline = json.loads((ordinary / "sae" / "cfg.json").read_text())
    of_baseline["metadata"]["export_check"] = check
    (ordinary / "sae" / "cfg.json").write_text(json.dumps(of_baseline))
    code, printed = wsae(command, weighted, "--baseline", ordinary, *options)
    assert (code, "is not what was trained" in printed) == (2, True)

    held_out = json.loads(scores.read_text())
    for score in held_out["scores"]:
        if score["metric"] == "explained_variance":
            score["value"] = -2.5
    scores.write_text(json.dumps(held_out))
    code, printed = wsae(command, weighted, *options)
    assert code == 2
    assert "it has an explained variance of -2.5 and an L0 of" in " ".join(printed.split())
    assert not output.exists()


def test_an_export_check_of_another_form_is_refused(
    wsae: Wsae, runs: list[Path], tmp_path: Path
) -> None:
    file = runs[0] / "sae" / "cfg.json"
    cfg = json.loads(file.read_text())
    cfg["metadata"]["export_check"]["trained"] = {"explained_variance": "high", "l0": 8}
    file.write_text(json.dumps(cfg))
    code, printed = wsae("card", runs[0], "--output", tmp_path / "README.md")
    assert code == 2
    said = "metadata.export_check.trained.explained_variance = 'high': must be"
    assert said in " ".join(printed.split())
