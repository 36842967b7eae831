"""The sparse step of the Top-k family against SAELens's own dense one."""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, TrainingSAE
from sae_lens.saes.sae import TrainStepOutput

from tests.architectures import (
    ARCHITECTURES,
    D_IN,
    D_SAE,
    Architecture,
    activations,
    batches,
    dead_latents,
    forward,
    step_input,
    trained_losses,
    trainer,
)
from wsae_plugin.errors import BadInputError
from wsae_plugin.kernels import Pattern, dispatch
from wsae_plugin.saes import sparse

BY_NAME = {arch.name: arch for arch in ARCHITECTURES}
MATRYOSHKA = BY_NAME["matryoshka_batchtopk"]
# Matryoshka's own auxiliary loss is left to SAELens.
FAMILY = [
    BY_NAME["topk"],
    BY_NAME["batchtopk"],
    replace(MATRYOSHKA, fields={**MATRYOSHKA.fields, "use_matryoshka_aux_loss": False}),
]
every_architecture = pytest.mark.parametrize("arch", FAMILY, ids=lambda a: a.name)
every_kernel = pytest.mark.parametrize("kernel", ["cpu", "reference"])


def pair(arch: Architecture, alpha: float = 0.0, **fields: Any) -> tuple[Any, Any]:
    """The dense step and the sparse one, with the same weights, away from the symmetric start."""
    kernel = fields.pop("kernel", "cpu")
    dense = arch.weighted(alpha=alpha, kernel="eager", **fields)
    with torch.no_grad():
        for parameter in dense.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    other = arch.weighted(alpha=alpha, kernel=kernel, **fields)
    other.load_state_dict(dense.state_dict())
    return dense, other


def assert_same_step(
    dense: TrainingSAE[Any], other: TrainingSAE[Any], tolerance: float, **kwargs: Any
) -> TrainStepOutput:
    expected, output = forward(dense, **kwargs), forward(other, **kwargs)
    close = {"rtol": tolerance, "atol": tolerance}
    assert output.losses.keys() == expected.losses.keys()
    for name, loss in expected.losses.items():
        torch.testing.assert_close(output.losses[name], loss, **close, msg=name)
    torch.testing.assert_close(output.loss, expected.loss, **close)
    torch.testing.assert_close(output.sae_out, expected.sae_out, **close)
    assert output.feature_acts.is_sparse and not expected.feature_acts.is_sparse
    torch.testing.assert_close(output.feature_acts.to_dense(), expected.feature_acts, **close)
    expected.loss.backward()
    output.loss.backward()
    for (name, p), (_, q) in zip(dense.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, **close, msg=name)
    assert getattr(other, "topk_threshold", 0) == pytest.approx(
        float(getattr(dense, "topk_threshold", 0)), rel=1e-5
    )
    return output


@every_architecture
@every_kernel
@pytest.mark.parametrize("alpha", [0.0, 0.7])
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("dead", [True, False])
def test_losses_and_gradients_in_float64(
    arch: Architecture, kernel: str, alpha: float, rescale: bool, dead: bool
) -> None:
    fields = {"rescale_acts_by_decoder_norm": rescale, "dtype": "float64", "kernel": kernel}
    output = assert_same_step(*pair(arch, alpha, **fields), 1e-10, dead=dead)
    assert (trained_losses(output)["auxiliary_reconstruction_loss"] > 0) == dead


@every_architecture
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_losses_and_gradients_through_triton(arch: Architecture, dtype: str) -> None:
    pytest.importorskip("triton")
    fields = {"dtype": dtype, "kernel": "triton"}
    assert_same_step(*pair(arch, 0.7, **fields), 1e-10 if dtype == "float64" else 2e-5)


@every_architecture
@pytest.mark.parametrize("alpha", [0.0, 0.7])
@pytest.mark.parametrize("screened", [True, False])
def test_losses_and_gradients_in_float32(
    arch: Architecture, alpha: float, screened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "has_fast_bfloat16", lambda _: screened)
    monkeypatch.setattr(dispatch, "_WORTH_SCREENING", 0)
    assert_same_step(*pair(arch, alpha), 2e-5)


