"""What stays out of torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., Any])


def not_compiled(function: Function) -> Function:
    """Run `function` as it is, also inside a method that SAELens compiles (`compile_sae=True`)."""
    return cast(Function, torch.compiler.disable(function))
