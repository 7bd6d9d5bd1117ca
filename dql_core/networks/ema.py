"""Slowly moving copies of networks: the policy's average and the target critics."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def frozen_copy(module: Module) -> Module:
    """Return an equal copy that no optimiser or gradient touches."""
    twin = copy.deepcopy(module)
    twin.requires_grad_(False)
    return twin


@torch.no_grad()
def move_towards(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Move every parameter of ``target`` by the fraction ``rate`` towards ``source``, in place."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), rate)
