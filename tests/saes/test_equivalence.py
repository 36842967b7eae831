"""An untied weighted SAE is an ordinary SAE on Γx, with Γ moved into the weights."""

from __future__ import annotations

import pytest
import torch

from tests.architectures import ARCHITECTURES, Architecture, activations, forward, trained_losses


@pytest.mark.parametrize(
    "arch", [a for a in ARCHITECTURES if a.name in ("standard", "jumprelu", "topk")]
)
@torch.no_grad()
def test_the_weighted_loss_is_the_plain_loss_on_weighted_activations(arch: Architecture) -> None:
    # E' = Γ⁻¹E, D' = DΓ, b' = bΓ: the same latents, and x̂' = Γx̂. Decoder norms are not kept, so
    # rescaling by them is off, and penalties that contain them are not compared.
    fields = {"rescale_acts_by_decoder_norm": False} if arch.name == "topk" else {}
    x = activations(dtype=torch.float64)
    weighted = arch.weighted(alpha=0.8, dtype="float64", **fields)
    weighted.b_dec += torch.randn_like(weighted.b_dec)
    output = forward(weighted, sae_in=x)

    gamma = weighted.gamma
    plain = arch.parent(dtype="float64", **fields)
    plain.W_enc.data = weighted.W_enc / gamma.unsqueeze(1)
    plain.W_dec.data = weighted.W_dec * gamma
    plain.b_dec.data = weighted.b_dec * gamma
    expected = forward(plain, sae_in=x * gamma)
    torch.testing.assert_close(output.feature_acts, expected.feature_acts)
    losses = trained_losses(output)
    torch.testing.assert_close(losses["mse_loss"], expected.losses["mse_loss"])
    if arch.name == "topk":
        name = "auxiliary_reconstruction_loss"
        assert expected.losses[name] > 0
        torch.testing.assert_close(losses[name], expected.losses[name])
