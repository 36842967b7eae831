"""What a Top-k training step costs: SAELens's, sparsify's and this package's, on the same work.

    python eval/perf/train_step.py --memory --sweep --rounds 4 --sweep-rounds 2 \\
        --output eval/perf/train_step.json --plot eval/perf/train_step.png
    OMP_NUM_THREADS=1 python eval/perf/train_step.py --d-in 128 --d-sae 512 --d-sae 1024 \\
        --d-sae 2048 --d-sae 4096 --batch 512 --k 16 --rounds 15 \\
        --output eval/perf/train_step_small.json
    python eval/perf/train_step.py --device cuda --bf16    # on a GPU

A step is forward, backward, gradient clipping at norm 1, Adam and zeroing the gradients. All
contenders start from the weights of one SAELens Top-k SAE and see the same batches. They take their
steps in one process in turn, in another order every round, and ratios are taken round by round, so
that a machine whose speed drifts slows all of them. Times are wall-clock. In the first step all
must arrive at the same reconstruction, or the benchmark stops. No latent is ever dead (the window
is 10^9 steps), so nobody computes an auxiliary loss.

Contenders: SAELens as it comes (`dense`), without `rescale_acts_by_decoder_norm`, and then with
`use_sparse_activations`, whose backward pass fails with rescaling; this package in SAELens's
trainer, in `WeightedSAETrainer`, and there with the encoder's product in float32 throughout. α is
1, and Γ is frozen after the first step. The steps of SAELens's trainers keep their count of firing
latents and a learning rate schedule. EleutherAI's `sparsify` is spared what its own
trainer adds: the normalisation of its decoder, the count of firing latents, and its default
optimizer (schedule-free SignSGD), in place of which it gets PyTorch's fused Adam. On CUDA its
forward pass is in bfloat16 whatever the caller says; here only with --bf16, as everybody's. Its
Triton decoder runs on CUDA, its eager one on a CPU.

Floor: what no float32 step can leave out, done as fast as PyTorch does it: the encoder's product,
2 · batch · d_in · d_sae floating point operations (77 GFLOP at 768 -> 24,576 and batch 2048); the
top k of every row, which reads batch · d_sae numbers (0.2 GB); and a fused Adam step, which reads
four numbers a parameter and writes three, 56 · d_in · d_sae bytes (1.1 GB). The dense step has six
such products. A bfloat16 product can go below the floor.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Protocol
from unittest.mock import patch

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor
from tqdm.auto import tqdm
from train_step_plot import FLOOR, draw, duration

import wsae_plugin
from wsae_plugin.kernels import dispatch
from wsae_plugin.kernels.blocks import row_blocks
from wsae_plugin.saes.topk import WeightedTopKTrainingSAE, WeightedTopKTrainingSAEConfig
from wsae_plugin.training.trainer import WeightedSAETrainer

LEARNING_RATE = 3e-4
NEVER = 10**9  # steps without firing after which a latent is dead
DENSE, SPARSIFY, WSAE = "SAELens dense", "sparsify", "wsae, WeightedSAETrainer"
FLOAT32_PRODUCT = "wsae, float32 product"
SWEPT = (DENSE, SPARSIFY, WSAE, FLOOR)
SWEEP_FACTORS = {
    "d_sae": (1 / 8, 1 / 4, 1 / 2, 1, 2, 4),
    "k": (1 / 4, 1 / 2, 1, 2, 4, 8),
    "batch": (1 / 8, 1 / 4, 1 / 2, 1, 2, 4),
}
# In float32 rounding can make another of two latents with equal scores active, in few rows. In
# bfloat16 it does so in most rows.
LOSS_TOLERANCE = {False: 1e-4, True: 2e-2}
RECONSTRUCTION_TOLERANCE = {False: 2e-2, True: 0.5}

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Size:
    """The shape of a step."""

    d_in: int
    d_sae: int
    batch: int
    k: int

    def __str__(self) -> str:
        return f"{self.d_in:,} -> {self.d_sae:,}, k {self.k}, batch {self.batch:,}"


@dataclass(frozen=True)
class Setting:
    """How every contender runs.

    Args:
        bf16: bfloat16 autocast for everybody.
        kernel: The field `kernel` of this package's SAEs.
    """

    device: str
    bf16: bool
    kernel: str


class Contender(Protocol):
    """Somebody's training step; the floor has no outcome."""

    def step(self, x: Tensor) -> Any:
        """Take one step on a batch (batch, d_in)."""
        ...

    def outcome(self, output: Any, x: Tensor) -> tuple[float, Tensor]:
        """The unweighted loss, as the contender itself has it, and the reconstruction."""
        ...


