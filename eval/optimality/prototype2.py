"""Planted defects, each dictionary learned to convergence first: python eval/optimality/prototype2.py N_SEEDS"""

import sys
from dataclasses import replace

import torch

from wsae_plugin.optimality import Coded, best_support, matched_penalty, nonnegative_lasso
from wsae_plugin.optimality.evidence import OptimalityEvidence
from wsae_plugin.optimality.lines import LINES
from wsae_plugin.optimality.refit import refitted

torch.set_num_threads(1)
F = torch.float64


def code(x, A, lam=0.1):
    c = nonnegative_lasso(x, A, lam)
    b = best_support(x, A, (c.values > 0).sum(1), c.latents, c.latents[:, :0])
    return Coded(x, A, b.latents, b.values)


def learn(x, A, steps=12):
    for _ in range(steps):
        of = code(x, A)
        B = refitted(of, 0.01)
        A = B / B.norm(dim=1, keepdim=True).clamp(min=1e-9)
    return code(x, A)


def world(seed, d=32, m=40, n=4000, p=0.08, noise=0.03, nested=False):
    g = torch.Generator().manual_seed(seed)
    A = torch.randn(m, d, generator=g, dtype=F)
    A /= A.norm(dim=1, keepdim=True)
    on = torch.rand(n, m, generator=g) < p
    amp = 0.5 + torch.rand(n, m, generator=g, dtype=F)
    if nested:
        A[1] -= (A[1] @ A[0]) * A[0]
        A[1] /= A[1].norm()
        on[:, 0] |= torch.rand(n, generator=g) < 0.15
        on[:, 1] = on[:, 0] & (torch.rand(n, generator=g) < 0.4)
        amp[:, 1] = amp[:, 0]
    return (on * amp) @ A + noise * torch.randn(n, d, generator=g, dtype=F), A, g


def cases(seed):
    x, A, g = world(seed)
    m, d = A.shape
    clean = learn(x, A)
    yield "clean", clean
    xn, An, _ = world(seed, nested=True)
    B = An.clone()
    B[1] = (An[0] + An[1]) / 2**0.5
    yield "absorbed", code(xn, B)
    yield "nested-true", code(xn, An)
    t = torch.randn(d, generator=g, dtype=F)
    t -= (t @ A[5]) * A[5]
    t /= t.norm()
    B = torch.cat([clean.atoms, (clean.atoms[5] + 0.35 * t)[None]])
    B[5] = clean.atoms[5] - 0.35 * t
    B /= B.norm(dim=1, keepdim=True)
    yield "split-atom", code(x, B)
    yield (
        "antipodal",
        code(torch.cat([x[:2000], x[2000:] - 0]), torch.cat([clean.atoms, -clean.atoms[7:8]])),
    )
    keep = torch.ones(m, dtype=torch.bool)
    keep[10:18] = False
    yield "narrow", learn(x, A[keep])
    R = torch.randn(24, d, generator=g, dtype=F)
    R /= R.norm(dim=1, keepdim=True)
    yield "wide", learn(x, torch.cat([A, R]))
    B = A + 0.45 * torch.randn(m, d, generator=g, dtype=F) / d**0.5
    B /= B.norm(dim=1, keepdim=True)
    yield "early", code(x, B)
    v = clean.values * (1 + 0.2 * torch.randn(clean.values.shape, generator=g, dtype=F)).clamp(
        min=0.1
    )
    yield "encoder", replace(clean, values=v)


for seed in range(int(sys.argv[1])):
    for name, of in cases(seed):
        e = OptimalityEvidence(of, torch.arange(4000) // 500, matched_penalty(of))
        print(
            seed,
            f"{name:11s}",
            " ".join(f"{n} {s.value:.3f}" for n, l in LINES.items() for s in l.score(e)),
            flush=True,
        )
