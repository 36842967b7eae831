"""Second moments of activations and of what a model's output feels of errors in them, in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from wsae_plugin.errors import BadInputError
from wsae_plugin.files import write_bytes_atomic
from wsae_plugin.gamma.metric import MetricName, rotated
from wsae_plugin.messages import refusals_as_bad_input


@dataclass
class Sensitivity:
    """Sums over activations x and over gradients g = ∂(−Σ_t log p(y_t))/∂x at them.

    Args:
        n_tokens: How many activations there were.
        n_gradients: How many gradients.
        sum_x: Σx, shape (d_in,), float64.
        sum_xx: Σxxᵀ, shape (d_in, d_in), float64.
        sum_gg: Σggᵀ, shape (d_in, d_in), float64.
    """

    n_tokens: Tensor
    n_gradients: Tensor
    sum_x: Tensor
    sum_xx: Tensor
    sum_gg: Tensor

    @classmethod
    def of_none(cls, d_in: int) -> Sensitivity:
        """No samples yet."""
        count, square = torch.zeros((), dtype=torch.int64), torch.zeros(d_in, d_in).double()
        return cls(count, count.clone(), torch.zeros(d_in).double(), square, square.clone())

    def add(self, x: Tensor, gradients: Tensor) -> None:
        """Add activations (n, d_in), and gradients (m, d_in) of them."""
        x, gradients = (rows.detach().cpu().double() for rows in (x, gradients))
        self.n_tokens += len(x)
        self.n_gradients += len(gradients)
        self.sum_x += x.sum(dim=0)
        self.sum_xx += x.T @ x
        self.sum_gg += gradients.T @ gradients

    @property
    def mean(self) -> Tensor:
        """Of the activations, shape (d_in,)."""
        return self.sum_x / self.n_tokens

    @property
    def covariance(self) -> Tensor:
        """Of the activations, shape (d_in, d_in)."""
        return self.sum_xx / self.n_tokens - torch.outer(self.mean, self.mean)

    @property
    def fisher(self) -> Tensor:
        """F̄ = E[ggᵀ], the mean Fisher information, shape (d_in, d_in)."""
        return self.sum_gg / self.n_gradients

    def information(self, metric: MetricName, seed: int = 0) -> Tensor:
        """What the metric fisher, rotated_fisher or covariance is made from, (d_in, d_in)."""
        if metric == "covariance":
            return self.covariance
        return rotated(self.fisher, seed) if metric == "rotated_fisher" else self.fisher

    def write(self, file: Path, about: Mapping[str, str]) -> None:
        """Write it whole, with what it is of."""
        write_bytes_atomic(file, save(vars(self), dict(about)))

    @classmethod
    def read(cls, file: Path) -> tuple[Sensitivity, dict[str, str]]:
        """What `write` wrote.

        Raises:
            BadInputError: The file is missing or another.
        """
        tensors, about = _read(file)
        return cls.of(tensors, str(file)), about

    @classmethod
    def of_rows(cls, tensors: Mapping[str, Tensor], file: str, d_in: int) -> Sensitivity:
        """From gradients (n, d_in), and activations (m, d_in) if there are any, of a user's own."""
        found, none = cls.of_none(d_in), torch.zeros(0, d_in)
        for name, rows in tensors.items():
            if rows.ndim != 2 or rows.shape[1] != d_in or len(rows) == 0:
                raise BadInputError(
                    f"metric_file = {file!r}: {name} of shape {tuple(rows.shape)}: must be "
                    f"(n, {d_in}), with one row or more"
                )
            for part in rows.split(_ROWS_AT_ONCE):
                if not part.isfinite().all():
                    raise BadInputError(f"metric_file = {file!r}: {name} hold NaN or infinity")
                found.add(*((none, part) if name == "gradients" else (part, none)))
        return found

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], file: str) -> Sensitivity:
        """From the tensors of a file, which the message of an error names."""
        if set(tensors) != (names := {each.name for each in fields(cls)}):
            raise BadInputError(
                f"metric_file = {file!r}: holds {', '.join(sorted(tensors)) or 'nothing'}; "
                f"`fisher_metric` writes {', '.join(sorted(names))}; of your own it may hold "
                "gradients, with activations or without"
            )
        return cls(**tensors)


_ROWS_AT_ONCE = 8192


def information_for(metric: MetricName, file: str | None, d_in: int, seed: int) -> Tensor | None:
    """What a metric is made from, shape (d_in, d_in); None where it is still to be estimated.

    Args:
        metric: Its name.
        file: What `fisher_metric` wrote; `gradients` (n, d_in) of a user's own, F̄ = E[ggᵀ], with
            `activations` (m, d_in) or without; or one tensor `metric`, which is taken as it is by
            the metric that the file says it is, and by `file`.
        d_in: Width of the activations.
        seed: Of the directions of rotated_fisher.

    Raises:
        BadInputError: The file is missing or another, or what it holds is of another width, not
            finite, or nothing.
    """
    if metric == "uniform":
        return torch.eye(d_in, dtype=torch.float64)
    if file is None:
        return None
    tensors, about = _read(Path(file))
    if set(tensors) == {"metric"}:
        stated = about.get("metric", "file")
        if metric != "file" and stated != stated_as(metric, seed):
            raise BadInputError(
                f"metric_file = {file!r}: holds the finished metric {stated}, and metric is "
                f"{stated_as(metric, seed)}: use metric 'file' to take it whatever it is"
            )
        return tensors["metric"]
    if metric == "file":
        raise BadInputError(
            f"metric_file = {file!r}: holds {', '.join(sorted(tensors)) or 'nothing'}; metric "
            "'file' needs the one tensor metric"
        )
    if not {"gradients"} <= set(tensors) <= {"gradients", "activations"}:
        return Sensitivity.of(tensors, file).information(metric, seed)
    if metric == "covariance" and "activations" not in tensors:
        raise BadInputError(
            f"metric_file = {file!r}: holds gradients alone; metric 'covariance' is made from "
            "activations (m, d_in)"
        )
    return Sensitivity.of_rows(tensors, file, d_in).information(metric, seed)


def stated_as(metric: MetricName, seed: int) -> str:
    """What the file of a finished metric says that it is."""
    return f"{metric} of gamma_seed {seed}" if metric == "rotated_fisher" else metric


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with refusals_as_bad_input(f"metric_file = {str(file)!r}"), safe_open(file, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        return tensors, opened.metadata() or {}
