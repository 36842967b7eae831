"""SAEs whose defects are known, on a table of samples that are made of sixteen orthogonal atoms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sae_lens import SAE
from safetensors.torch import save_file

from wsae_plugin.yaml_file import to_yaml

D = 16
ACTIVE = 3


def atoms() -> torch.Tensor:
    """Orthogonal, of length 1, a row an atom."""
    return torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(0)))[0]


def write_table(path: Path, n: int = 4000) -> Path:
    """Samples of three atoms each, with codes from 1 to 2, and a little noise."""
    generator = torch.Generator().manual_seed(1)
    which = torch.rand(n, D, generator=generator).argsort(dim=1)[:, :ACTIVE]
    z = torch.zeros(n, D).scatter_(1, which, 1 + torch.rand(n, ACTIVE, generator=generator))
    np.save(path, (z @ atoms() + 0.05 * torch.randn(n, D, generator=generator)).numpy())
    return path


def plant(
    folder: Path,
    table: Path,
    architecture: str = "topk",
    off: float = 0.0,
    bias: float = 0.0,
    gamma: torch.Tensor | None = None,
    metric: torch.Tensor | None = None,
    **fields: Any,
) -> Path:
    """Write an SAE that encodes by the true atoms, as a script would save it.

    Args:
        folder: Where to.
        table: What `write_table` wrote.
        architecture: Of SAELens.
        off: How far each number of its decoder is from the truth.
        bias: What is added to all activations.
        gamma: γ that it says it was trained with.
        metric: A metric that it says it was trained under, without a ridge.
        fields: Of its config.
    """
    config = {"architecture": architecture, "d_in": D, "d_sae": D, "apply_b_dec_to_input": False}
    details = {} if gamma is None and metric is None else {"alpha": 0.0 if gamma is None else 1.0}
    if metric is not None:
        details |= {"metric": "fisher", "metric_ridge": 0.0}
    metadata = {"training_architecture_details": details} if details else {}
    if details:
        metadata["training_architecture"] = f"weighted_{architecture}"
    sae = SAE.from_dict(config | {"k": ACTIVE, "metadata": metadata} | fields)
    wrong = torch.randn(D, D, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        sae.W_enc.copy_(atoms().T)
        sae.W_dec.copy_(atoms() + off * wrong)
        for name, value in sae.named_parameters():
            if name.startswith("b_"):
                value.fill_(bias if name == "b_enc" else 0)
    sae.save_model(folder)
    if gamma is not None:
        save_file({"gamma": gamma}, folder / "gamma.safetensors")
    if metric is not None:
        save_file({"metric": metric}, folder / "metric.safetensors")
    training = {"activations": str(table), "hook_name": "activations"}
    (folder / "config.yaml").write_text(to_yaml(training))
    return folder
