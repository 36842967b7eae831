"""Each line by hand, on defects that are planted, and where there are none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.optimality.test_evidence import evidence
from tests.optimality.test_pairs import apart, at, of_codes, silent_parent
from wsae_plugin.measures.measure import HeldOutScore
from wsae_plugin.optimality import Coded, best_support, nonnegative_lasso
from wsae_plugin.optimality.evidence import OptimalityEvidence
from wsae_plugin.optimality.lines import LINES, one_more_atom
from wsae_plugin.optimality.refit import worst_atoms


def score(of: OptimalityEvidence, name: str) -> HeldOutScore:
    (found,) = LINES[name].score(of)
    return found


def value(of: OptimalityEvidence, name: str) -> float:
    found = score(of, name).value
    assert found is not None
    return found


def knowing(own: Coded, **known: Any) -> OptimalityEvidence:
    """Evidence in eight batches of which a part is given; the best codes are the SAE's."""
    of = OptimalityEvidence(own, torch.arange(len(own.x)) * 8 // len(own.x), 0.1)
    vars(of).update({"best": own} | known)
    return of


def absorbed() -> Coded:
    """A silent parent, of samples in any order."""
    of = of_codes(silent_parent(), at(0.6))
    return of.of(torch.randperm(200, generator=torch.Generator().manual_seed(0)))


def test_codes_by_hand() -> None:
    """Of (2, 1) an SAE makes (1.5, 0), of which one latent may be active, and whose best is 2."""
    x = torch.tensor([[2.0, 1.0]]).double().repeat(16, 1)
    own = of_codes(torch.tensor([[1.5, 0]]).repeat(16, 1), torch.eye(2).double(), x)
    of = OptimalityEvidence(own, torch.arange(16) // 2, 0.1)
    assert value(of, "codes") == pytest.approx(0.25 / 1.25)
    assert value(of, "codes_on_support") == pytest.approx(0.25 / 1.25)
    # Where the other one is active, the same latent is left with (2, 0), and the best with (0, 1).
    own = of_codes(torch.tensor([[0, 0.5]]).repeat(16, 1), torch.eye(2).double(), x)
    of = OptimalityEvidence(own, torch.arange(16) // 2, 0.1)
    assert value(of, "codes") == pytest.approx((4.25 - 1) / 4.25)
    assert value(of, "codes_on_support") == pytest.approx(0.25 / 4.25)


def test_shares_of_the_error_by_hand() -> None:
    own = of_codes(torch.ones(16, 1), torch.eye(3)[:1].double(), 2 * torch.ones(16, 3).double())
    left = torch.tensor([1.0, 1.0, 0.0]).double().repeat(16, 1)
    assert value(knowing(own, after_refit=left), "dictionary") == pytest.approx((9 - 2) / 9)


def test_what_costs_nothing_to_drop_by_hand() -> None:
    """Without its code of 1, a sample of 0.4 is nearer; one of 0.5 as near; one of 0.6 not."""
    x = torch.zeros(16, 2).double()
    x[:, 0], x[:, 1] = torch.tensor([0.4, 0.5, 0.6, 1.0]).repeat(4), 1
    of = knowing(of_codes(torch.ones(16, 2), torch.eye(2).double(), x))
    assert value(of, "prune") == pytest.approx(8 / 32)


def test_faint_latents_by_hand() -> None:
    z = torch.zeros(16, 3)
    z[:, 0], z[:4, 1] = 1, 0.25
    of = knowing(of_codes(z, torch.eye(3).double()))
    # 0.0625 is less than a tenth of (16 + 4 / 16) / 20 = 0.8125, and 0.09 is not.
    assert value(of, "faint") == pytest.approx(4 / 20)
    z[:4, 1] = 0.3
    assert value(knowing(of_codes(z, torch.eye(3).double())), "faint") == 0


def test_active_latents_of_pairs_by_hand() -> None:
    own = absorbed()
    of = knowing(own)
    # The child alone counts, though some of what is not active is of number 0.
    assert value(of, "absorption") == pytest.approx(40 / 140)
    (shown,) = LINES["absorption"].latents(of)
    assert (shown["parent"], shown["child"]) == (0, 1)
    assert set(shown) == {"parent", "child", "cosine", "together", "cone", "pays_below"}
    twins = knowing(apart(0.1, (40, 40)))
    assert value(twins, "redundant") == 1
    assert LINES["redundant"].latents(twins) == [{"latent": 0, "twin": 1}]
    apart_by_pi = knowing(replace(own, atoms=torch.tensor([[1, 0], [-1, 0]]).double()))
    assert value(apart_by_pi, "antipodal") == 1
    (shown,) = LINES["antipodal"].latents(apart_by_pi)
    assert (shown["latent"], shown["opposite"], shown["cosine"]) == (0, 1, -1)
    for name in ("absorption", "redundant", "antipodal", "faint"):
        assert value(knowing(of_codes(torch.ones(16, 2), torch.eye(2).double())), name) == 0


def test_each_pair_is_of_the_codes_that_its_line_says() -> None:
    """Absorbed and opposite ones are of the SAE's own codes, the others of the best."""
    nothing = of_codes(torch.ones(200, 2), torch.eye(2).double())
    own = knowing(absorbed(), best=nothing)
    assert value(own, "absorption") > 0
    pair = apart(0.1, (100, 90))
    best = knowing(of_codes(torch.ones(200, 2), torch.eye(3)[:2].double()), best=pair)
    assert value(best, "redundant") == 1
    assert value(best, "absorption") == 0


def brute_gain(residual: Tensor) -> float:
    angle = torch.linspace(0, 6.2832, 5000).double()
    t = torch.stack([angle.cos(), angle.sin()])
    return float((residual @ t).clamp(min=0).square().sum(dim=0).max())


def test_one_more_atom_is_the_best_direction() -> None:
    generator = torch.Generator().manual_seed(0)
    residual = torch.randn(200, 2, generator=generator).double()
    residual[:60] = torch.tensor([2, 1]) + 0.1 * residual[:60]
    t = one_more_atom(residual, 0)
    assert float(t.norm()) == pytest.approx(1)
    gain = float((residual @ t).clamp(min=0).square().sum())
    assert gain == pytest.approx(brute_gain(residual), rel=1e-5)
    # Codes are not negative: what points both ways counts half.
    both = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.5], [0.0, 3.5]]).double()
    torch.testing.assert_close(one_more_atom(both, 0), torch.tensor([0.0, 1.0]).double())


