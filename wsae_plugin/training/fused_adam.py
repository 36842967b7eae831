"""Adam in one pass over the memory, whatever the layout of a parameter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam
from typing_extensions import override

FUSED_DEVICES = ("cpu", "cuda")

_MOMENTS = ("exp_avg", "exp_avg_sq")


class FusedAdam(Adam):
    """`torch.optim.Adam(fused=True)` that is as fast for a transposed parameter as for a plain one.

    PyTorch's fused kernel copies what is not contiguous. The update is elementwise, so it is given
    views in the order of the memory instead. Its checkpoints are those of a plain Adam, both ways.
    """

    def __init__(self, params: Any, **kwargs: Any) -> None:
        super().__init__(params, fused=True, **kwargs)

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        for parameter in group["params"]:
            state = self.state.get(parameter, {})
            for name in _MOMENTS:
                if name in state:  # a checkpoint may have another layout
                    state[name] = _laid_out_as(parameter, state[name])
        has_complex = super()._init_group(group, *lists)  # type: ignore[misc]
        # What has a parameter's shape: itself, its gradient and its two moments.
        parameters, gradients, *moments = lists[:4]
        for i, parameter in enumerate(parameters):
            gradients[i] = _laid_out_as(parameter, gradients[i])
            for tensors in (parameters, gradients, *moments):
                tensors[i] = _in_memory_order(tensors[i])
        return has_complex

    @override
    def state_dict(self) -> dict[str, Any]:
        """As a plain Adam's, so that either can go on from it."""
        written = super().state_dict()
        written["param_groups"] = [{**group, "fused": None} for group in written["param_groups"]]
        written["state"] = {
            index: {**state, "step": state["step"].cpu()}
            for index, state in written["state"].items()
        }
        return written

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        groups = [{**group, "fused": True} for group in state_dict["param_groups"]]
        super().load_state_dict({**state_dict, "param_groups": groups})


def _laid_out_as(parameter: Tensor, tensor: Tensor) -> Tensor:
    if tensor.stride() == parameter.stride():
        return tensor
    return torch.empty_like(parameter).copy_(tensor)


def _in_memory_order(tensor: Tensor) -> Tensor:
    return tensor.T if tensor.ndim == 2 and tensor.T.is_contiguous() else tensor
