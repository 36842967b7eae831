"""Dictionary and codes of every architecture against what the SAE itself reconstructs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE

from tests.architectures import ARCHITECTURES, D_IN, D_SAE, Architecture, activations
from tests.optimality.test_lasso import problem
from wsae_plugin.errors import BadInputError
from wsae_plugin.optimality import nonnegative_lasso
from wsae_plugin.optimality.coded import Coded, coded, matched_penalty

UNWEIGHTED = torch.ones(D_IN, dtype=torch.float64)


def published(architecture: Architecture, folder: Path, **fields: Any) -> SAE[Any]:
    """As plain SAELens loads what a training saved, with atoms of different lengths."""
    sae = architecture.weighted(**fields)
    with torch.no_grad():
        sae.W_dec *= torch.linspace(0.5, 2, len(sae.W_dec)).unsqueeze(1)
        sae.b_dec += torch.linspace(-1, 1, D_IN)
    sae.save_inference_model(folder)
    return SAE.load_from_disk(folder).eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda each: each.name)
@pytest.mark.parametrize("gamma", [UNWEIGHTED, torch.linspace(0.1, 3, D_IN).double()])
def test_residuals_are_those_of_the_sae_in_the_space_of_the_loss(
    architecture: Architecture, gamma: torch.Tensor, tmp_path: Path
) -> None:
    sae, x = published(architecture, tmp_path), activations()
    of = coded(sae, x, gamma)
    with torch.no_grad():
        expected = gamma * (x - sae(x)).double()
    torch.testing.assert_close(of.residual, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(of.atoms.norm(dim=1), torch.ones(len(of.atoms)).double())
    assert (of.values >= 0).all() and torch.equal(of.latents >= 0, of.values > 0)
    with torch.no_grad():
        assert torch.equal(of.l0, (sae.encode(x) != 0).sum(dim=1))


@pytest.mark.parametrize("normalisation", ["constant_norm_rescale", "layer_norm"])
def test_what_the_sae_normalises_is_tested_normalised(normalisation: str, tmp_path: Path) -> None:
    (topk,) = (each for each in ARCHITECTURES if each.name == "topk")
    sae, x = published(topk, tmp_path, normalize_activations=normalisation), activations()
    of = coded(sae, x, UNWEIGHTED)
    with torch.no_grad():
        y = sae.run_time_activation_norm_fn_in(x)
        expected = y - (sae.encode(x) @ sae.W_dec + sae.b_dec)
    torch.testing.assert_close(of.residual, expected.double(), atol=1e-5, rtol=1e-5)


OF_SAELENS: dict[str, dict[str, Any]] = {
    "standard": {},
    "gated": {},
    "jumprelu": {},
    "topk": {"k": 4},
    "topk, rescaled": {"k": 4, "rescale_acts_by_decoder_norm": True},
    "abstopk": {"k": 4},
    "abstopk, rescaled": {"k": 4, "rescale_acts_by_decoder_norm": True},
    "matching_pursuit": {"max_iterations": 4},
    "matching_pursuit, no bias": {"max_iterations": 4, "apply_b_dec_to_input": False},
}


def of_saelens(name: str, **fields: Any) -> SAE[Any]:
    """An SAE as SAELens makes it, with atoms of different lengths and biases."""
    torch.manual_seed(0)
    fields = OF_SAELENS[name] | fields
    config = {"architecture": name.split(",")[0], "d_in": D_IN, "d_sae": D_SAE, "metadata": {}}
    sae = SAE.from_dict(config | fields)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.normal_()
        sae.W_dec *= torch.linspace(0.2, 1, D_SAE).unsqueeze(1)
    return sae.eval()


@pytest.mark.parametrize("name", OF_SAELENS)
@pytest.mark.parametrize("normalisation", ["none", "layer_norm", "constant_norm_rescale"])
def test_atoms_times_codes_are_what_saelens_decodes(name: str, normalisation: str) -> None:
    sae, x = of_saelens(name, normalize_activations=normalisation), activations()
    said: list[torch.Tensor] = []
    hook = sae.hook_sae_recons.register_forward_hook(lambda *args: said.append(args[2].detach()))
    with torch.no_grad():
        sae.decode(sae.encode(x))
        normalised = sae.run_time_activation_norm_fn_in(x)
    hook.remove()
    of = coded(sae, x, UNWEIGHTED)
    expected = (normalised - said[0]).double()
    torch.testing.assert_close(of.residual, expected, atol=1e-4, rtol=1e-5)


def test_many_samples_are_encoded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    sae, x = of_saelens("jumprelu"), activations(50)
    whole = coded(sae, x, UNWEIGHTED)
    monkeypatch.setattr(sys.modules[Coded.__module__], "_ROWS", 7)
    parts = coded(sae, x, UNWEIGHTED)
    assert torch.equal(parts.l0, whole.l0)
    torch.testing.assert_close(parts.residual, whole.residual, atol=1e-4, rtol=1e-5)


def test_a_diagonal_matrix_is_a_weight_per_dimension() -> None:
    sae, x, gamma = of_saelens("topk"), activations(), torch.linspace(0.1, 3, D_IN).double()
    by_vector, by_matrix = coded(sae, x, gamma), coded(sae, x, gamma.diag())
    torch.testing.assert_close(by_matrix.residual, by_vector.residual)
    torch.testing.assert_close(by_matrix.atoms, by_vector.atoms)


def test_a_rotation_leaves_what_is_left_as_long() -> None:
    sae, x = of_saelens("topk"), activations()
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(D_IN, D_IN, generator=generator, dtype=torch.float64)
    rotated = coded(sae, x, torch.linalg.qr(normal)[0]).residual
    unrotated = coded(sae, x, UNWEIGHTED).residual
    torch.testing.assert_close(rotated.norm(dim=1), unrotated.norm(dim=1))
    assert not torch.allclose(rotated, unrotated)


def test_an_sae_that_is_more_than_a_dictionary_is_refused() -> None:
    sae = of_saelens("standard")
    sae.cfg.architecture = lambda: "temporal"
    with pytest.raises(BadInputError, match="temporal: predicts a part of each sample"):
        coded(sae, activations(), UNWEIGHTED)


def test_a_transcoder_is_refused() -> None:
    fields = {"d_in": D_IN, "d_out": D_IN, "d_sae": D_SAE, "apply_b_dec_to_input": False}
    sae = SAE.from_dict({"architecture": "transcoder"} | fields)
    with pytest.raises(BadInputError, match="transcoder"):
        coded(sae, activations(8), torch.ones(D_IN))


def test_the_penalty_makes_optimal_codes_as_sparse(tmp_path: Path) -> None:
    (topk,) = (each for each in ARCHITECTURES if each.name == "topk")
    of = coded(published(topk, tmp_path), activations(400), UNWEIGHTED)
    codes = nonnegative_lasso(of.x, of.atoms, matched_penalty(of))
    assert float((codes.values > 0).sum(dim=1).double().mean()) == pytest.approx(4, rel=0.02)


def test_an_sae_that_is_silent_is_refused(tmp_path: Path) -> None:
    (standard,) = (each for each in ARCHITECTURES if each.name == "standard")
    sae = published(standard, tmp_path)
    with torch.no_grad():
        sae.b_enc -= 1000
    with pytest.raises(BadInputError, match="no latent of the SAE is active on any sample"):
        coded(sae, activations(), UNWEIGHTED)


def test_the_penalty_is_for_the_samples_on_which_it_is_sought(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Samples in order, of a class after another say, are not all alike."""
    x, atoms = problem(200, 16, 64)
    values, latents = (x @ atoms.T).clamp(min=1e-9).topk(8, dim=1)
    values[:100, 2:] = 0
    of = Coded(x, atoms, latents.where(values > 0, -1), values)
    # The package has a function of the module's name.
    monkeypatch.setattr(sys.modules[Coded.__module__], "_N_FOR_PENALTY", 100)
    codes = nonnegative_lasso(x[::2], atoms, matched_penalty(of))
    assert float((codes.values > 0).sum(dim=1).double().mean()) == pytest.approx(5, rel=0.011)


