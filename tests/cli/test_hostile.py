"""Every command on folders from a stranger: nothing in them is carried out, nothing leaks out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch
import typer.main
import yaml
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file

from tests import hostile
from tests.cli.test_faults import Ended, wsae
from tests.hostile import ATTACKS, LINKS, SECRET, World
from tests.hub.conftest import hub  # noqa: F401 - a fixture
from tests.hub.server import FakeHub
from tests.vision.tiny import picture
from wsae_plugin.cli.main import app
from wsae_plugin.hub.bundle import make_bundle
from wsae_plugin.hub.card import CardOptions, make_card
from wsae_plugin.hub.records import read_records

pytestmark = [
    pytest.mark.filterwarnings("ignore:All samples in the training dataset"),
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    # What SAELens's own command line says.
    pytest.mark.filterwarnings("ignore:HookedTransformer.from_pretrained:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:use_chat_formatting is True:UserWarning"),
]

CONFIG: dict[str, Any] = {
    "model_name": "bundled",
    "dataset_path": "bundled",
    "hook_name": "blocks.1.hook_resid_post",
    "sae": {
        "architecture": "weighted_topk",
        "d_in": 128,
        "d_sae": 32,
        "k": 4,
        "alpha": 0.5,
        "gamma_freeze_step": 2,
    },
    "context_size": 32,
    "store_batch_size_prompts": 4,
    "n_batches_in_buffer": 8,
    "training_tokens": 1280,
    "train_batch_size_tokens": 128,
    "model_from_pretrained_kwargs": {},
}
FLAG = "--trust-remote-code"


def invocations(world: World) -> Mapping[str, list[list[object]]]:
    """Command → its command lines, on everything in the world that it takes."""
    config = world / "config.yaml"
    # Not with a YAML loader, which would have to be trusted.
    values = dict(line.split(": ", 1) for line in config.read_text().splitlines() if ": " in line)
    own = ["--output", world / "new"]
    few = ["--batches", 2, "--batch-size-prompts", 2]
    toy = ["--output", world / "toy", "--seeds", 2, "--steps", 1]
    model = [f"--{name}={values[name]}" for name in ("model_name", "hook_name", "dataset_path")]
    class_name = values.get("model_class_name", "HookedTransformer")
    runs, comparison = [world / "run", world / "other"], world / "comparison"
    push = ["--repo", "me/planted"]
    return {
        "train": [
            ["train", config, *own],
            ["train", config, "--dry-run"],
            ["train", world / "stopped" / "config.yaml", "--output", world / "stopped", "--resume"],
        ],
        "compare": [
            ["compare", world / "comparison.yaml", "--output", world / "compared"],
            ["compare", world / "comparison.yaml", "--dry-run"],
            ["compare", comparison / "comparison.yaml", "--output", comparison, "--resume"],
        ],
        "gamma": [["gamma", config, *own], ["gamma", world / "run" / "config.yaml", *own]],
        "eval": [["eval", *runs, *few, "--force"], ["eval", comparison, *few, "--force"]],
        "bench": [
            ["bench", comparison, "--evals", "core"],
            ["bench", comparison, "--evals", "core", "--dry-run"],
            ["bench", *runs, "--evals", "tpp", "--output", world / "bench", "--dry-run"],
        ],
        "report": [["report", comparison]],
        "card": [
            ["card", *runs, "--output", world / "README.md"],
            ["card", comparison, "--output", world / "README.md"],
        ],
        "push": [["push", *runs, *push], ["push", comparison, *push, "--dry-run"]],
        "verify": [["verify", world / "publication"]],
        "optimality": [
            ["optimality", *runs, "--tokens", 64, "--batches", 8, "--force"],
            ["optimality", world / "run", "--tokens", 64, "--batches", 8, "--refit", *own],
        ],
        "identify": [["identify", *runs], ["identify", *(run / "sae" for run in runs)]],
        "claims": [["claims", "--only", "v1-theorem-2", "--output", world / "run" / "claims.json"]],
        "demo": [["demo", "--output", world / "demo"]],
        "embed": [
            ["embed", world / "images", "--model", folder, "--output", world / "table"]
            for folder in (values["model_name"], world / "run")
            if Path(folder).is_dir()
        ],
        "toy fig2": [["toy", "fig2", *toy]],
        "toy fig3": [["toy", "fig3", *toy]],
        "toy proxies": [["toy", "proxies", *toy]],
        "toy alpha": [["toy", "alpha", *toy]],
        "toy gba": [["toy", "gba", *toy]],
        "saelens": [["saelens", *model, f"--model_class_name={class_name}"]],
    }


def commands(group: Any, prefix: str = "") -> list[str]:
    """Every command of the application, however it was added."""
    names: list[str] = []
    for key, command in group.commands.items():
        is_group = hasattr(command, "commands")
        names += commands(command, f"{prefix}{key} ") if is_group else [f"{prefix}{key}"]
    return names


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Folders as the commands leave them: runs, a comparison, a publication and others."""
    path = tmp_path_factory.mktemp("clean")
    world = World(path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    (path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    arms = {"sae": {"alpha": 0}, "weighted": {"alpha": 0.5}}
    sae = {name: value for name, value in CONFIG["sae"].items() if name != "alpha"}
    comparison = {
        **{name: value for name, value in CONFIG.items() if name != "hook_name"},
        **{"hooks": [CONFIG["hook_name"]], "sae": sae, "seeds": [0], "baseline": "sae"},
        "arms": arms,
    }
    (path / "comparison.yaml").write_text(yaml.safe_dump(comparison))
    few = ["--batches", 2, "--batch-size-prompts", 2]
    for arguments in (
        ["train", path / "config.yaml", "--output", path / "run"],
        ["train", path / "config.yaml", "--output", path / "other", "--set", "seed=1"],
        ["train", path / "config.yaml", "--output", path / "stopped", "--set", "n_checkpoints=2"],
        ["compare", path / "comparison.yaml", "--output", path / "comparison"],
        ["eval", path / "run", path / "other", *few],
        ["eval", path / "comparison", *few],
    ):
        assert wsae(*arguments).code == 0, arguments
    hostile.change_json(path / "stopped" / "run.json", status="interrupted")
    publish(path / "run", path / "publication")
    picture(path / "images" / "1.png", 1)
    for folder in ("made", "cwd", "demo", "toy"):
        (path / folder).mkdir()
    # Neither of them is free, so that nothing is trained that takes minutes.
    (path / "demo" / "mine.txt").touch()
    (path / "toy" / "config.json").write_text("{}")
    world.secret.write_text(json.dumps({"status": SECRET, "secret": SECRET}))
    torch.set_num_threads(threads)
    return world


def publish(run: Path, folder: Path) -> None:
    """What `wsae push` would upload."""
    records = read_records([run])
    card, figures = make_card([run], records, CardOptions(author="me", language="code"))
    for name, content in make_bundle(records, card, figures).files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.read_bytes()
        (folder / name).write_bytes(data)


@pytest.fixture
def world(clean: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A copy that an attack may be planted in, with a working directory inside."""
    world = World(shutil.copytree(clean.path, tmp_path / "world", symlinks=True))
    monkeypatch.chdir(world / "cwd")
    # Whoever is asked whether code may be run says yes without reading.
    monkeypatch.setattr("builtins.input", lambda _: "y")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield world
    torch.set_num_threads(threads)


def test_every_command_is_tried(clean: World) -> None:
    assert set(commands(typer.main.get_command(app))) == set(invocations(clean))


@pytest.mark.parametrize(
    ("attack", "loads"),
    [
        *(pytest.param(attack, True, id=attack.__name__) for attack in ATTACKS if ATTACKS[attack]),
        *(
            pytest.param(attack, False, id=f"{attack.__name__}-others", marks=pytest.mark.slow)
            for attack in ATTACKS
        ),
    ],
)
def test_nothing_is_carried_out_and_nothing_leaks(
    attack: Callable[[World], None],
    loads: bool,
    world: World,
    hub: FakeHub,  # noqa: F811
) -> None:
    """By the commands that load what is planted, and by all the others."""
    attack(world)
    for command, lines in invocations(world).items():
        if (command in ATTACKS[attack]) != loads:
            continue
        for arguments in lines:
            ended = wsae(*arguments)
            assert not list(world.made.iterdir()), arguments
            assert SECRET not in ended.out + ended.err, arguments
            assert not world.shows_the_secret(), arguments
            assert_said_in_one_line(ended, arguments)
    uploads = [f for repository in hub.repositories.values() for f in repository.files.values()]
    assert not any(SECRET.encode() in content for content in uploads)


def assert_said_in_one_line(ended: Ended, arguments: list[object]) -> None:
    assert ended.code in (0, 1, 2), arguments
    assert "Traceback" not in ended.err, (arguments, ended.err)
    # How to install SAEBench takes several.
    if ended.code and "sae-bench is not installed" not in ended.err:
        assert ended.err.splitlines()[-1].startswith("wsae: "), (arguments, ended.err)


@pytest.mark.parametrize("attack", LINKS, ids=lambda attack: attack.__name__)
def test_a_link_out_of_a_folder_is_named(attack: Callable[[World], None], world: World) -> None:
    attack(world)
    lines = invocations(world)
    reading = [
        *(lines["train"][2], lines["compare"][2], *lines["eval"], *lines["bench"][1:]),
        *(*lines["report"], *lines["card"], *lines["push"], *lines["verify"], lines["identify"][0]),
        *(*lines["optimality"], *lines["demo"], *lines["toy fig2"]),
        ["toy", "gba", "--output", world / "toy"],
    ]
    before = sorted(world.path.rglob("*"))
    for arguments in reading:
        wsae(*arguments).refused(2, "is a link that leads out of")
    assert sorted(world.path.rglob("*")) == before


def test_a_config_that_is_a_link(world: World) -> None:
    """A config may be one; that of a folder may not lead out of it, nor what a run starts from."""
    (world / "link.yaml").symlink_to(world / "config.yaml")
    assert wsae("train", world / "link.yaml", "--dry-run").code == 0
    config = world / "run" / "config.yaml"
    config.unlink()
    config.symlink_to(world.secret)
    for command in ("train", "gamma"):
        wsae(command, config).refused(2, f"{config}: is a link that leads out of")
    for field, folder in (
        ("from_pretrained_path", world / "other" / "sae"),
        ("resume_from_checkpoint", next((world / "stopped" / "checkpoints").iterdir())),
    ):
        (folder / "linked.json").symlink_to(world.secret)
        arguments = ["train", world / "config.yaml", "--output", world / "new"]
        wsae(*arguments, "--set", f"{field}={folder}").refused(2, "is a link that leads out of")


def test_a_matplotlibrc_that_calls_latex(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """LaTeX would read whatever its preamble says into a figure."""
    preamble = rf"\AtBeginDocument{{\input{{{world.secret}}}}}"
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    monkeypatch.setitem(matplotlib.rcParams, "text.latex.preamble", preamble)
    assert wsae("card", world / "run", "--output", world / "README.md").code == 0


def test_what_is_planted_would_be_carried_out(world: World) -> None:
    """With the flag it is, where the user's own config asks for it."""
    hostile.remote_code_of_the_model_itself(world)
    wsae("train", world / "config.yaml", "--output", world / "new", FLAG)
    assert [file.name for file in world.made.iterdir()] == ["remote-model"]


def test_pickles_of_a_model_the_user_trusts(world: World) -> None:
    hostile.pickled_model_asked(world)
    wsae("train", world / "config.yaml", "--output", world / "new", FLAG)
    assert [file.name for file in world.made.iterdir()] == ["weights"]


def test_without_the_config_s_asking_the_flag_is_nothing(world: World) -> None:
    hostile.remote_code_unasked(world)
    ended = wsae("train", world / "config.yaml", "--output", world / "new", FLAG)
    ended.refused(2, "contains custom code")
    assert not list(world.made.iterdir())


def test_a_model_of_pickled_tensors(world: World) -> None:
    """Without code in them they are read for the user's own config, and not for a folder's."""
    model = hostile.plain_model(world / "model")
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    torch.save(tensors, model / "pytorch_model.bin")
    hostile.name_model_everywhere(world, model)
    assert wsae("train", world / "config.yaml", "--output", world / "new").code == 0
    few = ["--batches", 2, "--batch-size-prompts", 2]
    wsae("eval", world / "new", *few).refused(2, "model.safetensors", FLAG)
    assert wsae("eval", world / "new", *few, FLAG).code == 0


def test_a_model_and_arguments_that_are_harmless(world: World) -> None:
    """A model's own folder, which may be a link and hold links, loaded as its config says."""
    model = hostile.plain_model(world / "model")
    (model / "model.safetensors").rename(world / "weights")
    (model / "model.safetensors").symlink_to(world / "weights")
    (world / "linked-model").symlink_to(model)
    kwargs = {"dtype": "float32", "revision": "main", "center_writing_weights": False}
    changes = {hostile.KWARGS: kwargs, "model_name": str(world / "linked-model")}
    hostile.change_yaml(world / "config.yaml", **changes)
    (world / "new").symlink_to(world / "made")
    assert wsae("train", world / "config.yaml", "--output", world / "new").code == 0
    (world / "made" / "latest").symlink_to("sae")
    few = ["--batches", 2, "--batch-size-prompts", 2]
    assert wsae("eval", world / "new", *few).code == 0
    assert wsae("identify", world / "new", world / "run").code == 0


def test_a_publication_whose_model_brings_code(
    world: World,
    hub: FakeHub,  # noqa: F811
) -> None:
    """The model is on the Hub and in the cache, and the publication agrees with itself."""
    repository = hub.create("stranger/model")
    hostile.remote_code_of_the_model_itself(world)
    for file in (world / "remote-model").iterdir():
        hub.edit("stranger/model", file.name, file.read_bytes())
    hostile.name_model_everywhere(
        world, "stranger/model", **hostile.AS_MODULE, **{hostile.KWARGS: {"revision": "main"}}
    )
    hf_hub_download("stranger/model", "config.json")
    ended = wsae("verify", world / "publication")
    ended.refused(2, "stranger/model", "contains custom code")
    asked = {hostile.KWARGS: {"trust_remote_code": True}}
    hostile.name_model_everywhere(world, "stranger/model", **hostile.AS_MODULE, **asked)
    assert wsae("verify", world / "publication").code == 1
    assert not list(world.made.iterdir())
    wsae("verify", world / "publication", FLAG)
    assert [file.name for file in world.made.iterdir()] == ["remote-model"]
    assert repository.files
