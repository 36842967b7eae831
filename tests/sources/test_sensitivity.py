"""The Fisher information that gradients estimate, beside the exact one of a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig

from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma.metric import rotated
from wsae_plugin.gamma.sensitivity import Sensitivity, information_for
from wsae_plugin.sources.sensitivity import fisher_metric

HOOK, D_MODEL = "blocks.0.hook_resid_post", 8
BOS = 0


@pytest.fixture(scope="module")
def model() -> HookedTransformer:
    config = HookedTransformerConfig(
        n_layers=2, d_model=D_MODEL, n_ctx=6, d_head=4, d_vocab=7, act_fn="gelu", seed=0
    )
    return HookedTransformer(config).double()


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    found = torch.randint(1, 7, (3, 6), generator=generator)
    found[:, 0] = BOS
    return found


def exact(model: Any, tokens: Tensor, hook_name: str = HOOK) -> Tensor:
    """E[ggᵀ] over all labels, positions but the first, and contexts.

    Labels are drawn independently, and the score of each has mean 0, so the cross terms vanish:
    Σ_t Σ_y p_t(y) (∂ log p_t(y)/∂x)(∂ log p_t(y)/∂x)ᵀ.
    """
    total, n = torch.zeros(D_MODEL, D_MODEL, dtype=torch.float64), 0
    for context in tokens:
        _, cache = model.run_with_cache(context[None], names_filter=HOOK)

        def log_probs(x: Tensor, context: Tensor = context) -> Tensor:
            hooks = [(hook_name, lambda _, hook: x)]  # noqa: ARG005 - called by name
            return model.run_with_hooks(context[None], fwd_hooks=hooks)[0].log_softmax(-1)

        x = cache[hook_name].detach()
        probabilities = log_probs(x).exp().detach()
        scores: Any = torch.autograd.functional.jacobian(log_probs, x)
        for position in range(1, len(context)):
            g = scores[:, :, 0, position]
            total += torch.einsum("ty,tyi,tyj->ij", probabilities, g, g)
            n += 1
    return total / n


def estimated(model: Any, tokens: Any, file: Path, **options: Any) -> Sensitivity:
    return fisher_metric(
        model, HOOK, tokens, file, **{"n_tokens": 15, "excluded": [BOS], **options}
    )


def test_the_estimate_is_of_the_exact_fisher(
    model: HookedTransformer, tokens: Tensor, tmp_path: Path
) -> None:
    true = exact(model, tokens)
    # Moving all dimensions alike is lost in the LayerNorm: without a ridge it would be free.
    torch.testing.assert_close(true @ torch.ones(D_MODEL).double(), torch.zeros(D_MODEL).double())
    errors = [
        float((estimated(model, tokens, tmp_path / str(n), n_labels=n).fisher - true).norm())
        for n in (20, 2000)
    ]
    size = float(true.norm())
    assert errors[0] < 0.5 * size
    # A hundred times the labels, about a tenth of the error.
    assert errors[1] < 0.03 * size and errors[1] < 0.4 * errors[0]


def test_moments_of_the_activations(
    model: HookedTransformer, tokens: Tensor, tmp_path: Path
) -> None:
    found = estimated(model, tokens, tmp_path / "f")
    _, cache = model.run_with_cache(tokens, names_filter=HOOK)
    x = cache[HOOK][:, 1:].flatten(0, 1)
    torch.testing.assert_close(found.mean, x.mean(dim=0))
    torch.testing.assert_close(found.covariance, x.T.cov(correction=0))
    assert (int(found.n_tokens), int(found.n_gradients)) == (15, 60)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_batches_change_rounding_alone(
    model: HookedTransformer, tokens: Tensor, tmp_path: Path, size: int
) -> None:
    whole = estimated(model, tokens, tmp_path / "whole", batch_size=3)
    parts = estimated(model, tokens.split(2), tmp_path / "parts", batch_size=size)
    torch.testing.assert_close(parts.fisher, whole.fisher, rtol=1e-12, atol=1e-15)


def test_it_goes_on_where_it_was_stopped(
    model: HookedTransformer, tokens: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = estimated(model, tokens, tmp_path / "whole", batch_size=1)
    run, n = model.run_with_hooks, 0

    def stopped(*args: Any, **kwargs: Any) -> Any:
        nonlocal n
        n += 1
        if n == 3:
            raise KeyboardInterrupt
        return run(*args, **kwargs)

    monkeypatch.setattr(model, "run_with_hooks", stopped)
    with pytest.raises(KeyboardInterrupt):
        estimated(model, tokens, tmp_path / "f", batch_size=1)
    resumed = estimated(model, tokens, tmp_path / "f", batch_size=1)
    assert n == 4  # two contexts, the one that was stopped, and that one again
    assert torch.equal(resumed.fisher, whole.fisher)
    estimated(model, tokens, tmp_path / "f", batch_size=1)
    assert n == 4
    different: list[dict[str, Any]] = [
        {"seed": 1},
        {"n_labels": 5},
        {"head": 0},
        {"hook_name": "blocks.1.hook_resid_pre"},
        {"tokens": tokens.flip(0)},
        {"excluded": [BOS, 1], "n_tokens": 10},
    ]
    for question in different:
        asked = {"hook_name": HOOK, "tokens": tokens, "n_tokens": 15, "excluded": [BOS], **question}
        with pytest.raises(BadInputError, match="answers another question"):
            fisher_metric(model, file=tmp_path / "f", **asked)
    other = estimated(model, tokens, tmp_path / "other seed", seed=1)
    assert not torch.allclose(other.fisher, whole.fisher)


@pytest.mark.parametrize(("seconds", "n_writes"), [(3600.0, 1), (-1.0, 3)])
def test_it_is_written_at_the_end_and_now_and_then(
    model: HookedTransformer,
    tokens: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    n_writes: int,
) -> None:
    write, contexts = Sensitivity.write, list[str]()

    def counted(self: Sensitivity, file: Path, about: Any) -> None:
        contexts.append(about["contexts"])
        write(self, file, about)

    monkeypatch.setattr(Sensitivity, "write", counted)
    monkeypatch.setattr("wsae_plugin.sources.sensitivity._SECONDS_BETWEEN_WRITES", seconds)
    for _ in range(2):  # once more there is nothing to write
        estimated(model, tokens, tmp_path / "f", batch_size=1)
        assert contexts == ["1", "2", "3"][-n_writes:]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_sums_of_half_a_batch_are_not_kept(
    model: HookedTransformer,
    tokens: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    whole = estimated(model, tokens, tmp_path / "whole", batch_size=1)
    add = Sensitivity.add

    def stopped(self: Sensitivity, x: Tensor, gradients: Tensor) -> None:
        add(self, x, gradients)
        if int(self.n_tokens) == 10:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(Sensitivity, "add", stopped)
        with pytest.raises(error):
            estimated(model, tokens, tmp_path / "f", batch_size=1)
    kept, about = Sensitivity.read(tmp_path / "f")
    assert (int(kept.n_tokens), about["contexts"]) == (5, "1")
    resumed = estimated(model, tokens, tmp_path / "f", batch_size=1)
    assert torch.equal(resumed.fisher, whole.fisher)
    assert torch.equal(resumed.sum_x, whole.sum_x)


def test_a_head_alone(model: HookedTransformer, tokens: Tensor, tmp_path: Path) -> None:
    hook, options = "blocks.1.attn.hook_z", {"n_tokens": 18, "n_labels": 2}
    both = fisher_metric(model, hook, tokens, tmp_path / "both", **options)
    one = fisher_metric(model, hook, tokens, tmp_path / "one", head=1, **options)
    assert both.fisher.shape == (8, 8)
    torch.testing.assert_close(one.fisher, both.fisher[4:, 4:])


def test_positions_that_do_not_count(
    model: HookedTransformer, tokens: Tensor, tmp_path: Path
) -> None:
    every = {
        n: estimated(model, tokens, tmp_path / str(n), n_tokens=3, positions=slice(n, n + 1))
        for n in range(1, 6)
    }
    assert all(int(found.n_tokens) == 3 for found in every.values())
    some = estimated(model, tokens, tmp_path / "f", n_tokens=9, positions=slice(1, 6, 2))
    torch.testing.assert_close(some.sum_gg, sum(every[n].sum_gg for n in (1, 3, 5)))
    with pytest.raises(BadInputError, match="answers another question"):
        estimated(model, tokens, tmp_path / "f", n_tokens=9, positions=slice(2, 5))


def test_another_model_asks_another_question(tokens: Tensor, tmp_path: Path) -> None:
    config = {"n_layers": 2, "d_model": D_MODEL, "n_ctx": 6, "d_head": 4, "d_vocab": 7}
    for seed in (0, 1):
        made = HookedTransformer(HookedTransformerConfig(**config, act_fn="gelu", seed=seed))
        if seed == 0:
            estimated(made, tokens, tmp_path / "f")
    with pytest.raises(BadInputError, match="answers another question"):
        estimated(made, tokens, tmp_path / "f")
    with pytest.raises(BadInputError, match="hook_name = 'blocks.0.hook_resid_pots'.*resid_post"):
        fisher_metric(made, "blocks.0.hook_resid_pots", tokens, tmp_path / "g")


def test_wrong_questions(model: HookedTransformer, tokens: Tensor, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"n_tokens = 16 \(.*\): the text has 15 that count"):
        estimated(model, tokens, tmp_path / "f", n_tokens=16)
    assert list(tmp_path.iterdir()) == []


def test_what_a_metric_is_read_from(
    model: HookedTransformer, tokens: Tensor, tmp_path: Path
) -> None:
    file = tmp_path / "f"
    found = estimated(model, tokens, file)
    read = {
        name: information_for(name, str(file), D_MODEL, seed=3)  # type: ignore[arg-type]
        for name in ("fisher", "covariance", "rotated_fisher")
    }
    assert torch.equal(read["fisher"], found.fisher)  # type: ignore[arg-type]
    assert torch.equal(read["covariance"], found.covariance)  # type: ignore[arg-type]
    assert torch.equal(read["rotated_fisher"], rotated(found.fisher, seed=3))  # type: ignore[arg-type]
    spectra = [torch.linalg.eigvalsh(m) for m in (read["rotated_fisher"], found.fisher)]  # type: ignore[arg-type]
    torch.testing.assert_close(*spectra)
    assert information_for("fisher", None, D_MODEL, 0) is None
    with pytest.raises(BadInputError, match="holds n_gradients.*; metric 'file' needs the one"):
        information_for("file", str(file), D_MODEL, 0)
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(BadInputError, match="metric_file = "):
        information_for("fisher", str(file), D_MODEL, 0)
    with pytest.raises(BadInputError, match="metric_file = "):
        information_for("fisher", str(tmp_path / "none"), D_MODEL, 0)
