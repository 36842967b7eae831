"""Our runs as SAEBench wants SAEs: unit decoder norms, complete metadata, TransformerLens hooks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from sae_lens import SAE

import wsae_plugin
from wsae_plugin.compare.manifest import ComparedRun
from wsae_plugin.errors import BadInputError
from wsae_plugin.json_fields import JsonSection, read_json
from wsae_plugin.saebench.fingerprint import fingerprint_of_files

_BLOCK_OF_HUGGING_FACE = re.compile(r"(?:gpt_neox\.layers|model\.layers|transformer\.h)\.(\d+)")
_NOT_FOLDED = (
    "the decoder's norms could not be folded; absorption, SCR and TPP assume that they are 1"
)


@dataclass(frozen=True)
class BenchSAE:
    """One SAE to be measured.

    Args:
        run: Its run.
        cfg: Its cfg.json as SAELens wrote it.
        hook_name: TransformerLens's name of the hook.
        fingerprint: Of its files.
    """

    run: ComparedRun
    cfg: dict[str, Any]
    hook_name: str
    fingerprint: str

    @property
    def name(self) -> str:
        return self.run.run

    @property
    def metadata(self) -> dict[str, Any]:
        return self.cfg["metadata"]

    @property
    def model_name(self) -> str:
        return self.metadata["model_name"]

    @property
    def d_sae(self) -> int:
        return self.cfg["d_sae"]

    @property
    def context_size(self) -> int:
        return self.metadata.get("context_size") or 128


def describe(run: ComparedRun) -> BenchSAE:
    """Read what an SAE is, without loading it.

    Raises:
        BadInputError: Its cfg.json does not say which model or hook it was trained on.
    """
    file = run.sae / "cfg.json"
    section = JsonSection(read_json(file, "wsae train"), str(file))
    section.value("d_sae", int)
    cfg = section.fields
    metadata = JsonSection(cfg.get("metadata") or {}, f"{file}: metadata").fields
    for field in ("model_name", "hook_name"):
        if not isinstance(metadata.get(field), str) or not metadata[field]:
            raise BadInputError(
                f"{file}: metadata.{field} is missing; SAEBench cannot know where the SAE belongs"
            )
    return BenchSAE(
        run=run,
        cfg=cfg | {"metadata": metadata},
        hook_name=transformer_lens_hook(metadata["hook_name"]),
        fingerprint=fingerprint_of_files(run.sae, ("*.json", "*.safetensors")),
    )


def transformer_lens_hook(hook_name: str) -> str:
    """A block's output under TransformerLens's name: the only models SAEBench knows are its.

    `gpt_neox.layers.3` of a Hugging Face model is `blocks.3.hook_resid_post`.
    """
    block = _BLOCK_OF_HUGGING_FACE.fullmatch(hook_name)
    return hook_name if block is None else f"blocks.{block[1]}.hook_resid_post"


def load(sae: BenchSAE, model_name: str, device: str) -> tuple[SAE[Any], list[str]]:
    """A fresh copy of the SAE, which SAEBench may change, and what is to be said of it.

    Args:
        sae: What to load.
        model_name: The language model's name in SAEBench's files.
        device: Where to.
    """
    loaded: SAE[Any] = SAE.load_from_disk(sae.run.sae, device=device)
    notes: list[str] = []
    if not _has_unit_norms(loaded):
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
    metadata.wsae = {
        "version": wsae_plugin.__version__,
        "run": sae.name,
        "arm": sae.run.arm,
        "role": sae.run.role,
        "seed": sae.run.seed,
        "pair": sae.run.pair,
        "sparsity": dict(sae.run.sparsity),
        "decoder_norms_are_1": not notes,
    }
    loaded.eval()
    return loaded, notes


def _has_unit_norms(sae: SAE[Any]) -> bool:
    norms = sae.W_dec.detach().float().norm(dim=-1)
    return bool(torch.allclose(norms, torch.ones_like(norms), atol=1e-5))
