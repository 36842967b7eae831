"""What goes wrong around `wsae train` and `wsae compare`: one line that says so, and nothing lost.

Every fault meets a run on a language model, the bundled one unless the model is the fault.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPTNeoXForCausalLM

from tests.compare.comparisons import small
from tests.training.test_untrusted import Malicious
from tests.training.tiny import BATCH, WORDS, TinyWorld, make_world, sae, write_config
from wsae_plugin.cli import main
from wsae_plugin.compare.folder import ComparisonFolder
from wsae_plugin.training import loop
from wsae_plugin.training.checksums import write_checksums
from wsae_plugin.training.output_folder import lock
from wsae_plugin.training.trainer import WeightedSAETrainer

pytestmark = pytest.mark.filterwarnings("ignore:All samples in the training dataset")

T = TypeVar("T")

COMMANDS = ("train", pytest.param("compare", marks=pytest.mark.slow))
CHECKPOINTS = {"train": "checkpoints", "compare": "groups/seed-0/checkpoints"}
SECTION: dict[str, Any] = {"d_in": 128, "d_sae": 32, "gamma_freeze_step": 2}
BUNDLED: dict[str, Any] = {
    "model_name": "bundled",
    "dataset_path": "bundled",
    "n_checkpoints": 2,
    "logger": {"wandb_log_frequency": 5},
}
"""Ten steps, with checkpoints after the 4th and the 7th."""


class Ended(NamedTuple):
    """How a command line ended."""

    code: int
    out: str
    err: str

    def refused(self, code: int, *parts: str) -> None:
        """Assert that it ended with `code` and one line that holds `parts`."""
        assert (self.code, self.out) == (code, ""), self
        assert self.err.startswith("wsae: ") and self.err.count("\n") == 1, self.err
        for part in parts:
            assert part in self.err


def wsae(*arguments: object) -> Ended:
    """Run a command line as the shell would, in this process."""
    out, err, root = io.StringIO(), io.StringIO(), logging.getLogger()
    argv, handlers, level = sys.argv, root.handlers[:], root.level
    sys.argv = ["wsae", "-q", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        return Ended(ended.code, out.getvalue(), err.getvalue())
    finally:
        sys.argv, root.handlers[:], root.level = argv, handlers, level
    raise AssertionError("main always exits")


def values_of(command: str, world: TinyWorld, **changes: Any) -> dict[str, Any]:
    """A config for `command`: one SAE, or two arms with one seed."""
    if command == "train":
        return world.language_model(**BUNDLED | {"sae": sae(**SECTION)} | changes)
    section = sae(alpha=None, k=None, **SECTION)
    arms = {"sae": {"alpha": 0}, "weighted": {"alpha": 0.5}}
    return small(world, **BUNDLED | {"sae": section, "seeds": [0], "arms": arms} | changes)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`; comparing two says whether anything was written."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def half_written(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.suffix in (".partial", ".tmp")]


def weights(folder: Path) -> dict[str, Any]:
    """SAE → its exported tensors."""
    found = [path for path in folder.rglob("sae_weights.safetensors") if path.parent.name == "sae"]
    assert found
    return {str(path.relative_to(folder)): load_file(path) for path in found}


def assert_same_weights(a: Path, b: Path) -> None:
    one, other = weights(a), weights(b)
    assert one.keys() == other.keys()
    for name, tensors in one.items():
        assert all(torch.equal(tensor, other[name][key]) for key, tensor in tensors.items())


@contextlib.contextmanager
def replaced(target: Any, name: str, by: Callable[..., Any]) -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, by)
        yield


@contextlib.contextmanager
def signalled(at_step: int, n_signals: int = 1) -> Generator[None]:
    """Ctrl-C in the middle of a step."""
    step = WeightedSAETrainer.step
    left = [n_signals]

    def interrupted(self: WeightedSAETrainer, batch: torch.Tensor) -> Any:
        while self.n_training_steps == at_step - 1 and left[0]:
            left[0] -= 1
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch)

    # A shell has the jobs in its background, which the tests may be one of, ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with replaced(WeightedSAETrainer, "step", interrupted):
            yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def no_room_beyond(n_bytes: int) -> Generator[None]:
    """The system lets no file grow beyond so many bytes, as a full disk would not."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def without_room(function: Callable[..., T], n_bytes: int) -> Callable[..., T]:
    def limited(*arguments: Any, **keywords: Any) -> T:
        with no_room_beyond(n_bytes):
            return function(*arguments, **keywords)

    return limited


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_world(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def one_thread_in_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Runs(NamedTuple):
    """A run that went to its end, and one like it that was stopped in its 8th step."""

    command: str
    config: Path
    whole: Path
    stopped: Path

    @property
    def newest(self) -> str:
        return f"{CHECKPOINTS[self.command]}/{8 * BATCH}"

    def copy(self) -> Path:
        """The stopped run, to be spoilt."""
        return shutil.copytree(self.stopped, Path("run"))

    def resume(self, folder: Path) -> Ended:
        return wsae(self.command, self.config, "--output", folder, "--resume")


@pytest.fixture(scope="module", params=COMMANDS)
def runs(
    request: pytest.FixtureRequest, world: TinyWorld, tmp_path_factory: pytest.TempPathFactory
) -> Runs:
    path = tmp_path_factory.mktemp(request.param)
    config = write_config(path / "config.yaml", values_of(request.param, world))
    made = Runs(request.param, config, path / "whole", path / "stopped")
    torch.set_num_threads(1)
    assert wsae(made.command, config, "--output", made.whole).code == 0
    with signalled(at_step=8):
        ended = wsae(made.command, config, "--output", made.stopped)
    ended.refused(1, "stopped by SIGINT", f"--output {made.stopped} --resume")
    assert (made.stopped / made.newest).is_dir()
    return made


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def bit_flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [truncated, emptied, bit_flipped, Path.unlink])
def test_a_damaged_file_of_a_checkpoint(runs: Runs, damage: Callable[[Path], None]) -> None:
    """Each is named and nothing is changed; without the checkpoint the one before goes on."""
    folder = runs.copy()
    checkpoint = folder / runs.newest
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    assert len(files) >= 9
    before = contents(folder)
    for file in files:
        content = file.read_bytes()
        damage(file)
        spoilt = contents(folder)
        vital = file.name in ("sae_weights.safetensors", "trainer_state.pt", "runner_cfg.json")
        if damage is Path.unlink and (vital or file.name == "checksums.json"):
            file.write_bytes(content)  # no whole checkpoint any more, or one such as SAELens's
            continue
        # Where a checksum is another, the file it is of is to blame.
        blamed = str(checkpoint if file.name == "checksums.json" else file)
        runs.resume(folder).refused(2, blamed, f"remove the folder {checkpoint}")
        assert contents(folder) == spoilt
        file.write_bytes(content)
    assert contents(folder) == before
    shutil.rmtree(checkpoint)
    assert runs.resume(folder).code == 0
    assert_same_weights(runs.whole, folder)


