"""Folders from a stranger: code, pickles, tags and links planted in everything a command reads.

Whatever is carried out leaves a file in `made`, and `secret` is a file that no folder may lead to.
"""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.training.tiny import save_tokenizer
from wsae_plugin.files import sha256_of
from wsae_plugin.training.checksums import write_checksums

SECRET = "the words of a file that is nobody else's business"
KWARGS = "model_from_pretrained_kwargs"


@dataclass(frozen=True)
class World:
    """Everything that commands are given.

    Args:
        path: Where all of it is.
    """

    path: Path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def made(self) -> Path:
        return self.path / "made"

    @property
    def secret(self) -> Path:
        return self.path / "secret.json"

    @property
    def runs(self) -> list[Path]:
        """Every run folder, in comparisons too."""
        return [
            self.path / "run",
            self.path / "other",
            *sorted(self.path.glob("comparison/runs/*")),
        ]

    @property
    def folders(self) -> list[Path]:
        """Every folder that a command reads, and those in them."""
        others = [self / name for name in ("stopped", "comparison", "demo", "toy")]
        return [*self.runs, *others, *(file.parent for file in self.published)]

    @property
    def configs(self) -> list[Path]:
        """Every config of a run, the user's own among them."""
        own = self.path / "config.yaml"
        return [own, *(run / "config.yaml" for run in self.runs), *self.published]

    @property
    def published(self) -> list[Path]:
        return sorted(self.path.glob("publication/*/training.yaml"))

    def shows_the_secret(self) -> list[Path]:
        """Files that hold what only `secret` should."""
        files = [path for path in self.path.rglob("*") if path.is_file() and not path.is_symlink()]
        return [f for f in files if f != self.secret and SECRET.encode() in f.read_bytes()]


