"""What makes a config impossible that SAELens would notice late, or not at all."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sae_lens.constants import SAE_WEIGHTS_FILENAME

from wsae_plugin.distributed.launch import are_several
from wsae_plugin.errors import BadInputError
from wsae_plugin.files import refuse_links
from wsae_plugin.gamma.proxies import needs_of, proxy_named
from wsae_plugin.messages import naming
from wsae_plugin.sources.source import GIVE_GRADIENTS
from wsae_plugin.training.checkpoints import is_complete

if TYPE_CHECKING:
    from wsae_plugin.training.config import RunConfig

logger = logging.getLogger(__name__)

_SCHEDULERS = ("constant", "cosineannealing", "cosineannealingwarmrestarts")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def check(config: RunConfig) -> None:
    """Refuse what cannot be trained, before anything is loaded or written.

    Raises:
        BadInputError: The first thing found; the message names the field.
    """
    for problem in _problems(config):
        raise BadInputError(problem)


def warn(config: RunConfig) -> None:
    """Log what is allowed but hardly meant."""
    for path, section in config.sae_sections.items():
        freeze_step = section.get("gamma_freeze_step")
        if section.get("alpha") and freeze_step is not None and freeze_step >= config.n_steps:
            told = "%s.gamma_freeze_step = %d: the run has %d steps, so Γ is never frozen"
            logger.warning(told, path, freeze_step, config.n_steps)
    if config.distributed.n_processes > 1 and not are_several():
        logger.warning("distributed: this is one process; torchrun starts several")
    if (checkpoints := config.values["checkpoint_path"]) != "checkpoints":
        told = "checkpoint_path = %r: has no effect; checkpoints are kept in the run folder"
        logger.warning(told, checkpoints)


def _problems(config: RunConfig) -> Iterator[str]:
    """What fields make impossible together, one after the other."""
    values = config.values
    for path, section in config.sae_sections.items():
        yield from _problems_of_sae(path, section, values["device"], bool(values.get("labels")))
        yield from _problems_of_text(path, section, config)
    if config.n_samples < config.batch_size:
        total, batch = config.source.n_samples_field, config.source.batch_size_field
        yield f"{total} = {values[total]}: is less than one {batch} = {values[batch]}"
    # SAELens plans its schedule for whole batches only.
    yield from _problems_of_schedule(values, n_steps=config.n_samples // config.batch_size)
    yield from config.source.problems(values)
    pretrained = values.get("from_pretrained_path")
    if pretrained is not None:
        if not (Path(pretrained) / SAE_WEIGHTS_FILENAME).is_file():
            yield (
                f"from_pretrained_path = {pretrained!r}: no folder with {SAE_WEIGHTS_FILENAME} in "
                "it"
            )
        refuse_links(Path(pretrained))
    checkpoint = values.get("resume_from_checkpoint")
    if checkpoint is not None and not is_complete(Path(checkpoint)):
        yield (
            f"resume_from_checkpoint = {checkpoint!r}: no complete checkpoint there; to continue "
            "the run in a run folder use --output RUN --resume instead"
        )


def _problems_of_sae(
    path: str, section: Mapping[str, Any], device: str, has_labels: bool
) -> Iterator[str]:
    if not _NAME.fullmatch(path.removeprefix("saes.")):
        yield f"{path}: the name becomes a folder and a part of --set; use letters, digits, - and _"
    if (proxy := section.get("gamma_proxy")) is not None:
        with naming(f"{path}.gamma_proxy = {proxy!r}"):
            proxy_named(proxy)
        if "labels" in (needs_of(proxy) or ()) and not has_labels:
            yield (
                f"{path}.gamma_proxy = {proxy!r}: is made from the classes of the samples, and "
                "there are no labels; give 'labels:' beside 'activations:', or another gamma_proxy"
            )
    k, d_sae = section.get("k"), section["d_sae"]
    if k is not None and k > d_sae:
        yield f"{path}.k = {k}: must not exceed {path}.d_sae = {d_sae}"
    is_sparse, is_rescaled = (
        section.get(name) for name in ("use_sparse_activations", "rescale_acts_by_decoder_norm")
    )
    if is_sparse and is_rescaled and torch.device(device).type == "cpu":
        yield (
            f"{path}.use_sparse_activations = True: SAELens's backward pass fails on cpu together "
            f"with {path}.rescale_acts_by_decoder_norm = True; set one of the two to false"
        )


def _problems_of_text(path: str, section: Mapping[str, Any], config: RunConfig) -> Iterator[str]:
    """What a metric and end-to-end training cannot do without, or beside."""
    values, metric = config.values, section.get("metric")
    starts = (values.get(name) for name in ("from_pretrained_path", "resume_from_checkpoint"))
    has_gradients = config.has_language_model and not values.get("use_cached_activations")
    if metric not in (None, "uniform") and not (
        has_gradients or section.get("metric_file") or any(starts)
    ):
        yield (
            f"{path}.metric = {metric!r}: there are no gradients of a language model to make it "
            f"from: {GIVE_GRADIENTS}"
        )
    if not section.get("finetune_kl"):
        return
    its_own = f"{path}.finetune_kl = {section['finetune_kl']:g}"
    if not config.has_language_model:
        yield f"{its_own}: compares outputs of a language model, and there is none; leave it out"
    for name in ("use_cached_activations", "prefetch_llm_batches", "compile_sae"):
        if values.get(name):
            yield f"{its_own} with {name} = {values[name]}: {_NOT_BESIDE[name]}"


_NOT_BESIDE = {
    "use_cached_activations": "takes the text, of which a cache has only the activations; leave "
    "one of the two out",
    "prefetch_llm_batches": "takes text out of turn, which a thread is reading ahead; set it to 0",
    "compile_sae": "puts another loss in the place of the compiled one; leave one of the two out",
}


def _problems_of_schedule(values: Mapping[str, Any], n_steps: int) -> Iterator[str]:
    scheduler, n_cycles = values["lr_scheduler_name"], values["n_restart_cycles"]
    if scheduler.lower() not in _SCHEDULERS:
        yield f"lr_scheduler_name = {scheduler!r}: must be one of {', '.join(_SCHEDULERS)}"
    if values["lr_decay_steps"] > 0 and values["lr_end"] == 0:
        yield "lr_end = 0: nothing is left for lr_decay_steps to bring to 0"
    between = n_steps - values["lr_warm_up_steps"] - values["lr_decay_steps"]
    if between < 0 or (between == 0 and scheduler.lower() != "constant"):
        yield (
            f"lr_warm_up_steps + lr_decay_steps = {n_steps - between}: the run has {n_steps} "
            "steps; shorten them or lengthen the run"
        )
    if scheduler.lower() == "cosineannealingwarmrestarts" and n_cycles > between:
        yield (
            f"n_restart_cycles = {n_cycles}: more than the {between} steps between warm-up and "
            "decay"
        )
