"""What a comparison config says, and what is refused in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.compare.comparisons import HOOKS, small
from tests.training.tiny import TinyWorld, sae, write_config
from wsae_plugin.compare.arms import Arm
from wsae_plugin.compare.plan import Group, group_config, load_comparison_config, plan
from wsae_plugin.errors import BadInputError
from wsae_plugin.training import load_run_config
from wsae_plugin.yaml_file import to_yaml

ARMS: dict[str, dict[str, Any]] = {
    "sae": {"alpha": 0},
    "alpha-1": {"alpha": 1, "gamma_clip": 10},
    "literal": {"alpha": 0.5, "gamma_normalization": "none"},
}
CONTROLS: dict[str, dict[str, Any]] = {
    "shuffled": {"control": "shuffled", "of": "alpha-1"},
    "opposite": {"control": "opposite", "of": "alpha-1"},
    "constant": {"control": "constant", "of": "literal", "label": "cI"},
    "whitened": {"control": "whitening"},
}


CONFIGS = Path(__file__).parents[2] / "configs"


def load(folder: Path, values: dict[str, Any], *overrides: str) -> Any:
    return load_comparison_config(write_config(folder / "compare.yaml", values), overrides)


@pytest.fixture
def arms(world: TinyWorld, tmp_path: Path) -> dict[str, Arm]:
    config = load(tmp_path, small(world, arms=ARMS | CONTROLS))
    return {arm.name: arm for arm in config.arms}


def test_roles_and_labels_of_arms(arms: dict[str, Arm]) -> None:
    assert {name: (arm.role, arm.label) for name, arm in arms.items()} == {
        "sae": ("baseline", "SAE, α = 0"),
        "alpha-1": ("weighted", "WSAE, α = 1"),
        "literal": ("weighted", "WSAE, α = 0.5, literal Γ"),
        "shuffled": ("control", "shuffled Γ, α = 1"),
        "opposite": ("control", "opposite, α = −1"),
        "constant": ("control", "cI"),
        "whitened": ("control", "whitened SAE"),
    }


def test_arms_of_one_label_are_told_apart_by_their_names(world: TinyWorld, tmp_path: Path) -> None:
    values = small(world)
    values["arms"] = {"sae": {"alpha": 0}, "one": {"alpha": 1}, "clip": {"alpha": 1}}
    values["arms"]["clip"]["gamma_clip"] = 10
    labels = [arm.label for arm in load(tmp_path, values).arms]
    assert labels == ["SAE, α = 0", "WSAE, α = 1 (one)", "WSAE, α = 1 (clip)"]


def test_a_control_differs_from_its_arm_in_what_it_controls(arms: dict[str, Arm]) -> None:
    def changed(name: str, other: str) -> dict[str, Any]:
        before = arms[other].overrides
        return {k: v for k, v in arms[name].overrides.items() if before[k] != v}

    assert changed("shuffled", "alpha-1") == {"gamma_proxy": "shuffled_variance"}
    assert changed("opposite", "alpha-1") == {"alpha": -1.0}
    assert changed("constant", "literal") == {"gamma_normalization": "constant"}
    assert changed("whitened", "sae") == {"normalize_activations": "covariance_whitening"}


@pytest.mark.parametrize("proxy", ["kurtosis", "latent_variance", "interference"])
def test_every_proxy_has_every_control(world: TinyWorld, tmp_path: Path, proxy: str) -> None:
    weighted = {"alpha": 1, "gamma_proxy": proxy, "gamma_normalization": "none"}
    never_frozen = weighted | {"gamma_freeze_step": None}
    controls = {
        f"{control}-{of}": {"control": control, "of": of}
        for control in ("shuffled", "opposite", "constant")
        for of in ("own", "long")
    }
    arms = {"sae": {"alpha": 0}, "own": weighted, "long": never_frozen} | controls
    config = load(tmp_path, small(world, arms=arms))
    sections = {arm.name: arm.overrides for arm in config.arms}
    for of in ("own", "long"):
        assert sections[f"shuffled-{of}"]["gamma_proxy"] == f"shuffled_{proxy}"
        assert sections[f"opposite-{of}"]["alpha"] == -1
        assert sections[f"constant-{of}"]["gamma_normalization"] == "constant"
        assert sections[f"constant-{of}"]["gamma_proxy"] == proxy


def hooks_of(groups: list[Group]) -> list[tuple[str, list[str]]]:
    return [
        (group.name, list(dict.fromkeys(run.hook_name for run in group.runs.values())))
        for group in groups
    ]


def test_the_grid_has_every_run_once(world: TinyWorld, tmp_path: Path) -> None:
    sparsity = {"k": [2, 4], "aux_loss_coefficient": [0.5]}
    config = load(tmp_path, small(world, hooks=HOOKS, sparsity=sparsity))
    groups = plan(config)
    assert hooks_of(groups) == [("seed-0", HOOKS), ("seed-1", HOOKS)]
    runs = [run for group in groups for run in group.runs.values()]
    assert len({run.run for run in runs}) == len(runs) == 2 * 2 * 2 * 2
    assert runs[0].run == "layer-0-k-2-aux_loss_coefficient-0p5-sae-seed-0"
    assert runs[1].pair == runs[0].pair == "layer-0-k-2-aux_loss_coefficient-0p5-seed-0"
    saes = group_config(config, groups[1]).values
    section = saes["saes"]["layer-1-k-4-aux_loss_coefficient-0p5-alpha-1"]
    assert (section["k"], section["aux_loss_coefficient"], section["alpha"]) == (4, 0.5, 1)
    assert saes["seed"] == 1


def test_the_width_can_vary_too(world: TinyWorld, tmp_path: Path) -> None:
    without = {name: value for name, value in sae(alpha=None).items() if name != "d_sae"}
    values = small(world, sae=without, sparsity={"d_sae": [16, 32]}, seeds=[0])
    config = load(tmp_path, values)
    sections = group_config(config, plan(config)[0]).values["saes"]
    assert {name: section["d_sae"] for name, section in sections.items()} == {
        "layer-1-d_sae-16-sae": 16,
        "layer-1-d_sae-16-alpha-1": 16,
        "layer-1-d_sae-32-sae": 32,
        "layer-1-d_sae-32-alpha-1": 32,
    }
    (tmp_path / "again.yaml").write_text(to_yaml(config.values))
    assert load_comparison_config(tmp_path / "again.yaml").values == config.values


def test_hooks_are_shared_out_over_passes(world: TinyWorld, tmp_path: Path) -> None:
    config = load(tmp_path, small(world, hooks=HOOKS, hooks_per_pass=1, seeds=[7]))
    assert hooks_of(plan(config)) == [
        ("seed-7-pass-1", HOOKS[:1]),
        ("seed-7-pass-2", HOOKS[1:]),
    ]


def test_hooks_of_one_layer_are_named_in_full(world: TinyWorld, tmp_path: Path) -> None:
    hooks = ["blocks.1.hook_resid_post", "blocks.1.hook_mlp_out"]
    config = load(tmp_path, small(world, hooks=hooks, sae=sae(), sparsity=None, seeds=[0]))
    runs = list(plan(config)[0].runs.values())
    assert runs[0].run == "blocks-1-hook_resid_post-sae-seed-0"
    assert (runs[-1].pair, runs[-1].layer) == ("blocks-1-hook_mlp_out-seed-0", 1)


def test_a_shuffle_is_drawn_anew_for_every_seed(world: TinyWorld, tmp_path: Path) -> None:
    config = load(tmp_path, small(world, arms=ARMS | CONTROLS, seeds=[3, 4]))
    for group in plan(config):
        saes = group_config(config, group).values["saes"]
        assert saes["layer-1-k-4-shuffled"]["gamma_seed"] == group.seed
        assert saes["layer-1-k-4-alpha-1"]["gamma_seed"] == 0


def test_arms_of_metrics(world: TinyWorld, tmp_path: Path) -> None:
    arms: dict[str, Any] = {
        "sae": {"alpha": 0, "metric": "uniform"},
        "fisher": {"alpha": 0, "metric": "fisher"},
        "loss": {"alpha": 0, "metric": "fisher", "metric_in_loss_only": True},
        "rotated": {"alpha": 0, "metric": "rotated_fisher", "role": "control"},
        "kl": {"alpha": 0, "metric": "fisher", "finetune_kl": 0.004},
    }
    config = load(tmp_path, small(world, arms=arms, seeds=[3, 4]))
    assert [(arm.role, arm.label) for arm in config.arms] == [
        ("baseline", "SAE, metric uniform"),
        ("weighted", "SAE, metric fisher"),
        ("weighted", "SAE, metric fisher in the loss only"),
        ("control", "SAE, metric rotated_fisher"),
        ("weighted", "SAE, metric fisher, last 0.4 % on KL, lr × 0.3"),
    ]
    for group in plan(config):
        saes = group_config(config, group).values["saes"]
        # Its directions are drawn anew for every seed.
        assert saes["layer-1-k-4-rotated"]["gamma_seed"] == group.seed
        assert saes["layer-1-k-4-fisher"]["gamma_seed"] == 0


def test_an_arm_of_another_architecture_takes_the_fields_it_has(
    world: TinyWorld, tmp_path: Path
) -> None:
    arms = {"sae": {"architecture": "topk"}, "alpha-1": {"alpha": 1}}
    config = load(tmp_path, small(world, arms=arms))
    section = config.arms[0].overrides
    assert (section["architecture"], section["d_sae"], "alpha" in section) == ("topk", 64, False)
    assert (config.arms[0].alpha, config.arms[0].proxy, config.arms[0].label) == (0, None, "topk")


def test_the_resolved_config_is_a_config(world: TinyWorld, tmp_path: Path) -> None:
    config = load(tmp_path, small(world, arms=ARMS | CONTROLS), "sae.d_sae=32")
    (tmp_path / "again.yaml").write_text(to_yaml(config.values))
    again = load_comparison_config(tmp_path / "again.yaml")
    assert (again.values, again.arms) == (config.values, config.arms)


@pytest.mark.parametrize(
    ("file", "shape"),
    [
        ("bundled/compare.yaml", (3, 2, 3)),
        ("bundled/study.yaml", (8, 4, 5)),
        ("pythia-160m/compare.yaml", (3, 12, 3)),
    ],
)
def test_the_shipped_comparisons(file: str, shape: tuple[int, int, int]) -> None:
    # The machine that runs the tests need not have the GPU that one of them asks for.
    config = load_comparison_config(CONFIGS / file, ["device=cpu"])
    assert (len(config.arms), len(config.hooks), len(config.seeds)) == shape
    assert config.arms[0].role == "baseline"
    assert config.arms[0].alpha == 0


def test_the_papers_table_is_one_layer_at_every_layer() -> None:
    comparison = load_comparison_config(CONFIGS / "pythia-160m" / "compare.yaml", ["device=cpu"])
    one_layer = load_run_config(CONFIGS / "pythia-160m" / "one_layer.yaml", ["device=cpu"])
    group = plan(comparison)[0]
    values = group_config(comparison, group).values
    own = ("saes", "hook_names", "seed")
    assert {k: v for k, v in values.items() if k not in own} == {
        k: v for k, v in one_layer.values.items() if k not in own
    }
    for arm in ("alpha-half", "alpha-1"):
        assert values["saes"][f"layer-3-k-32-{arm}"] == one_layer.values["saes"][arm]
    baseline = values["saes"]["layer-3-k-32-sae"]
    theirs = one_layer.values["saes"]["baseline"]
    assert {name: baseline[name] for name in theirs if name != "architecture"} == {
        name: value for name, value in theirs.items() if name != "architecture"
    }


def arm(name: str, **fields: Any) -> dict[str, Any]:
    return {"arms": ARMS | {name: fields}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field": ({"hook": "x"}, "hook: unknown field; did you mean 'hooks'"),
    "a misspelt log field": (
        {"logger": {"log_wandb": True}},
        "logger.log_wandb: unknown field; did you mean 'log_to_wandb'",
    ),
    "a field of each run": ({"seed": 1}, "seed: unknown field; did you mean 'seeds'"),
    "a hook as text": ({"hooks": "x"}, "hooks = 'x': must be a list of: text"),
    "no hook": ({"hooks": []}, r"hooks = \[\]: give one or more"),
    "a hook twice": ({"hooks": ["x", "x"]}, "hooks = .*: one of them is there twice"),
    "no seeds": ({"seeds": None}, "seeds: missing"),
    "no seed": ({"seeds": []}, "seeds = "),
    "a seed twice": ({"seeds": [0, 0]}, "seeds = .* twice"),
    "a negative seed": (
        {"seeds": [-1]},
        r"seeds = \[-1\]: must be a list of: at least 0 and below",
    ),
    "no hooks per pass": ({"hooks_per_pass": 0}, "hooks_per_pass = 0: must be above 0"),
    "a misspelt SAE field": (
        {"sae": sae(alfa=1, k=None)},
        "sae.alfa: unknown field; did you mean 'alpha'",
    ),
    "a misspelt arm field": (arm("x", alfa=1), "arms.x.alfa: unknown field; did you mean 'alpha'"),
    "a wrong type in an arm": (arm("x", alpha="big"), "arms.x.alpha = 'big': must be a number"),
    "an arm that is none": ({"arms": {"sae": 3}}, "arms.sae = 3"),
    "an unknown architecture": (arm("x", architecture="topkk"), "arms.x.architecture = 'topkk'"),
    "a name that is a path": (arm("a/b", alpha=1), "arms.a/b: the name becomes"),
    "a baseline that is no arm": ({"baseline": "saes"}, "baseline = 'saes': is no arm; did you"),
    "a baseline that is a control": (
        {"baseline": "x", **arm("x", control="whitening")},
        "baseline = 'x': is a control",
    ),
    "two baselines": (arm("x", alpha=1, role="baseline"), "arms.x.role = 'baseline'"),
    "a baseline of another role": (
        {"arms": {"sae": {"alpha": 0, "role": "control"}}},
        "arms.sae.role = 'control': must be 'baseline'",
    ),
    "an unknown role": (arm("x", role="best"), "arms.x.role = 'best': must be one of"),
    "a field both common and varied": ({"sae": sae()}, "sae.k: is varied by sparsity.k"),
    "a field of an arm that is varied": (arm("x", k=3), "arms.x.k: is varied by sparsity.k"),
    "an unknown varied field": ({"sparsity": {"kk": [1]}}, "sparsity.kk: unknown field; did you"),
    "a varied field an arm has not": (
        {
            "arms": {"sae": {"architecture": "standard"}, "alpha-1": {}},
            "sparsity": {"k": [4]},
        },
        r"sparsity.k: arms.sae \(standard\) has no such field",
    ),
    "a fraction of a latent": ({"sparsity": {"k": [2.5]}}, "sparsity.k = 2.5: must be a whole"),
    "one value, no list": ({"sparsity": {"k": 4}}, "sparsity.k = 4: must be a list"),
    "text for a value": ({"sparsity": {"k": ["a"]}}, "sparsity.k = .*: must be a list of"),
    "too large a k": ({"sparsity": {"k": [65]}}, "layer-1-k-65-sae.k = 65: must not exceed"),
    "a short run": ({"training_tokens": 5}, "training_tokens = 5: is less than one"),
    "an unknown control": (arm("x", control="random"), "arms.x.control = 'random': must be one of"),
    "a control of nothing": (arm("x", control="shuffled"), "arms.x.of: missing; a weighted arm: "),
    "a control of the baseline": (
        arm("x", control="opposite", of="sae"),
        "arms.x.of = 'sae': must be a weighted arm",
    ),
    "a control of a control": (
        {"arms": ARMS | CONTROLS | {"x": {"control": "opposite", "of": "shuffled"}}},
        "arms.x.of = 'shuffled': must be a weighted arm",
    ),
    "a control with fields": (
        arm("x", control="shuffled", of="alpha-1", alpha=2),
        "arms.x.alpha: control: shuffled says all of it",
    ),
    "an arm of an arm": (arm("x", of="alpha-1"), "arms.x.of: goes with control"),
    "whitening of an arm": (
        arm("x", control="whitening", of="alpha-1"),
        "arms.x.of: control: whitening says all",
    ),
    "a constant that is the baseline": (
        arm("x", control="constant", of="alpha-1"),
        "arms.x: control: constant is Γ = cI.* the baseline itself",
    ),
    "whitening of a weighted baseline": (
        {"baseline": "alpha-1", "arms": {"alpha-1": {}, "x": {"control": "whitening"}}},
        "normalize_activations = 'covariance_whitening'",
    ),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_config_is_refused_by_field(
    world: TinyWorld, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInputError, match=message) as error:
        load(tmp_path, small(world, **changes))
    assert str(error.value).startswith(str(tmp_path / "compare.yaml"))


def test_controls_of_a_metric_are_controls() -> None:
    config = load_comparison_config(CONFIGS / "bundled" / "metric.yaml")
    roles = {arm.name: arm.role for arm in config.arms}
    assert roles == {
        "uniform": "baseline",
        "fisher": "weighted",
        "rotated": "control",
        "covariance": "control",
    }
