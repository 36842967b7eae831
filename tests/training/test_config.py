"""A YAML file as a SAELens runner config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sae_lens import LanguageModelSAERunnerConfig, TopKTrainingSAEConfig
from sae_lens.multi_sae_training_runner import MultiSAETrainingRunnerConfig
from sae_lens.synthetic import SyntheticSAERunnerConfig

from tests.training.tiny import TinyWorld, sae, write_config
from wsae_plugin import WeightedTopKTrainingSAEConfig
from wsae_plugin.assets import BUNDLED_MODEL_NAME
from wsae_plugin.errors import BadInputError
from wsae_plugin.training.config import load_run_config
from wsae_plugin.yaml_file import to_yaml


def test_each_kind_becomes_its_own_class(world: TinyWorld, tmp_path: Path) -> None:
    kinds = {
        LanguageModelSAERunnerConfig: world.language_model(),
        MultiSAETrainingRunnerConfig: world.multi(),
        SyntheticSAERunnerConfig: world.synthetic(),
    }
    for cls, values in kinds.items():
        config = load_run_config(write_config(tmp_path / "config.yaml", values))
        assert isinstance(config.runner_config(), cls)
        assert config.n_steps == 10


def test_the_fields_reach_saelens(world: TinyWorld, tmp_path: Path) -> None:
    values = world.language_model(lr="1e-3", seqpos_slice=[1, None], adam_beta1=0.5)
    config = load_run_config(write_config(tmp_path / "config.yaml", values), ["sae.alpha=1"])
    runner = config.runner_config(tmp_path / "sae", tmp_path / "checkpoints")
    assert isinstance(runner.sae, WeightedTopKTrainingSAEConfig)
    assert (runner.sae.alpha, runner.sae.k) == (1.0, 4)
    assert (runner.lr, runner.adam_beta1, runner.seqpos_slice) == (1e-3, 0.5, (1, None))
    assert runner.output_path == str(tmp_path / "sae")
    # SAELens's constructor would have appended eight random characters.
    assert runner.checkpoint_path == str(tmp_path / "checkpoints")
    assert runner.logger.log_to_wandb is False


def test_multi_saes_keep_their_own_classes(world: TinyWorld, tmp_path: Path) -> None:
    config = load_run_config(write_config(tmp_path / "config.yaml", world.multi()))
    runner = config.runner_config()
    assert type(runner.saes["baseline"]) is TopKTrainingSAEConfig
    assert [runner.saes[name].alpha for name in ("alpha-0", "alpha-1")] == [0.0, 1.0]


@pytest.mark.parametrize("name", ["bundled", BUNDLED_MODEL_NAME])
def test_the_bundled_model_is_published_by_its_name(
    world: TinyWorld, tmp_path: Path, name: str
) -> None:
    values = world.language_model(model_name=name)
    config = load_run_config(write_config(tmp_path / "config.yaml", values))
    assert config.runner_config().model_name == BUNDLED_MODEL_NAME
    assert config.values["model_name"] == name


def test_a_synthetic_run_has_a_seed_of_its_own(world: TinyWorld, tmp_path: Path) -> None:
    path = write_config(tmp_path / "config.yaml", world.synthetic())
    assert load_run_config(path).seed == 42
    assert load_run_config(path, ["seed=7"]).seed == 7
    with pytest.raises(BadInputError, match="seed = 'x'"):
        load_run_config(path, ["seed=x"])


@settings(max_examples=25, suppress_health_check=[HealthCheck.differing_executors])
@given(
    alpha=st.floats(-4, 4),
    k=st.integers(1, 64),
    lr=st.floats(1e-8, 1, exclude_min=True),
    seed=st.integers(0, 2**32),
    separator=st.sampled_from(["bos", None, 3]),
    run_name=st.none() | st.text(st.characters(codec="ascii", exclude_categories=("Cc",))),
)
def test_the_resolved_config_is_a_config_and_resolves_to_itself(
    tmp_path_factory: pytest.TempPathFactory,
    alpha: float,
    k: int,
    lr: float,
    seed: int,
    separator: Any,
    run_name: str | None,
) -> None:
    folder = tmp_path_factory.mktemp("round_trip")
    world = TinyWorld(folder)
    values = world.language_model(
        sae=sae(alpha=alpha, k=k),
        lr=lr,
        seed=seed,
        sequence_separator_token=separator,
        logger={"run_name": run_name},
    )
    first = load_run_config(write_config(folder / "config.yaml", values))
    (folder / "resolved.yaml").write_text(to_yaml(first.values), encoding="utf-8")
    second = load_run_config(folder / "resolved.yaml")
    assert second.values == first.values
    assert second.runner_config() == first.runner_config()
    assert (second.values["sae"]["alpha"], second.values["lr"]) == (alpha, lr)


@pytest.mark.parametrize("kind", ["multi", "synthetic"])
def test_the_other_kinds_resolve_to_themselves(world: TinyWorld, tmp_path: Path, kind: str) -> None:
    first = load_run_config(write_config(tmp_path / "config.yaml", getattr(world, kind)()))
    (tmp_path / "resolved.yaml").write_text(to_yaml(first.values))
    assert load_run_config(tmp_path / "resolved.yaml").values == first.values


def test_errors_name_the_file_and_what_was_set(world: TinyWorld, tmp_path: Path) -> None:
    path = write_config(tmp_path / "config.yaml", world.language_model())
    with pytest.raises(BadInputError) as error:
        load_run_config(path, ["sae.k=0"])
    assert str(error.value) == f"{path} (--set sae.k=0): sae.k = 0: must be above 0"


UNWHITENABLE = {
    "architecture": "matching_pursuit",
    "d_in": 32,
    "d_sae": 64,
    "normalize_activations": "covariance_whitening",
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # Refused by the plugin, by SAELens's SAE config, by SAELens's runner config.
        ({"sae": sae(gamma_proxy="nonsense")}, "sae.gamma_proxy = 'nonsense': the proxies are"),
        (
            {"sae": UNWHITENABLE},
            "sae: normalize_activations='covariance_whitening' is not supported",
        ),
        ({"use_chat_formatting": True}, "use_chat_formatting and is_dataset_tokenized"),
    ],
)
def test_what_saelens_refuses_is_the_users_to_mend(
    world: TinyWorld, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = write_config(tmp_path / "config.yaml", world.language_model(**changes))
    with pytest.raises(BadInputError) as error:
        load_run_config(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
