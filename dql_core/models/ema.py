"""Slowly moving copies of networks: the policy's average and the target critics."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def frozen_copy(module: Module) -> Module:
    """Return an equal copy that no optimiser or gradient touches."""
    twin = copy.deepcopy(module)
    twin.requires_grad_(False)
    return twin


class MovingAverage:
    """Lets a copy follow its original.

    Attributes:
        rate: Fraction of the way that the next move takes, scalar on the modules' device; where
            an update is captured as a CUDA graph, a number would be captured with it.
    """

    def __init__(self, follower: nn.Module, leader: nn.Module, rate: float) -> None:
        self._followers: list[Tensor] = list(follower.parameters())
        self._leaders: list[Tensor] = list(leader.parameters())
        self.rate = torch.tensor(rate, device=self._leaders[0].device)

    @torch.no_grad()
    def move(self) -> None:
        """Move every parameter of the copy by `rate` towards the original, in place."""
        if self.rate.is_cpu and not torch.compiler.is_compiling():
            if rate := self.rate.item():
                torch._foreach_lerp_(self._followers, self._leaders, rate)
            return
        for follower, leader in zip(self._followers, self._leaders, strict=True):
            follower.lerp_(leader, self.rate)
