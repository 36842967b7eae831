"""What torchrun tells a process that it starts; without torch, for what must start fast."""

from __future__ import annotations

import os
import sys

from wsae_plugin.errors import BadInputError


def number(variable: str, default: int = 0) -> int:
    """What one of torchrun's environment variables says.

    Raises:
        BadInputError: It is no number.
    """
    said = os.environ.get(variable, "")
    if said and not said.isdecimal():
        raise BadInputError(f"{variable} = {said!r}: is no number; start processes with torchrun")
    return int(said or default)


def are_several() -> bool:
    """Whether torchrun has started several processes."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def is_later() -> bool:
    """Whether another process reports what they do together."""
    return are_several() and os.environ.get("RANK", "0") != "0"


def is_silent() -> bool:
    """Whether another process says why all fail: until they have met, the first of a machine."""
    torch_distributed = sys.modules.get("torch.distributed")
    have_met = torch_distributed is not None and torch_distributed.is_initialized()
    return not have_met and are_several() and os.environ.get("LOCAL_RANK", "0") != "0"
