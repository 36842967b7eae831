from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.optimize import minimize

from wsae_plugin import register_proxy
from wsae_plugin.errors import BadInputError
from wsae_plugin.gamma import PROXIES, ProxyEvidence, gamma_from_proxy, moments_of
from wsae_plugin.gamma.consistency import LabelEvidence
from wsae_plugin.gamma.proxies import (
    interference,
    latent_variance,
    load_proxy,
    needs_sae,
    proxy_named,
    read_proxy_file,
)
from wsae_plugin.remote_code import trusting


def evidence(
    x: torch.Tensor | None = None,
    latents: torch.Tensor | None = None,
    decoder: torch.Tensor | None = None,
    file: str | None = None,
    seed: int = 0,
) -> ProxyEvidence:
    x = torch.randn(100, 4, dtype=torch.float64) if x is None else x
    return ProxyEvidence(
        activations=moments_of(x),
        latents=moments_of(torch.ones(2, 3) if latents is None else latents),
        decoder=lambda: torch.eye(3, 4, dtype=torch.float64) if decoder is None else decoder,
        file=file,
        seed=seed,
    )


def test_variance_and_kurtosis_order_superposed_dimensions_oppositely() -> None:
    # 10 dimensions with one feature each, 10 with nineteen, sparsity 0.9: the variance says the
    # crowded ones are the more monosemantic, the kurtosis says the reverse.
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(200_000, 200, generator=generator, dtype=torch.float64)
    x *= torch.rand(200_000, 200, generator=generator) < 0.1
    dims = [x[:, q] for q in range(10)]
    dims += [x[:, 10 + 19 * q : 29 + 19 * q].sum(dim=1) for q in range(10)]
    seen = evidence(x=torch.stack(dims, dim=1))
    s_variance, s_kurtosis = PROXIES["variance"].compute(seen), PROXIES["kurtosis"].compute(seen)
    assert s_variance[:10].max() < 0.1 * s_variance[10:].min()
    assert s_kurtosis[:10].min() > 10 * s_kurtosis[10:].max()
    # One uniform feature that is present with probability p = 0.1 has E = p/2, E² = p/3, E³ = p/4,
    # E⁴ = p/5, so variance p/3 − p²/4 = 0.03083 and, by expansion, excess kurtosis 13.3.
    assert s_variance[:10].mean().item() == pytest.approx(0.1 / 3 - 0.01 / 4, rel=0.01)
    assert s_kurtosis[:10].mean().item() == pytest.approx(13.3, rel=0.02)


def test_kurtosis_below_a_gaussians_counts_as_none() -> None:
    x = torch.tensor([[-1.0, 0], [1, 0], [-1, 0], [1, 10]]).double()  # two values: kurtosis −2
    assert PROXIES["kurtosis"].compute(evidence(x=x))[0] == 0


def test_latent_variance_worked_by_hand() -> None:
    latents = torch.tensor([[0.0, 0.0], [2.0, 4.0]])  # variances 1 and 4
    decoder = torch.tensor([[1.0, 0.0, 3.0], [2.0, 1.0, 0.0]]).double()
    s = latent_variance(evidence(latents=latents, decoder=decoder))
    assert s.tolist() == [1 * 1 + 4 * 4, 4 * 1, 1 * 9]


def test_latent_variance_is_the_reconstructions_for_uncorrelated_latents() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(400_000, 3, generator=generator, dtype=torch.float64)
    decoder = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    s = latent_variance(evidence(latents=latents, decoder=decoder))
    torch.testing.assert_close(s, (latents @ decoder).var(dim=0), rtol=0.02, atol=0)