class OfSAELens:
    """An SAE of SAELens's kind in a trainer of SAELens's kind."""

    def __init__(
        self,
        sae_class: type[TopKTrainingSAE],
        config_class: type[TopKTrainingSAEConfig],
        trainer_class: type[SAETrainer[Any, Any]],
        size: Size,
        setting: Setting,
        weights: Weights,
        **fields: Any,
    ) -> None:
        config = config_class(
            d_in=size.d_in, d_sae=size.d_sae, k=size.k, device=setting.device, **fields
        )
        sae = sae_class(config)
        for name, weight in weights.items():
            getattr(sae, name).data.copy_(weight)
        self.trainer = trainer_class(
            cfg=SAETrainerConfig(
                total_training_samples=NEVER * size.batch,
                train_batch_size_samples=size.batch,
                device=setting.device,
                autocast=setting.bf16,
                lr=LEARNING_RATE,
                lr_end=LEARNING_RATE,
                dead_feature_window=NEVER,
            ),
            sae=sae,
            data_provider=iter(()),
        )

    def step(self, x: Tensor) -> Any:
        output = self.trainer.step(x)
        self.trainer.n_training_steps += 1
        return output

    def outcome(self, output: Any, x: Tensor) -> tuple[float, Tensor]:  # noqa: ARG002
        return output.losses["mse_loss"].item(), output.sae_out.detach().float()


class OfThisPackage(OfSAELens):
    """A weighted SAE."""

    def __init__(
        self,
        trainer_class: type[SAETrainer[Any, Any]],
        size: Size,
        setting: Setting,
        weights: Weights,
        float32_product: bool = False,
    ) -> None:
        super().__init__(
            WeightedTopKTrainingSAE,
            WeightedTopKTrainingSAEConfig,
            trainer_class,
            size,
            setting,
            weights,
            alpha=1.0,
            gamma_freeze_step=1,
            kernel=setting.kernel,
        )
        self._setting = setting
        self._products = nullcontext()
        if float32_product:
            self._products = patch.object(dispatch, "has_fast_bfloat16", lambda _: False)

    def step(self, x: Tensor) -> Any:
        with self._products:
            return super().step(x)

    def kernel(self, batch: int) -> str:
        """What carries out a step."""
        device = torch.device(self._setting.device)
        with self._products:
            kernel = self.trainer.sae.choose_kernel(batch, device, self._setting.bf16)
        return "eager" if kernel is None else str(kernel)


