"""A credential in every place where one can stand: it is refused, and it is shown nowhere."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main
import yaml
from sae_lens import LanguageModelSAERunnerConfig, LoggingConfig
from sae_lens.multi_sae_training_runner import MultiSAETrainingRunnerConfig
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY
from sae_lens.synthetic import SyntheticSAERunnerConfig
from safetensors.torch import load_file, save_file

from tests.cli.test_faults import Ended, wsae
from tests.cli.test_hostile import clean, commands  # noqa: F401 - a fixture
from tests.hostile import World, change_json
from tests.hub.conftest import hub  # noqa: F401 - a fixture
from tests.hub.server import FakeHub
from wsae_plugin.cli.main import app
from wsae_plugin.compare.plan import load_comparison_config
from wsae_plugin.errors import BadInputError
from wsae_plugin.training import load_run_config
from wsae_plugin.training.trainer import WeightedSAETrainer
from wsae_plugin.yaml_file import read_yaml

pytestmark = [
    pytest.mark.filterwarnings("ignore:All samples in the training dataset"),
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]

TOKEN = "hf_" + "aBcDeFgHiJkLmNoP" * 2 + "qR"
OF_THE_ENVIRONMENT = "0123456789abcdef" * 2 + "01234567"
PLAIN = "swordfish"
CONFIGS = Path(__file__).parents[2] / "configs"
LANGUAGE_MODEL = read_yaml(CONFIGS / "bundled" / "weighted_topk.yaml")
COMPARISON = read_yaml(CONFIGS / "bundled" / "compare.yaml")
SYNTHETIC = {
    "synthetic_model": {"num_features": 48, "hidden_dim": 32},
    "sae": {"architecture": "topk", "d_in": 32, "d_sae": 64, "k": 4},
    "training_samples": 1280,
}
MULTI = {
    **{name: LANGUAGE_MODEL[name] for name in LANGUAGE_MODEL if name not in ("sae", "hook_name")},
    "saes": {"one": LANGUAGE_MODEL["sae"]},
    "hook_names": LANGUAGE_MODEL["hook_name"],
}
SECTIONS = ("model_kwargs", "model_from_pretrained_kwargs", "logger")
OF_A_COMPARISON = ("hooks", "hooks_per_pass", "seeds", "sparsity", "baseline", "arms", "sae")


def names(cls: type[Any]) -> list[str]:
    return [field.name for field in fields(cls) if field.init]


def places() -> Iterator[tuple[str, dict[str, Any], str]]:
    """Command, a config that is right, and the dotted path of a field in it, for every field."""
    runners = {
        LanguageModelSAERunnerConfig: LANGUAGE_MODEL,
        MultiSAETrainingRunnerConfig: MULTI,
        SyntheticSAERunnerConfig: SYNTHETIC,
    }
    for cls, config in runners.items():
        sae = "saes.one" if cls is MultiSAETrainingRunnerConfig else "sae"
        for field in names(cls):
            yield "train", config, field
        for field in names(LoggingConfig):
            yield "train", config, f"logger.{field}"
        classes = [config_class for _, config_class in SAE_TRAINING_CLASS_REGISTRY.values()]
        for field in sorted({field for config_class in classes for field in names(config_class)}):
            yield "train", config, f"{sae}.{field}"
        for field in ("architecture", "metadata.note", "metadata.deep.note"):
            yield "train", config, f"{sae}.{field}"
    for field in ("synthetic_model", "synthetic_model.firing_probability.generator_name"):
        yield "train", SYNTHETIC, field
    for field in (*names(MultiSAETrainingRunnerConfig), *OF_A_COMPARISON):
        yield "compare", COMPARISON, field
    for field in ("label", "role", "gamma_file", "control", "anything"):
        yield "compare", COMPARISON, f"arms.alpha-1.{field}"
    for section in SECTIONS:
        yield "compare", COMPARISON, f"{section}.note"


def with_value(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed = json.loads(json.dumps(config))
    section = changed
    *above, last = path.split(".")
    for name in above:
        inner = section.get(name)
        section[name] = inner if isinstance(inner, dict) else {}
        section = section[name]
    section[last] = value
    return changed


def assert_refused(ended: Ended, *secrets: str) -> None:
    ended.refused(2, "take it out", "HF_TOKEN", "hf auth login")
    assert not [secret for secret in secrets if secret in ended.err]


@pytest.fixture
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", OF_THE_ENVIRONMENT)
    return tmp_path


def test_no_field_may_hold_one(in_an_empty_folder: Path) -> None:
    """By its form, and because it is this machine's; as it stands, in a list, in a section."""
    file = in_an_empty_folder / "config.yaml"
    everywhere = list(places())
    assert len(everywhere) > 300
    for n, (command, config, path) in enumerate(everywhere):
        secret = (TOKEN, f"run of {OF_THE_ENVIRONMENT}")[n % 2]
        value = (secret, [secret], {"note": secret})[n % 3]
        file.write_text(yaml.safe_dump(with_value(config, path, value)))
        # What the command does first; to build the command itself takes most of the time.
        load = {"train": load_run_config, "compare": load_comparison_config}[command]
        with pytest.raises(
            BadInputError, match=f"{re.escape(path)}.* holds .*take it out"
        ) as error:
            load(file)
        assert secret not in str(error.value)
        if n % 20 == 0:
            assert_refused(wsae(command, file), TOKEN, OF_THE_ENVIRONMENT)
    assert list(in_an_empty_folder.iterdir()) == [file]


