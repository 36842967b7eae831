"""What an SAE knows of the processes that share its latents."""

from __future__ import annotations

from typing import Any, ClassVar

from sae_lens import TrainingSAE, TrainingSAEConfig
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from torch import Tensor

from wsae_plugin.distributed.shards import Shards, after_backward

_CLIPPED_AT = 1.0  # by SAELens's trainer


class SharedTrainingSAE(TrainingSAE[Any]):
    """An SAE of which this process may have some of the latents.

    Attributes:
        shards: Which; all of them by default.
    """

    shards: Shards = Shards()
    gamma_scheduler: Any
    adds_up_itself: ClassVar[bool] = False
    """Whether its training step adds reconstructions up over the processes."""
    _whole_cfg: Any = None

    @property
    def whole_cfg(self) -> Any:
        """The config of the SAE that all processes have together."""
        return self.cfg if self._whole_cfg is None else self._whole_cfg

    def share(self, shards: Shards, whole_cfg: TrainingSAEConfig) -> None:
        """Take this SAE, of as many latents as this process has, for a part of one."""
        self.shards, self._whole_cfg = shards, whole_cfg
        if shards.size == 1:
            return
        self.gamma_scheduler.of_all_latents = shards.whole
        self._complete_gradients()
        if self.adds_up_itself:
            return

        def add_up(tensor: Tensor, *, hook: Any) -> Tensor:  # noqa: ARG001
            return shards.sum(tensor if shards.place == 0 else tensor - self.b_dec)

        self.hook_sae_recons.add_hook(add_up, is_permanent=True)

    def _complete_gradients(self) -> None:
        forward, clip = self.training_forward_pass, self.shards.clip

        def and_back(step_input: TrainStepInput) -> TrainStepOutput:
            output = forward(step_input)
            after_backward(output.loss, lambda: clip(self.parameters(), self.b_dec, _CLIPPED_AT))
            return output

        self.training_forward_pass = and_back