class OfSparsify:
    """A SparseCoder, with the loss of its trainer."""

    def __init__(self, size: Size, setting: Setting, weights: Weights) -> None:
        from sparsify import SparseCoder, SparseCoderConfig

        config = SparseCoderConfig(num_latents=size.d_sae, k=size.k, normalize_decoder=False)
        self.coder = SparseCoder(size.d_in, config, device=setting.device, dtype=torch.float32)
        self.coder.encoder.weight.data.copy_(weights["W_enc"].T)
        self.coder.encoder.bias.data.copy_(weights["b_enc"])
        self.coder.W_dec.data.copy_(weights["W_dec"])
        self.coder.b_dec.data.copy_(weights["b_dec"])
        self.optimizer = torch.optim.Adam(self.coder.parameters(), lr=LEARNING_RATE, fused=True)
        # SparseCoder.forward is wrapped in autocasting for CUDA.
        undecorated = partial(SparseCoder.forward.__wrapped__, self.coder)
        self._forward = self.coder if setting.bf16 else undecorated
        self._autocast = partial(
            torch.autocast, setting.device, dtype=torch.bfloat16, enabled=setting.bf16
        )

    def step(self, x: Tensor) -> Any:
        with self._autocast():
            output = self._forward(x)
        output.fvu.backward()
        torch.nn.utils.clip_grad_norm_(self.coder.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return output

    def outcome(self, output: Any, x: Tensor) -> tuple[float, Tensor]:
        total_variance = (x - x.mean(0)).square().sum()
        loss = output.fvu * total_variance / len(x)
        return loss.item(), output.sae_out.detach().float()


class Floor:
    """The product, the top k, and Adam on gradients that are there already, with lr 0."""

    def __init__(self, size: Size, setting: Setting, weights: Weights) -> None:  # noqa: ARG002
        self.k = size.k
        self.encoder = weights["W_enc"].T.contiguous()
        parameters = [self.encoder, *(weights[n].clone() for n in ("W_dec", "b_enc", "b_dec"))]
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        self.optimizer = torch.optim.Adam(parameters, lr=0.0, fused=True)

    @torch.no_grad()
    def step(self, x: Tensor) -> None:
        for _, scores in row_blocks(x, self.encoder):
            torch.topk(scores, self.k, dim=-1, sorted=False)
        self.optimizer.step()


_saelens = partial(OfSAELens, TopKTrainingSAE, TopKTrainingSAEConfig, SAETrainer)
BUILDERS: dict[str, Any] = {  # each takes a Size, a Setting and Weights
    DENSE: _saelens,
    "SAELens dense, no rescaling": partial(_saelens, rescale_acts_by_decoder_norm=False),
    "SAELens sparse, no rescaling": partial(
        _saelens, rescale_acts_by_decoder_norm=False, use_sparse_activations=True
    ),
    SPARSIFY: OfSparsify,
    "wsae, SAELens's trainer": partial(OfThisPackage, SAETrainer),
    WSAE: partial(OfThisPackage, WeightedSAETrainer),
    FLOAT32_PRODUCT: partial(OfThisPackage, WeightedSAETrainer, float32_product=True),
    FLOOR: Floor,
}


def initial_weights(size: Size, device: str) -> Weights:
    """Those of a fresh Top-k SAE of SAELens, always the same."""
    torch.manual_seed(0)
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=size.d_in, d_sae=size.d_sae, k=size.k))
    return {name: weight.detach().to(device) for name, weight in sae.named_parameters()}


class Batches:
    """Gaussian activations whose dimensions have scales from 0.1 to 10, around a mean."""

    def __init__(self, size: Size, device: str) -> None:
        self._generator = torch.Generator(device).manual_seed(0)
        self._randn = partial(torch.randn, generator=self._generator, device=device)
        self._shape = (size.batch, size.d_in)
        self._scale = torch.logspace(-1, 1, size.d_in, device=device)
        self._mean = self._randn(size.d_in) * self._scale

    def next(self) -> Tensor:
        return self._randn(self._shape) * self._scale + self._mean


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(contender: Contender, x: Tensor, device: str) -> float:
    """Wall-clock time of one step."""
    synchronize(device)
    start = time.perf_counter()
    contender.step(x)
    synchronize(device)
    return time.perf_counter() - start


def first_steps(
    contenders: dict[str, Contender], x: Tensor, bf16: bool
) -> dict[str, dict[str, Any]]:
    """Take everybody's first step, on the same batch, and see that they do the same.

    Returns:
        Of every contender its loss, how far its reconstruction is from that of SAELens, and, of
        this package's, the kernel.

    Raises:
        RuntimeError: A contender arrives at another loss or reconstruction than SAELens.
    """
    facts: dict[str, dict[str, Any]] = {name: {} for name in contenders}
    expected: tuple[float, Tensor] | None = None
    for name, contender in contenders.items():
        output = contender.step(x)
        if isinstance(contender, OfThisPackage):
            facts[name]["kernel"] = contender.kernel(len(x))
        if name == FLOOR:
            continue
        outcome = contender.outcome(output, x)
        del output  # it may hold several (batch, d_sae)
        # The first is SAELens's dense step. All decoder norms are equal at the start, so that
        # rescaling by them makes no difference yet.
        expected = expected or outcome
        facts[name] |= agreement(name, outcome, expected, bf16)
    return facts