@pytest.mark.parametrize(
    ("kernel", "alpha", "rescale", "dead"),
    [
        *itertools.product(["cpu", "reference"], [0.0, 0.7], [True, False], [True, False]),
        ("triton", 0.7, True, False),
    ],
)
@every_architecture
def test_losses_and_gradients_in_bfloat16(
    arch: Architecture, kernel: str, alpha: float, rescale: bool, dead: bool
) -> None:
    if kernel == "triton":
        pytest.importorskip("triton")
    fields = {"rescale_acts_by_decoder_norm": rescale, "dtype": "bfloat16"}
    dense, other = pair(arch, alpha, kernel=kernel, **fields)
    exact = arch.weighted(alpha=alpha, kernel="eager", **fields | {"dtype": "float64"})
    with torch.no_grad():
        for sae in (dense, other):
            sae.b_enc[3] += 20  # active in every row: a long sum of gradients
    exact.load_state_dict(dense.state_dict())
    # Triton's interpreter takes a second for a hundred rows.
    x = activations(200 if kernel == "triton" else 1024).bfloat16()
    outputs = [forward(sae, sae_in=x.to(sae.dtype), dead=dead) for sae in (dense, other, exact)]
    for output in outputs:
        output.loss.backward()
    torch.testing.assert_close(outputs[1].loss.double(), outputs[2].loss, rtol=1e-2, atol=0)
    for (name, truth), p, q in zip(
        exact.named_parameters(), dense.parameters(), other.parameters(), strict=True
    ):
        for grad in (p.grad, q.grad):
            error = (grad.double() - truth.grad).norm() / truth.grad.norm()
            assert error < 2e-2, (name, float(error))


@every_architecture
@pytest.mark.parametrize("n_dead", [1, 3])
def test_fewer_dead_latents_than_the_auxiliary_loss_takes(arch: Architecture, n_dead: int) -> None:
    dead = torch.arange(D_SAE) < n_dead
    assert n_dead < D_IN // 2
    output = assert_same_step(*pair(arch, 0.7, dtype="float64"), 1e-10, dead=dead)
    assert trained_losses(output)["auxiliary_reconstruction_loss"] > 0


@pytest.mark.parametrize("arch", FAMILY[1:], ids=lambda a: a.name)
@every_kernel
@pytest.mark.parametrize("k", [0.01, 0.5, 2.7])
def test_fractions_of_a_latent_a_row(arch: Architecture, kernel: str, k: float) -> None:
    output = assert_same_step(*pair(arch, 0.7, k=k, dtype="float64", kernel=kernel), 1e-10)
    assert len(output.feature_acts.coalesce().values()) == int(64 * k)


def test_entries_of_a_level_ascend() -> None:
    latents = torch.rand(60, D_SAE, generator=torch.Generator().manual_seed(0)).topk(9).indices
    sae = FAMILY[2].weighted(kernel="cpu")
    by_level, _ = sae._levels(Pattern.of_latents(latents, D_SAE))
    places = by_level.rows * D_SAE + by_level.columns
    assert (places.diff() > 0).all()


@every_architecture
@pytest.mark.parametrize("b_dec_to_input", [True, False])
@pytest.mark.parametrize("weight_aux_loss", [True, False])
def test_other_fields(arch: Architecture, b_dec_to_input: bool, weight_aux_loss: bool) -> None:
    fields = {"apply_b_dec_to_input": b_dec_to_input, "weight_aux_loss": weight_aux_loss}
    fields |= {"aux_loss_coefficient": 0.3, "dtype": "float64"}
    assert_same_step(*pair(arch, 1.0, **fields), 1e-10)


@every_architecture
@pytest.mark.parametrize("few", [True, False])
def test_more_dead_latents_than_the_auxiliary_loss_takes(
    arch: Architecture, few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Few are read as columns of the encoder, many through a sparse product of their own.
    monkeypatch.setattr(sparse, "_SPARSE_AUX_FROM", 100 if few else 0)
    assert dead_latents().sum() > D_IN // 2
    assert_same_step(*pair(arch, 0.7, dtype="float64"), 1e-10)


@every_architecture
def test_a_weight_on_feature_activations_is_differentiated(arch: Architecture) -> None:
    dense, other = pair(arch, dtype="float64")
    for sae in (dense, other):
        acts = forward(sae).feature_acts
        values = acts.coalesce().values() if acts.is_sparse else acts
        values.square().sum().backward()
    for (name, p), (_, q) in zip(dense.named_parameters(), other.named_parameters(), strict=True):
        grad = torch.zeros_like(p) if p.grad is None else p.grad
        torch.testing.assert_close(q.grad, grad, rtol=1e-9, atol=1e-9, msg=name)


@every_architecture
@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_trains_as_the_dense_step(arch: Architecture, alpha: float) -> None:
    dense, other = pair(arch, alpha, dtype="float64")
    for sae in (dense, other):
        run = trainer(sae, steps=30)
        run.data_provider = (batch.double() for batch in batches())
        run.fit()
    for name, tensor in dense.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, rtol=1e-7, atol=1e-7, msg=name)


@every_architecture
def test_statistics_of_the_trainer(arch: Architecture) -> None:
    runs = [trainer(sae, steps=5) for sae in pair(arch)]
    for run in runs:
        run.fit()
    assert torch.equal(runs[0].act_freq_scores, runs[1].act_freq_scores)
    assert torch.equal(runs[0].n_forward_passes_since_fired, runs[1].n_forward_passes_since_fired)


