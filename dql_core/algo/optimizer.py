"""Adam with a clipped gradient, in a form that a compiled or captured update can contain."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.adam import adam

from dql_core.algo.ranks import Ranks
from dql_core.config import CriticConfig, PolicyConfig, RunConfig

# The paper's code moves its schedule once an evaluation, but counts it in epochs.
UPDATES_PER_EPOCH, EPOCHS_PER_EVALUATION = 1000, 50


class Optimizer:
    """Adam with a clipped gradient and a learning rate that is a function of the step.

    It uses torch's Adam as a function: `torch.optim` keeps numbers where a compiled or captured
    update needs tensors.

    Args:
        parameters: What to move.
        network: Learning rate at the first step, and largest norm of the gradient over all
            parameters together.
        run: Length of the run and shape of the learning rate's decay.

    Attributes:
        parameters: What it moves.
        ranks: The processes whose gradients are averaged.
    """

    def __init__(
        self, parameters: Iterable[Parameter], network: PolicyConfig | CriticConfig, run: RunConfig
    ) -> None:
        self.parameters: list[Tensor] = list(parameters)
        device = self.parameters[0].device
        # Tensors, because a captured or compiled update would keep a number as it was.
        self._rate = torch.tensor(network.learning_rate, device=device)
        self._steps = [torch.zeros((), device=device) for _ in self.parameters]
        self._exp_avgs = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._exp_avg_sqs = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._learning_rate = network.learning_rate
        self._gradient_clip = network.gradient_clip
        self._run = run
        self.ranks = Ranks.current()

    def schedule(self, step: int) -> None:
        """Set the learning rate of the step number ``step`` (from 0)."""
        self._rate.fill_(self.learning_rate(step))

    def step(self, loss: Tensor) -> None:
        """Take one step down the gradient of ``loss``, a scalar."""
        self.apply(self.ranks.mean_of_each(torch.autograd.grad(loss, self.parameters)))

    def apply(self, gradients: Sequence[Tensor]) -> None:
        """Take one step down the given gradients, one for each of the parameters."""
        clipped = self._clip(list(gradients))
        compiling = torch.compiler.is_compiling()
        with torch.no_grad():
            adam(
                self.parameters,
                clipped,
                self._exp_avgs,
                self._exp_avg_sqs,
                [],
                self._steps,
                # A compiler fuses better than the fused kernel, which it cannot look into.
                foreach=False,
                fused=not compiling,
                capturable=compiling or self._rate.is_cuda,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=self._rate,
                weight_decay=0.0,
                eps=1e-8,
                maximize=False,
            )

    def learning_rate(self, step: int) -> float:
        """Learning rate of the step number ``step`` (from 0)."""
        return self._learning_rate * _decay(self._run, step)

    def state_dict(self) -> dict[str, Tensor]:
        """Return Adam's state by parameter number and name; the tensors are those in use."""
        columns = {"step": self._steps, "exp_avg": self._exp_avgs, "exp_avg_sq": self._exp_avg_sqs}
        return {
            f"{index}.{name}": tensor
            for name, tensors in columns.items()
            for index, tensor in enumerate(tensors)
        }

    def _clip(self, gradients: list[Tensor]) -> list[Tensor]:
        """Scale the gradients so that their common norm is at most the limit."""
        if self._gradient_clip is None:
            return gradients
        foreach = not torch.compiler.is_compiling()
        norm = torch.nn.utils.get_total_norm(gradients, foreach=foreach)
        scale = (self._gradient_clip / (norm + 1e-6)).clamp(max=1.0)
        return list(torch._foreach_mul(gradients, scale))


def _decay(run: RunConfig, step: int) -> float:
    if run.learning_rate_decay == "constant":
        return 1.0
    progress = step / run.steps
    if run.learning_rate_decay == "cosine_every_50_epochs":
        epochs = run.steps / UPDATES_PER_EPOCH
        progress = step // (UPDATES_PER_EPOCH * EPOCHS_PER_EVALUATION) / epochs
    return 0.5 * (1.0 + math.cos(math.pi * progress))
