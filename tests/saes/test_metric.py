"""Training under a metric, for every architecture that can be untied from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, TrainingSAE
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.architectures import (
    ARCHITECTURES,
    D_IN,
    Architecture,
    activations,
    forward,
    step_input,
    trainer,
)
from tests.saes.test_contract import GBA
from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.metric import metric_from, rotated, square_roots
from wsae_plugin.gamma.sensitivity import Sensitivity

FOLDED = [arch for arch in [*ARCHITECTURES, GBA] if arch.name != "matching_pursuit"]
every_folded = pytest.mark.parametrize("arch", FOLDED, ids=lambda a: a.name)
every_one = pytest.mark.parametrize("arch", [*ARCHITECTURES, GBA], ids=lambda a: a.name)
SPARSE = ("topk", "batchtopk", "matryoshka_batchtopk")


def information() -> Tensor:
    """Far from diagonal, and blind for the sum of all dimensions, as behind a LayerNorm."""
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(50, D_IN, generator=generator, dtype=torch.float64)
    scores *= torch.logspace(-1, 1, D_IN, dtype=torch.float64)
    scores -= scores.mean(dim=1, keepdim=True)
    return scores.T @ scores / 50


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Any]:
    """The fields of a metric of one's own."""
    save_file({"metric": information()}, tmp_path / "metric.safetensors")
    return {"alpha": 0.0, "metric": "file", "metric_file": str(tmp_path / "metric.safetensors")}