def test_fewer_samples_than_are_tried_are_tried_all() -> None:
    x, atoms = problem(300, 16, 64)
    values, latents = (x @ atoms.T).clamp(min=0).topk(2, dim=1)
    of = Coded(x, atoms, latents, values)
    codes = nonnegative_lasso(x, atoms, matched_penalty(of))
    wanted = float(of.l0.double().mean())
    assert float((codes.values > 0).sum(dim=1).double().mean()) == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize(
    ("x", "n_active", "message"),
    [
        (torch.eye(4), 5, "4 samples of 4 dimensions with 5.0 active latents"),
        (torch.eye(4), 0, "with 0.0 active latents"),
        (torch.zeros(4, 4), 1, "correlations up to 0;"),
        (-torch.eye(4), 1, "correlations up to 0;"),
        (torch.zeros(0, 4), 1, "no L1 penalty suits 0 samples"),
        (torch.eye(4), 3, "as sparse as the SAE's, 3.0 active latents; give one with --penalty"),
    ],
)
def test_samples_that_no_penalty_suits_are_refused(
    x: torch.Tensor, n_active: int, message: str
) -> None:
    atoms = torch.cat([torch.eye(4), torch.zeros(2, 4)]).double()
    latents = torch.arange(5).repeat(len(x), 1)
    values = (latents < n_active).double()
    with pytest.raises(BadInputError, match=message):
        matched_penalty(Coded(x.double(), atoms, latents, values))


def test_some_samples_are_those_samples(tmp_path: Path) -> None:
    (topk,) = (each for each in ARCHITECTURES if each.name == "topk")
    of = coded(published(topk, tmp_path), activations(20), UNWEIGHTED)
    torch.testing.assert_close(of.of(torch.arange(20) % 2 == 1).residual, of.residual[1::2])
