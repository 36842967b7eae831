"""A vision model of transformers, and the rows that it makes of images at its modules."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel
from transformers.utils import logging as transformers_logging
from transformers.utils.generic import ModelOutput

from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.messages import nearest, one_line, refusals_as_bad_input
from wsae_plugin.remote_code import FLAG, guarded, harmless, way_out
from wsae_plugin.sources.opening import quietly

Tokens = Literal["cls", "mean", "patches"]
"""Which of a transformer's tokens make a row."""

_FIELDS = ("last_hidden_state", "image_embeds", "pooler_output", "logits")
"""What a model may give as its output, the one that is a row by default first."""


@dataclass(frozen=True)
class Encoder:
    """A vision model that is only read.

    Args:
        name: On the Hub, or of a folder.
        model: What AutoModel makes of it.
        processor: What AutoImageProcessor makes of it.
        hooks: Dotted names of modules, and fields of the model's output; empty for the first field
            that it has of `last_hidden_state`, `image_embeds`, `pooler_output` and `logits`.
        tokens: The CLS token; the mean over the patches; or each patch, in order.
        device: Where the model is.
        untrained: Names of weights that the checkpoint does not have; they are NaN.
    """

    name: str
    model: Any
    processor: Any
    hooks: tuple[str, ...]
    tokens: Tokens
    device: str
    untrained: tuple[str, ...]

    def pixels(self, image: Image.Image) -> dict[str, Tensor]:
        """What the model is given for one image, each with a batch dimension of 1."""
        with refusals_as_bad_input(f"--model {self.name!r}"):
            return dict(self.processor(images=image, return_tensors="pt"))

    def rows(self, pixels: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The rows of a batch of images.

        Args:
            pixels: What `pixels` makes of each image, all of one shape.

        Returns:
            Hook → `(images, rows of an image, width)`, float32, on the CPU.

        Raises:
            BadInputError: A hook is not run, or its output has no such tokens.
            RunFailedError: The batch does not fit into memory, or a number is not finite.
        """
        inputs = {key: torch.cat([one[key] for one in pixels]).to(self.device) for key in pixels[0]}
        outputs = self._outputs(inputs)
        found = {hook: self._rows_of(hook, output, inputs) for hook, output in outputs.items()}
        for hook, rows in found.items():
            if not rows.isfinite().all():
                raise self._not_finite(hook)
        return found

    @torch.inference_mode()
    def _outputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
        """Hook → what it gives."""
        calls: dict[str, list[Any]] = {hook: [] for hook in self.hooks if hook not in _FIELDS}
        with ExitStack() as stack, refusals_as_bad_input(f"--model {self.name!r}"):
            for hook, given in calls.items():
                module: torch.nn.Module = self.model.get_submodule(hook)
                stack.callback(module.register_forward_hook(_appending_to(given)).remove)
            # A model of images and texts has one for images alone.
            encode = getattr(self.model, "get_image_features", self.model)
            try:
                output = encode(**inputs)
            except torch.OutOfMemoryError:
                raise RunFailedError(
                    f"--batch-size: {len(next(iter(inputs.values())))} images do not fit on "
                    f"{self.device} at once; give a smaller one"
                ) from None
        for hook, given in calls.items():
            if len(given) != 1:
                raise BadInputError(
                    f"--hook {hook!r}: is run {len(given)} times for an image and not once; name a "
                    "module around it, or another"
                )
        there = output if isinstance(output, ModelOutput) else {}
        fields = {name: there[name] for name in _FIELDS if there.get(name) is not None}
        hooks = self.hooks or tuple(fields)[:1]
        known = fields | {hook: given[0] for hook, given in calls.items()}
        for hook in hooks or ("last_hidden_state",):
            if hook not in known:
                raise BadInputError(
                    f"--hook {hook!r}: the model's output has none; {nearest(hook, fields)}"
                )
        return {hook: known[hook] for hook in hooks}

    def _rows_of(self, hook: str, output: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """`(images, rows of an image, width)` of what a hook gives."""
        first = output[0] if isinstance(output, tuple | ModelOutput) else output
        n_images = len(next(iter(inputs.values())))
        if not isinstance(first, Tensor) or first.ndim not in (2, 3, 4) or len(first) != n_images:
            raise BadInputError(
                f"--hook {hook!r}: gives no tensor of (images, width), (images, tokens, width) or "
                "(images, channels, height, width); name another module"
            )
        values = first.float()
        if values.ndim == 2:
            rows = values[:, None]
        elif values.ndim == 4:
            rows = self._of_positions(hook, values)
        else:
            rows = self._of_tokens(hook, values, inputs)
        return rows.cpu()

    def _of_positions(self, hook: str, values: Tensor) -> Tensor:
        if self.tokens == "cls":
            raise BadInputError(
                f"--tokens cls: {hook!r} gives {tuple(values.shape[1:])}, positions without a CLS "
                "token; use mean or patches"
            )
        channels, height, width = values.shape[1:]
        # What some modules keep last: no height is that of the channels and not of the width.
        is_channels_last = channels == height != width
        positions = values.flatten(1, 2) if is_channels_last else values.flatten(2).mT
        return positions.mean(dim=1, keepdim=True) if self.tokens == "mean" else positions

    def _of_tokens(self, hook: str, values: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        has_cls, n_leading = self._leading(hook, values.shape[1], inputs)
        if self.tokens == "cls" and not has_cls:
            raise BadInputError(
                f"--tokens cls: {hook!r} gives {values.shape[1]} tokens without a CLS token; use "
                "mean or patches"
            )
        if self.tokens == "cls":
            return values[:, :1]
        patches = values[:, n_leading:]
        return patches.mean(dim=1, keepdim=True) if self.tokens == "mean" else patches

    def _leading(self, hook: str, n_tokens: int, inputs: Mapping[str, Tensor]) -> tuple[bool, int]:
        """Whether the first token is CLS, and how many there are before the patches."""
        timm: Any = getattr(self.model, "timm_model", None)
        if hasattr(timm, "num_prefix_tokens"):
            return getattr(timm, "cls_token", None) is not None, timm.num_prefix_tokens
        config = getattr(self.model.config, "vision_config", self.model.config)
        size, image = getattr(config, "patch_size", None), inputs.get("pixel_values")
        if size is not None and image is not None and image.ndim == 4:
            down, across = (size, size) if isinstance(size, int) else size
            n_patches = (image.shape[-2] // down) * (image.shape[-1] // across)
            # CLS, DeiT's distillation token, registers.
            is_deit = config.model_type == "deit"
            n_leading = 1 + is_deit + (getattr(config, "num_register_tokens", None) or 0)
            if n_tokens == n_patches + n_leading:
                return True, n_leading
            # All of them, or merged evenly as in Swin.
            if n_patches % n_tokens == 0:
                return False, 0
        raise BadInputError(
            f"--hook {hook!r}: gives {n_tokens} tokens, and the model's config does not say which "
            "of them are patches; name another module"
        )

    def _not_finite(self, hook: str) -> Exception:
        if self.untrained:
            return BadInputError(
                f"--hook {hook!r}: needs weights that the checkpoint of {self.name} does not have: "
                f"{', '.join(self.untrained[:3])}; name another hook or another model"
            )
        return RunFailedError(f"--hook {hook!r}: gives numbers that are not finite")


def open_encoder(name: str, hooks: Sequence[str], tokens: Tokens, device: str) -> Encoder:
    """Load a vision model: of safetensors, in float32, without code of its own unless trusted.

    Args:
        name: On the Hub, or a folder.
        hooks: As of `Encoder`.
        tokens: As of `Encoder`.
        device: Where to put it.

    Raises:
        BadInputError: There is no such model, it cannot be loaded, or it has no such module.
    """
    verbosity = transformers_logging.get_verbosity()
    # It reports weights that are left out or missing, which matter at the hooks alone.
    transformers_logging.set_verbosity_error()
    try:
        with refusals_as_bad_input(f"--model {name!r}", _way_out), guarded(asked=True), quietly():
            # Pillow's resizing wherever torchvision is installed too: other rows would come of its.
            processor = AutoImageProcessor.from_pretrained(name, backend="pil")
            model, info = AutoModel.from_pretrained(
                name,
                dtype=torch.float32,
                output_loading_info=True,
                **harmless(None, "AutoModel"),
            )
    except ImportError as error:
        raise BadInputError(
            f"--model {name!r}: {one_line(error)} A checkpoint of timm needs torchvision too: pip "
            "install 'wsae-plugin[vision]'"
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    known = {module for module, _ in model.named_modules() if module} | {*_FIELDS}
    for hook in hooks:
        if hook not in known:
            raise BadInputError(
                f"--hook {hook!r}: the model has no such module; {nearest(hook, known)}"
            )
    weights = model.state_dict()
    untrained = tuple(sorted(info["missing_keys"]))
    for missing in untrained:
        # They are random, and nobody would see where they come in.
        weights[missing].fill_(torch.nan)
    name = os.path.abspath(name) if Path(name).is_dir() else name
    return Encoder(
        name, model.to(device), processor, tuple(dict.fromkeys(hooks)), tokens, device, untrained
    )


def _way_out(error: Exception) -> str:
    return f"; if you trust its own code and files, give {FLAG}" if way_out(error) else ""


def _appending_to(given: list[Any]) -> Callable[..., None]:
    def hook(_: torch.nn.Module, __: Any, output: Any) -> None:
        given.append(output)

    return hook
