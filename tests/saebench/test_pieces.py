"""Small pieces: the stage, seeds, models, metrics, refusals, scores."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from tests.saebench.conftest import make_run
from wsae_plugin.assets import bundled_model_path
from wsae_plugin.compare.manifest import ComparedRun
from wsae_plugin.errors import BadInputError
from wsae_plugin.saebench import evals
from wsae_plugin.saebench.bench import planned
from wsae_plugin.saebench.data import Labelled
from wsae_plugin.saebench.evals.absorption import word_position
from wsae_plugin.saebench.evals.base import Metric
from wsae_plugin.saebench.evals.probing import sizes
from wsae_plugin.saebench.evals.sae_probes import tasks_of
from wsae_plugin.saebench.evals.table import REFUSED, evals_named
from wsae_plugin.saebench.measure import seeded
from wsae_plugin.saebench.models import bench_model
from wsae_plugin.saebench.records import Record, scores_of, values_of
from wsae_plugin.saebench.request import Request, output_folder
from wsae_plugin.saebench.stage import Stage
from wsae_plugin.scores import Score


@pytest.mark.parametrize("name", ["tpp", "scr"])
def test_metrics_that_failed_an_audit_have_no_direction(name: str) -> None:
    (evaluation,) = evals_named([name])
    metrics = evaluation.metrics({"n_values": [2, 10]})
    assert {metric.direction for metric in metrics} == {"none"}
    assert all("nothing is concluded" in metric.definition for metric in metrics)
    (note,) = evaluation.notes(None)  # type: ignore[arg-type]
    assert "arXiv 2605.18229" in note


def test_every_metric_says_what_it_measures() -> None:
    config = {"n_values": [2], "k_values": [1], "ks": [1]}
    config |= {"eval_batch_size_prompts": 2, "context_size": 64}
    files = [import_module(f"{evals.__name__}.{m.name}") for m in iter_modules(evals.__path__)]
    found = [eval for file in files for eval in getattr(file, "EVALS", ())]
    assert len(found) >= 7
    for eval in found:
        for metric in eval.metrics(config):
            assert metric.definition.endswith("."), (eval.name, metric.metric)


def test_the_stage_hides_the_users_repository(in_a_repository: Path) -> None:
    revision = ["git", "rev-parse", "HEAD"]
    assert subprocess.run(revision, capture_output=True).returncode == 0
    stage = Stage(in_a_repository / "bench" / "cache")
    with stage.entered():
        assert Path.cwd() == stage.folder
        assert subprocess.run(revision, capture_output=True).returncode != 0
    assert Path.cwd() == in_a_repository
    assert "GIT_CEILING_DIRECTORIES" not in os.environ


def test_clearing_a_name_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    stage = Stage(tmp_path / "stage")
    stage.put("owner/model", tmp_path / "model")
    stage.put("owner/model", tmp_path / "model")
    assert (stage.folder / "owner" / "model" / "config.json").is_file()
    stage.clear("owner/model")
    assert (tmp_path / "model" / "config.json").is_file()


def test_a_seeded_call_leaves_the_process_as_it_was() -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    with seeded(5):
        first = draws()
        torch.set_grad_enabled(False)  # as TPP and autointerp do
    assert torch.is_grad_enabled()
    before = random.getstate()
    with seeded(5):
        assert torch.is_grad_enabled()
        assert draws() == first
    assert random.getstate() == before


def test_a_local_model_has_a_name_without_its_path(tmp_path: Path) -> None:
    # SAEBench joins the name to its folders: an absolute one would lead into the model's.
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    model = bench_model(str(tmp_path / "mine"))
    assert model.name == "local/mine"
    before = model.fingerprint
    (tmp_path / "mine" / "config.json").write_text("{ }")
    assert model.fingerprint != before
    assert bench_model("bundled").name == bench_model("bundled/python-neox").name
    assert bench_model("pythia-70m-deduped").folder is None


def test_the_words_position_is_the_tokenizers() -> None:
    template = "{word} has the first letter:"
    tokenizer = AutoTokenizer.from_pretrained(bundled_model_path())
    position = word_position(tokenizer, template)
    for word in (" sock", "line"):
        ids = tokenizer.encode(template.format(word=word), add_special_tokens=False)
        assert tokenizer.decode(ids[position]) == word

    def encode(text: str, add_special_tokens: bool) -> list[str]:
        assert not add_special_tokens
        return [*text[1:-1].split(), ":"]

    five_words = SimpleNamespace(encode=encode)
    assert word_position(five_words, template) == -6  # SAEBench's default


@pytest.mark.parametrize("name", ["ravel", "unlearning", "mdl"])
def test_evals_that_do_not_work_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(BadInputError, match="SAEBench 0.6.0"):
        evals_named([name])
    assert name in REFUSED


def test_a_new_eval_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "another_eval.py").write_text(
        "from dataclasses import replace\n"
        "from wsae_plugin.saebench.evals import meta_structure\n"
        "EVALS = (replace(meta_structure.EVALS[0], name='another'),)\n"
    )
    monkeypatch.setattr(evals, "__path__", [*evals.__path__, str(tmp_path)])
    try:
        assert [e.name for e in evals_named(["another", "core"])] == ["another", "core"]
    finally:
        sys.modules.pop(f"{evals.__name__}.another_eval", None)


def test_unknown_and_repeated_evals_are_refused() -> None:
    with pytest.raises(BadInputError, match="did you mean 'absorption'"):
        evals_named(["absorbtion"])
    with pytest.raises(BadInputError, match="twice"):
        evals_named(["core", "core"])
    with pytest.raises(BadInputError, match="empty"):
        evals_named([])


def test_absorption_of_another_hook_is_refused(tmp_path: Path) -> None:
    # It would read hook_resid_post, of the same width, and say nothing.
    folder = make_run(tmp_path / "run", hook="blocks.1.hook_mlp_out")
    with pytest.raises(BadInputError, match="blocks.1.hook_mlp_out; leave it out"):
        planned([folder], Request(["core", "absorption"]))
    assert len(planned([folder], Request(["core"], noise_seed=None))) == 1


def test_one_baseline_of_a_hook_is_measured_once_more(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name) for name in ("a", "b")]
    folders.append(make_run(tmp_path / "c", hook="blocks.2.hook_resid_post"))
    found = [(item.sae.name, item.seed) for item in planned(folders, Request(["core"]))]
    assert found == [("a", 0), ("a", 1), ("b", 0), ("c", 0), ("c", 1)]


def test_probes_take_what_own_data_suffice_for() -> None:
    # Four texts for each of the rarest kind but one, in fours.
    own = Labelled(("own",), "f", ("a", "b"), ("x", "y"), smallest=(11, 4))
    assert sizes([own], (400, 200)) == (40, 12)
    assert sizes([own], (30, 200), spare=2) == (20, 4)
    assert sizes([Labelled(("LabHC/x",), "f")], (30, 200)) == (28, 200)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"profile": "slow"}, "--profile slow"),
        ({"noise_seed": 0}, "--noise-seed 0"),
        ({"evals": ["autointerp"]}, "--judge-model"),
    ],
)
def test_wrong_requests(changes: dict[str, object], said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        Request(**{"evals": ["core"], **changes})  # type: ignore[arg-type]


def test_tasks() -> None:
    known = ["96_spam_is", "105_click_bait", "87_glue_cola"]
    assert tasks_of(Request(["sae_probes"]), known) == ["96_spam_is", "105_click_bait"]
    assert tasks_of(Request(["sae_probes"], profile="standard"), known) == known
    assert tasks_of(Request(["sae_probes"], tasks=["all"]), known) == known
    assert tasks_of(Request(["sae_probes"], tasks=[known[2]]), known) == known[2:]
    assert len(tasks_of(Request(["sae_probes"], tasks=["all-short"]), known)) == 20
    with pytest.raises(BadInputError, match="did you mean '96_spam_is'"):
        tasks_of(Request(["sae_probes"], tasks=["96_spam"]), known)


def test_output(tmp_path: Path) -> None:
    assert output_folder([tmp_path], None) == tmp_path / "saebench"
    assert output_folder([tmp_path / "manifest.json"], None) == tmp_path / "saebench"
    with pytest.raises(BadInputError, match="several folders"):
        output_folder([tmp_path, tmp_path], None)


def test_links_in_the_output_matter_where_results_are(tmp_path: Path) -> None:
    """A folder of results may hold a virtual environment, whose Python is a link."""
    output = tmp_path / "output"
    (output / "venv" / "bin").mkdir(parents=True)
    (output / "venv" / "bin" / "python").symlink_to(sys.executable)
    assert output_folder([tmp_path], output) == output
    (output / "cache").mkdir()
    (output / "cache" / "model").symlink_to(tmp_path)
    assert output_folder([tmp_path], output) == output
    for name in ("records", "results", "noise", "scores.json"):
        link = output / name
        link.symlink_to(tmp_path)
        with pytest.raises(BadInputError, match=f"{link}: is a link that leads out of"):
            output_folder([tmp_path], output)
        link.unlink()


def test_what_is_no_number_is_null_with_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text('{"eval_result_metrics": {"a": {"nan": NaN, "minus": -1, "none": null}}}')
    metrics = [
        *(
            Metric(category="a", metric=name, label=name, direction="up", missing=-1)
            for name in ("nan", "minus", "none", "absent")
        ),
        Metric(metric="b", label="", direction="up", eval="extra"),
    ]
    values = values_of("a", metrics, file, {"b": 0.5})
    assert [value.eval for value in values] == [*["saebench/a"] * 4, "extra"]
    assert [value.value for value in values] == [None, None, None, None, 0.5]
    assert all(value.note for value in values[:4])
    json.dumps([value.model_dump() for value in values], allow_nan=False)


def test_the_noise_of_a_baseline_is_that_of_its_hook() -> None:
    def record(run: str, hook: str, seed: int, value: float | None) -> Record:
        score = Score(eval="saebench/a", metric="m", label="m", value=value, direction="up")
        fields = {"eval": "a", "run": run, "arm": run, "hook": hook, "protocol": "p", "sae": run}
        details = {"config": {}, "seconds": 1.0, "notes": [], "values": [score]}
        return Record.model_validate({**fields, "seed": seed, **details})

    records = [
        record("sae", "one", 0, 0.5),
        record("sae", "one", 1, 0.75),
        record("wsae", "one", 0, 0.25),
        record("other", "two", 0, 0.25),
    ]
    assert {s["run"]: s["noise"] for s in scores_of(records, 0, 1)} == {
        "sae": 0.25,
        "wsae": 0.25,
        "other": None,
    }
    assert {s["noise"] for s in scores_of(records, 0, None)} == {None}
    # A second measurement of what has been trained again since says nothing.
    again = [
        record.model_copy(update={"sae": "another"} if record.seed else {}) for record in records
    ]
    assert {s["noise"] for s in scores_of(again, 0, 1)} == {None}


def test_a_record_of_another_version_is_none(tmp_path: Path) -> None:
    score = Score(eval="saebench/a", metric="m", label="m", value=0.5, direction="up")
    fields = {"eval": "a", "run": "r", "arm": "r", "hook": "h", "protocol": "p", "sae": "s"}
    details = {"config": {}, "seconds": 1.0, "notes": [], "values": [score]}
    record, file = Record.model_validate({**fields, "seed": 0, **details}), tmp_path / "r.json"
    assert Record.read(file) is None
    record.write(file)
    assert Record.read(file) == record
    document = json.loads(file.read_text())
    del document["values"][0]["definition"]  # its scores would not say what they mean
    file.write_text(json.dumps(document))
    assert Record.read(file) is None


def test_arms_choose_among_the_runs_of_a_comparison(tmp_path: Path) -> None:
    def run(arm: str) -> ComparedRun:
        return ComparedRun(
            run=f"{arm}-seed-0",
            path=tmp_path,
            arm=arm,
            role="baseline" if arm == "sae" else "weighted",
            hook_name="blocks.0.hook_resid_post",
            layer=0,
            sparsity={"k": 4},
            seed=0,
            pair="seed-0",
        )

    runs = [run("sae"), run("alpha-1"), run("shuffled")]
    assert Request(["core"]).chosen(runs) == runs
    assert Request(["core"], arms=["shuffled", "sae"]).chosen(runs) == [runs[0], runs[2]]
    with pytest.raises(BadInputError, match="--arms alpha-2: no such arm; did you mean 'alpha-1'"):
        Request(["core"], arms=["alpha-2"]).chosen(runs)
