from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from wsae_plugin import (
    GammaScheduler,
    WeightedTopKTrainingSAE,
    WeightedTopKTrainingSAEConfig,
    gamma_from_proxy,
)
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.gamma import PROXIES, Proxy, moments_of, no_samples
from wsae_plugin.gamma.consistency import LabelEvidence
from wsae_plugin.gamma.statistics import GammaStatistics
from wsae_plugin.gamma.weights import NORMALIZATIONS

D_IN, D_SAE = 6, 10


def batch(step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(40, D_IN, generator=generator) * torch.arange(1, D_IN + 1)


def decoder() -> torch.Tensor:
    return torch.randn(D_SAE, D_IN, generator=torch.Generator().manual_seed(0))


def run(scheduler: GammaScheduler, steps: range, alpha: float = 1.0) -> list[torch.Tensor]:
    gammas = []
    for step in steps:
        scheduler.update(step, alpha, batch(step), decoder)
        gammas.append(scheduler.gamma.clone())
    return gammas


def test_gamma_is_that_of_all_the_steps_so_far_and_then_frozen() -> None:
    scheduler = GammaScheduler(D_IN, D_SAE, freeze_step=3)
    gammas = run(scheduler, range(6))
    for step, gamma in enumerate(gammas):
        s = moments_of(torch.cat([batch(s) for s in range(min(step + 1, 3))])).variance
        expected = gamma_from_proxy(s, 1.0, variance=s)
        torch.testing.assert_close(gamma, expected.float())


def test_never_frozen() -> None:
    gammas = run(GammaScheduler(D_IN, D_SAE, freeze_step=None), range(30))
    assert all(not torch.equal(a, b) for a, b in zip(gammas, gammas[1:], strict=False))


def test_alpha_goes_on_warming_up_after_the_freeze() -> None:
    scheduler = GammaScheduler(D_IN, D_SAE, freeze_step=2, alpha_warm_up_steps=4)
    for step in range(8):
        alpha = min(step / 4, 1.0)
        scheduler.update(step, alpha, batch(step), decoder)
        proxy = scheduler.read().proxy
        expected = gamma_from_proxy(proxy, alpha, variance=proxy)
        torch.testing.assert_close(scheduler.gamma, expected.float())
    seen = torch.cat([batch(0), batch(1)])
    torch.testing.assert_close(proxy, moments_of(seen).variance)


def test_gamma_is_one_before_the_first_step_and_while_alpha_is_zero() -> None:
    scheduler = GammaScheduler(D_IN, D_SAE)
    assert torch.equal(scheduler.gamma, torch.ones(D_IN))
    assert torch.equal(run(scheduler, range(1), alpha=0.0)[0], torch.ones(D_IN))


def test_latents_are_asked_for_by_the_proxy_that_needs_them_only() -> None:
    variance = GammaScheduler(D_IN, D_SAE)
    variance.observe_latents(0, torch.ones(4, D_SAE))
    assert variance.d_latents == 0
    scheduler = GammaScheduler(D_IN, D_SAE, proxy="latent_variance", freeze_step=3)
    assert torch.equal(run(scheduler, range(1))[0], torch.ones(D_IN))  # no latent was seen yet
    generator = torch.Generator().manual_seed(0)
    latents = [torch.rand(40, D_SAE, generator=generator) for _ in range(5)]
    for step in range(5):
        scheduler.observe_latents(step, latents[step].to_sparse())
    s = moments_of(torch.cat(latents[:3])).variance @ decoder().double().square()
    run(scheduler, range(2, 3))
    expected = gamma_from_proxy(s, 1.0, variance=scheduler.read().activations.variance)
    torch.testing.assert_close(scheduler.gamma, expected.float())


@pytest.mark.parametrize(
    ("refresh", "steps"),
    [("every_step", list(range(12))), ("doubling", [0, 1, 2, 4, 8, 11]), ("once", [0])],
)
def test_when_the_proxy_is_recomputed(
    refresh: Any, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counted(evidence: Any) -> torch.Tensor:
        calls.append(round(float(evidence.activations.count)) // 40 - 1)
        return evidence.activations.variance

    proxy = Proxy(counted, refresh=refresh, needs=())
    monkeypatch.setitem(PROXIES, "counted", proxy)
    run(GammaScheduler(D_IN, D_SAE, proxy="counted", freeze_step=12), range(20))
    assert calls == steps


def test_a_first_batch_without_peaks_leaves_gamma_at_one() -> None:
    scheduler = GammaScheduler(2, D_SAE, proxy="kurtosis", freeze_step=2)
    flat, peaked = torch.tensor([[-1.0, -2.0], [1.0, 2.0]]), torch.eye(20)[:, :2] * 100
    scheduler.update(0, 1.0, flat, decoder)
    assert torch.equal(scheduler.gamma, torch.ones(2))
    scheduler.load_state_dict(scheduler.state_dict())
    both = torch.cat([flat, peaked])
    scheduler.update(1, 1.0, peaked, decoder)
    s = moments_of(both).excess_kurtosis.clamp(min=0)
    assert (s > 0).any()
    expected = gamma_from_proxy(s, 1.0, variance=moments_of(both).variance)
    torch.testing.assert_close(scheduler.gamma, expected.float())


def test_a_proxy_that_orders_nothing_is_not_frozen_in_silence() -> None:
    scheduler = GammaScheduler(2, D_SAE, proxy="kurtosis", freeze_step=2)
    flat = torch.tensor([[-1.0, -2.0], [1.0, 2.0]])
    scheduler.update(0, 1.0, flat, decoder)
    with pytest.raises(RunFailedError, match="'kurtosis' is 0 in every dimension after 2 steps"):
        scheduler.update(1, 1.0, flat, decoder)


def test_a_proxy_that_orders_nothing_is_named_where_gamma_is_never_frozen(
    caplog: pytest.LogCaptureFixture,
) -> None:
    flat = torch.tensor([[-1.0, -2.0], [1.0, 2.0]])
    scheduler = GammaScheduler(2, D_SAE, proxy="kurtosis", freeze_step=None)
    with caplog.at_level(logging.WARNING):
        for step in range(99):
            scheduler.update(step, 1.0, flat, decoder)
        assert not caplog.text
        for step in range(99, 150):
            scheduler.update(step, 1.0, flat, decoder)
    assert caplog.text.count("'kurtosis' is 0 in every dimension after 100 steps") == 1


def test_a_proxy_with_one_value_orders_nothing_and_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The only dimension with peaks: the weights of the others are raised to its own."""
    x = torch.tensor([[-1.0, -2.0], [1.0, 2.0]]).repeat(20, 1)
    x[0, 0] = 50
    with caplog.at_level(logging.WARNING):
        GammaScheduler(2, D_SAE, proxy="uniform", freeze_step=1).update(0, 1.0, x, decoder)
        assert not caplog.text
        GammaScheduler(2, D_SAE, proxy="kurtosis", freeze_step=1).update(0, 1.0, x, decoder)
    assert "'kurtosis' orders no dimension after 1 steps" in caplog.text


@pytest.mark.parametrize("values", [[1.0, torch.nan], [1.0, -1.0], [1.0], [[1.0, 1.0]]])
def test_a_proxy_that_gives_anything_but_a_number_a_dimension_is_rejected(
    monkeypatch: pytest.MonkeyPatch, values: Any
) -> None:
    monkeypatch.setitem(PROXIES, "mine", Proxy(lambda _: torch.tensor(values), "once", ()))
    scheduler = GammaScheduler(2, D_SAE, proxy="mine", freeze_step=3)
    with pytest.raises(BadInputError, match="gamma_proxy 'mine' has shape"):
        scheduler.update(0, 1.0, torch.randn(4, 2), decoder)
    assert torch.equal(scheduler.gamma, torch.ones(2))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gamma_is_what_was_trained_with_after_a_change_of_units(normalization: Any) -> None:
    scheduler = GammaScheduler(D_IN, D_SAE, normalization=normalization, freeze_step=3)
    trained = run(scheduler, range(3))[-1]
    scheduler.fold(input_factor=0.25, latent_factor=0.25)
    assert torch.equal(scheduler.gamma, trained)
    assert torch.equal(scheduler.export()["gamma"], trained)
    loaded = GammaScheduler(D_IN, D_SAE, normalization=normalization, freeze_step=3)
    loaded.load_state_dict(scheduler.state_dict())
    assert torch.equal(loaded.gamma, trained)
    seen = torch.cat([batch(step) for step in range(3)]) / 4
    torch.testing.assert_close(scheduler.export()["variance"], moments_of(seen).variance)


@pytest.mark.parametrize("factor", [0.25, 3.7])
def test_the_total_variance_is_kept_in_any_unit(factor: float) -> None:
    scheduler = GammaScheduler(D_IN, D_SAE, proxy="kurtosis", freeze_step=3, dtype=torch.float64)
    trained = run(scheduler, range(3), alpha=0.5)[-1]
    assert trained.unique().numel() > 1
    scheduler.fold(input_factor=factor)
    torch.testing.assert_close(scheduler.gamma, trained, rtol=1e-14, atol=0)
    variance = scheduler.export()["variance"]
    torch.testing.assert_close((trained.square() * variance).sum(), variance.sum())


def test_a_proxy_of_a_file_follows_the_variance_that_is_still_estimated(tmp_path: Path) -> None:
    file, s = tmp_path / "s.safetensors", torch.arange(1.0, D_IN + 1)
    save_file({"s": s}, file)
    scheduler = GammaScheduler(D_IN, D_SAE, proxy="file", file=str(file), freeze_step=3)
    gammas = run(scheduler, range(5))
    for step, gamma in enumerate(gammas):
        seen = moments_of(torch.cat([batch(i) for i in range(min(step + 1, 3))])).variance
        torch.testing.assert_close(gamma, gamma_from_proxy(s.double(), 1.0, variance=seen).float())
    assert not torch.equal(gammas[0], gammas[1])
    assert torch.equal(gammas[2], gammas[4])


def test_one_sample_has_no_variance_yet() -> None:
    scheduler = GammaScheduler(D_IN, D_SAE, proxy="interference", freeze_step=3)
    scheduler.update(0, 1.0, batch(0)[:1], decoder)
    assert float(scheduler.gamma.square().mean()) == pytest.approx(1)
    run(scheduler, range(1, 3))
    assert torch.isfinite(scheduler.gamma).all()


def test_the_decoder_is_asked_for_by_the_proxy_that_uses_it_only() -> None:
    def refused() -> torch.Tensor:
        raise AssertionError("a proxy of the input alone made the decoder be computed")

    for proxy in ("variance", "kurtosis", "uniform", "shuffled_variance"):
        GammaScheduler(D_IN, D_SAE, proxy=proxy).update(0, 1.0, batch(0), refused)


@pytest.mark.parametrize(
    ("freeze", "warm_up", "step"),
    [(1, 0, 0), (5, 0, 4), (100, 0, 9), (None, 0, 9), (5, 20, 20), (100, 20, 20)],
)
def test_a_concentrated_gamma_is_warned_of_once_it_is_settled(
    caplog: pytest.LogCaptureFixture, freeze: int | None, warm_up: int, step: int
) -> None:
    """After ten steps, or when it is frozen, and when α has its value."""
    x = torch.randn(50, 40)
    x[:, 7] *= 1000
    for clip in (None, 1.0):  # the variance alone is as concentrated
        settings: dict[str, Any] = {"freeze_step": freeze, "alpha_warm_up_steps": warm_up}
        scheduler = GammaScheduler(40, D_SAE, clip=clip, **settings)
        with caplog.at_level(logging.WARNING):
            for now in range(120):
                before = len(caplog.records)
                alpha = 0.5 * min(now / warm_up, 1) if warm_up else 0.5
                scheduler.update(now, alpha, x, decoder, lambda: "small MySAE at hook")
                assert (len(caplog.records) > before) == (now == step), now
        assert caplog.text.count("the weighted variance is on 1.0 of 40 dimensions") == 1
        assert "small MySAE at hook: with alpha = 0.5 and gamma_proxy 'variance'" in caplog.text
        assert f"after {step + 1} steps" in caplog.text
        caplog.clear()
    with caplog.at_level(logging.WARNING):
        run(GammaScheduler(D_IN, D_SAE, freeze_step=1), range(3))
    assert not caplog.text


def test_a_tenth_of_the_dimensions_is_enough(caplog: pytest.LogCaptureFixture) -> None:
    x = torch.zeros(50, 10)
    x[:, 3] = torch.randn(50)  # one effective dimension of ten
    scheduler = GammaScheduler(10, D_SAE, freeze_step=1)
    with caplog.at_level(logging.WARNING):
        scheduler.update(0, 1.0, x, decoder)
    assert float(scheduler.effective_dimensions()) == 1
    assert "weighted variance" not in caplog.text


def test_effective_dimensions_are_those_of_gamma_and_the_variance_seen() -> None:
    scheduler = GammaScheduler(D_IN, D_SAE)
    (gamma,) = run(scheduler, range(1))
    share = gamma.double().square() * moments_of(batch(0)).variance
    expected = share.sum().square() / share.square().sum()
    torch.testing.assert_close(scheduler.effective_dimensions(), expected)


def test_the_defaults_are_those_of_the_config() -> None:
    from_config = WeightedTopKTrainingSAE(
        WeightedTopKTrainingSAEConfig(d_in=D_IN, d_sae=D_SAE, k=2)
    ).gamma_scheduler
    ours = GammaScheduler(D_IN, D_SAE)
    names = ("proxy_name", "normalization", "clip", "freeze_step", "alpha_warm_up_steps", "seed")
    for name in (*names, "file", "gamma_dtype"):
        assert getattr(ours, name) == getattr(from_config, name), name


CASTS: list[Callable[[GammaScheduler], Any]] = [
    lambda s: s.to(torch.bfloat16),
    lambda s: s.half().float(),
    lambda s: s.double(),
    lambda s: s.to("cpu"),
    lambda s: s.load_state_dict({k: v.to(torch.bfloat16) for k, v in s.state_dict().items()}),
    lambda s: s.load_state_dict({k: v.half() for k, v in s.state_dict().items()}, assign=True),
]


@pytest.mark.parametrize("cast", CASTS)
def test_no_cast_costs_a_digit(cast: Callable[[GammaScheduler], Any]) -> None:
    straight = GammaScheduler(D_IN, D_SAE, freeze_step=4)
    run(straight, range(6))
    scheduler = GammaScheduler(D_IN, D_SAE, freeze_step=4)
    run(scheduler, range(2))
    cast(scheduler)
    run(scheduler, range(2, 6))
    assert torch.equal(scheduler.statistics, straight.statistics)
    assert torch.equal(scheduler.gamma, straight.gamma)


def test_gamma_is_at_least_float32_and_float64_for_a_float64_sae() -> None:
    for dtype, expected in [
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ]:
        scheduler = GammaScheduler(D_IN, D_SAE, dtype=dtype)
        assert scheduler.gamma.dtype == expected
        run(scheduler.to(dtype), range(1))
        assert scheduler.gamma.dtype == expected


def test_a_mapped_checkpoint_may_lie_anywhere_in_its_file() -> None:
    trained = GammaScheduler(D_IN, D_SAE)
    run(trained, range(2))
    state = trained.state_dict()
    file = torch.cat([torch.zeros(3, dtype=torch.uint8), state["statistics"]])
    loaded = GammaScheduler(D_IN, D_SAE)
    loaded.load_state_dict({**state, "statistics": file[3:]}, assign=True)
    assert torch.equal(loaded.gamma, trained.gamma)


def test_statistics_of_another_kind_of_proxy_are_refused() -> None:
    other = GammaScheduler(D_IN, D_SAE, proxy="latent_variance").state_dict()
    with pytest.raises(RuntimeError, match="another kind of proxy than gamma_proxy 'variance'"):
        GammaScheduler(D_IN, D_SAE).load_state_dict(other)


@pytest.mark.parametrize("d_latents", [0, 3])
def test_bytes_round_trip(d_latents: int) -> None:
    statistics = GammaStatistics(
        alpha=torch.tensor(0.25, dtype=torch.float64),
        proxy=torch.rand(4, dtype=torch.float64),
        activations=moments_of(torch.rand(9, 4)),
        latents=moments_of(torch.rand(9, 3)) if d_latents else no_samples(0),
    )
    packed = statistics.to_bytes()
    assert packed.dtype == torch.uint8
    again = GammaStatistics.from_bytes(packed, d_in=4)
    flat = [again.alpha, again.proxy, *again.activations, *again.latents]
    expected = [statistics.alpha, statistics.proxy, *statistics.activations, *statistics.latents]
    for a, e in zip(flat, expected, strict=True):
        assert torch.equal(a, e)
        assert a.shape == e.shape


@pytest.mark.parametrize("proxy", ["variance", "kurtosis", "interference"])
def test_constant_is_the_literal_gammas_root_mean_square_at_every_step(
    proxy: str, caplog: pytest.LogCaptureFixture
) -> None:
    literal = GammaScheduler(D_IN, D_SAE, proxy=proxy, normalization="none", freeze_step=3)
    constant = GammaScheduler(D_IN, D_SAE, proxy=proxy, normalization="constant", freeze_step=3)
    for expected, found in zip(run(literal, range(5)), run(constant, range(5)), strict=True):
        torch.testing.assert_close(found, expected.square().mean().sqrt().expand_as(expected))
    assert float(constant.gamma[0]) != 1
    assert "orders no dimension" not in caplog.text


def test_the_constant_by_hand() -> None:
    batches = [torch.tensor([[0.0, 0.0], [2.0, 6.0]]), torch.tensor([[1.0, 3.0], [1.0, 3.0]])]
    assert moments_of(torch.cat(batches)).variance.tolist() == [0.5, 4.5]
    # At α = 1/2, γ² is the variance, so c² is their mean; at α = 1, γ = 0.5 and 4.5.
    for alpha, c in ((0.5, 2.5**0.5), (1.0, ((0.25 + 20.25) / 2) ** 0.5)):
        scheduler = GammaScheduler(2, D_SAE, normalization="constant", dtype=torch.float64)
        for step, x in enumerate(batches):
            scheduler.update(step, alpha, x, decoder)
        assert scheduler.gamma.tolist() == pytest.approx([c, c])


def test_the_example_in_the_docstring() -> None:
    gamma = GammaScheduler(d_in=2, d_sae=8, freeze_step=1)
    x = torch.tensor([[0.0, 0.0], [2.0, 4.0]])
    gamma.update(step=0, alpha=0.5, activations=x, decoder=lambda: torch.zeros(8, 2))
    assert gamma.gamma.square().tolist() == pytest.approx([5 / 17, 20 / 17])


def class_counts() -> LabelEvidence:
    counts = torch.tensor([[20, 0], [15, 5], [10, 10], [20, 0], [20, 0], [3, 0]])
    return LabelEvidence(counts, counts, counts.sum(dim=0))


@pytest.mark.parametrize("shuffled", [False, True])
def test_labels_are_asked_for_once_and_by_no_resumed_run(shuffled: bool) -> None:
    asked: list[int] = []

    def labels() -> LabelEvidence:
        asked.append(len(asked))
        return class_counts()

    of = "_of_shuffled_labels" if shuffled else ""
    scheduler = GammaScheduler(D_IN, D_SAE, proxy=f"semantic_consistency{of}", freeze_step=4)
    setattr(scheduler, "shuffled_labels" if shuffled else "labels", labels)
    run(scheduler, range(2))
    assert asked == [0]
    s = torch.tensor([1, 0.75, 0.5, 1, 1, 0]).double()
    assert torch.equal(scheduler.read().proxy, s)
    resumed = GammaScheduler(D_IN, D_SAE, proxy=f"semantic_consistency{of}", freeze_step=4)
    resumed.load_state_dict(scheduler.state_dict())
    for one, other in zip(run(scheduler, range(2, 6)), run(resumed, range(2, 6)), strict=True):
        assert torch.equal(one, other)
    variance = resumed.read().activations.variance
    expected = gamma_from_proxy(s, 1.0, variance=variance)
    torch.testing.assert_close(resumed.gamma, expected.float())


def test_a_proxy_of_labels_without_labels_is_refused() -> None:
    scheduler = GammaScheduler(D_IN, D_SAE, proxy="semantic_consistency")
    with pytest.raises(BadInputError, match="labels: missing"):
        run(scheduler, range(1))
