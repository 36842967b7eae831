"""`wsae train`, as a user calls it."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.training.tiny import TinyWorld, make_world, sae, write_config
from wsae_plugin.cli import main
from wsae_plugin.sources import sensitivity
from wsae_plugin.training import load_run_config

pytestmark = pytest.mark.filterwarnings("ignore:All samples in the training dataset")

Wsae = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_world(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs go to a folder of the test; logging, threads and the working folder come back."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    root, threads = logging.getLogger(), torch.get_num_threads()
    handlers, level = root.handlers[:], root.level
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def wsae(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Wsae:
    """Run a command line; returns the exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wsae", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        code = ended.value.code
        return code if isinstance(code, int) else 0, output.out, output.err

    return run


HOOK_NAME = "blocks.1.hook_resid_post"
HOOK = "hook_name=blocks.1.hook_resid_pots"
BAD_FLAGS: dict[str, tuple[list[str], str]] = {
    "a misspelt field": (["--set", "lrr=1"], "lrr: unknown field; did you mean 'lr'?"),
    "a misspelt section": (["--set", "loger.run_name=x"], "loger: unknown field"),
    "a misspelt SAE field": (["--set", "sae.alfa=1"], "sae.alfa: unknown field"),
    "a misspelt log field": (["--set", "logger.log_wandb=true"], "logger.log_wandb: unknown"),
    "an unknown architecture": (["--set", "sae.architecture=topkk"], "did you mean 'topk'?"),
    "text for a number": (["--set", "lr=fast"], "lr = 'fast': must be a number"),
    "a fraction of a latent": (["--set", "sae.k=2.5"], "sae.k = 2.5: must be a whole number"),
    "true for a number": (["--set", "seed=true"], "seed = True: must be a whole number"),
    "a number for a switch": (["--set", "streaming=1"], "streaming = 1: must be true or false"),
    "nothing for a number": (["--set", "lr="], "lr = None: must be a number"),
    "a list for text": (["--set", "device=[cpu]"], "device = ['cpu']: must be text"),
    "text for a list": (["--set", "seqpos_slice=all"], "seqpos_slice = 'all': must be a list"),
    "no choice of SAELens": (["--set", "sae.normalize_activations=l2"], "must be one of 'none'"),
    "too large a k": (["--set", "sae.k=65"], "sae.k = 65: must not exceed"),
    "not a number at all": (["--set", "sae.alpha=.nan"], "sae.alpha = nan: must be a number"),
    "an unknown proxy": (["--set", "sae.gamma_proxy=entropy"], "gamma_proxy"),
    "a device that is not there": (["--set", "device=cuda:63"], "device = 'cuda:63'"),
    "a small buffer": (["--set", "n_batches_in_buffer=1"], "n_batches_in_buffer = 1"),
    "a short run": (["--set", "training_tokens=5"], "training_tokens = 5: is less than one"),
    "an override without value": (["--set", "lr"], "--set lr: must read FIELD=VALUE"),
    "an override of a field's field": (["--set", "lr.a=1"], "--set lr.a=1: lr is the value"),
    "an override that is no YAML": (["--set", "lr=["], "--set lr=[: line 1: not YAML"),
    "a hook the model has not": (["--set", HOOK], "did you mean 'blocks.1.hook_resid_post'?"),
    "a width the hook has not": (["--set", "sae.d_in=31"], "sae.d_in = 31: "),
    "a context too long": (["--set", "context_size=99"], "context_size = 99: "),
    "a model that is not there": (["--set", "model_name=pythia-160"], "model_name = 'pythia-160'"),
    "data that is not there": (["--set", "dataset_path=./none"], "dataset_path = './none'"),
    "a checkpoint that is not there": (["--set", "resume_from_checkpoint=x"], "= 'x': no complete"),
    "weights that are not there": (["--set", "from_pretrained_path=x"], "from_pretrained_path"),
    "nothing to resume": (["--resume"], "--resume: runs/config holds no run"),
    "a file as run folder": (["--output", "../config.yaml"], "--output ../config.yaml: is a file"),
    "a folder in use": (["--output", ".."], "--output ..: is not empty"),
}


