"""Γ in numbers, against values worked by hand."""

from __future__ import annotations

import json

import pytest
import torch

from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.gamma import PROXIES, proxies
from wsae_plugin.gamma.consistency import LabelEvidence
from wsae_plugin.gamma.moments import merge, moments_of
from wsae_plugin.gamma.spectrum import (
    check_needs_no_sae,
    clip_that_spreads,
    gamma_spectrum,
    halves_of,
    is_concentrated,
    survey,
    weighted_variance_share,
)
from wsae_plugin.gamma.weights import gamma_from_proxy


def test_share_of_the_weighted_variance() -> None:
    # γ²·Var = (1·2, 4·1, 1·4, 0.25·8) = (2, 4, 4, 2), in sum 12
    shares = weighted_variance_share(
        torch.tensor([1.0, 2.0, 1.0, 0.5]), torch.tensor([2.0, 1.0, 4.0, 8.0])
    )
    torch.testing.assert_close(shares, torch.tensor([2.0, 4.0, 4.0, 2.0]) / 12)


def test_spectrum_by_hand() -> None:
    # γ²·Var = (9·4, 1·1, 1·1, 1·1, 1·1) = (36, 1, 1, 1, 1), in sum 40
    spectrum = gamma_spectrum(
        torch.tensor([3.0, 1.0, 1.0, 1.0, 1.0]), torch.tensor([4.0, 1.0, 1.0, 1.0, 1.0])
    )
    assert spectrum["gamma"] == {"min": 1.0, "median": 1.0, "max": 3.0}
    assert spectrum["max_over_median"] == 3.0
    assert spectrum["effective_dimensions"] == pytest.approx(40**2 / (36**2 + 4))
    assert spectrum["weighted_variance_share"] == pytest.approx(
        {"top_1": 0.9, "top_5": 1.0, "top_10": 1.0}
    )
    assert spectrum["top_dimensions"][0] == pytest.approx(
        {"dimension": 0, "gamma": 3.0, "variance": 4.0, "share": 0.9}
    )
    assert json.loads(json.dumps(spectrum, allow_nan=False)) == spectrum


def test_concentrated_means_more_than_half_in_five_of_more_dimensions() -> None:
    assert not is_concentrated(torch.full((10,), 0.1))  # five of ten hold exactly half
    assert is_concentrated(torch.tensor([0.11] * 5 + [0.09] * 5))
    assert not is_concentrated(torch.full((5,), 0.2))  # five dimensions are all there is


def test_clip_that_spreads_is_the_largest_that_does() -> None:
    variance = torch.ones(100, dtype=torch.float64)
    variance[:3] = 30.0  # unweighted, the top 5 hold (90 + 2) / 187 < half; at α = 1 nearly all
    assert gamma_spectrum(gamma_from_proxy(variance, 1.0, variance=variance), variance)[
        "concentrated"
    ]

    clip = clip_that_spreads(variance, 1.0, variance)

    # With γ = c in the three: (90c² + 2) / (90c² + 97) ≤ ½  ⇔  c² ≤ 93/90, c ≤ 1.0165
    assert clip == 1.01
    assert clip is not None
    clipped = gamma_from_proxy(variance, 1.0, clip=clip, variance=variance)
    assert not gamma_spectrum(clipped, variance)["concentrated"]


@pytest.mark.parametrize("strongest", [30.0, 3e4])
def test_clip_that_spreads_has_three_digits(strongest: float) -> None:
    # γ = c in one dimension of 40 and 1 elsewhere: c²/16 + 4 ≤ 35 ⇔ c ≤ √(31 · 16).
    s = torch.ones(40, dtype=torch.float64)
    s[7] = strongest
    variance = torch.ones(40, dtype=torch.float64)
    variance[7] = 1 / 16
    clip = clip_that_spreads(s, 1.0, variance)
    assert clip is not None
    assert 0.97 * (31 * 16) ** 0.5 < clip <= (31 * 16) ** 0.5
    assert clip == float(f"{clip:.3g}")


def test_no_clip_helps_when_the_variance_itself_is_concentrated() -> None:
    variance = torch.ones(20, dtype=torch.float64)
    variance[0] = 1000.0
    assert clip_that_spreads(variance, 1.0, variance) is None


def test_halves_are_every_other_batch() -> None:
    batches = [torch.randn(5, 3) for _ in range(3)]
    first, second = halves_of(batches, d_in=3)
    torch.testing.assert_close(first.mean, torch.cat([batches[0], batches[2]]).double().mean(dim=0))
    torch.testing.assert_close(second.mean, batches[1].double().mean(dim=0))
    torch.testing.assert_close(
        merge(first, second).variance, moments_of(torch.cat(batches)).variance
    )
    with pytest.raises(RunFailedError, match="before a second batch"):
        halves_of(batches[:1], d_in=3)


