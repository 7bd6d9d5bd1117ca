"""One step of gradient descent, and the learning rate it takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Parameter

Decay = Literal["cosine", "constant"]


class Descent:
    """Adam with a clipped gradient and a learning rate that is a function of the step.

    Attributes:
        parameters: What it moves; no gradient is computed for anything else.
        adam: Torch's optimiser, for checkpoints.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        learning_rate: float,
        gradient_clip: float | None,
        decay: Decay,
        total_steps: int,
    ) -> None:
        """Prepare the descent.

        Args:
            parameters: What to move.
            learning_rate: At the first step.
            gradient_clip: Largest norm over all parameters together; ``None`` for no limit.
            decay: ``cosine`` falls to zero at ``total_steps``.
            total_steps: Length of the run.
        """
        self.parameters: Sequence[Parameter] = list(parameters)
        self.adam = torch.optim.Adam(self.parameters, lr=learning_rate, fused=True)
        self._learning_rate = learning_rate
        self._gradient_clip = gradient_clip
        self._decay = decay
        self._total_steps = total_steps

    def descend(self, loss: Tensor, step: int) -> None:
        """Take the step number ``step`` (from 0) down the gradient of ``loss``."""
        self.adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss, inputs=self.parameters)
        if self._gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self._gradient_clip, foreach=True)
        for group in self.adam.param_groups:
            group["lr"] = self.learning_rate(step)
        self.adam.step()

    def learning_rate(self, step: int) -> float:
        """Learning rate of the step number ``step`` (from 0)."""
        if self._decay == "constant":
            return self._learning_rate
        return self._learning_rate * 0.5 * (1.0 + math.cos(math.pi * step / self._total_steps))
