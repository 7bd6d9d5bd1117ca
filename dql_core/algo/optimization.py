"""One step of gradient descent, and the learning rate it takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from dql_core.config import RunConfig

# The paper's code moves its schedule once an evaluation, but counts it in epochs.
UPDATES_PER_EPOCH, EPOCHS_PER_EVALUATION = 1000, 50


class Descent:
    """Adam with a clipped gradient and a learning rate that is a function of the step.

    Attributes:
        parameters: What it moves.
        adam: Torch's optimiser, for checkpoints.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        learning_rate: float,
        gradient_clip: float | None,
        run: RunConfig,
    ) -> None:
        """Prepare the descent.

        Args:
            parameters: What to move.
            learning_rate: At the first step.
            gradient_clip: Largest norm over all parameters together; ``None`` for no limit.
            run: Length of the run and shape of the learning rate's decay.
        """
        self.parameters: Sequence[Parameter] = list(parameters)
        # A tensor, because an update that is captured as a CUDA graph would keep a number.
        rate = torch.tensor(learning_rate, device=self.parameters[0].device)
        self.adam = torch.optim.Adam(self.parameters, lr=rate, fused=True, capturable=rate.is_cuda)
        self._learning_rate = learning_rate
        self._gradient_clip = gradient_clip
        self._run = run

    def schedule(self, step: int) -> None:
        """Set the learning rate of the step number ``step`` (from 0)."""
        for group in self.adam.param_groups:
            group["lr"].fill_(self.learning_rate(step))

    def descend(self, loss: Tensor) -> None:
        """Take one step down the gradient of ``loss``."""
        self.adam.zero_grad(set_to_none=True)
        torch.autograd.backward(
            loss, inputs=None if self._run.needless_gradients else self.parameters
        )
        if self._gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self._gradient_clip, foreach=True)
        self.adam.step()

    def learning_rate(self, step: int) -> float:
        """Learning rate of the step number ``step`` (from 0)."""
        return self._learning_rate * _decay(self._run, step)


def _decay(run: RunConfig, step: int) -> float:
    if run.learning_rate_decay == "constant":
        return 1.0
    progress = step / run.steps
    if run.learning_rate_decay == "cosine_every_50_epochs":
        epochs = run.steps / UPDATES_PER_EPOCH
        progress = step // (UPDATES_PER_EPOCH * EPOCHS_PER_EVALUATION) / epochs
    return 0.5 * (1.0 + math.cos(math.pi * progress))