@pytest.mark.parametrize("command", ["train", "compare", "gamma"])
def test_no_override_may_be_one(in_an_empty_folder: Path, command: str) -> None:
    config = CONFIGS / "bundled" / ("compare" if command == "compare" else "weighted_topk")
    for override in (
        f"logger.run_name={TOKEN}",
        f"{TOKEN}=1",
        f"logger.run_name=[{OF_THE_ENVIRONMENT}",
        f"model_from_pretrained_kwargs.token={PLAIN}",
        f"model_from_pretrained_kwargs={{use_auth_token: {PLAIN}}}",
        f"model_from_pretrained_kwargs.token=[{PLAIN}",
        f"model_kwargs.password={PLAIN}",
    ):
        ended = wsae(command, config.with_suffix(".yaml"), "--set", override)
        assert_refused(ended, TOKEN, OF_THE_ENVIRONMENT, PLAIN)
    assert list(in_an_empty_folder.iterdir()) == []


@pytest.mark.parametrize(
    "where",
    [
        *(f"{section}.token" for section in SECTIONS),
        *("sae.metadata.api_key", "model_kwargs.headers.Authorization", "password"),
    ],
)
def test_no_field_may_be_called_one(in_an_empty_folder: Path, where: str) -> None:
    file = in_an_empty_folder / "config.yaml"
    file.write_text(yaml.safe_dump(with_value(LANGUAGE_MODEL, where, PLAIN)))
    ended = wsae("train", file)
    assert_refused(ended, PLAIN)
    assert f"{file}: {where}: is a credential by its name" in ended.err
    for nothing in (None, False):
        file.write_text(yaml.safe_dump(with_value(LANGUAGE_MODEL, where, nothing)))
        assert "credential" not in wsae("train", file, "--dry-run").err


def test_no_command_line_may_hold_one(in_an_empty_folder: Path) -> None:
    """It is recorded, and other users of the machine see it."""
    for command in commands(typer.main.get_command(app)):
        for secret in (TOKEN, f"--output={OF_THE_ENVIRONMENT}", f"https://me:{PLAIN}@host/v1"):
            ended = wsae(*command.split(), secret)
            assert_refused(ended, TOKEN, OF_THE_ENVIRONMENT, PLAIN)
    assert list(in_an_empty_folder.iterdir()) == []


def test_a_section_of_saelens_s_own_command_line(in_an_empty_folder: Path) -> None:
    section = json.dumps({"token": PLAIN})
    for arguments in (
        ["--model_from_pretrained_kwargs", section],
        [f"--model_kwargs={section}"],
    ):
        assert_refused(wsae("saelens", *arguments), PLAIN)
    assert list(in_an_empty_folder.iterdir()) == []


