"""Our runs as SAEBench wants SAEs: unit decoder norms, complete metadata, TransformerLens hooks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from sae_lens import SAE
from transformer_lens import HookedTransformerConfig

import wsae_plugin
from wsae_plugin.compare.manifest import ComparedRun
from wsae_plugin.errors import BadInputError
from wsae_plugin.fingerprint import fingerprint_of_files
from wsae_plugin.measures.evaluated_run import load_sae
from wsae_plugin.messages import naming
from wsae_plugin.saved_run import read_cfg, read_training

_OF_HUGGING_FACE = re.compile(
    r"(?:gpt_neox\.layers|model\.layers|transformer\.h)\.(?P<block>\d+)(?:\.(?:(?P<mlp>mlp)|"
    r"attention\.dense|self_attn\.o_proj|attn\.c_proj))?"
)
_NOT_FOLDED = (
    "the decoder's norms could not be folded; absorption, SCR and TPP assume that they are 1"
)


@dataclass(frozen=True)
class BenchSAE:
    """One SAE to be measured.

    Args:
        run: Its run.
        model_name: The language model, as its metadata names it.
        hook_name: TransformerLens's name of the hook.
        d_sae: Its width.
        context_size: Tokens.
        fingerprint: Of its files.
    """

    run: ComparedRun
    model_name: str
    hook_name: str
    d_sae: int
    context_size: int
    fingerprint: str

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.run


def describe(run: ComparedRun) -> BenchSAE:
    """Read what an SAE is, without loading it.

    Raises:
        BadInputError: Its cfg.json does not say how wide it is, or where it belongs: its model and
            its hook.
    """
    cfg, known = read_cfg(run.sae, ["d_sae"]), read_training(run.path, run.sae)
    for name in ("model_name", "hook_name"):
        if not known.get(name):
            raise BadInputError(
                f"{run.path}: {name}: missing, no file of the SAE says it; say it to `wsae eval` "
                f"with --set {name}=…, which keeps it"
            )
    if known.get("hook_head_index") is not None:
        raise BadInputError(
            f"{run.path}: reads one attention head, and SAEBench measures whole activations"
        )
    with naming(str(run.path)):
        hook_name = transformer_lens_hook(known["hook_name"])
    return BenchSAE(
        run=run,
        model_name=known["model_name"],
        hook_name=hook_name,
        d_sae=cfg["d_sae"],
        context_size=known.get("context_size") or 128,
        fingerprint=fingerprint_of_files(run.sae, ("*.json", "*.safetensors")),
    )


def transformer_lens_hook(hook_name: str) -> str:
    """A module's output under TransformerLens's name: the only models SAEBench knows are its.

    `gpt_neox.layers.3` of a Hugging Face model is `blocks.3.hook_resid_post`, its `mlp`
    `hook_mlp_out`, and what ends its attention `hook_attn_out`.

    Raises:
        BadInputError: It is none of these.
    """
    found = _OF_HUGGING_FACE.fullmatch(hook_name)
    if found is None:
        if "hook_" in hook_name:
            return hook_name
        raise BadInputError(
            f"hook_name = {hook_name!r}: has no name in TransformerLens, whose models SAEBench "
            "runs; a block's output, its MLP's or its attention's can be measured"
        )
    is_block = hook_name.endswith(found["block"])
    part = "resid_post" if is_block else "mlp_out" if found["mlp"] else "attn_out"
    return f"blocks.{found['block']}.hook_{part}"


def refuse_another_place(sae: BenchSAE, model_config: HookedTransformerConfig) -> None:
    """Refuse a module of Hugging Face whose output TransformerLens has under no name.

    Where a model normalises what its MLPs and attentions put out (Gemma 2, OLMo 2),
    TransformerLens's hooks lie behind that.

    Raises:
        BadInputError: The SAE reads one of these.
    """
    is_translated = sae.hook_name != sae.run.hook_name
    is_block = sae.hook_name.endswith("hook_resid_post")
    if is_translated and not is_block and model_config.use_normalization_before_and_after:
        raise BadInputError(
            f"{sae.name}: hook_name = {sae.run.hook_name!r}: {sae.model_name} normalises it before "
            f"TransformerLens's {sae.hook_name}, and SAEBench runs TransformerLens's models"
        )


def load(sae: BenchSAE, model_name: str, device: str) -> tuple[SAE[Any], list[str]]:
    """A fresh copy of the SAE, which SAEBench may change, and what is to be said of it.

    Args:
        sae: What to load.
        model_name: The language model's name in SAEBench's files.
        device: Where to.
    """
    loaded = load_sae(sae.run.sae, device)
    if loaded.hook_z_reshaping_mode:
        loaded.turn_off_forward_pass_hook_z_reshaping()
    notes: list[str] = []
    norms = loaded.W_dec.detach().float().norm(dim=-1)
    if not torch.allclose(norms, torch.ones_like(norms), atol=1e-5):
        try:
            loaded.fold_W_dec_norm()
        except NotImplementedError:
            notes.append(_NOT_FOLDED)
    metadata = loaded.cfg.metadata
    metadata.model_name = model_name
    metadata.hook_name = sae.hook_name
    metadata.context_size = sae.context_size
    # SAEBench fails on None, without saying so.
    metadata.prepend_bos = True if metadata.prepend_bos is None else metadata.prepend_bos
    of_run = {name: getattr(sae.run, name) for name in ("run", "arm", "role", "seed", "pair")}
    metadata.wsae = {
        "version": wsae_plugin.__version__,
        **of_run,
        "sparsity": dict(sae.run.sparsity),
        "decoder_norms_are_1": not notes,
    }
    loaded.eval()
    return loaded, notes