class Carried:
    """Unpickling it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.file,)


def change_yaml(file: Path, **changes: Any) -> None:
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | changes, sort_keys=False))


def correct_checksums(publication: Path) -> None:
    """Whoever changes a file of a publication can change what its root says of it."""
    file = publication / "config.json"
    root = json.loads(file.read_text())
    for sae_id, entry in root["saes"].items():
        entry["sha256"] = {n: sha256_of(publication / sae_id / n) for n in entry["sha256"]}
    file.write_text(json.dumps(root))


def name_model(world: World, model: str | Path, **changes: Any) -> None:
    """Let every config name a model; the cfg.json beside it goes on naming the bundled one."""
    for file in world.configs:
        change_yaml(file, model_name=str(model), **changes)
    if "hook_name" in changes:
        changes["hooks"] = [changes.pop("hook_name")]
    for file in world.path.rglob("comparison.yaml"):
        change_yaml(file, model_name=str(model), **changes)
    correct_checksums(world / "publication")


def name_model_everywhere(world: World, model: str | Path, **changes: Any) -> None:
    """The same in the cfg.json of every SAE, so that they agree."""
    hook = {"hook_name": changes["hook_name"]} if "hook_name" in changes else {}
    kwargs = changes.get(KWARGS) or {}
    said = {"model_name": str(model), KWARGS: kwargs} | hook
    if "model_class_name" in changes:
        said["model_class_name"] = changes["model_class_name"]
    for file in [*world.path.rglob("sae/cfg.json"), *world.path.glob("publication/*/cfg.json")]:
        cfg = json.loads(file.read_text())
        file.write_text(json.dumps(cfg | {"metadata": cfg["metadata"] | said}))
    name_model(world, model, **changes)


AS_MODULE = {"model_class_name": "AutoModelForCausalLM", "hook_name": "gpt_neox.layers.1"}


SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}


def plain_model(folder: Path) -> Path:
    """A model as wide as the bundled one."""
    config = GPTNeoXConfig(**SIZES | {"vocab_size": save_tokenizer(folder)})
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    return folder


def change_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def plant_code(world: World, folder: Path) -> None:
    """A module that makes a file when it is imported, and does its work."""
    (folder / "planted.py").write_text(
        f"from pathlib import Path\nPath({str(world.made / folder.name)!r}).touch()\n"
        "from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast\n"
        "class Config(GPTNeoXConfig):\n    model_type = 'planted'\n"
        "class Model(GPTNeoXForCausalLM):\n    config_class = Config\n"
        "class Tokenizer(PreTrainedTokenizerFast):\n    pass\n"
    )


def remote_model(world: World) -> Path:
    folder = plain_model(world / "remote-model")
    plant_code(world, folder)
    auto_map = {"AutoConfig": "planted.Config", "AutoModelForCausalLM": "planted.Model"}
    change_json(folder / "config.json", model_type="planted", auto_map=auto_map)
    return folder


def plant_tokenizer(world: World, folder: Path) -> Path:
    plant_code(world, folder)
    auto_map = {"AutoTokenizer": [None, "planted.Tokenizer"]}
    change_json(folder / "tokenizer_config.json", tokenizer_class="Tokenizer", auto_map=auto_map)
    return folder


def remote_code(world: World) -> None:
    """The attack: what is published says the bundled model, and its training.yaml another."""
    name_model(world, remote_model(world), **AS_MODULE, **{KWARGS: {"trust_remote_code": True}})


def remote_code_of_the_model_itself(world: World) -> None:
    """cfg.json and training.yaml agree on it."""
    kwargs = {KWARGS: {"trust_remote_code": True}}
    name_model_everywhere(world, remote_model(world), **AS_MODULE, **kwargs)


def remote_code_unasked(world: World) -> None:
    """transformers would ask on the terminal."""
    name_model_everywhere(world, remote_model(world), **AS_MODULE, **{KWARGS: {}})


def remote_tokenizer(world: World) -> None:
    """SAELens passes nothing when it loads the tokenizer, so that transformers would ask."""
    folder = world / "remote-tokenizer"
    sizes = SIZES | {"vocab_size": save_tokenizer(folder)}
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(folder)
    changes = AS_MODULE | {"hook_name": "model.layers.1", KWARGS: {}}
    name_model_everywhere(world, plant_tokenizer(world, folder), **changes)


def trusted_by_architecture(world: World) -> None:
    """TransformerLens lets the tokenizers of some architectures bring code."""
    folder = world / "an-architecture"
    sizes = SIZES | {"vocab_size": save_tokenizer(folder), "num_key_value_heads": 2, "head_dim": 64}
    Qwen3ForCausalLM(Qwen3Config(**sizes)).save_pretrained(folder)
    name_model_everywhere(world, plant_tokenizer(world, folder))


def trusted_by_name(world: World) -> None:
    """TransformerLens lets models of some names bring code, and the working directory has one."""
    folder = world / "cwd" / "Qwen" / "Qwen-planted"
    folder.parent.mkdir()
    shutil.move(remote_model(world), folder)
    name_model_everywhere(world, Path("Qwen/Qwen-planted"))


def pickled_model(world: World, **kwargs: Any) -> None:
    folder = plain_model(world / "pickled-model")
    (folder / "model.safetensors").unlink()
    # transformers then opens the weights to find it out, as the arguments say.
    change_json(folder / "config.json", dtype=None)
    torch.save({"planted": Carried(world.made / "weights")}, folder / "pytorch_model.bin")
    name_model_everywhere(world, folder, **AS_MODULE, **{KWARGS: kwargs})


def pickled_model_asked(world: World) -> None:
    pickled_model(world, weights_only=False, use_safetensors=False)


def pickled_state(world: World) -> None:
    """In checkpoints, with the right checksums, from which runs go on or start."""
    for checkpoint in world.path.glob("stopped/checkpoints/*"):
        torch.save({"optimizer": Carried(world.made / "state")}, checkpoint / "trainer_state.pt")
        write_checksums(checkpoint)
    change_yaml(world / "config.yaml", resume_from_checkpoint=str(checkpoint))  # pyright: ignore[reportPossiblyUnboundVariable]


def pickles_in_place_of_tensors(world: World) -> None:
    content = pickle.dumps(Carried(world.made / "tensors"))
    for file in world.path.rglob("*.safetensors"):
        file.write_bytes(content)
    correct_checksums(world / "publication")
    change_yaml(world / "config.yaml", from_pretrained_path=str(world / "run" / "sae"))


def yaml_tags(world: World) -> None:
    tag = f"planted: !!python/object/apply:pathlib.Path.touch [{world.made / 'yaml'}]\n"
    call = f"seed: !!python/object/apply:os.system ['touch {world.made / 'yaml'}']\n"
    for file in world.path.rglob("*.yaml"):
        file.write_text(file.read_text() + (tag if "seed" in file.read_text() else call))
    correct_checksums(world / "publication")


def chat_templates(world: World) -> None:
    model = plain_model(world / "templated-model")
    call = f"__import__('os').system('touch {world.made / 'template'}')"
    template = '{{ cycler.__init__.__globals__.__builtins__.eval("' + call + '") }}'
    change_json(model / "tokenizer_config.json", chat_template=template)
    changes = {"use_chat_formatting": True, "is_dataset_tokenized": False}
    name_model_everywhere(world, model, **changes)


def git_programs(world: World) -> None:
    """The working directory is a repository, which can name programs for git to run."""
    folder, touch = world / "cwd", f"touch {world.made / 'git'}"
    commands = (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "a"],
        ["config", "core.fsmonitor", f"{touch}; false"],
    )
    for command in commands:
        subprocess.run(["git", *command], cwd=folder, check=True)
    hook = folder / ".git" / "hooks" / "post-index-change"
    hook.write_text(f"#!/bin/sh\n{touch}\n")
    hook.chmod(0o755)


def planted_data(world: World) -> Path:
    """A data set's script, which old versions of `datasets` run, and pickles they would read."""
    folder = world / "planted-data"
    folder.mkdir()
    code = f"from pathlib import Path\nPath({str(world.made / 'script')!r}).touch()\n"
    (folder / "planted-data.py").write_text(code)
    for name in ("train.pkl", "train.pickle", "test.pkl"):
        (folder / name).write_bytes(pickle.dumps(Carried(world.made / name)))
    return folder