@pytest.mark.parametrize("seed", range(5))
def test_interference_minimises_the_gap(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    decoder = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    directions = (decoder / decoder.norm(dim=1, keepdim=True)).numpy()

    def gap(g: np.ndarray) -> float:
        return float(np.square(directions @ np.diag(g) @ directions.T - np.eye(9)).sum())

    s = interference(evidence(decoder=decoder)).numpy()
    best = minimize(gap, np.ones(4), bounds=[(0, None)] * 4, tol=1e-14)
    assert gap(s**2) == pytest.approx(best.fun, rel=1e-7)
    assert gap(s**2) < gap(np.ones(4))


def test_interference_on_a_line_and_a_digon_worked_by_hand() -> None:
    # Features e1, e2, −e2, so K = diag(1, 2): gᵀ(K∘K)g − 2gᵀdiag(K) = g1² − 2g1 + 4g2² − 4g2,
    # least at g1 = 1, g2 = 1/2: the dimension of the digon gets the smaller weight.
    decoder = torch.tensor([[1.0, 0.0], [0.0, 3.0], [0.0, -1.0]]).double()
    s = interference(evidence(x=torch.randn(5, 2), decoder=decoder))
    assert s.square().tolist() == pytest.approx([1, 0.5])


SHUFFLED = ("variance", "kurtosis", "latent_variance", "interference")


@pytest.mark.parametrize("name", SHUFFLED)
def test_a_shuffled_proxy_is_a_permutation_of_its_own(name: str) -> None:
    x = torch.rand(200, 30, dtype=torch.float64) ** 9 * torch.arange(1, 31)
    decoder = torch.randn(40, 30, dtype=torch.float64)
    seen = evidence(x=x, latents=torch.rand(9, 40), decoder=decoder, seed=1)
    plain, shuffled = (PROXIES[each].compute(seen) for each in (name, f"shuffled_{name}"))
    assert torch.equal(shuffled.sort().values, plain.sort().values)
    assert not torch.equal(shuffled, plain)
    own, control = PROXIES[name], PROXIES[f"shuffled_{name}"]
    assert (control.refresh, control.needs) == (own.refresh, own.needs)


def test_the_permutation_is_the_seeds_alone() -> None:
    x = torch.randn(50, 30, dtype=torch.float64) * torch.arange(1, 31)
    compute = PROXIES["shuffled_variance"].compute
    plain = PROXIES["variance"].compute(evidence(x=x))
    shuffled = compute(evidence(x=x, seed=1))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    assert torch.equal(shuffled, plain[order]), "bit for bit, in results that are published"
    assert torch.equal(shuffled, compute(evidence(x=x, seed=1)))
    assert not torch.equal(shuffled, compute(evidence(x=x, seed=2)))


def test_uniform_is_ones() -> None:
    assert PROXIES["uniform"].compute(evidence()).tolist() == [1, 1, 1, 1]


def test_file_is_read_whatever_its_dtype(tmp_path: Path) -> None:
    path = str(tmp_path / "s.safetensors")
    save_file({"semantic_consistency": torch.tensor([0.5, 0.25, 0, 1], dtype=torch.float16)}, path)
    s = PROXIES["file"].compute(evidence(file=path))
    assert s.dtype == torch.float64
    assert s.tolist() == [0.5, 0.25, 0, 1]


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": torch.ones(4), "b": torch.ones(4)}, "holds 2 tensors"),
        ({"a": torch.ones(5)}, r"shape \(5,\), .* of the 4 input dimensions"),
        ({"a": torch.tensor([1.0, -1, 1, 1])}, "negative"),
        ({"a": torch.tensor([1.0, float("nan"), 1, 1])}, "not finite"),
        ({"a": torch.zeros(4)}, "all zero"),
    ],
)
def test_a_bad_file_is_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], message: str
) -> None:
    save_file(tensors, tmp_path / "s.safetensors")
    with pytest.raises(BadInputError, match=message):
        read_proxy_file(tmp_path / "s.safetensors", d_in=4)


def test_what_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not safetensors")
    for path in (tmp_path / "text", tmp_path / "missing"):
        with pytest.raises(BadInputError, match="cannot be read as safetensors"):
            read_proxy_file(path, d_in=4)


def test_registering_twice_is_a_no_op_and_another_function_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wsae_plugin.gamma.proxies.PROXIES", table := dict(PROXIES))

    def deviation(seen: ProxyEvidence) -> torch.Tensor:
        return seen.activations.variance.sqrt()

    register_proxy("deviation", deviation)
    register_proxy("deviation", deviation)
    assert table["deviation"].compute is deviation
    with pytest.raises(ValueError, match="'variance' is already registered as .*variance"):
        register_proxy("variance", deviation)


MODULE = """
from pathlib import Path

Path(__file__).with_name("imported").touch()

def deviation(evidence):
    return evidence.activations.variance.sqrt().float()

number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the user's own; what it leaves when it is imported."""
    (tmp_path / "my_proxies.py").write_text(MODULE)
    (tmp_path / "broken_proxies.py").write_text("def deviation(:")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("wsae_plugin.gamma.proxies.PROXIES", dict(PROXIES))
    monkeypatch.delitem(sys.modules, "my_proxies", raising=False)
    return tmp_path / "imported"


