"""The traps of plugging into SAELens that no other test stands on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sae_lens import SAE, TopKTrainingSAE
from sae_lens.registry import SAE_CLASS_REGISTRY
from torch import nn

from tests.architectures import ARCHITECTURES, Architecture, activations, forward, trainer

every_architecture = pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda a: a.name)
topk = next(arch for arch in ARCHITECTURES if arch.name == "topk")


@every_architecture
def test_every_buffer_is_persistent(arch: Architecture) -> None:
    # SAELens loads by assigning to a meta-device SAE: what is not in the state dict is lost.
    sae = arch.weighted(alpha=1.0)
    assert {name for name, _ in sae.named_buffers()} <= set(sae.state_dict())


@every_architecture
def test_gamma_is_no_parameter(arch: Architecture) -> None:
    parameters = {name for name, _ in arch.weighted(alpha=1.0).named_parameters()}
    assert parameters == {name for name, _ in arch.parent().named_parameters()}


@every_architecture
def test_only_the_export_loads_without_this_package(
    arch: Architecture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(SAE_CLASS_REGISTRY, f"weighted_{arch.name}")
    sae = arch.weighted(alpha=1.0)
    sae.save_model(tmp_path / "live")
    with pytest.raises(KeyError, match=f"weighted_{arch.name}"):
        SAE.load_from_disk(tmp_path / "live")
    sae.save_inference_model(tmp_path / "exported")
    SAE.load_from_disk(tmp_path / "exported")


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
def test_sparse_activations_carry_the_weight_too() -> None:
    fields = {"alpha": 1.0, "rescale_acts_by_decoder_norm": False, "gamma_proxy": "latent_variance"}
    dense = topk.weighted(**fields)
    sparse = topk.weighted(use_sparse_activations=True, **fields)
    for step in range(3):
        x = activations(seed=step)
        expected, output = forward(dense, step, sae_in=x), forward(sparse, step, sae_in=x)
        assert output.feature_acts.is_sparse
        torch.testing.assert_close(output.loss, expected.loss)
    torch.testing.assert_close(sparse.gamma, dense.gamma)
    output.loss.backward()
    assert isinstance(sparse.W_dec, nn.Parameter)
    assert sparse.W_dec.grad is not None


def test_the_coefficient_schedule_of_saelens_sees_alpha() -> None:
    run = trainer(topk.weighted(alpha=-0.5, alpha_warm_up_steps=4), steps=6)
    assert run.coefficient_schedulers["alpha"].warm_up_steps == 4
    run.fit()
    assert run.get_coefficients() == {"alpha": -0.5}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@every_architecture
def test_compiled_training_takes_the_weight_once(arch: Architecture) -> None:
    sae, compiled = arch.weighted(alpha=1.0), arch.weighted(alpha=1.0)
    compiled.training_forward_pass = torch.compile(  # type: ignore[method-assign]
        compiled.training_forward_pass, backend="eager"
    )
    for step in range(3):
        x = activations(seed=step)
        expected, output = forward(sae, step, sae_in=x), forward(compiled, step, sae_in=x)
        for name in expected.losses:
            torch.testing.assert_close(output.losses[name], expected.losses[name])


def test_importing_the_package_imports_no_plotting_and_starts_no_wandb_run() -> None:
    check = (
        "import sys, wandb, sae_lens, wsae_plugin; "
        "assert wandb.run is None; "
        "print(sorted({'matplotlib', 'sae_bench', 'typer', 'jinja2.nodes'} & set(sys.modules)), "
        "'wsae_plugin.cli' in sys.modules, 'wsae_plugin.plots' in sys.modules)"
    )
    plain = "import sys, sae_lens; print(sorted({'matplotlib', 'sae_bench', 'typer', "
    plain += "'jinja2.nodes'} & set(sys.modules)), False, False)"
    out = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for code in (check, plain)
    ]
    assert out[0] == out[1]  # no more than SAELens imports by itself


def test_a_plain_class_does_not_load_a_weighted_checkpoint(tmp_path: Path) -> None:
    plain = topk.parent()
    plain.save_model(tmp_path)
    assert type(TopKTrainingSAE.load_from_disk(tmp_path)) is TopKTrainingSAE
    with pytest.raises(ValueError, match="not of type WeightedTopKTrainingSAE"):
        topk.weighted_class.load_from_disk(tmp_path)