def data_scripts(world: World) -> None:
    """In the configs of runs, as what they were trained on."""
    folder = planted_data(world)
    for file in [*world.configs, *world.path.rglob("comparison.yaml")]:
        change_yaml(file, dataset_path=str(folder))
    for file in [*world.path.rglob("sae/cfg.json"), *world.path.glob("publication/*/cfg.json")]:
        cfg = json.loads(file.read_text())
        said = {"dataset_path": str(folder)}
        file.write_text(json.dumps(cfg | {"metadata": cfg["metadata"] | said}))
    correct_checksums(world / "publication")


def linked(name: str) -> Callable[[World], None]:
    """`name` in every folder leads to a file outside of it."""

    def plant(world: World) -> None:
        for folder in world.folders:
            place = folder / name
            place.parent.mkdir(exist_ok=True)
            place.unlink(missing_ok=True)
            place.symlink_to(world.secret)
        (world / "demo" / "demo.json").write_text("{}")

    plant.__name__ = f"linked_{Path(name).stem}"
    return plant


def linked_folder(world: World) -> None:
    """What is written would be written elsewhere, too."""
    (world / "elsewhere").mkdir()
    for folder in world.folders:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        (folder / "checkpoints").symlink_to(world / "elsewhere")
    (world / "demo" / "demo.json").write_text("{}")


MODELS = ("train", "compare", "gamma", "eval", "optimality", "push", "verify")

_LINKED = (
    *("metrics.jsonl", "run.json", "sae/cfg.json"),
    *("scores/held_out.json", "scores/saebench.json"),
)
LINKS = [*map(linked, _LINKED), linked_folder]
ATTACKS: dict[Callable[[World], None], tuple[str, ...]] = {
    remote_code: MODELS,
    remote_code_of_the_model_itself: MODELS,
    remote_code_unasked: MODELS,
    remote_tokenizer: MODELS,
    trusted_by_architecture: ("train", "eval", "optimality"),
    trusted_by_name: MODELS,
    pickled_model: MODELS,
    pickled_model_asked: MODELS,
    pickled_state: ("train",),
    pickles_in_place_of_tensors: (
        *("train", "eval", "optimality", "card", "push", "verify", "identify"),
    ),
    yaml_tags: (*MODELS, "bench", "report", "card"),
    chat_templates: ("train", "gamma", "eval", "optimality"),
    data_scripts: MODELS,
    git_programs: ("train", "compare"),
    **dict.fromkeys(LINKS, ()),
}
"""What is planted → the commands that load it."""