def agreement(
    name: str, outcome: tuple[float, Tensor], expected: tuple[float, Tensor], bf16: bool
) -> dict[str, float]:
    """How close a first step is to SAELens's, which must be close.

    Raises:
        RuntimeError: It is not.
    """
    loss, reconstruction = outcome
    expected_loss, expected_reconstruction = expected
    loss_error = abs(loss / expected_loss - 1)
    difference = (reconstruction - expected_reconstruction).norm()
    reconstruction_error = float(difference / expected_reconstruction.norm())
    allowed = LOSS_TOLERANCE[bf16], RECONSTRUCTION_TOLERANCE[bf16]
    if not (loss_error <= allowed[0] and reconstruction_error <= allowed[1]):
        raise RuntimeError(
            f"{name} does not compute what {DENSE} does: its first loss is {loss}, not "
            f"{expected_loss}, and its reconstruction is off by {reconstruction_error:.1%}."
        )
    return {"first_loss": loss, "first_reconstruction_error": reconstruction_error}


def turns(names: list[str], number: int) -> list[str]:
    """The order of a round: rotated by one every round, and every other round backwards."""
    shift = number % len(names)
    order = names[shift:] + names[:shift]
    return order[::-1] if number % 2 else order


def measure(names: Iterable[str], size: Size, setting: Setting, rounds: int) -> dict[str, Any]:
    """Step times of the contenders, who take turns."""
    weights = initial_weights(size, setting.device)
    contenders = {name: BUILDERS[name](size, setting, weights) for name in names}
    del weights
    batches = Batches(size, setting.device)
    facts = first_steps(contenders, batches.next(), setting.bf16)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in tqdm(range(-1, rounds), desc=str(size), unit="round"):
        x = batches.next()
        for name in turns(list(contenders), number):
            elapsed = seconds(contenders[name], x, setting.device)
            if number >= 0:  # the one before warms up
                times[name].append(elapsed)
    del contenders
    free_memory(setting.device)
    return {
        **asdict(size),
        "floor_flop": 2 * size.batch * size.d_in * size.d_sae,
        "floor_bytes": 4 * size.batch * size.d_sae + 56 * size.d_in * size.d_sae,
        "contenders": {
            name: {
                "step_s": spread(times[name]),
                "speed_up": spread(np.divide(times[DENSE], times[name])),
                "over_floor": spread(np.divide(times[name], times[FLOOR])),
                "steps_s": times[name],
                **facts[name],
            }
            for name in times
        },
    }


def spread(values: Any) -> dict[str, Any]:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {"median": float(middle), "quartiles": [float(low), float(high)]}


def free_memory(device: str) -> None:
    gc.collect()  # optimizers and their schedulers refer to each other
    if device == "cuda":
        torch.cuda.empty_cache()