@every_architecture
def test_checkpoint_and_export(arch: Architecture, tmp_path: Path) -> None:
    _, sae = pair(arch, 0.5)
    forward(sae)
    assert sae.W_enc.T.is_contiguous()
    sae.save_model(tmp_path / "checkpoint")
    sae.save_inference_model(tmp_path / "export")
    loaded = arch.weighted(alpha=0.5, kernel="cpu")
    loaded.load_weights_from_checkpoint(tmp_path / "checkpoint")
    for name, tensor in sae.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    exported = SAE.load_from_disk(tmp_path / "export")
    assert exported.W_enc.is_contiguous()
    if arch.name == "topk":
        torch.testing.assert_close(exported(activations()), sae(activations()))


@every_architecture
def test_weights_that_were_assigned_become_latent_major(arch: Architecture, tmp_path: Path) -> None:
    _, sae = pair(arch)
    sae.save_model(tmp_path)
    loaded = TrainingSAE.load_from_disk(tmp_path)
    assert loaded.W_enc.is_contiguous()
    forward(loaded).loss.backward()
    assert loaded.W_enc.grad.stride() == loaded.W_enc.stride() == (1, D_IN)


@every_architecture
def test_under_autocast_the_loss_is_near_the_float32_one(arch: Architecture) -> None:
    dense, other = pair(arch)
    expected = forward(dense).losses["mse_loss"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = forward(other)
    output.loss.backward()
    assert output.sae_out.dtype == torch.float32
    torch.testing.assert_close(output.losses["mse_loss"], expected, rtol=2e-2, atol=0)


@every_architecture
def test_who_looks_at_dense_activations_gets_the_dense_step(arch: Architecture) -> None:
    dense, other = pair(arch)
    seen: list[torch.Tensor] = []
    for sae in (dense, other):
        sae.hook_sae_acts_post.add_hook(lambda acts, **_: seen.append(acts))
    expected, output = forward(dense), forward(other)
    assert torch.equal(expected.loss, output.loss)
    assert torch.equal(seen[0], seen[1]) and not seen[1].is_sparse


def test_hooks_on_the_reconstruction_are_kept() -> None:
    dense, other = pair(FAMILY[0], dtype="float64")
    for sae in (dense, other):
        sae.hook_sae_recons.add_hook(lambda x, **_: 2 * x)
    assert_same_step(dense, other, 1e-10)


def test_matryoshkas_own_auxiliary_loss_is_left_to_saelens() -> None:
    dense, other = pair(MATRYOSHKA)
    assert torch.equal(forward(dense).loss, forward(other).loss)


@pytest.mark.parametrize("normalization", ["layer_norm", "constant_norm_rescale"])
def test_run_time_normalization_is_left_to_saelens(normalization: str) -> None:
    dense, other = pair(FAMILY[0], normalize_activations=normalization)
    assert torch.equal(forward(dense, dead=False).loss, forward(other, dead=False).loss)
    with pytest.raises(ValueError, match="does not support activation normalization"):
        forward(other, dead=True)


def test_the_kernel_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    sparse._report.cache_clear()
    _, sae = pair(FAMILY[0], kernel="reference")
    with caplog.at_level(logging.INFO):
        forward(sae)
        forward(sae)
    assert caplog.messages == ["kernel of the training step: reference"]


def test_the_sae_shows_its_kernel_where_nobody_configured_logging() -> None:
    for asked, found in (("reference", "reference"), ("auto", "eager")):
        sae = FAMILY[0].weighted(kernel=asked)
        assert sae.kernel_in_use is None
        forward(sae)
        assert sae.kernel_in_use == found
        assert f"kernel={asked!r}, kernel_in_use={found!r}" in repr(sae)
    # Hooks on the activations get SAELens's dense step.
    sae = FAMILY[0].weighted(kernel="reference")
    sae.hook_sae_acts_post.add_hook(lambda acts, **_: acts)
    forward(sae)
    assert sae.kernel_in_use == "eager"


def test_small_shapes_are_the_parents_bit_for_bit() -> None:
    arch = FAMILY[0]
    parent, weighted = arch.parent(), arch.weighted(alpha=0.0)
    assert weighted.cfg.kernel == "auto"
    expected, output = forward(parent), forward(weighted)
    assert torch.equal(expected.loss, output.loss)


def test_an_unknown_kernel_is_refused() -> None:
    with pytest.raises(BadInputError, match="kernel is 'cuda'"):
        FAMILY[0].weighted(kernel="cuda")


def test_compiled() -> None:
    dense, other = pair(FAMILY[0], dtype="float64")
    other.training_forward_pass = torch.compile(other.training_forward_pass, backend="eager")
    expected, output = forward(dense), other.training_forward_pass(step_input(other))
    torch.testing.assert_close(output.loss, expected.loss, rtol=1e-10, atol=0)
