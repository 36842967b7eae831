from __future__ import annotations

from typing import Any

import pytest

from tests.architectures import ARCHITECTURES
from wsae_plugin.errors import BadInputError


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda a: a.name)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha": float("nan")}, "alpha is nan; a finite number"),
        ({"alpha": "1.0"}, "alpha is '1.0'; a finite number"),
        ({"alpha": True}, "alpha is True; a finite number"),
        ({"alpha_warm_up_steps": -1}, "alpha_warm_up_steps is -1; a whole number"),
        ({"alpha_warm_up_steps": 1.5}, "alpha_warm_up_steps is 1.5; a whole number"),
        ({"gamma_proxy": "varience"}, "gamma_proxy is 'varience'; the proxies are .*variance"),
        ({"gamma_normalization": "mean"}, "gamma_normalization is 'mean'; .* mean_square, max"),
        ({"gamma_clip": 0.9}, "gamma_clip is 0.9; .* ≥ 1"),
        ({"gamma_freeze_step": 0}, "gamma_freeze_step is 0; .* None never freezes it"),
        (
            {"gamma_freeze_step": 1, "gamma_proxy": "latent_variance"},
            "gamma_freeze_step is 1; .* none has been seen at the first step: 2 or more",
        ),
        ({"gamma_seed": -1}, "gamma_seed is -1"),
        ({"gamma_proxy": "file"}, "gamma_file is None; .* needs the path"),
        ({"gamma_file": "s.safetensors"}, "gamma_file is 's.safetensors'; .* not 'variance'"),
        ({"normalize_activations": "covariance_whitening"}, "whitened .* use alpha=0"),
    ],
)
def test_a_bad_field_is_named_with_its_value_and_what_is_allowed(
    arch: Any, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        arch.weighted(**{"alpha": 1.0, **fields})


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda a: a.name)
def test_whitening_without_a_weight_is_saelens_own(arch: Any) -> None:
    arch.weighted(alpha=0, normalize_activations="covariance_whitening")