def test_survey_by_hand() -> None:
    # variances 1 and 4 in the first half, 1 and 16 in the second; their means agree
    first = moments_of(torch.tensor([[-1.0, -2.0], [1.0, 2.0]]))
    second = moments_of(torch.tensor([[-1.0, -4.0], [1.0, 4.0]]))

    result = survey((first, second), alphas=[0.5, 0], proxies=["variance", "variance"])

    assert result["tokens"] == 4
    assert result["variance"] == [1.0, 10.0]
    uniform, weighted = result["gammas"]
    assert (uniform["proxy"], uniform["alpha"], uniform["gamma"]) == ("uniform", 0.0, [1.0, 1.0])
    assert (weighted["proxy"], weighted["alpha"]) == ("variance", 0.5)
    # γ² = s up to a factor, so γ²s is as (1, 100), and its sum is that of (1, 10)
    assert weighted["gamma"] == pytest.approx([(11 / 101) ** 0.5, (110 / 101) ** 0.5])
    assert weighted["weighted_variance_share"] == pytest.approx([1 / 101, 100 / 101])
    # torch's median is the lower: max / median is 2 in the first half, 4 in the second
    assert weighted["spread"]["max_over_median"] == pytest.approx((4 - 2) / 2)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_survey_offers_a_clip_where_the_loss_is_concentrated() -> None:
    x = torch.randn(60, 30, generator=torch.Generator().manual_seed(0))
    x[:, 4] *= 4
    halves = moments_of(x[:30]), moments_of(x[30:])
    variance = merge(*halves).variance
    *_, spread, concentrated = survey(
        halves, alphas=[0.01, 1.0], proxies=["variance"], normalization="max"
    )["gammas"]
    assert "clip_that_spreads" not in spread
    clip = concentrated["clip_that_spreads"]
    assert clip == clip_that_spreads(variance, 1.0, variance, "max")
    clipped = survey(halves, [1.0], ["variance"], normalization="max", clip=clip)["gammas"][-1]
    assert clipped["gamma"] == gamma_from_proxy(variance, 1.0, "max", clip).tolist()
    assert not clipped["spectrum"]["concentrated"]


def test_the_seed_of_a_survey_is_that_of_the_shuffle() -> None:
    halves = tuple(moments_of(batch) for batch in torch.randn(2, 20, 12))

    def gammas(**seed: int) -> list[float]:
        return survey(halves, [1.0], ["shuffled_variance"], **seed)["gammas"][-1]["gamma"]

    assert gammas() == gammas(seed=0) != gammas(seed=1)


def test_a_proxy_that_orders_nothing_is_reported_not_raised() -> None:
    flat = moments_of(torch.tensor([[-1.0, -2.0], [1.0, 2.0]]))  # two points: kurtosis 1 − 3
    *_, entry = survey((flat, flat), alphas=[1.0], proxies=["kurtosis"])["gammas"]
    assert entry["dead_dimensions"] == 2
    assert "orders none" in entry["unusable"]


@pytest.mark.parametrize("proxy", ["interference", "latent_variance"])
def test_proxies_of_an_sae_are_refused(proxy: str) -> None:
    with pytest.raises(BadInputError, match="train one and look"):
        check_needs_no_sae(proxy)


def test_a_registered_proxy_that_reads_the_decoder_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    half = moments_of(torch.tensor([[-1.0, -2.0], [1.0, 2.0]]))
    monkeypatch.setattr("wsae_plugin.gamma.proxies.PROXIES", PROXIES.copy())
    proxies.register_proxy("norms", lambda seen: seen.decoder().norm(dim=0), needs=("decoder",))
    with pytest.raises(BadInputError, match="'norms': is computed from the SAE's own decoder"):
        survey((half, half), [1.0], ["norms"])
    proxies.register_proxy("unsaid", lambda seen: seen.decoder().norm(dim=0))
    with pytest.raises(BadInputError, match=r'register it with needs=\("decoder",\)'):
        survey((half, half), [1.0], ["unsaid"])


def test_labels_are_surveyed_where_there_are_any() -> None:
    half = moments_of(torch.tensor([[-1.0, -2.0], [1.0, 2.0]]))
    counts, shuffled = torch.tensor([[20, 0], [10, 10]]), torch.tensor([[10, 10], [20, 0]])
    sizes = torch.tensor([30, 10])
    proxies = ["semantic_consistency", "semantic_consistency_of_shuffled_labels"]
    result = survey(
        (half, half),
        [1.0],
        proxies,
        normalization="none",
        labels=lambda: LabelEvidence(counts, counts, sizes),
        shuffled_labels=lambda: LabelEvidence(shuffled, shuffled, sizes),
    )
    assert [entry["gamma"] for entry in result["gammas"][1:]] == [[1.0, 0.5], [0.5, 1.0]]
    with pytest.raises(BadInputError, match="labels: missing"):
        survey((half, half), [1.0], proxies)
