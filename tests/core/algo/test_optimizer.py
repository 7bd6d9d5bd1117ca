"""One step of gradient optimizer against torch's own optimiser, and the learning rate it takes."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from dql_core.algo.optimizer import Optimizer
from dql_core.config import PolicyConfig, RunConfig


def make_optimizer(rate: float = 0.1, clip: float | None = None, **run: Any) -> Optimizer:
    torch.manual_seed(0)
    network = PolicyConfig(learning_rate=rate, gradient_clip=clip)
    return Optimizer(nn.Linear(3, 2).parameters(), network, RunConfig.model_validate(run))


def last_rate(optimizer: Optimizer, steps: int) -> float:
    return optimizer.learning_rate(steps - 1)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_it_equals_torchs_adam_with_a_clipped_gradient_over_several_steps(
    clip: float | None,
) -> None:
    torch.manual_seed(0)
    ours = nn.Linear(3, 2)
    theirs = copy.deepcopy(ours)
    run = RunConfig(steps=10)
    optimizer = Optimizer(
        ours.parameters(), PolicyConfig(learning_rate=0.1, gradient_clip=clip), run
    )
    adam = torch.optim.Adam(theirs.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=run.steps)
    for step in range(run.steps):
        inputs = torch.randn(5, 3)
        optimizer.schedule(step)
        optimizer.step(ours(inputs).square().sum())
        adam.zero_grad()
        theirs(inputs).square().sum().backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(theirs.parameters(), clip)
        adam.step()
        schedule.step()
        for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, reference)


def test_the_learning_rate_falls_along_a_cosine_to_the_end_of_the_run() -> None:
    optimizer = make_optimizer(0.1, steps=100)
    assert optimizer.learning_rate(0) == pytest.approx(0.1)
    assert optimizer.learning_rate(50) == pytest.approx(0.05)
    assert optimizer.learning_rate(99) == pytest.approx(0.0, abs=1e-4)


def test_a_constant_learning_rate_stays_to_the_end() -> None:
    optimizer = make_optimizer(0.1, steps=100, learning_rate_decay="constant")
    assert {optimizer.learning_rate(step) for step in range(100)} == {0.1}


@pytest.mark.parametrize(("epochs", "last"), [(2000, 0.99906), (1000, 0.99911), (250, 0.99937)])
def test_the_paper_codes_decay_is_practically_none(epochs: int, last: float) -> None:
    steps = 1000 * epochs
    optimizer = make_optimizer(1.0, steps=steps, learning_rate_decay="cosine_every_50_epochs")
    assert last_rate(optimizer, steps) == pytest.approx(last, abs=5e-6)
    # It is what torch's scheduler does that is told an epoch once in fifty.
    adam = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=epochs)
    for evaluation in range(epochs // 50):
        first = 50_000 * evaluation
        assert optimizer.learning_rate(first) == pytest.approx(schedule.get_last_lr()[0])
        assert optimizer.learning_rate(first + 49_999) == optimizer.learning_rate(first)
        adam.step()
        schedule.step()


def test_its_state_continues_where_it_was() -> None:
    first, second = make_optimizer(), make_optimizer()
    first.schedule(0)
    first.step(torch.stack([p.square().sum() for p in first.parameters]).sum())
    for name, tensor in second.state_dict().items():
        tensor.copy_(first.state_dict()[name])
    assert second.state_dict().keys() == first.state_dict().keys()
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