def resident_bytes(peak: bool) -> int:
    """This process's resident set: at its highest, or now where the system tells."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux: ru_maxrss would begin at the parent's peak.
        field = "VmHWM:" if peak else "VmRSS:"
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return 1024 * int(line.split()[1])
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_memory(name: str, size: Size, setting: Setting) -> dict[str, int]:
    """What three steps of one contender alone take at most; on a CPU call it in a fresh process.

    Returns:
        Bytes in all, and without what was there before its SAE was built.
    """
    on_gpu = setting.device == "cuda"
    batches = Batches(size, setting.device)
    before = torch.cuda.memory_allocated() if on_gpu else resident_bytes(peak=False)
    contender = BUILDERS[name](size, setting, initial_weights(size, setting.device))
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        contender.step(batches.next())
    total = torch.cuda.max_memory_allocated() if on_gpu else resident_bytes(peak=True)
    del contender
    free_memory(setting.device)
    return {"total_bytes": total, "added_bytes": total - before}


def peak_memory_alone(name: str, size: Size, setting: Setting) -> dict[str, int]:
    """`peak_memory` in a fresh process."""
    options = {"device": setting.device, "kernel": setting.kernel, "alone": name, **asdict(size)}
    command = [
        sys.executable,
        __file__,
        *(f"--{field.replace('_', '-')}={value}" for field, value in options.items()),
    ]
    command += ["--bf16"] if setting.bf16 else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def add_memory(measured: dict[str, Any], size: Size, setting: Setting) -> None:
    """Put the peak memory of every contender beside its times."""
    peak = peak_memory if setting.device == "cuda" else peak_memory_alone
    for name, figures in tqdm(measured["contenders"].items(), desc="memory", unit="contender"):
        figures["memory"] = peak(name, size, setting)


def about(setting: Setting, rounds: int, sweep_rounds: int, with_sparsify: bool) -> dict[str, Any]:
    """What the figures were measured on."""
    cuda = setting.device == "cuda"
    return {
        **asdict(setting),
        "device_name": torch.cuda.get_device_name() if cuda else processor(),
        "threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "rounds": rounds,
        "sweep_rounds": sweep_rounds,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "sae_lens": version("sae-lens"),
        "eai_sparsify": version("eai-sparsify") if with_sparsify else None,
        "wsae_plugin": wsae_plugin.__version__,
    }


def processor() -> str:
    """The model of the processor."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def check_sparsify(device: str) -> None:
    """See that sparsify can be had, with the decoder for the device.

    Raises:
        SystemExit: It is not installed.
    """
    if device == "cpu":
        # It would take its Triton decoder wherever Triton is installed. Read when it is imported.
        os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
    try:
        import sparsify  # noqa: F401
    except ImportError as error:
        raise SystemExit(
            f'sparsify cannot be imported ({error}): install it with pip install -e ".[bench]", '
            "or leave it out with --without-sparsify."
        ) from error


def sweep(
    centre: Size, names: Iterable[str], setting: Setting, rounds: int
) -> Generator[tuple[str, dict[str, Any]]]:
    """Axes, and what was measured at points along them; the centre is on all of them."""
    measured: dict[Size, dict[str, Any]] = {}
    for axis, factors in SWEEP_FACTORS.items():
        for factor in factors:
            size = replace(centre, **{axis: round(factor * getattr(centre, axis))})
            if size not in measured:
                measured[size] = measure(names, size, setting, rounds)
            yield axis, measured[size]


def size_table(measured: dict[str, Any]) -> Table:
    """The contenders at one size, one a row."""
    size = Size(*(measured[field] for field in ("d_in", "d_sae", "batch", "k")))
    with_memory = any("memory" in figures for figures in measured["contenders"].values())
    columns = ["step", f"faster than {DENSE}", "times the floor"]
    columns += ["peak memory"] if with_memory else []
    table = Table("contender", *columns, "kernel", title=str(size))
    for name, figures in measured["contenders"].items():
        table.add_row(
            name,
            with_quartiles(figures["step_s"], duration),
            with_quartiles(figures["speed_up"], "{:.2f} ×".format),
            with_quartiles(figures["over_floor"], "{:.2f}".format),
            *([gibibytes(figures.get("memory"))] if with_memory else []),
            figures.get("kernel", ""),
        )
    return table


def sweep_table(axis: str, points: list[dict[str, Any]]) -> Table:
    """Median step times along an axis."""
    names = list(points[0]["contenders"])
    table = Table(axis, *names)
    for point in points:
        steps = (point["contenders"][name]["step_s"]["median"] for name in names)
        table.add_row(f"{point[axis]:,}", *map(duration, steps))
    return table


def with_quartiles(figures: dict[str, Any], written: Callable[[float], str]) -> str:
    """`median (quartile to quartile)`."""
    low, high = map(written, figures["quartiles"])
    return f"{written(figures['median'])} ({low} to {high})"


def gibibytes(memory: dict[str, int] | None) -> str:
    return f"{memory['added_bytes'] / 2**30:.2f} GiB" if memory else ""