def test_a_checkpoint_that_lacks_what_is_vital_is_passed_over(runs: Runs) -> None:
    folder = runs.copy()
    next((folder / runs.newest).rglob("trainer_state.pt")).unlink()
    assert runs.resume(folder).code == 0
    assert_same_weights(runs.whole, folder)


def test_a_tampered_checkpoint(runs: Runs) -> None:
    """Whoever changes a file can change its checksum; the code in it is not run all the same."""
    folder, made = runs.copy(), Path("made").absolute()
    state = next((folder / runs.newest).rglob("trainer_state.pt"))
    torch.save({"optimizer": Malicious(made)}, state)
    write_checksums(folder / runs.newest)
    runs.resume(folder).refused(2, f"{state}: is damaged, or asks for code to be run")
    assert not made.exists()


@pytest.mark.parametrize("name", ["checkpoint", "weights", "checkpoints", "export", "metrics"])
def test_links_out_of_a_run(runs: Runs, name: str) -> None:
    """Nothing is read or written where they lead to."""
    folder = runs.copy()
    metrics = next(folder.rglob("metrics.jsonl"))
    link = {
        "checkpoint": folder / runs.newest,
        "weights": next((folder / runs.newest).rglob("sae_weights.safetensors")),
        "checkpoints": folder / CHECKPOINTS[runs.command],
        "export": metrics.with_name("sae"),
        "metrics": metrics,
    }[name]
    elsewhere = Path("elsewhere").absolute()
    if link.exists():
        link.rename(elsewhere)
    link.symlink_to(elsewhere)
    before = contents(Path())
    runs.resume(folder).refused(2, f"{link}: is a link that leads out of {folder}")
    assert contents(Path()) == before