def test_width_is_a_ratio_of_what_one_more_atom_recovers() -> None:
    """Tried on the other half: of two in nine where even batches say so, beside one in five."""
    own = of_codes(torch.ones(16, 1), torch.eye(3)[:1].double())
    left = torch.zeros(16, 3).double()
    left[:, 0], left[:, 1] = 1, torch.tensor([0.0, 0.5]).repeat(8)
    right = torch.zeros(16, 3).double()
    right[:, 0], right[:, 1] = torch.tensor([1.0, -1.0]).repeat(8), 0.5
    of = knowing(own, after_refit=left, if_right=knowing(own, after_refit=right))
    generous = one_more_atom(left[:8], 0)
    share = float((left @ generous).square().sum() / left.square().sum())
    expected = one_more_atom(right[:8], 0)
    beside = float((right @ expected).clamp(min=0).square().sum() / right.square().sum())
    assert value(of, "width") == pytest.approx(share / beside)


def test_what_one_half_says_is_tried_on_the_other() -> None:
    """Halves whose residuals are orthogonal: no atom of the one is of use to the other."""
    own = of_codes(torch.ones(400, 1), torch.eye(3)[:1].double())
    is_even = (torch.arange(400) * 8 // 400) % 2 == 0
    signs = 1 - 2.0 * (torch.arange(400) % 2)
    left = torch.zeros(400, 3).double()
    left[is_even, 1], left[~is_even, 2] = signs[is_even].double(), signs[~is_even].double()
    right = knowing(own, after_refit=torch.ones(400, 3).double())
    of = knowing(own, after_refit=left, if_right=right)
    assert value(of, "width") == pytest.approx(0, abs=1e-9)
    # Splits made for the other half do harm: (0 − 1) of 1, each.
    assert value(of, "split") == pytest.approx(-1)
    same = torch.zeros(400, 3).double()
    same[:, 1] = signs
    assert value(knowing(own, after_refit=same), "split") == pytest.approx(1)


def test_the_worst_latents_are_named() -> None:
    of = evidence()
    worst = LINES["dictionary"].latents(of)
    share = worst_atoms(of.best) / of.best.residual.square().sum()
    assert len(worst) == 10
    assert [each["recovers"] for each in worst] == share.sort(descending=True).values[:10].tolist()
    assert worst[0]["latent"] == int(share.argmax())
    own = of_codes(torch.ones(100, 1), torch.eye(3)[:1].double())
    left = torch.zeros(100, 3).double()
    left[:, 1], left[:, 2] = 1 - 2.0 * (torch.arange(100) % 2), 1
    (split,) = LINES["split"].latents(knowing(own, after_refit=left))
    assert split == {"latent": 0, "recovers": pytest.approx(0.5, abs=0.51)}


def planted(m_kept: int = 20, n: int = 2000, off: float = 0.0) -> OptimalityEvidence:
    """Twenty features in sixteen dimensions, and codes that an ideal encoder makes of them."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(20, 16, generator=generator, dtype=torch.float64)
    true /= true.norm(dim=1, keepdim=True)
    z = 0.5 + torch.rand(n, 20, generator=generator).double()
    z *= torch.rand(n, 20, generator=generator) < 0.1
    x = z @ true + 0.08 * torch.randn(n, 16, generator=generator)
    atoms = true + off * torch.randn(20, 16, generator=generator) / 4
    atoms = (atoms / atoms.norm(dim=1, keepdim=True))[:m_kept]
    codes = nonnegative_lasso(x, atoms, 0.15)
    best = best_support(
        x, atoms, (codes.values > 0).sum(dim=1), codes.latents, codes.latents[:, :0]
    )
    own = Coded(x, atoms, best.latents, best.values)
    return OptimalityEvidence(own, torch.arange(n) * 8 // n, 0.15)


def test_nothing_is_wrong_with_the_right_dictionary() -> None:
    of = planted()
    for name, line in LINES.items():
        found = score(of, name)
        assert found.value is not None and found.value <= line.above, name
        assert found.spread is not None and len(found.per_batch) == 8


@pytest.mark.parametrize(
    ("fields", "name"), [({"m_kept": 14}, "width"), ({"off": 0.5}, "dictionary")]
)
def test_what_is_planted_is_found(fields: dict[str, Any], name: str) -> None:
    assert value(planted(**fields), name) > 1.2 * LINES[name].above


def test_the_order_of_latents_and_samples_and_units_do_not_matter() -> None:
    of = evidence(800)
    generator = torch.Generator().manual_seed(3)
    latents = torch.randperm(16, generator=generator)
    rows = torch.cat([b * 100 + torch.randperm(100, generator=generator) for b in range(8)])
    own = of.own
    mixed = Coded(
        5 * own.x[rows],
        own.atoms[latents],
        torch.where(own.latents >= 0, latents.argsort()[own.latents], -1)[rows],
        5 * own.values[rows],
    )
    other = replace(of, own=mixed, penalty=5 * of.penalty)
    for name in LINES:
        if name == "width":  # beside another draw
            continue
        one, two = score(of, name), score(other, name)
        assert two.value == pytest.approx(one.value, rel=1e-3, abs=1e-5), name
        assert two.spread == pytest.approx(one.spread, rel=1e-2, abs=1e-5), name


def test_splits_of_latents_that_are_active_together_recover_no_more_than_all() -> None:
    """Eight latents that are always active could each make up for one missing feature."""
    generator = torch.Generator().manual_seed(0)
    z = torch.zeros(400, 600)
    z[:, :8] = 1 + torch.rand(400, 8, generator=generator)
    atoms = torch.randn(600, 16, generator=generator).double()
    atoms[:, 15] = 0
    atoms /= atoms.norm(dim=1, keepdim=True)
    left = 0.01 * torch.randn(400, 16, generator=generator).double()
    left[:, 15] += 1 - 2.0 * (torch.rand(400, generator=generator) < 0.5)
    of = knowing(of_codes(z, atoms), after_refit=left)
    assert 0.9 < value(of, "split") <= 1
    recovers = [each["recovers"] for each in LINES["split"].latents(of)]
    assert len(recovers) == 6
    assert 0.9 < sum(recovers) <= 1


@pytest.mark.parametrize("seed", range(3))
def test_a_right_dictionary_is_wide_enough_whatever_the_support(seed: int) -> None:
    """Although some codes of the lasso's support are noise."""
    generator = torch.Generator().manual_seed(seed)
    n, d, m = 1000, 16, 20
    atoms = torch.nn.functional.normalize(torch.randn(m, d, generator=generator).double(), dim=1)
    on = torch.rand(n, m, generator=generator) < 0.08
    x = (on * (0.5 + torch.rand(n, m, generator=generator))).double() @ atoms
    x += 0.02 * torch.randn(n, d, generator=generator)
    lasso = nonnegative_lasso(x, atoms, 0.1)
    n_active = (lasso.values > 0).sum(dim=1)
    best = best_support(x, atoms, n_active, lasso.latents, lasso.latents[:, :0])
    coded = Coded(x, atoms, best.latents, best.values)
    found = score(OptimalityEvidence(coded, torch.arange(n) * 16 // n, 0.1, 777), "width")
    assert found.value is not None and found.spread is not None
    assert 0.7 < found.value < LINES["width"].above
    assert 0.05 < found.spread < 0.6
