"""Held-out scores: by hand, against SAELens on the same tokens, and how their spread is taken."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sae_lens import SAE, TopKSAE, TopKSAEConfig
from sae_lens.evals import EvalConfig, ExplainedVarianceCalculator, run_evals
from sae_lens.load_model import HookedProxyLM
from sae_lens.training.activation_scaler import ActivationScaler
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from tests.measures.sums import once, sums_of
from wsae_plugin.errors import BadInputError
from wsae_plugin.measures.activity import cosine_similarity, l0, norm_ratio
from wsae_plugin.measures.explained_variance import (
    explained_under,
    explained_variance,
    explained_variance_per_dimension,
    quarters_by_weight,
    variance_per_dimension,
)
from wsae_plugin.measures.held_out import HeldOutSamples, HeldOutText, held_out_batches
from wsae_plugin.measures.language_model import (
    ce_loss_recovered,
    ce_loss_with_sae,
    kl_divergence,
    kl_recovered,
)
from wsae_plugin.measures.measure import Measure
from wsae_plugin.measures.sums import (
    BatchScore,
    Found,
    HeldOutSums,
    over_batches,
    sums_of_samples,
)
from wsae_plugin.measures.top_tokens import TopTokens
from wsae_plugin.sources import Samples

D_IN, D_SAE, K = 16, 32, 4
HOOKS = ("gpt_neox.layers.0", "gpt_neox.layers.1")
SPECIAL = 0


class Store:
    """As much of an ActivationsStore as `run_evals` and `held_out_batches` ask for."""

    store_batch_size_prompts = 3
    context_size = 8

    def __init__(self, batches: list[Tensor]) -> None:
        self.batches = batches
        self.reset_input_dataset()

    def reset_input_dataset(self) -> None:
        self.left = iter(self.batches)

    def get_batch_tokens(self, *_: Any, **__: Any) -> Tensor:
        return next(self.left)


@pytest.fixture(scope="module")
def model() -> HookedProxyLM:
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=50,
        hidden_size=D_IN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        initializer_range=0.5,
    )
    lm: Any = GPTNeoXForCausalLM(config).eval()
    return HookedProxyLM(lm, tokenizer=None, hook_names=list(HOOKS))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randint(1, 50, (3, 8), generator=generator) for _ in range(4)]
    for batch in batches:
        batch[:, 0] = SPECIAL
    batches[0][1, 5] = SPECIAL  # in the middle of a context as well
    return batches


def random_sae(seed: int, hook_name: str = HOOKS[0]) -> SAE[Any]:
    torch.manual_seed(seed)
    sae = TopKSAE(TopKSAEConfig(d_in=D_IN, d_sae=D_SAE, k=K))
    sae.cfg.metadata.hook_name = hook_name
    return sae


def of(measure: Measure, sums: HeldOutSums) -> Any:
    return score_of(measure)(sums, once(sums))


def score_of(measure: Measure) -> BatchScore:
    """The function of sums that `batch_measure` decorated."""
    return inspect.unwrap(measure)  # type: ignore[return-value]


def measure(
    saes: dict[str, SAE[Any]], model: Any, batches: list[Tensor], exclude_tokens: Sequence[int] = ()
) -> dict[str, HeldOutSums]:
    text = HeldOutText(model, None, batches, [*exclude_tokens], seed=0)
    return {name: evidence.sums for name, evidence in text.evidence(saes).items()}


def explained(gamma: Tensor) -> BatchScore:
    return partial(explained_under, gamma)


def test_scores_by_hand() -> None:
    # mean x = (1, 2), so Σ(x − mean)² = (2, 8); Σ(x − x̂)² = (1, 2)
    x = torch.tensor([[0.0, 0.0], [2.0, 4.0]])
    x_hat = torch.tensor([[0.0, 1.0], [1.0, 3.0]])
    sums = sums_of([(x[:1], x_hat[:1]), (x[1:], x_hat[1:])])

    assert of(explained_variance, sums) == pytest.approx(1 - 3 / 10)
    # γ² = (9, 1): 1 − (9·1 + 2) / (9·2 + 8)
    gamma = torch.tensor([3.0, 1.0])
    assert explained(gamma)(sums, once(sums)) == pytest.approx(1 - 11 / 26)
    torch.testing.assert_close(
        explained_variance_per_dimension(sums), torch.tensor([1 / 2, 3 / 4], dtype=torch.float64)
    )
    assert variance_per_dimension(sums).tolist() == [1, 4]
    assert of(l0, sums) == 4
    assert of(ce_loss_with_sae, sums) == 2.5
    assert of(ce_loss_recovered, sums) == pytest.approx((70 - 25) / (70 - 20))
    assert of(kl_divergence, sums) == 0.5
    assert of(kl_recovered, sums) == pytest.approx(1 - 0.5 / 2)
    assert of(norm_ratio, sums) == 0.75
    assert of(cosine_similarity, sums) == 0.25


def test_a_constant_dimension_has_no_explained_variance() -> None:
    x = torch.tensor([[0.0, 2.0], [2.0, 2.0]])
    explained = explained_variance_per_dimension(sums_of([(x, x + 1)]))
    assert explained[0] == 0 and explained[1].isnan()


def test_scores_count_batches_as_often_as_asked() -> None:
    x, x_hat = torch.randn(12, 3), torch.randn(12, 3)
    halves = [(x[:5], x_hat[:5]), (x[5:], x_hat[5:])]
    drawn = sums_of([halves[0], halves[0], halves[1]])
    counts = torch.tensor([2.0, 1.0], dtype=torch.float64)
    for score in (
        explained(torch.rand(3)),
        *map(score_of, (l0, ce_loss_recovered, kl_recovered)),
    ):
        torch.testing.assert_close(score(sums_of(halves), counts), score(drawn, once(drawn)))


def test_explained_variance_is_saelens_s() -> None:
    torch.manual_seed(0)
    offset = torch.tensor([100.0, 0.0, -3.0], dtype=torch.float64)
    batches = [
        (torch.randn(n, 3).double() + offset, torch.randn(n, 3).double() + offset)
        for n in (4, 9, 6)
    ]
    gamma = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    for weight in (torch.ones(3), gamma):
        calculator = ExplainedVarianceCalculator()
        for x, x_hat in batches:
            calculator.add_batch(sae_output=weight * x_hat, hidden_acts=weight * x)
        ours = explained(weight)(sums_of(batches), torch.ones(3, dtype=torch.float64))
        assert ours == pytest.approx(calculator.compute(), rel=1e-9)


def test_measure_agrees_with_run_evals(model: HookedProxyLM, batches: list[Tensor]) -> None:
    saes = {"first": random_sae(0), "deeper": random_sae(1, HOOKS[1])}
    measured = measure(saes, model, batches, exclude_tokens=[SPECIAL])
    config = EvalConfig(
        n_eval_reconstruction_batches=len(batches),
        n_eval_sparsity_variance_batches=len(batches),
        compute_kl=True,
        compute_ce_loss=True,
        compute_l2_norms=True,
        compute_sparsity_metrics=True,
        compute_variance_metrics=True,
        compute_featurewise_density_statistics=True,
    )
    for name, sae in saes.items():
        theirs, features = run_evals(
            sae,
            Store(batches),  # type: ignore[arg-type]
            model,
            ActivationScaler(),
            config,
            exclude_special_tokens=[SPECIAL],
        )
        sums = measured[name]
        ours = {
            "explained_variance": explained_variance,
            "ce_loss_score": ce_loss_recovered,
            "ce_loss_with_sae": ce_loss_with_sae,
            "l0": l0,
            "kl_div_with_sae": kl_divergence,
            "kl_div_score": kl_recovered,
            "l2_ratio": norm_ratio,
            "cossim": cosine_similarity,
        }
        flat = {key: value for group in theirs.values() for key, value in group.items()}
        for key, score in ours.items():
            assert of(score, sums).item() == pytest.approx(flat[key], rel=1e-4), key
        predictions = sums.predictions.sum()
        for key in ("ce_loss_without_sae", "ce_loss_with_ablation"):
            loss = getattr(sums, key.removesuffix("_without_sae")).sum() / predictions
            assert loss.item() == pytest.approx(flat[key], rel=1e-5), key
        density = sums.firings.sum(dim=0) / sums.tokens.sum()
        assert density.tolist() == pytest.approx(features["feature_density"], rel=1e-5)


def test_excluded_tokens_are_in_no_sum(model: HookedProxyLM, batches: list[Tensor]) -> None:
    sums = measure({"sae": random_sae(0)}, model, batches, exclude_tokens=[SPECIAL])["sae"]
    # 3 contexts of 8 with one BOS each, and one special token more in the first batch
    assert sums.tokens.tolist() == [20, 21, 21, 21]
    assert sums.predictions.tolist() == [17, 18, 18, 18]


def test_latents_are_seen_on_the_tokens_that_count(
    model: HookedProxyLM, batches: list[Tensor]
) -> None:
    saes = {"first": random_sae(0), "deeper": random_sae(1, HOOKS[1])}
    text = HeldOutText(model, None, batches, [SPECIAL], seed=0)
    measured = text.evidence(saes)
    for (name, sae), hook in zip(saes.items(), HOOKS, strict=True):
        top, firings = TopTokens(D_SAE), torch.zeros(D_SAE)
        for batch in batches:
            _, cache = model.run_with_cache(batch, names_filter=list(HOOKS), prepend_bos=False)
            acts = sae.encode(cache[hook][batch != SPECIAL])
            top.add(acts.detach())
            firings += (acts != 0).sum(dim=0)
        tokens = measured[name].tokens
        assert tokens is not None
        assert torch.equal(tokens.positions[0], top.positions)
        assert len(tokens.tokens.contexts) == sum(int((b != SPECIAL).sum()) for b in batches)
        assert measured[name].sums.firings.sum(dim=0).tolist() == firings.tolist()


def test_saes_of_one_hook_have_the_same_random_directions(
    model: HookedProxyLM, batches: list[Tensor]
) -> None:
    saes = {"a": random_sae(0), "b": random_sae(1), "deeper": random_sae(1, HOOKS[1])}
    measured = HeldOutText(model, None, batches, [SPECIAL], seed=0).evidence(saes)
    a, b, deeper = (evidence.tokens for evidence in measured.values())
    assert a is not None and b is not None and deeper is not None
    assert torch.equal(a.positions[1], b.positions[1])
    assert not torch.equal(a.positions[1], deeper.positions[1])


def test_a_perfect_sae_costs_nothing(model: HookedProxyLM, batches: list[Tensor]) -> None:
    identity = TopKSAE(TopKSAEConfig(d_in=D_IN, d_sae=2 * D_IN, k=2 * D_IN))
    identity.cfg.metadata.hook_name = HOOKS[0]
    eye = torch.eye(D_IN)
    with torch.no_grad():
        identity.W_enc.copy_(torch.cat([eye, -eye], dim=1))
        identity.W_dec.copy_(torch.cat([eye, -eye]))
    sums = measure({"identity": identity}, model, batches, exclude_tokens=[SPECIAL])["identity"]
    assert of(explained_variance, sums).item() == pytest.approx(1, abs=1e-6)
    assert of(kl_divergence, sums).item() == pytest.approx(0, abs=1e-6)
    assert of(ce_loss_recovered, sums).item() == pytest.approx(1, abs=1e-5)
    assert of(norm_ratio, sums).item() == pytest.approx(1, abs=1e-6)
    assert of(cosine_similarity, sums).item() == pytest.approx(1, abs=1e-6)


def test_quarters_by_weight() -> None:
    quarters = quarters_by_weight(torch.tensor([3.0, 1.0, 8.0, 2.0, 5.0, 4.0, 7.0, 6.0]))
    assert quarters["largest_quarter"].nonzero().flatten().tolist() == [2, 6]
    assert quarters["smallest_quarter"].nonzero().flatten().tolist() == [1, 3]


def test_the_spread_is_a_bootstrap_over_batches() -> None:
    torch.manual_seed(0)
    x = [torch.randn(20, 3) for _ in range(6)]
    errors = [torch.randn(20, 3) * scale for scale in (0.1, 0.5, 0.2, 0.9, 0.3, 0.4)]
    sums = sums_of([(a, a + e) for a, e in zip(x, errors, strict=True)])
    score = score_of(explained_variance)
    found = over_batches(score, sums, {})
    assert found.value == float(score(sums, once(sums)))
    # the same draws again, and others
    assert found == over_batches(score, sums, {}, seed=0)
    assert found.spread != over_batches(score, sums, {}, seed=1).spread
    # about twice the standard error over six batches
    each = score(sums, torch.eye(6, dtype=torch.float64))
    assert found.per_batch == each.tolist()
    assert found.spread == pytest.approx(2 * float(each.std()) / 6**0.5, rel=0.3)
    # Equal batches leave the bootstrap nothing to vary.
    equal = sums_of([(x[0], x[0] + errors[0])] * 4)
    assert over_batches(score, equal, {}).spread == pytest.approx(0)


def test_samples_that_no_model_made_are_measured_alike() -> None:
    sae = random_sae(0)
    batches = [torch.randn(7, D_IN) for _ in range(3)]
    left = iter(batches)
    given = {"held_out": lambda _: Samples(next(left)), "truth": lambda *_: None}
    source: Any = SimpleNamespace(**given, pictures=None)
    samples = HeldOutSamples(source, 3, 7, seed=0)
    sums = samples.evidence({"sae": sae})["sae"].sums
    # SAEs that do not fit into one pass are measured on the same samples in the next.
    assert torch.equal(samples.evidence({"other": sae})["other"].sums.x, sums.x)
    with torch.no_grad():
        expected = sums_of([(x, sae.decode(sae.encode(x))) for x in batches])
    for name in ("tokens", "x", "x_squared", "squared_error"):
        torch.testing.assert_close(getattr(sums, name), getattr(expected, name))
    assert of(l0, sums) == K
    assert not sums.predictions.any()


def test_sums_of_samples_worked_by_hand() -> None:
    """A latent below 0 is active too, and x̂ of an x of 0 counts with its own length."""
    x, x_hat = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    found = sums_of_samples(x, x_hat, torch.tensor([[1.0, 0.0, -2.0], [0.0, 0.0, 1.0]]))
    assert {name: value.tolist() for name, value in found.items()} == {
        "tokens": 2,
        "x": [3, 4],
        "x_squared": [9, 16],
        "squared_error": [0, 20],
        "active_latents": 3,
        "norm_ratio": pytest.approx(3 / 5 + 2),
        "cosine_similarity": pytest.approx(3 / 5),
        "firings": [1, 0, 2],
    }


def test_a_score_that_is_not_finite_is_refused() -> None:
    constant = torch.ones(5, 3)
    sums = sums_of([(constant, constant), (constant, constant)])
    found = over_batches(score_of(explained_variance), sums, {"chance": lambda *_: torch.ones(())})
    assert isinstance(found, Found) and found.value is None and "not finite" in found.note
    assert found.chance == 1 and len(found.per_batch) == 2
    assert explained_variance_per_dimension(sums).isnan().all()


def test_held_out_batches(batches: list[Tensor]) -> None:
    store: Any = Store(batches)
    for ours, theirs in zip(held_out_batches(store, 2, 3), batches, strict=False):
        assert torch.equal(ours, theirs)
    with pytest.raises(BadInputError, match="ends before 3 batches of 3 × 8 tokens"):
        held_out_batches(store, 3, 3)
    with pytest.raises(BadInputError, match="two or more"):
        held_out_batches(store, 1, 3)


def test_an_sae_without_a_hook_is_refused(model: HookedProxyLM, batches: list[Tensor]) -> None:
    sae = random_sae(0)
    sae.cfg.metadata.hook_name = None
    with pytest.raises(BadInputError, match="no hook_name"):
        measure({"sae": sae}, model, batches)