def test_a_config_of_a_newer_version(runs: Runs) -> None:
    folder = runs.copy()
    (config,) = folder.glob("*.yaml")
    config.write_text(config.read_text() + "field_of_tomorrow: 1\n")
    before = contents(folder)
    ended = wsae(runs.command, config, "--output", folder, "--resume")
    ended.refused(2, f"{config}: field_of_tomorrow: unknown field")
    runs.resume(folder).refused(2, f"{config}: field_of_tomorrow: unknown field")
    assert contents(folder) == before


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_record_that_is_none(runs: Runs, content: str) -> None:
    folder = runs.copy()
    file = folder / {"train": "run.json", "compare": "manifest.json"}[runs.command]
    file.write_text(content)
    before = contents(folder)
    runs.resume(folder).refused(2, str(file))
    wsae(runs.command, runs.config, "--output", folder).refused(2, str(file))
    assert contents(folder) == before


@pytest.mark.parametrize("runs", COMMANDS[1:], indirect=True)
def test_a_manifest_of_a_newer_version(runs: Runs) -> None:
    folder = runs.copy()
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"comparison": 2}))
    before = contents(folder)
    runs.resume(folder).refused(2, str(file), "comparison")
    assert contents(folder) == before


def test_metrics_that_are_none(runs: Runs) -> None:
    """They are written again from the checkpoint on; the weights do not depend on them."""
    folder = runs.copy()
    metrics = next(folder.rglob("metrics.jsonl"))
    metrics.write_bytes(b'5\n"step"\n{"step": "one"}\n\xff\xfe\n{"st')
    assert runs.resume(folder).code == 0
    assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()][-1] == 10
    assert_same_weights(runs.whole, folder)


@pytest.mark.parametrize(
    ("n_bytes", "file"), [(9_000, "weights"), (60_000, "trainer state"), (65_000, "data position")]
)
def test_a_disk_that_is_full_while_a_checkpoint_is_saved(
    runs: Runs, n_bytes: int, file: str
) -> None:
    """The checkpoint before stays, half of one does not, and the run goes on to the same end."""
    folder, save, n_saved = Path("run"), loop.save_checkpoint, [0]

    def save_once(*arguments: Any) -> Any:
        n_saved[0] += 1
        return (save if n_saved[0] == 1 else without_room(save, n_bytes))(*arguments)

    with replaced(loop, "save_checkpoint", save_once):
        ended = wsae(runs.command, runs.config, "--output", folder)
    ended.refused(1, "training failed", f"{runs.command} run/", "--resume")
    assert [path.name for path in (folder / CHECKPOINTS[runs.command]).iterdir()] == ["512"], file
    assert half_written(folder) == []
    assert runs.resume(folder).code == 0
    assert_same_weights(runs.whole, folder)


@pytest.mark.parametrize("n_bytes", [10, 1_000, 9_000])
def test_a_disk_that_is_full_while_the_sae_is_exported(runs: Runs, n_bytes: int) -> None:
    folder, fit = Path("run"), loop.TrainingLoop.fit
    whole = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fit_and_fill(*arguments: Any) -> Any:
        fitted = fit(*arguments)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, whole[1]))
        return fitted

    with replaced(loop.TrainingLoop, "fit", fit_and_fill):
        ended = wsae(runs.command, runs.config, "--output", folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, whole)
    ended.refused(1, "training failed", "--resume")
    assert list(folder.rglob("sae")) == list(folder.rglob("saes")) == half_written(folder) == []
    assert runs.resume(folder).code == 0
    assert_same_weights(runs.whole, folder)


@pytest.mark.parametrize("runs", COMMANDS[1:], indirect=True)
@pytest.mark.parametrize("n_bytes", [10, 500, 9_000])
def test_a_disk_that_is_full_while_a_comparison_is_split(runs: Runs, n_bytes: int) -> None:
    folder = Path("run")
    with replaced(ComparisonFolder, "add", without_room(ComparisonFolder.add, n_bytes)):
        ended = wsae(runs.command, runs.config, "--output", folder)
    ended.refused(1, "run: cannot be written", "File too large", "--output run --resume")
    assert list(folder.glob("runs/*")) == half_written(folder) == []
    assert runs.resume(folder).code == 0
    assert_same_weights(runs.whole, folder)