def save(result: dict[str, Any], output: Path | None, plot: Path | None) -> None:
    """Write what there is so far."""
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n")
    if plot is not None:
        draw(result, plot)


def main(
    device: Annotated[str, typer.Option(help="cpu, or cuda for an NVIDIA GPU.")] = "cpu",
    bf16: Annotated[
        bool, typer.Option("--bf16", help="bfloat16 autocast for every contender but the floor.")
    ] = False,
    rounds: Annotated[
        int, typer.Option(min=1, help="Counted steps of every contender at every size.")
    ] = 8,
    d_in: Annotated[int, typer.Option(help="Width of the activations.")] = 768,
    d_sae: Annotated[
        list[int], typer.Option(help="Latents; give it several times for several sizes.")
    ] = [6144, 24576, 65536],  # noqa: B006
    batch: Annotated[
        list[int], typer.Option(help="Activations a step; several times for several sizes.")
    ] = [2048, 4096],  # noqa: B006
    k: Annotated[int, typer.Option(help="Active latents of an activation.")] = 32,
    kernel: Annotated[
        str, typer.Option(help="The field `kernel` of wsae's SAEs: auto, or one of your choice.")
    ] = "auto",
    without_sparsify: Annotated[
        bool, typer.Option("--without-sparsify", help="Leave out EleutherAI's sparsify.")
    ] = False,
    memory: Annotated[
        bool,
        typer.Option(
            "--memory",
            help="Also measure peak memory: on a CPU the resident set of a process of its own for "
            "every contender, less what it was before the SAE was built; on a GPU what PyTorch "
            "allocates.",
        ),
    ] = False,
    with_sweep: Annotated[
        bool,
        typer.Option(
            "--sweep",
            help="Also measure how a step's time grows with d_sae, k and batch, each alone, from "
            "1/8 or 1/4 to 4 or 8 times the central size: the middle of the values given.",
        ),
    ] = False,
    sweep_rounds: Annotated[
        int, typer.Option(min=1, help="Counted steps of every contender at every sweep point.")
    ] = 3,
    output: Annotated[
        Path | None,
        typer.Option(help="Where to write the figures as JSON, anew after every size."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Where to draw them as PNG.")] = None,
    alone: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Time Top-k training steps of SAELens, sparsify and wsae on the same work, in turns."""
    setting = Setting(device, bf16, kernel)
    torch.sparse.check_sparse_tensor_invariants.disable()  # the default, with a warning
    # That Γ is concentrated on few dimensions, by these activations, is of no interest here.
    logging.getLogger("wsae_plugin.gamma.scheduler").setLevel(logging.ERROR)
    if alone is not None:
        if alone == SPARSIFY:
            check_sparsify(device)
        typer.echo(json.dumps(peak_memory(alone, Size(d_in, d_sae[0], batch[0], k), setting)))
        return
    if not without_sparsify:
        check_sparsify(device)
    left_out = {SPARSIFY: without_sparsify, FLOAT32_PRODUCT: bf16}
    names = [name for name in BUILDERS if not left_out.get(name)]
    sizes = [Size(d_in, n_latents, rows, k) for n_latents, rows in product(d_sae, batch)]
    centre = Size(d_in, middle(d_sae), middle(batch), k)
    result: dict[str, Any] = {
        "about": about(setting, rounds, sweep_rounds, not without_sparsify),
        "centre": asdict(centre),
        "sizes": [],
        "sweep": {},
    }
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(result["about"])
    for size in sizes:
        measured = measure(names, size, setting, rounds)
        if memory:
            add_memory(measured, size, setting)
        result["sizes"].append(measured)
        console.print(size_table(measured))
        save(result, output, plot)
    if with_sweep:
        swept = [name for name in names if name in SWEPT]
        for axis, point in sweep(centre, swept, setting, sweep_rounds):
            result["sweep"].setdefault(axis, []).append(point)
            save(result, output, plot)
        for axis, points in result["sweep"].items():
            console.print(sweep_table(axis, points))


def middle(values: list[int]) -> int:
    return sorted(values)[(len(values) - 1) // 2]


if __name__ == "__main__":
    typer.run(main)
