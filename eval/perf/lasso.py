"""What optimal codes cost, beside scikit-learn's coordinate descent on the same problem.

    python eval/perf/lasso.py --output eval/perf/lasso.json
    python eval/perf/lasso.py --samples 200 --latents 4096    # a look

20,000 samples of 768 dimensions, each 50 of 24,576 random unit atoms with noise, and the penalty at
which about as many codes are active. `nonnegative_lasso` starts from nothing and stops at a
relative duality gap of 1e-6. `sklearn.decomposition.sparse_encode` (lasso_cd, positive) is given
the Gram matrix, whose making is not counted, takes the first samples, and stops where it does by
default; its gap is measured afterwards. The two take turns.

Floor: a dense product finds the violated atoms, 2 · 768 · 24,576 operations a sample, five times or
so; the atoms of an active set of 100 are 0.6 MB in float64, and their Gram matrix takes 15 million
operations, as often.
"""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import sklearn
import torch
import typer
from sklearn.decomposition import sparse_encode
from torch import Tensor

import wsae_plugin
from wsae_plugin.optimality.lasso import nonnegative_lasso

D_IN, ACTIVE, NOISE = 768, 50, 0.02


def problem(n: int, m: int) -> tuple[Tensor, Tensor]:
    """Samples (n, 768) and atoms (m, 768)."""
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(m, D_IN, generator=generator)
    atoms /= atoms.norm(dim=1, keepdim=True)
    x = NOISE * torch.randn(n, D_IN, generator=generator)
    for rows in torch.arange(n).split(500):
        chosen = torch.randint(m, (len(rows), ACTIVE), generator=generator)
        codes = 0.2 + torch.rand(len(rows), ACTIVE, generator=generator)
        x[rows] += torch.einsum("nk,nkd->nd", codes, atoms[chosen])
    return x, atoms


def gap(x: Tensor, atoms: Tensor, z: Tensor, penalty: float) -> float:
    """The largest relative duality gap of codes (n, m), all in float64."""
    residual = x - z @ atoms
    objective = residual.square().sum(dim=1) / 2 + penalty * z.sum(dim=1)
    # Where no atom points along the residual, the residual itself will do.
    scale = penalty / (residual @ atoms.T).amax(dim=1).clamp(min=penalty)
    theta = residual * scale.unsqueeze(1)
    dual = (x * theta).sum(dim=1) - theta.square().sum(dim=1) / 2
    return float(((objective - dual) / objective).max())


def main(
    samples: Annotated[int, typer.Option(help="Samples.")] = 20_000,
    latents: Annotated[int, typer.Option(help="Atoms.")] = 24_576,
    penalty: Annotated[float, typer.Option(help="λ.")] = 0.1,
    theirs: Annotated[int, typer.Option(help="Samples a round for scikit-learn.")] = 4,
    rounds: Annotated[int, typer.Option(help="Turns.")] = 5,
    output: Annotated[Path | None, typer.Option(help="Write the figures there.")] = None,
) -> None:
    """Time the solver beside scikit-learn's."""
    x, atoms = problem(samples, latents)
    wide = atoms.double().numpy()
    # By torch: at this size numpy's product of a matrix with its own transpose may crash.
    gram = (atoms.double() @ atoms.double().T).numpy()
    ours_s: list[float] = []
    theirs_s: list[float] = []
    gaps: dict[str, list[float]] = {"ours": [], "theirs": []}
    active: list[float] = []
    for number, part in enumerate(x.chunk(rounds)):
        start = time.perf_counter()
        codes = nonnegative_lasso(part, atoms, penalty)
        ours_s.append((time.perf_counter() - start) / len(part))
        gaps["ours"].append(float(codes.gap.max()))
        active.append(float((codes.values > 0).sum(dim=1).double().mean()))
        few = part[:theirs].double()
        start = time.perf_counter()
        z = sparse_encode(
            few.numpy(), wide, gram=gram, algorithm="lasso_cd", alpha=penalty, positive=True
        )
        theirs_s.append((time.perf_counter() - start) / len(few))
        gaps["theirs"].append(gap(few, atoms.double(), torch.from_numpy(z), penalty))
        typer.echo(f"{number + 1} of {rounds}: {ours_s[-1]:.4f} s, {theirs_s[-1]:.3f} s a sample")
    result: dict[str, Any] = {
        "samples": samples,
        "d_in": D_IN,
        "latents": latents,
        "penalty": penalty,
        "active": float(np.mean(active)),
        "threads": torch.get_num_threads(),
        "seconds_in_all": sum(of * len(p) for of, p in zip(ours_s, x.chunk(rounds), strict=True)),
        "seconds_a_sample": {"ours": median(ours_s), "scikit_learn": median(theirs_s)},
        "times_as_fast": median(b / a for a, b in zip(ours_s, theirs_s, strict=True)),
        "largest_gap": {name: max(of) for name, of in gaps.items()},
        "scikit_learn": sklearn.__version__,
        "torch": torch.__version__,
        "wsae_plugin": wsae_plugin.__version__,
        "machine": platform.machine(),
    }
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n")
    typer.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    typer.run(main)
