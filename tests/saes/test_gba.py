"""Group Bias Adaptation against its recipe, written down naively; the contract is elsewhere."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, TrainingSAE
from torch import Tensor

from tests.architectures import D_IN, D_SAE, activations, batches, forward, step_input, trainer
from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma import gamma_from_proxy, moments_of
from wsae_plugin.saes.gba import GBATrainingSAE, GBATrainingSAEConfig

FIELDS: dict[str, Any] = {
    "n_groups": 3,
    "highest_target_frequency": 0.5,
    "lowest_target_frequency": 0.05,
    "bias_update_steps": 3,
    "bias_step_size": 0.1,
    "normalize_activations": "none",
}


def gba(**fields: Any) -> GBATrainingSAE:
    torch.manual_seed(0)
    return GBATrainingSAE(
        GBATrainingSAEConfig(**{"d_in": D_IN, "d_sae": D_SAE, **FIELDS, **fields})
    )


def assert_same_state(first: TrainingSAE[Any], second: TrainingSAE[Any]) -> None:
    expected, state = first.state_dict(), second.state_dict()
    assert expected.keys() == state.keys()
    for name in expected:
        assert expected[name].dtype == state[name].dtype, name
        assert torch.equal(expected[name], state[name]), name


# --- the recipe ----------------------------------------------------------------------------------


def naive_recipe(
    sae: GBATrainingSAE, xs: list[Tensor], lr: float, alpha: float, n_groups: int
) -> dict[str, Tensor]:
    """arXiv 2506.14002 in float64 with every pre-activation kept, latent by latent."""
    v = sae.directions.detach().clone().requires_grad_()
    a = sae.output_scale.detach().clone().requires_grad_()
    b_pre = xs[0].mean(dim=0).requires_grad_()
    b = [0.0] * D_SAE
    optimizer = torch.optim.Adam([v, a, b_pre], lr=lr)
    since: list[Tensor] = []
    for step, x in enumerate(xs):
        w = v / v.norm(dim=1, keepdim=True)
        x_hat = b_pre
        is_printed = sae.cfg.direction_scale is None
        y = (x - (b_pre if is_printed else b_pre.detach())) @ w.T
        for m in range(D_SAE):
            fires = y[:, m] + b[m] > 0
            x_hat = x_hat + (a[m] * y[:, m] * fires).unsqueeze(1) * w[m]
        variance = moments_of(torch.cat(xs[: step + 1])).variance
        gamma = gamma_from_proxy(variance, alpha, variance=variance)
        loss = (gamma * (x - x_hat)).square().sum(dim=1).mean()
        loss.backward()
        if not is_printed:
            v.grad = naive_direction_gradient(x - b_pre, v, b, sae.cfg.direction_scale)
        torch.nn.utils.clip_grad_norm_([v, a, b_pre], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        since.append(y.detach() + torch.tensor(b, dtype=torch.float64))
        if len(since) == 3:
            b, since = naive_update(b, torch.cat(since), n_groups), []
    return {"directions": v, "output_scale": a, "b_dec": b_pre, "bias": torch.tensor(b)}


@torch.no_grad()
def naive_direction_gradient(x: Tensor, v: Tensor, b: list[float], scale: float) -> Tensor:
    """Each latent that fires turns to what small scales leave along it, or away from it."""
    w = v / v.norm(dim=1, keepdim=True)
    y = x @ w.T
    fires = torch.stack([y[:, m] + b[m] > 0 for m in range(D_SAE)], dim=1)
    left = x
    for m in range(D_SAE):
        left = left - scale * D_IN / D_SAE * (y[:, m] * fires[:, m]).unsqueeze(1) * w[m]
    gradient = torch.zeros_like(v)
    for m in range(D_SAE):
        along = (left @ w[m]).abs() * fires[:, m]
        down = -(along.unsqueeze(1) * left).mean(dim=0)
        gradient[m] = (down - (down @ w[m]) * w[m]) / v[m].norm()
    return gradient


def naive_update(b: list[float], y: Tensor, n_groups: int) -> list[float]:
    p = [float((y[:, m] > 0).double().mean()) for m in range(D_SAE)]
    r = [max(0.0, float(y[:, m].max())) for m in range(D_SAE)]
    group = [m * n_groups // D_SAE for m in range(D_SAE)]
    new = list(b)
    for m in range(D_SAE):
        share = group[m] / max(n_groups - 1, 1)
        target = 0.5 * (0.05 / 0.5) ** share
        positive = [r[i] for i in range(D_SAE) if group[i] == group[m] and r[i] > 0]
        if p[m] > target:
            new[m] = max(b[m] - 0.1 * r[m], -1.0)
        elif p[m] == 0:
            new[m] = min(b[m] + 0.1 * sum(positive) / max(len(positive), 1), 0.0)
    return new


@pytest.mark.parametrize("n_groups", [3, 1], ids=["groups", "bias adaptation"])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("direction_scale", [None, 1.5], ids=["printed", "default"])
def test_trains_as_the_recipe_says(
    alpha: float, n_groups: int, direction_scale: float | None
) -> None:
    sae = gba(dtype="float64", alpha=alpha, n_groups=n_groups, direction_scale=direction_scale)
    xs = [0.5 * activations(64, seed=seed, dtype=torch.float64) for seed in range(30)]
    expected = naive_recipe(copy.deepcopy(sae), xs, 1e-2, alpha, n_groups)
    run = trainer(sae, steps=30)
    run.data_provider = iter(xs)
    run.fit()
    state = sae.state_dict()
    assert n_groups == 1 or (sae.bias == -1).any() and (sae.bias > -0.5).any()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            state[name].double(), tensor.detach().double(), rtol=0, atol=1e-5
        )


def test_the_dead_come_back() -> None:
    sae = gba(n_groups=2)
    sae.bias = torch.where(torch.arange(D_SAE) % 4 == 0, -10.0, 0.0)
    sae.lowest_bias.fill_(-10.0)
    x = torch.cat([activations(seed=seed) for seed in range(100)])
    can_fire = (forward(sae, sae_in=x).hidden_pre > 0.1).any(dim=0)
    assert can_fire[::4].sum() >= 4 and not (sae.encode(x)[:, ::4] > 0).any()
    trainer(sae, steps=300, lr=0.0).fit()
    assert torch.equal((sae.encode(x) > 0).any(dim=0)[::4], can_fire[::4])


def test_frequencies_come_down_to_their_targets() -> None:
    sae = gba(n_groups=4, bias_limit=100.0, lowest_target_frequency=0.01)
    trainer(sae, steps=400, lr=0.0).fit()
    output = forward(sae, sae_in=torch.cat([activations(seed=seed) for seed in range(50)]))
    share = (output.feature_acts > 0).float().mean(dim=0).unflatten(0, (4, -1)).mean(dim=1)
    targets = torch.tensor([0.5, 0.1357, 0.0368, 0.01])
    assert (share <= 1.1 * targets).all()
    assert (share[1:] >= targets[1:] / 3).all()


def test_no_gradient_and_no_optimizer_reaches_the_biases() -> None:
    sae = gba()
    assert {name for name, _ in sae.named_parameters()} == {"directions", "output_scale", "b_dec"}
    forward(sae).loss.backward()
    assert not sae.bias.requires_grad and sae.bias.grad is None


def test_as_printed_nothing_but_reconstruction_is_in_the_loss() -> None:
    output = forward(gba(direction_scale=None))
    assert set(output.losses) == {"mse_loss"}
    assert torch.equal(output.loss, output.losses["mse_loss"])


def test_reconstruction_trains_scales_and_b_pre_and_the_other_loss_directions() -> None:
    sae = gba()
    output = forward(sae)
    assert set(output.losses) == {"mse_loss", "direction_loss"}
    for name, expected in {
        "mse_loss": {"output_scale", "b_dec"},
        "direction_loss": {"directions"},
    }.items():
        gradients = torch.autograd.grad(
            output.losses[name], list(sae.parameters()), retain_graph=True, allow_unused=True
        )
        reached = {
            parameter
            for (parameter, _), gradient in zip(sae.named_parameters(), gradients, strict=True)
            if gradient is not None and gradient.any()
        }
        assert reached == expected, name


def test_b_pre_starts_at_the_mean_and_a_trained_one_is_kept() -> None:
    x = activations()
    sae = gba()
    forward(sae, sae_in=x)
    torch.testing.assert_close(sae.b_dec.detach(), x.mean(dim=0))
    forward(sae, sae_in=x + 1)  # step 0 of another training
    torch.testing.assert_close(sae.b_dec.detach(), x.mean(dim=0))
    later = gba()
    forward(later, 1, sae_in=x)
    assert not later.b_dec.any()


@pytest.mark.parametrize("normalize", ["layer_norm", "constant_norm_rescale"])
def test_directions_and_b_pre_are_in_the_units_of_normalized_inputs(normalize: Any) -> None:
    """Whatever the length of the activations as they come."""
    x = activations() + torch.arange(D_IN)
    losses = []
    for length in (1.0, 30.0):
        sae = gba(normalize_activations=normalize, dtype="float64")
        output = forward(sae, sae_in=length * x.double())
        output.losses["direction_loss"].backward()
        losses.append((output.losses["direction_loss"], sae.b_dec, sae.directions.grad))
        normalized = sae.run_time_activation_norm_fn_in(x.double())
        torch.testing.assert_close(sae.b_dec.detach(), normalized.mean(dim=0), rtol=1e-3, atol=1e-3)
    for short, long in zip(*losses, strict=True):
        torch.testing.assert_close(short, long, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_trains_in_16_bits_on_float32_activations(dtype: str) -> None:
    sae, exact = gba(dtype=dtype), gba()
    output, expected = (forward(one, sae_in=activations(4096)) for one in (sae, exact))
    for name, loss in expected.losses.items():
        torch.testing.assert_close(output.losses[name].float(), loss, rtol=0.02, atol=0)


def test_positions_are_samples() -> None:
    x = activations(64)
    flat, positions = gba(), gba()
    expected, output = forward(flat, sae_in=x), forward(positions, sae_in=x.view(8, 8, D_IN))
    torch.testing.assert_close(output.losses["direction_loss"], expected.losses["direction_loss"])


def test_biases_move_in_float32_under_autocast() -> None:
    biases = []
    for is_on in (False, True):
        sae = gba()
        forward(sae, sae_in=activations(64, seed=1) - 3)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_on):
            sae.update_bias()
        biases.append(sae.bias)
    assert biases[1].dtype == torch.float32
    assert torch.equal(*biases)


def test_biases_are_float32_in_a_16_bit_sae() -> None:
    sae = gba(dtype="float32").to(torch.bfloat16)
    assert sae.directions.dtype == torch.bfloat16
    assert sae.bias.dtype == sae.lowest_bias.dtype == torch.float32


def test_a_fold_in_a_window_changes_the_units_of_what_was_counted() -> None:
    folded, through = gba(), gba()
    for sae in (folded, through):
        forward(sae, sae_in=activations())
    folded.fold_activation_norm_scaling_factor(4.0)
    for sae in (folded, through):
        sae.update_bias()
    assert through.bias.any()
    torch.testing.assert_close(4 * folded.bias, through.bias)


def test_features_have_unit_length_at_every_step() -> None:
    sae = gba()
    trainer(sae, steps=20, lr=0.1).fit()
    torch.testing.assert_close(sae.W_enc.norm(dim=0), torch.ones(D_SAE))
    torch.testing.assert_close(sae.W_dec, sae.output_scale.unsqueeze(1) * sae.W_enc.T)


def test_evaluation_counts_nothing() -> None:
    sae = gba()
    sae.eval()
    before = copy.deepcopy(sae.state_dict())
    sae.training_forward_pass(step_input(sae, step=2))
    sae(activations())
    for name, tensor in sae.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled_training_adapts_alike() -> None:
    sae, compiled = gba(), gba()
    compiled.training_forward_pass = torch.compile(  # type: ignore[method-assign]
        compiled.training_forward_pass, backend="eager"
    )
    for step in range(7):
        x = activations(seed=step)
        expected, output = forward(sae, step, sae_in=x), forward(compiled, step, sae_in=x)
        torch.testing.assert_close(output.loss, expected.loss)
    assert_same_state(sae, compiled)


def test_initial_directions_are_not_the_global_streams() -> None:
    """A dictionary drawn under the same seed would be the start: recovery before any training."""
    sae = gba()
    torch.manual_seed(0)
    drawn = torch.randn(D_SAE, D_IN)
    cosines = torch.nn.functional.normalize(drawn, dim=1) @ sae.feature_directions.detach().T
    assert cosines.abs().max() < 0.999
    torch.testing.assert_close(gba().directions, sae.directions)


def test_the_start_knows_no_offset() -> None:
    sae = gba()
    assert not sae.b_dec.any() and not sae.bias.any()


# --- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [4, 5, 6], ids=["window's start", "middle", "end"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_resumed_within_a_window_goes_on_bit_for_bit(stop: int, dtype: str, tmp_path: Path) -> None:
    def run(sae: GBATrainingSAE, first: int, steps: int) -> Any:
        made = trainer(sae, steps=steps)
        made.data_provider = (batch.to(sae.dtype) for batch in batches(first))
        return made

    through = gba(dtype=dtype)
    run(through, 0, 11).fit()
    stopped = gba(dtype=dtype)
    first = run(stopped, 0, stop)
    first.fit()
    first.save_checkpoint("stopped", base_path=tmp_path)
    if stop % 3:
        assert stopped.counters.n_samples.item() == stop % 3 * 64

    resumed = gba(dtype=dtype)
    second = run(resumed, stop, 11)
    second.load_trainer_state(tmp_path / "stopped")
    resumed.load_weights_from_checkpoint(tmp_path / "stopped")
    second.fit()
    assert_same_state(through, resumed)


def test_every_buffer_is_persistent() -> None:
    sae = gba()
    assert {name for name, _ in sae.named_buffers()} <= set(sae.state_dict())


@torch.no_grad()
@pytest.mark.parametrize("apply_b_dec_to_input", [True, False])
def test_export_is_a_jumprelu_sae_with_the_same_outputs(
    apply_b_dec_to_input: bool, tmp_path: Path
) -> None:
    sae = gba(apply_b_dec_to_input=apply_b_dec_to_input)
    with torch.enable_grad():
        trainer(sae, steps=20).fit()
    sae.output_scale[0] = -0.3
    sae.save_inference_model(tmp_path)
    exported = SAE.load_from_disk(tmp_path)
    assert exported.cfg.architecture() == "jumprelu"
    assert torch.equal(exported.threshold, -sae.bias)
    x = activations(500, seed=9)
    torch.testing.assert_close(exported.encode(x), sae.encode(x))
    torch.testing.assert_close(exported(x), sae(x))
    assert (exported.encode(x) > 0).float().mean() < 0.9
    exported.fold_W_dec_norm()
    torch.testing.assert_close(exported(x), sae(x))
    details = exported.cfg.metadata.training_architecture_details
    assert details is not None and details["n_groups"] == 3


def test_norms_cannot_be_folded_into_a_tied_encoder() -> None:
    with pytest.raises(NotImplementedError, match="fold the exported SAE"):
        gba().fold_W_dec_norm()


# --- units ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_the_scale_of_the_activations_does_not_matter(alpha: float) -> None:
    results = []
    for unit in (1.0, 4.0):
        sae = gba(normalize_activations="expected_average_only_in", alpha=alpha)
        run = trainer(sae, steps=20)
        run.data_provider = (unit * batch for batch in batches())
        run.fit()
        assert sae.cfg.normalize_activations == "none"
        results.append(sae)
    small, large = results
    torch.testing.assert_close(large.W_dec, small.W_dec)
    for name in ("bias", "lowest_bias", "b_dec"):
        torch.testing.assert_close(getattr(large, name), 4 * getattr(small, name))
    torch.testing.assert_close(large.gamma, small.gamma)


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"normalize_activations": "expected_average_only_in"}, D_IN**0.5),
        ({"normalize_activations": "layer_norm"}, D_IN**0.5),
        ({"normalize_activations": "none"}, 1.0),
        ({"normalize_activations": "layer_norm", "bias_limit": 3}, 3.0),
    ],
)
def test_the_limit_is_the_length_of_the_inputs(fields: dict[str, Any], limit: float) -> None:
    assert gba(**fields).lowest_bias.item() == pytest.approx(-limit)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_groups": 0}, "n_groups = 0: must be at least 1"),
        ({"n_groups": 33}, "n_groups = 33: must be at most d_sae = 32"),
        ({"n_groups": True}, "n_groups = True: must be a whole number"),
        ({"highest_target_frequency": 1.5}, "= 1.5: must be above 0 and at most 1"),
        ({"lowest_target_frequency": 0}, "lowest_target_frequency = 0: must be above 0"),
        ({"lowest_target_frequency": 0.6}, "at most highest_target_frequency = 0.5"),
        ({"bias_update_steps": 2.5}, "bias_update_steps = 2.5: must be a whole number"),
        ({"bias_update_steps": 0}, "bias_update_steps = 0: must be at least 1"),
        ({"bias_step_size": 0.0}, "bias_step_size = 0.0: must be above 0 and at most 1"),
        ({"bias_limit": -1.0}, "bias_limit = -1.0: must be above 0 or null"),
        ({"bias_limit": float("inf")}, "bias_limit = inf: must be a number or null"),
        ({"direction_scale": -0.1}, "direction_scale = -0.1: must be at least 0 and below 2"),
        ({"direction_scale": 2}, "direction_scale = 2: must be at least 0 and below 2 or null"),
        ({"direction_scale": True}, "direction_scale = True: must be a number or null"),
        ({"normalize_activations": "covariance_whitening"}, "untie encoder and decoder"),
    ],
)
def test_a_bad_field_is_named_with_its_value_and_what_is_allowed(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        gba(**fields)