def unwritable(tmp_path: Path) -> Path:
    """A folder in which the system lets nobody write, or not us."""
    if os.geteuid() != 0:
        folder = tmp_path / "unwritable"
        folder.mkdir(mode=0o500)
        return folder
    folder = Path("/sys/kernel")  # permissions do not stop root, a file system may
    with contextlib.suppress(OSError):
        (folder / "wsae-test").mkdir()
        (folder / "wsae-test").rmdir()
        pytest.skip("root may write everywhere here")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_cannot_be_written(world: TinyWorld, tmp_path: Path, command: str) -> None:
    folder = unwritable(tmp_path)
    config = write_config(tmp_path / "config.yaml", values_of(command, world))
    ended = wsae(command, config, "--output", folder / "run")
    ended.refused(2, f"--output {folder}/run: cannot be written: ", "choose another folder")
    assert not (folder / "run").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_that_is_full_from_the_start(world: TinyWorld, tmp_path: Path, command: str) -> None:
    config = write_config(tmp_path / "config.yaml", values_of(command, world))
    with no_room_beyond(100):
        ended = wsae(command, config, "--output", "run")
    ended.refused(2, "--output run: cannot be written: File too large")
    assert contents(Path()) == {}
    assert wsae(command, config, "--output", "run").code == 0


def spoilt_model(world: TinyWorld, path: Path, value: float) -> tuple[Path, Path]:
    """A model that says `value` of the letter z, and texts in which it comes late."""
    model = shutil.copytree(world.model, path / "model")
    network: Any = GPTNeoXForCausalLM.from_pretrained(model)
    vocabulary: dict[str, int] = json.loads((model / "tokenizer.json").read_text())["model"][
        "vocab"
    ]
    with torch.no_grad():
        network.get_input_embeddings().weight[vocabulary["z"]] = value
    network.save_pretrained(model)
    lines = (world.texts / "train.jsonl").read_text().splitlines()
    assert not any("z" in word for word in WORDS)
    lines[12] = json.dumps({"text": "z"})
    (path / "texts").mkdir()
    (path / "texts" / "train.jsonl").write_text("\n".join(lines))
    return model, path / "texts"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_in_mid_run(
    world: TinyWorld, tmp_path: Path, command: str, value: float
) -> None:
    """No checkpoint has them, and with a sound model the run goes on from the last to its end."""
    model, texts = spoilt_model(world, tmp_path, value)
    sections = {
        "train": sae(gamma_freeze_step=2),
        "compare": sae(alpha=None, k=None, gamma_freeze_step=2),
    }
    values = values_of(
        command, world, model_name=str(model), dataset_path=str(texts), sae=sections[command]
    )
    config = write_config(tmp_path / "config.yaml", values)
    folder = Path("run")
    ended = wsae(command, config, "--output", folder)
    ended.refused(1, "not finite after step", "or the activations are not")
    checkpoints = list((folder / CHECKPOINTS[command]).iterdir())
    assert len(checkpoints) == 1
    for file in checkpoints[0].rglob("*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(file).values()), file
    assert list(folder.rglob("sae")) == half_written(folder) == []
    wsae(command, config, "--output", folder, "--resume").refused(1, "not finite after step")

    shutil.rmtree(model)
    shutil.copytree(world.model, model)
    assert wsae(command, config, "--output", folder, "--resume").code == 0
    assert wsae(command, config, "--output", "whole").code == 0
    assert_same_weights(Path("whole"), folder)


@pytest.mark.parametrize("command", COMMANDS)
def test_activations_that_are_not_finite_while_gamma_is_estimated(
    world: TinyWorld, tmp_path: Path, command: str
) -> None:
    model, texts = spoilt_model(world, tmp_path, float("nan"))
    sections = {
        "train": sae(gamma_freeze_step=9),
        "compare": sae(alpha=None, k=None, gamma_freeze_step=9),
    }
    values = values_of(
        command, world, model_name=str(model), dataset_path=str(texts), sae=sections[command]
    )
    config = write_config(tmp_path / "config.yaml", values)
    ended = wsae(command, config, "--output", "run")
    ended.refused(1, "NaN or infinite in dimension 0")
    assert half_written(Path("run")) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_dimensions_that_are_zero_or_constant(
    world: TinyWorld, tmp_path: Path, command: str
) -> None:
    model = shutil.copytree(world.model, tmp_path / "model")
    network: Any = GPTNeoXForCausalLM.from_pretrained(model)
    layers = network.gpt_neox.layers
    with torch.no_grad():
        network.get_input_embeddings().weight[:, :2] = torch.tensor([0.0, 3.0])
        for linear in (m for x in layers for m in (x.attention.dense, x.mlp.dense_4h_to_h)):
            linear.weight[:2], linear.bias[:2] = 0, 0
    network.save_pretrained(model)
    section = sae(alpha=None, k=None) if command == "compare" else sae(alpha=-1)
    config = write_config(
        tmp_path / "config.yaml", values_of(command, world, model_name=str(model),
                                            dataset_path=str(world.texts), sae=section)
    )  # fmt: skip
    assert wsae(command, config, "--output", "run").code == 0
    gammas = [load_file(file) for file in Path("run").rglob("gamma.safetensors")]
    assert gammas
    for tensors in gammas:
        assert tensors["gamma"].isfinite().all()
        gamma, variance = tensors["gamma"].double(), tensors["variance"].double()
        assert variance.min() == 0
        assert (gamma.square() * variance).sum() == pytest.approx(variance.sum().item(), rel=1e-5)
    # Of the arm with alpha 0 it is not estimated.
    assert [0, 0] in [tensors["proxy"][:2].tolist() for tensors in gammas]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_data_set_of_one_token(world: TinyWorld, tmp_path: Path, command: str) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "train.jsonl").write_text('{"text": "a"}\n')
    values = values_of(command, world, dataset_path=str(tmp_path / "texts"))
    config = write_config(tmp_path / "config.yaml", values)
    ended = wsae(command, config, "--output", "run")
    ended.refused(1, "Dataset may be too small")
    assert half_written(Path("run")) == []


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        ("train", ["sae.k=33"], "sae.k = 33: must not exceed sae.d_sae = 32"),
        ("compare", ["sparsity.k=[33]"], "k = 33: must not exceed"),
        ("train", ["hook_name=blocks.1.hook_resid_pots"], "hook_name = 'blocks.1.hook_resid_pots'"),
        ("compare", ["hooks=[blocks.7.hook_resid_post]"], "hooks = 'blocks.7.hook_resid_post'"),
    ],
)
def test_what_cannot_be(
    world: TinyWorld, tmp_path: Path, command: str, flags: list[str], message: str
) -> None:
    config = write_config(tmp_path / "config.yaml", values_of(command, world))
    sets = [part for flag in flags for part in ("--set", flag)]
    wsae(command, config, *sets).refused(2, message, str(config))
    assert contents(Path()) == {}


