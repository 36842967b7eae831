from __future__ import annotations

from typing import Any

import pytest

from tests.architectures import ARCHITECTURES, trainer
from wsae_plugin.errors import BadInputError


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda a: a.name)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha": float("nan")}, "alpha = nan: must be a number"),
        ({"alpha": "1.0"}, "alpha = '1.0': must be a number"),
        ({"alpha": True}, "alpha = True: must be a number"),
        ({"alpha_warm_up_steps": -1}, "alpha_warm_up_steps = -1: must be at least 0"),
        ({"alpha_warm_up_steps": 1.5}, "alpha_warm_up_steps = 1.5: must be a whole number"),
        ({"gamma_normalization": "mean"}, "gamma_normalization = 'mean': .* 'mean_square', 'max'"),
        ({"gamma_clip": 0.9}, "gamma_clip = 0.9: must be at least 1 or null"),
        ({"gamma_freeze_step": 0}, "gamma_freeze_step = 0: must be at least 1 or null"),
        (
            {"gamma_freeze_step": 1, "gamma_proxy": "latent_variance"},
            "gamma_freeze_step = 1: .* none has been seen at the first step: 2 or more",
        ),
        ({"gamma_seed": -1}, "gamma_seed = -1: must be at least 0"),
        ({"gamma_proxy": "file"}, "gamma_file = None: .* needs the path"),
        ({"gamma_file": "s.safetensors"}, "gamma_file = 's.safetensors': .* is 'variance'"),
    ],
)
def test_a_bad_field_is_named_with_its_value_and_what_is_allowed(
    arch: Any, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        arch.weighted(**{"alpha": 1.0, **fields})


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda a: a.name)
def test_training_refuses_a_proxy_that_nobody_registered(arch: Any) -> None:
    """Before its first step; whoever reads what another trained with it need not know it."""
    sae = arch.weighted(alpha=1.0, gamma_proxy="varience")
    with pytest.raises(BadInputError, match="gamma_proxy = 'varience': the proxies are .*variance"):
        trainer(sae)


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda a: a.name)
def test_whitening_is_saelens_own_and_takes_no_weight(arch: Any) -> None:
    fields = {"normalize_activations": "covariance_whitening"}
    if arch.name == "matching_pursuit":
        for alpha in (0.0, 1.0):
            with pytest.raises(ValueError, match="cannot be folded into its tied encoder"):
                arch.weighted(alpha=alpha, **fields)
        return
    arch.weighted(alpha=0, **fields)
    with pytest.raises(BadInputError, match=r"whitened .* use alpha=0"):
        arch.weighted(alpha=1.0, **fields)