@pytest.mark.parametrize(("flags", "message"), BAD_FLAGS.values(), ids=BAD_FLAGS.keys())
def test_a_wrong_request_is_one_line_and_writes_nothing(
    wsae: Wsae, world: TinyWorld, tmp_path: Path, flags: list[str], message: str
) -> None:
    config = write_config(tmp_path / "config.yaml", world.language_model())
    before = sorted(tmp_path.rglob("*"))
    code, out, err = wsae("-q", "train", config, *flags)
    assert code == 2
    assert message in err
    assert err.startswith("wsae: ")
    assert (out, err.count("\n")) == ("", 1)
    assert sorted(tmp_path.rglob("*")) == before


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "binary": (b"\x93NUMPY\x01\x00\xff\xfe", "is not a text file"),
    "no mapping": (b"- a\n- b\n", "holds a list"),
    "no YAML": (b"sae: [\n", "not YAML"),
    "a key twice": (b"lr: 1\nlr: 2\n", "line 2: the key 'lr' is there twice"),
    "no SAE": (b"lr: 1\n", "sae: missing"),
    "sae and saes": (b"sae: {}\nsaes: {}\n", "sae and saes: a run has one or the other"),
    "an SAE that is none": (b"sae: topk\n", "sae = 'topk': must be a section"),
    "no architecture": (b"sae: {d_in: 1, d_sae: 2}\n", "sae.architecture: missing"),
    "no width": (b"sae: {architecture: topk, d_in: 1}\n", "sae.d_sae: missing"),
    "no hooks": (b"saes: {a: {architecture: topk, d_in: 1, d_sae: 2}}\n", "hook_names: missing"),
    "a synthetic model without a size": (
        b"synthetic_model: {num_features: 3}\nsae: {architecture: topk, d_in: 1, d_sae: 2}\n",
        "synthetic_model.hidden_dim: missing",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_wrong_file_is_one_line_and_writes_nothing(
    wsae: Wsae, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = wsae("train", tmp_path / "config.yaml")
    assert code == 2
    assert message in err
    assert str(tmp_path / "config.yaml") in err
    assert (out, err.count("\n")) == ("", 1)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_file_and_a_folder(wsae: Wsae, tmp_path: Path) -> None:
    assert wsae("train", "none.yaml")[::2] == (
        2,
        "wsae: none.yaml: no such file; give the path of a YAML config\n",
    )
    assert wsae("train", tmp_path)[0] == 2


def test_help_teaches(wsae: Wsae) -> None:
    code, out, _ = wsae("train", "--help")
    assert code == 0
    for taught in ("architecture: weighted_topk", "--set sae.k=32", "--resume", "Exit codes"):
        assert taught in out


def test_the_config_in_the_help_is_one(wsae: Wsae, tmp_path: Path) -> None:
    from wsae_plugin.cli._shared import help_of
    from wsae_plugin.cli.train import train

    block = help_of(train).split("\b\n")[1].split("\n\n")[0]
    (tmp_path / "config.yaml").write_text(block)
    assert yaml.safe_load(block)["sae"]["alpha"] == 0.5
    assert wsae("train", tmp_path / "config.yaml", "--dry-run")[0] == 0


def test_a_run_says_where_the_sae_is(wsae: Wsae, world: TinyWorld, tmp_path: Path) -> None:
    config = write_config(tmp_path / "mine.yaml", world.language_model())
    code, out, _ = wsae("-q", "train", config, "--set", "sae.alpha=1", "--set", "lr=1e-2")
    assert code == 0
    assert 'SAE.load_from_disk("runs/mine/sae")' in out
    assert "explained variance" in out
    resolved = yaml.safe_load(Path("runs/mine/config.yaml").read_text())
    assert (resolved["sae"]["alpha"], resolved["lr"]) == (1.0, 0.01)
    record = json.loads(Path("runs/mine/run.json").read_text())
    assert record["command"].startswith("wsae -q train ")


def test_the_run_folder_can_be_named_in_the_file(
    wsae: Wsae, world: TinyWorld, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "mine.yaml", world.synthetic(output_path="elsewhere"))
    assert wsae("-q", "train", config)[0] == 0
    assert Path("elsewhere/sae/cfg.json").is_file()
    assert wsae("-q", "train", config, "--output", "here")[0] == 0
    assert Path("here/sae/cfg.json").is_file()


def test_json_is_all_that_is_on_stdout(wsae: Wsae, world: TinyWorld, tmp_path: Path) -> None:
    config = write_config(tmp_path / "mine.yaml", world.multi())
    code, out, _ = wsae("train", config, "--json", "--output", "run")
    assert code == 0
    result = json.loads(out)
    assert result["output"] == "run"
    assert list(result["saes"]) == ["baseline", "alpha-0", "alpha-1"]
    assert result["saes"]["alpha-1"]["path"] == "run/saes/alpha-1"
    assert result["saes"]["alpha-1"]["metrics"]["metrics/l0"] == 4
    # Plain Top-k has no choice of kernels.
    kernels = {name: sae["kernel"] for name, sae in result["saes"].items()}
    assert kernels == {"baseline": None, "alpha-0": "eager", "alpha-1": "eager"}


def test_the_kernel_is_printed(wsae: Wsae, world: TinyWorld, tmp_path: Path) -> None:
    config = write_config(tmp_path / "mine.yaml", world.multi())
    code, out, _ = wsae("-q", "train", config, "--set", "saes.alpha-1.kernel=cpu")
    assert code == 0
    assert "Kernel of the training step: alpha-0: eager; alpha-1: cpu\n" in out


def test_a_dry_run_writes_nothing(wsae: Wsae, world: TinyWorld, tmp_path: Path) -> None:
    config = write_config(tmp_path / "mine.yaml", world.language_model())
    code, out, _ = wsae("train", config, "--dry-run", "--set", "sae.k=3")
    assert code == 0
    for shown in ("k: 3", "runs/mine", "activation buffer", "language model", "KiB"):
        assert shown in out
    assert "adam_beta1" not in out and "gamma_proxy" not in out and "--verbose shows them" in out
    _, everything, _ = wsae("train", config, "--dry-run", "--set", "sae.k=3", "--verbose")
    whole = yaml.safe_load(everything.partition("A run of")[0])
    assert whole == load_run_config(config, ["sae.k=3"]).values
    code, out, _ = wsae("train", config, "--dry-run", "--json")
    assert code == 0
    result = json.loads(out)
    assert result["config"]["sae"]["architecture"] == "weighted_topk"
    assert (result["n_steps"], result["n_samples"], result["buffer_tokens"]) == (10, 1280, 256)
    assert result["memory_bytes"]["total"] == sum(
        value for name, value in result["memory_bytes"].items() if name != "total"
    )
    assert list(Path().iterdir()) == []


def test_sigterm_saves_and_resume_goes_on(wsae: Wsae, world: TinyWorld, tmp_path: Path) -> None:
    values: dict[str, Any] = world.language_model(
        training_tokens=2_000_000, sae=sae(d_sae=512), logger={"wandb_log_frequency": 1}
    )
    config = write_config(tmp_path / "mine.yaml", values)
    process = subprocess.Popen(
        [sys.executable, "-c", "from wsae_plugin.cli import main; main()", "train", str(config)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = Path("runs/mine/metrics.jsonl")
    deadline = time.monotonic() + 120
    while not metrics.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    last = err.strip().splitlines()[-1]
    assert last.startswith("wsae: stopped by SIGTERM after ")
    assert last.endswith("go on with: wsae train runs/mine/config.yaml --output runs/mine --resume")
    (checkpoint,) = Path("runs/mine/checkpoints").iterdir()
    n_steps = int(checkpoint.name) // values["train_batch_size_tokens"]
    assert len(metrics.read_text().splitlines()) == n_steps

    # A run is as long as its config says; this one is shortened wherever its length stands.
    shortened = yaml.safe_load(Path("runs/mine/config.yaml").read_text())
    shortened["training_tokens"] = (n_steps + 3) * values["train_batch_size_tokens"]
    write_config(Path("runs/mine/config.yaml"), shortened)
    record = json.loads(Path("runs/mine/run.json").read_text()) | {"config": shortened}
    Path("runs/mine/run.json").write_text(json.dumps(record))
    command = ("train", "runs/mine/config.yaml", "--output", "runs/mine", "--resume")
    assert wsae("-q", *command)[0] == 0
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == list(range(1, n_steps + 4))
    assert wsae("-q", *command)[0] == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_metric_is_estimated(
    wsae: Wsae,
    world: TinyWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    section = sae(alpha=0, metric="fisher", metric_tokens=400)  # 13 contexts, four in a batch
    config = write_config(tmp_path / "mine.yaml", world.language_model(sae=section))
    assert wsae("-q", "train", config, "--output", "whole")[0] == 0
    gradients_at, passes = sensitivity.gradients_at, list[int]()

    def signalled(*arguments: Any) -> Any:
        passes.append(arguments[4])
        if len(passes) == 2:
            signal.raise_signal(number)
        return gradients_at(*arguments)

    monkeypatch.setattr(sensitivity, "gradients_at", signalled)
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    code, out, err = wsae("-q", "train", config, "--output", "run")
    assert handlers == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith(f"wsae: stopped by {number.name} while a metric was estimated")
    assert err.endswith("go on with: wsae train run/config.yaml --output run --resume\n")
    assert json.loads(Path("run/run.json").read_text())["status"] == "interrupted"
    assert not Path("run/metrics.jsonl").exists()
    assert wsae("-q", "train", "run/config.yaml", "--output", "run", "--resume")[0] == 0
    assert passes == [0, 4, 8, 12]  # none again
    for name in (f"metric/{HOOK_NAME}-400.safetensors", "sae/sae_weights.safetensors"):
        resumed, whole = (load_file(Path(run, name)) for run in ("run", "whole"))
        assert all(torch.equal(resumed[key], whole[key]) for key in whole), name