@pytest.fixture
def world(clean: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:  # noqa: F811
    """Folders that a test may change, and credentials in the environment."""
    monkeypatch.setenv("WANDB_API_KEY", OF_THE_ENVIRONMENT)
    monkeypatch.setenv("OPENAI_API_KEY", f"sk-{PLAIN}")
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield World(shutil.copytree(clean.path, tmp_path / "world"))
    torch.set_num_threads(threads)


def holds(folder: Path, *secrets: str) -> list[Path]:
    """The files that hold one of them."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [f for f in files if any(secret.encode() in f.read_bytes() for secret in secrets)]


def test_those_of_the_environment_are_nowhere(
    world: World,
    hub: FakeHub,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While a run is trained, fails, is resumed, measured and published, and libraries talk."""
    ours = [OF_THE_ENVIRONMENT, f"sk-{PLAIN}", TOKEN]
    step = WeightedSAETrainer.step

    def talking(self: WeightedSAETrainer, batch: torch.Tensor) -> Any:
        logging.getLogger("of a library").warning("the key is %s", OF_THE_ENVIRONMENT)
        if self.n_training_steps == 5:
            raise RuntimeError(f"refused: {OF_THE_ENVIRONMENT}, {TOKEN}")
        return step(self, batch)

    shown: list[str] = []

    def run(*arguments: object) -> Ended:
        ended = wsae(*arguments)
        shown.append(ended.out + ended.err)
        return ended

    config, output = world / "config.yaml", world / "new"
    with monkeypatch.context() as patch:
        patch.setattr(WeightedSAETrainer, "step", talking)
        failed = run("train", config, "--output", output, "--set", "n_checkpoints=2")
    assert failed.code == 1
    assert "the key is ***" in failed.err and "refused: ***, ***" in failed.err
    assert "refused: ***, ***" in json.loads((output / "run.json").read_text())["error"]
    few = ["--batches", 2, "--batch-size-prompts", 2]
    for arguments in (
        ["train", output / "config.yaml", "--output", output, "--resume"],
        ["eval", output, *few],
        ["card", output, "--output", world / "README.md"],
        ["push", output, "--repo", "me/mine"],
        ["verify", "me/mine"],
    ):
        assert run(*arguments).code == 0, shown[-1]
    assert not [secret for secret in ours if any(secret in text for text in shown)]
    assert not holds(world.path, *ours)
    uploads = b"".join(hub.repositories["me/mine"].files.values())
    assert uploads and not [secret for secret in ours if secret.encode() in uploads]


def line_of_metrics(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 11, "note": TOKEN}) + "\n")


def note_in_scores(run: Path) -> None:
    document = json.loads((run / "scores/held_out.json").read_text())
    document["scores"][0]["note"] = TOKEN
    (run / "scores/held_out.json").write_text(json.dumps(document))


def argument_in_cfg(run: Path) -> None:
    """As configs of before could leave it there."""
    cfg = json.loads((run / "sae" / "cfg.json").read_text())
    cfg["metadata"]["another_token"] = PLAIN
    (run / "sae" / "cfg.json").write_text(json.dumps(cfg))


def argument_in_config(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model_from_pretrained_kwargs"] = {"token": PLAIN}
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def version_in_record(run: Path) -> None:
    change_json(run / "run.json", versions={"python": OF_THE_ENVIRONMENT})


def name_of_a_tensor(run: Path) -> None:
    file = run / "sae" / "sparsity.safetensors"
    save_file(load_file(file), file, metadata={"made_by": TOKEN})


@pytest.mark.parametrize(
    "plant",
    [
        line_of_metrics,
        note_in_scores,
        argument_in_cfg,
        argument_in_config,
        version_in_record,
        name_of_a_tensor,
    ],
    ids=lambda plant: plant.__name__,
)
def test_nothing_that_holds_one_is_published(
    plant: Callable[[Path], None],
    world: World,
    hub: FakeHub,  # noqa: F811
) -> None:
    """Wherever it came from."""
    plant(world / "run")
    for flags in ([], ["--dry-run"]):
        ended = wsae("push", world / "run", "--repo", "me/mine", *flags)
        assert_refused(ended, TOKEN, OF_THE_ENVIRONMENT, PLAIN)
    assert not hub.repositories


def test_no_name_and_no_card_that_holds_one_is_published(
    world: World,
    hub: FakeHub,  # noqa: F811
) -> None:
    renamed = (world / "run").rename(world / TOKEN)
    assert_refused(wsae("push", renamed, "--repo", "me/mine"), TOKEN)
    assert_refused(wsae("push", world / "other", "--repo", "me/mine", "--author", TOKEN), TOKEN)
    assert not hub.repositories
