"""What holds for every weighted architecture."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import (
    SAE,
    JumpReLUTrainingSAE,
    JumpReLUTrainingSAEConfig,
    TrainingSAE,
    TrainingSAEConfig,
)
from sae_lens.saes.sae import mse_loss
from safetensors.torch import load_file, save_file

from tests.architectures import (
    ARCHITECTURES,
    D_IN,
    Architecture,
    activations,
    forward,
    step_input,
    trained_losses,
    trainer,
)
from wsae_plugin.gamma import PROXIES, ProxyEvidence, gamma_from_proxy, moments_of
from wsae_plugin.gamma.consistency import LabelEvidence
from wsae_plugin.gamma.weights import NORMALIZATIONS
from wsae_plugin.saes import GAMMA_FILENAME, GBATrainingSAE, GBATrainingSAEConfig

# No SAELens class trains like it (test_gba.py has its recipe); its "parent" is what it is published
# as. Scaling by the trainer is a test of its own.
GBA = Architecture(
    name="gba",
    parent_class=JumpReLUTrainingSAE,
    parent_config=JumpReLUTrainingSAEConfig,
    weighted_class=GBATrainingSAE,
    weighted_config=GBATrainingSAEConfig,
    fields={"normalize_activations": "none"},
)
WITH_GBA = [*ARCHITECTURES, GBA]

every_architecture = pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda a: a.name)
every_architecture_and_gba = pytest.mark.parametrize("arch", WITH_GBA, ids=lambda a: a.name)
only_with_aux_loss = pytest.mark.parametrize(
    "arch",
    [a for a in ARCHITECTURES if a.name not in ("standard", "jumprelu", "matching_pursuit")],
    ids=lambda a: a.name,
)


def parameters(sae: TrainingSAE[Any]) -> dict[str, torch.Tensor]:
    return {
        name: tensor.clone()
        for name, tensor in sae.state_dict().items()
        if not name.startswith(("gamma_scheduler.", "recent_topk_threshold"))  # ours alone
    }


def assert_same_tensors(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert torch.equal(a[name], b[name]), name


# --- α = 0 is the parent, bit for bit ------------------------------------------------------------


@every_architecture
def test_alpha_zero_has_the_parents_loss_and_gradients(arch: Architecture) -> None:
    parent, weighted = arch.parent(), arch.weighted(alpha=0.0)
    assert_same_tensors(parameters(parent), parameters(weighted))
    expected, output = forward(parent), forward(weighted)
    assert_same_tensors(expected.losses, output.losses)
    assert torch.equal(expected.loss, output.loss)
    expected.loss.backward()
    output.loss.backward()
    for (name, p), (_, w) in zip(
        parent.named_parameters(), weighted.named_parameters(), strict=True
    ):
        assert torch.equal(p.grad, w.grad), name


@every_architecture
def test_alpha_zero_trains_as_the_parent(arch: Architecture) -> None:
    parent, weighted = arch.parent(), arch.weighted(alpha=0.0)
    trainer(parent, steps=10).fit()
    trainer(weighted, steps=10).fit()
    assert_same_tensors(parameters(parent), parameters(weighted))


@every_architecture
def test_alpha_one_does_not_train_as_the_parent(arch: Architecture) -> None:
    parent, weighted = arch.parent(), arch.weighted(alpha=1.0)
    trainer(parent, steps=3).fit()
    trainer(weighted, steps=3).fit()
    assert not torch.equal(parent.W_dec, weighted.W_dec)


@every_architecture
@pytest.mark.parametrize("scale_alpha", [1.0, -2.0])
def test_gamma_of_ones_is_the_parent_to_rounding(arch: Architecture, scale_alpha: float) -> None:
    parent = arch.parent(dtype="float64")
    weighted = arch.weighted(alpha=scale_alpha, gamma_proxy="uniform", dtype="float64")
    expected, output = forward(parent), trained_losses(forward(weighted))
    assert output.keys() == expected.losses.keys()
    for name in expected.losses:
        torch.testing.assert_close(output[name], expected.losses[name], rtol=1e-12, atol=0)


# --- the weight reaches every reconstruction term ------------------------------------------------


def naive_losses(
    sae: TrainingSAE[Any], output: Any, gamma: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The reconstruction losses by their formulas, from the SAE's parameters alone."""
    x, z, cfg = output.sae_in, output.feature_acts, sae.cfg
    dead = step_input(sae).dead_neuron_mask
    assert dead is not None

    def loss(reconstruction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return ((gamma * (reconstruction - target)) ** 2).sum(dim=1).mean()

    rescale = getattr(cfg, "rescale_acts_by_decoder_norm", False)
    decoder = sae.W_dec / sae.W_dec.norm(dim=1, keepdim=True) if rescale else sae.W_dec
    losses = {"mse_loss": loss(z @ decoder + sae.b_dec, x)}
    if hasattr(cfg, "direction_scale"):
        w = torch.nn.functional.normalize(sae.directions, dim=1)
        epsilon = cfg.direction_scale * cfg.d_in / cfg.d_sae
        left = (x - sae.b_dec - epsilon * z @ w).detach()
        along = (left @ w.T) * (z > 0)
        losses["direction_loss"] = -0.5 * (along * along.abs()).sum(dim=1).mean()
    if hasattr(sae, "b_gate"):
        gate = torch.relu((x - sae.b_dec) @ sae.W_enc + sae.b_gate)
        losses["auxiliary_reconstruction_loss"] = loss(gate @ sae.W_dec + sae.b_dec, x)
    if hasattr(cfg, "k"):
        widths = getattr(cfg, "matryoshka_widths", [cfg.d_sae])
        for width in widths[:-1]:
            inner = z[:, :width] @ decoder[:width] + sae.b_dec
            losses[f"inner_mse_loss_{width}"] = loss(inner, x)
        auxiliary = []
        for start, width in zip([0, *widths[:-1]], widths, strict=True):
            residual = (x - z[:, :width] @ decoder[:width] - sae.b_dec).detach()
            where = dead[start:width].nonzero().flatten() + start
            k_aux = min(D_IN // 2, len(where))
            pre = output.hidden_pre[:, where]
            magnitude = pre.abs() if cfg.architecture() == "weighted_abstopk" else pre
            top = magnitude.topk(k_aux).indices
            reconstruction = torch.einsum("bk,bkd->bd", pre.gather(1, top), decoder[where][top])
            auxiliary.append(min(len(where) / (D_IN // 2), 1) * loss(reconstruction, residual))
        losses["auxiliary_reconstruction_loss"] = torch.stack(auxiliary).sum()
    return losses


@every_architecture_and_gba
def test_losses_and_gradients_are_those_of_the_naive_formula(arch: Architecture) -> None:
    sae = arch.weighted(alpha=0.7, dtype="float64")
    with torch.no_grad():  # away from the symmetric start, where ties decide
        for parameter in sae.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    output = forward(sae)
    s = moments_of(activations(dtype=torch.float64)).variance
    gamma = s**0.7 * (s.sum() / (s**2.4).sum()).sqrt()
    torch.testing.assert_close(sae.gamma, gamma, rtol=1e-12, atol=0)

    naive = naive_losses(sae, output, gamma)
    terms = trained_losses(output)
    torch.testing.assert_close(torch.stack(list(terms.values())).sum(), output.loss)
    reconstruction = {k: v for k, v in terms.items() if k not in ("l1_loss", "l0_loss")}
    assert naive.keys() == reconstruction.keys()
    trained = dict(sae.named_parameters())
    for name, expected in naive.items():
        torch.testing.assert_close(reconstruction[name], expected, rtol=1e-11, atol=0)
        for grad, expected_grad in zip(
            torch.autograd.grad(
                reconstruction[name], trained.values(), retain_graph=True, allow_unused=True
            ),
            torch.autograd.grad(expected, trained.values(), retain_graph=True, allow_unused=True),
            strict=True,
        ):
            if expected_grad is None:
                assert grad is None or not grad.any(), name
            else:
                torch.testing.assert_close(grad, expected_grad, rtol=1e-9, atol=1e-11)


@only_with_aux_loss
def test_weight_aux_loss_false_leaves_it_to_the_parent(arch: Architecture) -> None:
    parent = forward(arch.parent(dtype="float64"))
    on = forward(arch.weighted(alpha=1.0, dtype="float64"))
    off = forward(arch.weighted(alpha=1.0, weight_aux_loss=False, dtype="float64"))
    name = "auxiliary_reconstruction_loss"
    assert torch.equal(off.losses[name], parent.losses[name])
    assert not torch.isclose(on.losses[f"weighted_{name}"], parent.losses[name])
    assert name not in on.losses and f"weighted_{name}" not in off.losses
    assert torch.equal(on.losses["weighted_mse_loss"], off.losses["weighted_mse_loss"])


@only_with_aux_loss
def test_an_aux_loss_that_escapes_the_weight_is_an_error(
    arch: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae = arch.weighted(alpha=1.0)

    def another_square(sae: Any, *_: Any) -> dict[str, torch.Tensor]:
        return {"auxiliary_reconstruction_loss": sae.W_dec.square().sum()}

    monkeypatch.setattr(arch.parent_class, "calculate_aux_loss", another_square)
    with pytest.raises(RuntimeError, match="without Γ: this version of SAELens"):
        forward(sae)


@every_architecture_and_gba
def test_no_dead_latents_no_auxiliary_weight(arch: Architecture) -> None:
    output = forward(arch.weighted(alpha=1.0), dead=False)
    assert torch.isfinite(output.loss)


@every_architecture_and_gba
def test_unweighted_loss_and_gamma_are_logged(arch: Architecture) -> None:
    sae = arch.weighted(alpha=1.0)
    output = forward(sae)
    run = trainer(sae)
    logged = run.build_train_step_log_dict(output, n_training_samples=0)
    x, x_hat = output.sae_in, output.sae_out.detach()
    # As SAELens computes it, to the last bit: the curves of α = 0 and α = 1 are of one quantity.
    assert logged["losses/mse_loss"] == float(mse_loss(x_hat, x).sum(dim=-1).mean())
    assert not output.losses["mse_loss"].requires_grad
    assert logged["losses/weighted_mse_loss"] == pytest.approx(
        float(((sae.gamma * (x_hat - x)) ** 2).sum(dim=1).mean())
    )
    assert 1 <= logged["metrics/gamma_effective_dimensions"] <= D_IN
    assert logged["metrics/gamma_max_over_median"] == pytest.approx(
        float(sae.gamma.max() / sae.gamma.median())
    )
    assert "weights/gamma" in sae.log_histograms()


@every_architecture
def test_alpha_zero_logs_the_parents_names_and_numbers(arch: Architecture) -> None:
    logs: list[dict[str, Any]] = []
    for sae in (arch.parent(), arch.weighted(alpha=0.0)):
        logs.append(trainer(sae).build_train_step_log_dict(forward(sae), n_training_samples=0))
    assert logs[1] == {**logs[0], "details/alpha_coefficient": 0}


# --- configs, checkpoints, exports ---------------------------------------------------------------


@every_architecture_and_gba
def test_config_round_trips_through_json(arch: Architecture) -> None:
    cfg = arch.weighted(alpha=-0.5, gamma_clip=3.0, gamma_freeze_step=None, gamma_seed=7).cfg
    again = TrainingSAEConfig.from_dict(json.loads(json.dumps(cfg.to_dict())))
    assert type(again) is type(cfg)
    assert again.to_dict() == cfg.to_dict()


@every_architecture_and_gba
@pytest.mark.parametrize("proxy", sorted(name for name in PROXIES if "file" not in name))
def test_checkpoint_comes_back_whole(arch: Architecture, proxy: str, tmp_path: Path) -> None:
    sae = arch.weighted(alpha=0.5, gamma_proxy=proxy, gamma_freeze_step=4)
    counts = torch.randint(10, 100, (D_IN, 3))
    labels = LabelEvidence(counts, counts, counts.sum(dim=0))
    sae.gamma_scheduler.labels = sae.gamma_scheduler.shuffled_labels = lambda: labels
    trainer(sae, steps=3).fit()  # in the middle of the estimation
    sae.save_model(tmp_path)
    fresh = arch.weighted(alpha=0.5, gamma_proxy=proxy, gamma_freeze_step=4)
    assert not torch.equal(fresh.W_dec, sae.W_dec)  # a template of other values
    fresh.load_weights_from_checkpoint(tmp_path)
    assert_same_tensors(sae.state_dict(), fresh.state_dict())

    again = TrainingSAE.load_from_disk(tmp_path)
    assert type(again) is type(sae)
    if hasattr(sae, "topk_threshold"):  # a double, which SAELens loads in the SAE's dtype
        sae.topk_threshold = sae.topk_threshold.float()
        sae.recent_topk_threshold = sae.recent_topk_threshold.float()
    assert_same_tensors(sae.state_dict(), again.state_dict())


@every_architecture_and_gba
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_saelens_casting_every_tensor_leaves_gamma_exact(
    arch: Architecture, dtype: str, tmp_path: Path
) -> None:
    sae = arch.weighted(alpha=0.5)
    trainer(sae, steps=2).fit()
    sae.save_model(tmp_path)
    again = TrainingSAE.load_from_disk(tmp_path, dtype=dtype)
    assert again.W_dec.dtype == getattr(torch, dtype)
    assert torch.equal(again.gamma, sae.gamma)
    assert torch.equal(again.gamma_scheduler.statistics, sae.gamma_scheduler.statistics)
    sae.to(torch.bfloat16).to(torch.float32)
    assert torch.equal(again.gamma, sae.gamma)


EXPORT_READER = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
from pathlib import Path
from safetensors.torch import load_file
from sae_lens import SAE
for folder in map(Path, sys.argv[1:]):
    sae = SAE.load_from_disk(folder)
    seen = load_file(folder / "seen.safetensors")
    torch.testing.assert_close(sae(seen["x"]), seen["x_hat"], rtol=1e-6, atol=1e-6)
    print(sae.cfg.architecture(), sae.cfg.metadata.training_architecture)
assert not any("wsae" in name for name in sys.modules)
"""

PUBLISHED_AS = {
    "standard": "standard",
    "gated": "gated",
    "jumprelu": "jumprelu",
    "topk": "topk",
    "batchtopk": "jumprelu",
    "matryoshka_batchtopk": "jumprelu",
    "abstopk": "abstopk",
    "matching_pursuit": "matching_pursuit",
    "gba": "jumprelu",
}


def output_as_published(sae: TrainingSAE[Any], x: torch.Tensor) -> torch.Tensor:
    if not hasattr(sae, "topk_threshold"):
        return sae(x)
    # BatchTopK is published as a JumpReLU with a threshold in the place of the top k.
    norm = sae.W_dec.norm(dim=1)
    z = torch.relu((x - sae.b_dec) @ sae.W_enc + sae.b_enc) * norm
    z = z * (z > sae.recent_topk_threshold)
    return z @ (sae.W_dec / norm.unsqueeze(1)) + sae.b_dec


@torch.no_grad()
def test_exports_load_in_a_process_that_never_imports_the_plugin(tmp_path: Path) -> None:
    for arch in WITH_GBA:
        sae, folder = arch.weighted(alpha=0.5), tmp_path / arch.name
        with torch.enable_grad():
            trainer(sae, steps=20).fit()
        sae.save_inference_model(folder)
        x = activations(16, seed=99)
        save_file({"x": x, "x_hat": output_as_published(sae, x)}, folder / "seen.safetensors")
        plain, _ = arch.parent().save_inference_model(tmp_path / "parent")
        assert set(load_file(folder / "sae_weights.safetensors")) == set(load_file(plain))
    done = subprocess.run(
        [sys.executable, "-c", EXPORT_READER, *(str(tmp_path / a.name) for a in WITH_GBA)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{PUBLISHED_AS[arch.name]} {arch.weighted_config.architecture()}" for arch in WITH_GBA
    ]


@every_architecture_and_gba
def test_export_carries_gamma_beside_it_and_its_settings_in_it(
    arch: Architecture, tmp_path: Path
) -> None:
    sae = arch.weighted(alpha=0.5, gamma_clip=2.0)
    trainer(sae, steps=2).fit()
    sae.save_inference_model(tmp_path)
    beside = load_file(tmp_path / GAMMA_FILENAME)
    assert torch.equal(beside["gamma"], sae.gamma)
    again = gamma_from_proxy(beside["proxy"], 0.5, clip=2.0, variance=beside["variance"])
    torch.testing.assert_close(again.float(), sae.gamma, rtol=1e-6, atol=0)
    assert float(beside["n_samples"]) == 128
    details = SAE.load_from_disk(tmp_path).cfg.metadata.training_architecture_details
    assert details["alpha"] == 0.5
    assert details["gamma_proxy"] == "variance"
    assert details["gamma_clip"] == 2.0


# --- resuming ------------------------------------------------------------------------------------


@every_architecture_and_gba
@pytest.mark.parametrize("proxy", ["variance", "latent_variance", "interference"])
@pytest.mark.parametrize("stop", [2, 4, 6], ids=["estimating", "warming_up", "frozen"])
def test_interrupted_and_resumed_equals_uninterrupted(
    arch: Architecture, proxy: str, stop: int, tmp_path: Path
) -> None:
    fields = dict(alpha=1.0, alpha_warm_up_steps=6, gamma_freeze_step=3, gamma_proxy=proxy)
    through = arch.weighted(**fields)
    trainer(through, steps=9).fit()

    first = trainer(arch.weighted(**fields), steps=stop)
    first.cfg.total_training_samples = stop * 64
    first.fit()
    first.save_checkpoint("stopped", base_path=tmp_path)

    resumed = arch.weighted(**fields)
    second = trainer(resumed, steps=9, first_batch=stop)
    second.load_trainer_state(tmp_path / "stopped")
    resumed.load_weights_from_checkpoint(tmp_path / "stopped")
    second.fit()
    assert_same_tensors(through.state_dict(), resumed.state_dict())


# --- folding -------------------------------------------------------------------------------------


@every_architecture_and_gba
@pytest.mark.parametrize("proxy", ["variance", "kurtosis", "latent_variance", "interference"])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_folding_the_activation_scale_carries_gamma_into_the_new_units(
    arch: Architecture, proxy: str, normalization: str
) -> None:
    sae = arch.weighted(
        alpha=0.5, gamma_proxy=proxy, gamma_normalization=normalization, dtype="float64"
    )
    scale, x = 4.0, activations(dtype=torch.float64)
    for step in range(3):
        forward(sae, step=step, sae_in=x * scale)
    before = copy.deepcopy(sae)
    sae.fold_activation_norm_scaling_factor(scale)
    torch.testing.assert_close(sae(x) * scale, before(x * scale))

    folded = sae.gamma_scheduler.read()
    torch.testing.assert_close(folded.activations.variance, moments_of(x).variance)
    evidence = ProxyEvidence(
        activations=folded.activations,
        latents=folded.latents,
        decoder=lambda: sae.effective_decoder().detach(),
        file=None,
        seed=0,
    )
    # What the statistics say of s is true in the new units, and γ is what was trained with.
    s, trained = PROXIES[proxy].compute(evidence), before.gamma_scheduler.read().proxy
    torch.testing.assert_close(s / s.sum(), trained / trained.sum(), rtol=1e-8, atol=1e-12)
    assert torch.equal(sae.gamma, before.gamma)
    if proxy == "latent_variance":
        # As many times larger as the latents of what is published.
        ratio = sae.encode(x).square().sum() / before.encode(x * scale).square().sum()
        seen = before.gamma_scheduler.read().latents.variance
        torch.testing.assert_close(folded.latents.variance, seen * ratio)


@pytest.mark.parametrize(
    "arch",
    # SAELens refuses it: a pursuit with another dictionary takes other latents.
    [a for a in ARCHITECTURES if a.name != "matching_pursuit"],
    ids=lambda a: a.name,
)
def test_folding_decoder_norms_leaves_gamma_and_outputs(arch: Architecture) -> None:
    sae = arch.weighted(alpha=0.5, gamma_proxy="latent_variance", dtype="float64")
    x = activations(dtype=torch.float64)
    for step in range(3):
        forward(sae, step=step, sae_in=x)
    out, gamma = sae(x), sae.gamma.clone()
    latents = sae.gamma_scheduler.read().latents
    pulled_back = latents.variance @ sae.effective_decoder().square()
    sae.fold_W_dec_norm()
    torch.testing.assert_close(sae(x), out)
    torch.testing.assert_close(sae.gamma, gamma)
    latents = sae.gamma_scheduler.read().latents
    torch.testing.assert_close(latents.variance @ sae.effective_decoder().square(), pulled_back)


@every_architecture_and_gba
def test_training_with_the_scale_estimated_and_folded(arch: Architecture) -> None:
    sae = arch.weighted(alpha=1.0, normalize_activations="expected_average_only_in")
    trainer(sae, steps=6).fit()
    assert sae.cfg.normalize_activations == "none"
    # The trainer took the first two batches for the scale, then six for training.
    seen = torch.cat([activations(seed=seed) for seed in range(2, 8)])
    torch.testing.assert_close(
        sae.gamma_scheduler.read().activations.variance,
        moments_of(seen).variance,
        rtol=1e-5,
        atol=0,
    )


# --- dtypes, fine-tuning, compilation ------------------------------------------------------------


@every_architecture_and_gba
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_trains_in_float32_and_bfloat16(arch: Architecture, dtype: str) -> None:
    sae = arch.weighted(alpha=1.0, dtype=dtype)
    run = trainer(sae, steps=5)
    run.data_provider = (batch.to(sae.dtype) for batch in run.data_provider)
    run.fit()
    assert sae.W_dec.dtype == getattr(torch, dtype)
    assert sae.gamma.dtype == torch.float32
    assert all(torch.isfinite(p).all() for p in sae.parameters())


@every_architecture_and_gba
def test_autocast(arch: Architecture) -> None:
    sae = arch.weighted(alpha=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = forward(sae)
    output.loss.backward()
    assert torch.isfinite(output.loss)


@every_architecture
def test_fine_tuning_from_a_plain_saelens_checkpoint(arch: Architecture, tmp_path: Path) -> None:
    parent = arch.parent()
    trainer(parent, steps=4).fit()
    parent.save_model(tmp_path)
    sae = arch.weighted(alpha=1.0)
    sae.load_weights_from_checkpoint(tmp_path)
    assert_same_tensors(parameters(parent), parameters(sae))
    assert torch.equal(sae.gamma, torch.ones(D_IN))
    trainer(sae, steps=4).fit()
    assert not torch.equal(sae.gamma, torch.ones(D_IN))


@every_architecture_and_gba
def test_evaluation_does_not_feed_gamma(arch: Architecture) -> None:
    sae = arch.weighted(alpha=1.0)
    forward(sae)
    before = sae.gamma_scheduler.statistics.clone()
    sae.eval()
    sae.training_forward_pass(step_input(sae, step=1, sae_in=activations(seed=5)))
    assert torch.equal(sae.gamma_scheduler.statistics, before)


@every_architecture_and_gba
def test_deepcopy_has_a_gamma_of_its_own(arch: Architecture) -> None:
    sae = arch.weighted(alpha=1.0)
    other = copy.deepcopy(sae)
    forward(sae)
    assert torch.equal(other.gamma, torch.ones(D_IN))
    forward(other)
    assert torch.equal(other.gamma, sae.gamma)