def hold(folder: Path, ready: Any) -> None:
    with lock(folder):
        ready.set()
        multiprocessing.Event().wait()


@pytest.mark.parametrize("resumed", [False, True])
def test_two_runs_into_one_folder(runs: Runs, resumed: bool) -> None:
    """The lock of a process that is killed is gone with it."""
    folder = runs.copy() if resumed else Path("run")
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=hold, args=(folder, ready))
    other.start()
    flags = ["--resume"] if resumed else []
    try:
        assert ready.wait(60)
        before = contents(folder)
        ended = wsae(runs.command, runs.config, "--output", folder, *flags)
        ended.refused(2, f"--output {folder}: another process is writing to it")
        assert contents(folder) == before
    finally:
        other.kill()
        other.join()
    assert wsae(runs.command, runs.config, "--output", folder, *flags).code == 0
    assert_same_weights(runs.whole, folder)


def test_only_the_newest_checkpoints_are_kept(runs: Runs) -> None:
    """Also those of interruptions; what was being written when a run was killed goes."""
    folder = Path("run")
    keep = ("--output", folder, "--keep-checkpoints", 1)
    with signalled(at_step=6):
        ended = wsae(runs.command, runs.config, *keep)
    ended.refused(1, "--output run --keep-checkpoints 1 --resume")
    checkpoints = folder / CHECKPOINTS[runs.command]
    assert [path.name for path in checkpoints.iterdir()] == [str(6 * BATCH)]
    shutil.copytree(checkpoints / str(6 * BATCH), checkpoints / ".640.partial")
    with signalled(at_step=9):
        assert wsae(runs.command, runs.config, *keep, "--resume").code == 1
    assert [path.name for path in checkpoints.iterdir()] == [str(9 * BATCH)]
    assert wsae(runs.command, runs.config, *keep, "--resume").code == 0
    assert_same_weights(runs.whole, folder)


def test_ctrl_c_twice_stops_at_once(runs: Runs) -> None:
    folder = Path("run")
    with signalled(at_step=6, n_signals=2):
        ended = wsae(runs.command, runs.config, "--output", folder)
    assert (ended.code, ended.out, ended.err) == (130, "", "")
    assert [path.name for path in (folder / CHECKPOINTS[runs.command]).iterdir()] == ["512"]
    assert runs.resume(folder).code == 0
    assert_same_weights(runs.whole, folder)