@pytest.mark.parametrize(
    ("arch", "fields"),
    [
        *((arch, {}) for arch in FOLDED),
        *((arch, {"kernel": "eager"}) for arch in FOLDED if arch.name in SPARSE),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_the_loss_is_the_quadratic_form(
    arch: Architecture, fields: dict[str, Any], own: dict[str, Any]
) -> None:
    sae = arch.weighted(dtype="float64", **fields, **own)
    given = step_input(sae)
    given.is_logging_step = True
    sae.train()
    output = sae.training_forward_pass(given)
    assert torch.equal(output.sae_in, given.sae_in)
    delta = output.sae_in - output.sae_out
    forms = torch.einsum("ni,ij,nj->n", delta, metric_from(information()), delta)
    torch.testing.assert_close(output.losses["weighted_mse_loss"], forms.mean())
    torch.testing.assert_close(output.losses["mse_loss"], delta.square().sum(dim=-1).mean())
    # What is logged of a step is not what it is trained by.
    again = forward(sae, step=1, sae_in=given.sae_in)
    torch.testing.assert_close(again.losses["mse_loss"], output.losses["weighted_mse_loss"])


@every_one
def test_in_the_loss_only(arch: Architecture, own: dict[str, Any]) -> None:
    sae = arch.weighted(dtype="float64", metric_in_loss_only=True, **own)
    sae.get_coefficients()
    x = activations(dtype=torch.float64)
    output = forward(sae, sae_in=x)
    delta = output.sae_in - output.sae_out
    forms = torch.einsum("ni,ij,nj->n", delta, metric_from(information()), delta)
    torch.testing.assert_close(output.losses["mse_loss"], forms.mean())
    assert torch.equal(output.sae_in, x)


@every_folded
def test_what_is_published_reconstructs_as_what_was_trained(
    arch: Architecture, own: dict[str, Any], tmp_path: Path
) -> None:
    sae = (
        arch.weighted(normalize_activations="none", **own) if arch is GBA else arch.weighted(**own)
    )
    trainer(sae, steps=12).fit()
    sae.eval()
    x = activations(200, seed=99)
    exported = SAE.load_from_disk(sae.save_inference_model(tmp_path / "sae")[0].parent)
    assert type(exported).__module__.startswith("sae_lens.")
    from_checkpoint = SAE.load_from_disk(sae.save_model(tmp_path / "checkpoint")[0].parent)
    with torch.no_grad():
        torch.testing.assert_close(from_checkpoint(x), exported(x), atol=1e-5, rtol=1e-5)
        if arch.name in ("topk", "standard", "gated", "abstopk", "gba"):
            acts, mine = exported.encode(x), sae.encode(x)
            assert torch.equal(acts != 0, mine != 0)
            torch.testing.assert_close(exported(x), sae(x), atol=1e-5, rtol=1e-5)
        else:
            # Published as JumpReLU: the latents that both let through are the same.
            acts, mine = exported.encode(x), sae.encode(x)
            both = (acts != 0) & (mine != 0)
            assert both.float().mean() > 0.02
        torch.testing.assert_close(sae.decode(acts), exported.decode(acts), atol=1e-4, rtol=1e-4)
    assert "metric_root" not in exported.state_dict()


@every_folded
def test_the_uniform_metric_is_the_parent_that_starts_at_the_mean(arch: Architecture) -> None:
    sae = arch.weighted(alpha=0.0, metric="uniform")
    plain = arch.weighted(alpha=0.0)
    x = activations()
    with torch.no_grad():
        plain.b_dec.copy_(x.mean(dim=0))
    ours, theirs = forward(sae, sae_in=x), forward(plain, sae_in=x)
    torch.testing.assert_close(sae.b_dec, plain.b_dec)
    torch.testing.assert_close(ours.loss, theirs.loss)


@every_folded
def test_b_dec_starts_at_the_mean_where_the_weights_live(
    arch: Architecture, own: dict[str, Any]
) -> None:
    sae, x = arch.weighted(dtype="float64", **own), activations(dtype=torch.float64)
    forward(sae, sae_in=x)
    torch.testing.assert_close(sae.b_dec.data, x.mean(dim=0) @ sae.metric_root)
    in_loss_only = arch.weighted(dtype="float64", metric_in_loss_only=True, **own)
    forward(in_loss_only, sae_in=x)
    torch.testing.assert_close(in_loss_only.b_dec.data, x.mean(dim=0))


def test_weights_that_have_a_mean_keep_it(own: dict[str, Any]) -> None:
    sae = FOLDED[3].weighted(**own)
    with torch.no_grad():
        sae.b_dec.fill_(0.5)
    forward(sae)
    assert torch.equal(sae.b_dec, torch.full((D_IN,), 0.5))


def test_a_measurement_does_not_start_b_dec(own: dict[str, Any]) -> None:
    sae = FOLDED[3].weighted(**own)
    sae.get_coefficients()
    given = step_input(sae)
    sae.eval()
    sae.training_forward_pass(given)
    assert not sae.b_dec.any()
    sae.train()
    sae.training_forward_pass(given)
    assert sae.b_dec.any()


def test_a_step_that_fails_leaves_the_sae_on_x(
    own: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sae, x = FOLDED[3].weighted(**own), activations(seed=1)
    forward(sae)

    def failing(*_: Any) -> None:
        raise RuntimeError("no memory")

    with torch.no_grad():
        before = sae(x)
        with monkeypatch.context() as patch:
            patch.setattr(sae, "decode", failing)
            with pytest.raises(RuntimeError, match="no memory"):
                forward(sae)
        assert torch.equal(sae(x), before)


def test_a_scale_and_a_metric_are_both_folded(own: dict[str, Any], tmp_path: Path) -> None:
    sae = FOLDED[3].weighted(normalize_activations="expected_average_only_in", **own)
    made = trainer(sae, steps=8)
    made.fit()
    assert sae.cfg.normalize_activations == "none"
    exported = SAE.load_from_disk(sae.save_inference_model(tmp_path)[0].parent)
    x = activations(seed=5)
    with torch.no_grad():
        torch.testing.assert_close(exported(x), sae(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"metric": "fisher", "alpha": 0.5}, "metric = 'fisher' with alpha = 0.5"),
        (
            {"metric": "fisher", "normalize_activations": "covariance_whitening"},
            "with normalize_activations = 'covariance_whitening'",
        ),
        ({"metric": "fisher", "normalize_activations": "layer_norm"}, "= 'layer_norm'"),
        ({"metric": "file"}, "metric 'file' needs the path"),
        ({"metric_file": "x.safetensors"}, "without a metric none is read"),
        ({"metric": "fischer"}, "metric"),
        ({"metric": "fisher", "metric_ridge": -1.0}, "metric_ridge"),
        ({"metric": "fisher", "metric_tokens": 0}, "metric_tokens"),
        ({"metric_in_loss_only": True}, "metric_in_loss_only"),
    ],
)
def test_fields_that_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        FOLDED[3].weighted(**{"alpha": 0.0, **fields})


def test_a_pursuit_cannot_be_folded() -> None:
    (pursuit,) = (arch for arch in ARCHITECTURES if arch.name == "matching_pursuit")
    with pytest.raises(BadInputError, match="a pursuit's encoder is its decoder"):
        pursuit.weighted(alpha=0.0, metric="fisher")


def test_a_script_that_gives_no_file_is_told_at_the_first_step(tmp_path: Path) -> None:
    sae = FOLDED[3].weighted(alpha=0.0, metric="fisher")
    with pytest.raises(BadInputError, match="has not been estimated.*`fisher_metric` writes"):
        forward(sae)
    save_file({"metric": torch.eye(D_IN + 1)}, tmp_path / "f")
    wide = FOLDED[3].weighted(alpha=0.0, metric="file", metric_file=str(tmp_path / "f"))
    with pytest.raises(BadInputError, match=r"shape \(9, 9\) for activations of width 8"):
        forward(wide)


@pytest.mark.parametrize("arch", FOLDED[3:4], ids=lambda a: a.name)
def test_weights_of_another_precision_than_the_activations(
    arch: Architecture, own: dict[str, Any], tmp_path: Path
) -> None:
    in_loss_only = arch.weighted(dtype="bfloat16", metric_in_loss_only=True, **own)
    sae = arch.weighted(dtype="bfloat16", **own)
    for each in (in_loss_only, sae):
        forward(each, sae_in=activations()).loss.backward()
        assert each.W_dec.grad is not None and each.W_dec.grad.isfinite().all()
    exported = SAE.load_from_disk(sae.save_inference_model(tmp_path)[0].parent)
    x = activations(seed=1)
    close = {"atol": 0.2, "rtol": 0.1}
    torch.testing.assert_close(exported.decode(sae.encode(x)), sae.decode(sae.encode(x)), **close)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_metric_is_not_rounded_with_the_weights(
    own: dict[str, Any], tmp_path: Path, dtype: torch.dtype
) -> None:
    exact, inverse = square_roots(metric_from(information()))
    made_so = FOLDED[3].weighted(dtype=str(dtype).removeprefix("torch."), **own)
    made_so.get_coefficients()
    moved = FOLDED[3].weighted(**own)
    moved.get_coefficients()
    for sae in (made_so, moved.to(dtype)):
        assert sae.W_dec.dtype == sae.dtype == dtype
        assert torch.equal(sae.metric_root, exact.float())
        assert torch.equal(sae.metric_root_inverse, inverse.float())
        acts = sae.encode(activations(200, seed=1).to(dtype))
        sae._is_inside = True
        in_metric_space = sae.decode(acts)
        sae._is_inside = False
        # But for the last bit of x̂ itself.
        torch.testing.assert_close(
            sae.decode(acts).double(),
            in_metric_space.double() @ inverse,
            rtol=torch.finfo(dtype).eps,
            atol=1e-6,
        )
        sae.save_model(tmp_path / "checkpoint")
        exported = SAE.load_from_disk(sae.save_inference_model(tmp_path / "export")[0].parent)
        assert exported.W_dec.dtype == dtype
        kept = load_file(tmp_path / "export" / "metric.safetensors")["metric"]
        torch.testing.assert_close(metric_from(kept), metric_from(information()), rtol=1e-5, atol=0)
        # SAELens rounds whatever it reads, and so M, but M and M⁻¹ as one.
        read: Any = TrainingSAE.load_from_disk(tmp_path / "checkpoint")
        product = read.metric_root.double() @ read.metric_root_inverse.double()
        torch.testing.assert_close(product, torch.eye(D_IN).double(), atol=1e-6, rtol=0)
        again = FOLDED[3].weighted(dtype=str(dtype).removeprefix("torch."), **own)
        again.load_weights_from_checkpoint(tmp_path / "checkpoint")
        assert torch.equal(again.metric_root, exact.float())
    assert torch.equal(moved.to(torch.float32).metric_root, exact.float())
    assert moved.to("meta").metric_root.device.type == "meta"


def test_names_of_losses_say_which_are_under_the_metric(own: dict[str, Any]) -> None:
    for in_loss_only in (False, True):
        sae = FOLDED[5].weighted(metric_in_loss_only=in_loss_only, **own)
        given = step_input(sae)
        given.is_logging_step = True
        sae.train()
        names = set(sae.training_forward_pass(given).losses)
        aux = "auxiliary_reconstruction_loss"
        assert ("weighted_" + aux in names, aux in names) == (not in_loss_only, in_loss_only)
        inner = {"weighted_inner_mse_loss_8", "weighted_inner_mse_loss_16"}
        assert names >= {"mse_loss", "weighted_mse_loss", *inner}


def test_a_checkpoint_without_a_metric_is_of_another_space(tmp_path: Path) -> None:
    FOLDED[3].weighted(alpha=0.0).save_model(tmp_path)
    sae = FOLDED[3].weighted(alpha=0.0, metric="uniform")
    with pytest.raises(BadInputError, match="the checkpoint was trained without a metric"):
        sae.load_weights_from_checkpoint(tmp_path)


def test_weights_of_another_metric_are_refused(own: dict[str, Any], tmp_path: Path) -> None:
    trained = FOLDED[3].weighted(**own)
    forward(trained)
    trained.save_model(tmp_path / "trained")
    for name, other in (("metric_in_loss_only", True), ("metric_ridge", 3.0)):
        with pytest.raises(BadInputError, match=f"{name} = {other}: the checkpoint was trained"):
            FOLDED[3].weighted(**own, **{name: other}).load_weights_from_checkpoint(
                tmp_path / "trained"
            )
    with pytest.raises(
        BadInputError, match="metric = None: the checkpoint was trained with 'file'"
    ):
        FOLDED[3].weighted(alpha=0.0).load_weights_from_checkpoint(tmp_path / "trained")
    save_file({"metric": torch.eye(D_IN)}, tmp_path / "other")
    sae = FOLDED[3].weighted(**own | {"metric_file": str(tmp_path / "other")})
    sae.load_weights_from_checkpoint(tmp_path / "trained")
    with pytest.raises(BadInputError, match="another metric than the one that the loaded weights"):
        sae.get_coefficients()
    trained.save_inference_model(tmp_path / "export")
    sae = FOLDED[3].weighted(
        **own | {"metric_file": str(tmp_path / "export" / "metric.safetensors")}
    )
    sae.load_weights_from_checkpoint(tmp_path / "trained")
    sae.get_coefficients()
    torch.testing.assert_close(sae.metric_root, trained.metric_root)


@pytest.mark.parametrize("kernel", ["auto", "eager"])
def test_autocast_does_not_round_the_target(own: dict[str, Any], kernel: str) -> None:
    sae = FOLDED[3].weighted(kernel=kernel, **own)
    given = step_input(sae)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = sae.training_forward_pass(given)
    assert torch.equal(output.sae_in, given.sae_in @ sae.metric_root)


def test_the_ridge_and_the_directions_are_those_of_the_config(tmp_path: Path) -> None:
    file, found = tmp_path / "f", Sensitivity.of_none(D_IN)
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(50, D_IN, generator=generator).double() * torch.arange(1, D_IN + 1)
    found.add(scores, scores)
    found.write(file, {})
    sae = FOLDED[3].weighted(
        alpha=0.0,
        metric="rotated_fisher",
        metric_file=str(file),
        metric_ridge=0.3,
        gamma_seed=7,
        dtype="float64",
    )
    sae.get_coefficients()
    expected = metric_from(rotated(found.fisher, seed=7), ridge=0.3)
    torch.testing.assert_close(sae.metric_root @ sae.metric_root, expected)