def test_a_function_of_a_module_is_a_proxy_and_so_is_its_control(module: Path) -> None:
    x = torch.randn(50, 30, dtype=torch.float64) * torch.arange(1, 31)
    with trusting(True):
        own = proxy_named("my_proxies:deviation").compute(evidence(x=x))
        control = proxy_named("shuffled_my_proxies:deviation").compute(evidence(x=x, seed=1))
    torch.testing.assert_close(own, x.std(dim=0, correction=0).float())
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    assert torch.equal(control, own[order])
    assert module.exists()


def test_a_module_is_imported_where_it_is_trusted_only(module: Path) -> None:
    """Naming it, as every reader of a config does, runs nothing."""
    proxy = proxy_named("shuffled_my_proxies:deviation")
    for refused in (lambda: proxy.compute(evidence()), lambda: load_proxy("my_proxies:deviation")):
        with pytest.raises(BadInputError, match="would run code of that module; give --trust-rem"):
            refused()
    assert not module.exists()
    with trusting(True):
        load_proxy("shuffled_my_proxies:deviation")
    assert module.exists()
    load_proxy("variance")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:deviation", "cannot be imported .*No module named 'no_such_module'"),
        ("my_proxies:deviatoin", "cannot be imported .*has no attribute 'deviatoin'"),
        ("broken_proxies:deviation", "cannot be imported .SyntaxError"),
        ("my_proxies:number", "is of type int and no function"),
        ("my_proxies:", "the proxies are .*module:function"),
        ("/etc/my.py:deviation", "the proxies are"),
        ("shuffled_varience", "the proxies are"),
    ],
)
@pytest.mark.usefixtures("module")
def test_what_is_no_function_of_a_module_is_refused(name: str, message: str) -> None:
    with trusting(True), pytest.raises(BadInputError, match=message):
        load_proxy(name)


def test_a_proxy_of_latents_cannot_be_computed_once() -> None:
    with pytest.raises(ValueError, match="when no latent has been seen"):
        register_proxy(
            "early", lambda seen: seen.latents.variance, refresh="once", needs=("latents",)
        )
    assert "early" not in PROXIES


def labels_of(active: list[list[int]], top: list[list[int]]) -> LabelEvidence:
    counts = torch.tensor(active), torch.tensor(top)
    return LabelEvidence(*counts, class_sizes=torch.tensor([60, 40]))


ACTIVE, TOP = [[60, 40], [30, 0], [5, 5], [0, 0]], [[15, 5], [20, 0], [5, 5], [0, 0]]
SHUFFLED_TOP = [[12, 8], [10, 10], [11, 9], [1, 0]]


def labelled(seed: int = 0) -> ProxyEvidence:
    return replace(
        evidence(seed=seed),
        labels=lambda: labels_of(ACTIVE, TOP),
        shuffled_labels=lambda: labels_of(ACTIVE, SHUFFLED_TOP),
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("semantic_consistency", [0.75, 1.0, 0, 0]),
        ("semantic_consistency_of_active", [0.6, 1.0, 0, 0]),
        ("semantic_consistency_of_shuffled_labels", [0.6, 0.5, 0.55, 0]),
    ],
)
def test_semantic_consistency_by_hand(name: str, expected: list[float]) -> None:
    proxy = PROXIES[name]
    s = proxy.compute(labelled())
    assert s.tolist() == pytest.approx(expected)
    assert s.dtype == torch.float64
    assert (proxy.refresh, proxy.needs) == ("once", ("labels",))
    order = torch.randperm(4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(PROXIES[f"shuffled_{name}"].compute(labelled(seed=1)), s[order])


def test_a_dimension_without_a_consistency_weighs_as_the_least_consistent() -> None:
    s = PROXIES["semantic_consistency"].compute(labelled())
    assert gamma_from_proxy(s, 1.0, "none").tolist() == [0.75, 1.0, 0.75, 0.75]


def test_without_labels_there_is_no_consistency() -> None:
    for name in ("semantic_consistency", "semantic_consistency_of_shuffled_labels"):
        with pytest.raises(BadInputError, match="labels: missing: .* give `labels:` in a config"):
            PROXIES[name].compute(evidence())


def test_labels_are_no_sae() -> None:
    assert not needs_sae("semantic_consistency") and not needs_sae("variance")
    assert needs_sae("interference") and needs_sae("shuffled_latent_variance")
    assert not needs_sae("registered_elsewhere")
