"""Critics that learn a state's value apart, where an action tells no more than the state does."""

import pytest
import torch
from torch import Tensor

from dql_core.algo.critics import Critics
from dql_core.config import TrainConfig
from dql_core.data.transitions import Batch

UPDATES = 800
ROWS = 256


def draw(generator: torch.Generator, apart: float) -> Batch:
    """Return what two drivers did, each by an action of its own; the good one earns 1.

    The bad one was at -``apart``, the good one at ``apart``.
    """
    good = torch.rand(ROWS, 1, generator=generator) < 0.5
    side = torch.where(good, 1.0, -1.0)
    state = apart * side + 0.05 * torch.randn(ROWS, 1, generator=generator)
    action = 0.8 * side + 0.05 * torch.randn(ROWS, 1, generator=generator)
    return Batch(state, action, good.float()[:, 0], state, torch.zeros(ROWS))


def learned(*, dueling: bool, apart: float) -> Critics:
    config = TrainConfig.model_validate(
        {"run": {"steps": UPDATES}, "critic": {"width": 64, "depth": 2, "dueling": dueling}}
    )
    torch.manual_seed(0)
    critics = Critics(config, 1, 1, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    for _ in range(UPDATES):
        batch = draw(generator, apart)
        critics.optimizers["critic"].step(critics.loss(batch, batch.reward).total)
    return critics


@torch.no_grad()
def gain(critics: Critics, state: float) -> float:
    """Return how much more the good driver's action is worth in a state than the bad one's."""
    states, actions = torch.full((2, 1), state), torch.tensor([[0.8], [-0.8]])
    values: Tensor = critics.estimate(critics.online(states, actions))
    return float(values[0] - values[1])


def test_an_action_that_nobody_tried_in_a_state_is_worth_no_more_there() -> None:
    assert gain(learned(dueling=False, apart=0.3), -0.3) > 0.5
    assert abs(gain(learned(dueling=True, apart=0.3), -0.3)) < 0.05


def test_where_both_ways_were_tried_the_action_decides() -> None:
    assert gain(learned(dueling=True, apart=0.0), 0.0) == pytest.approx(1.0, abs=0.05)


def test_the_error_that_is_reported_is_that_of_the_critics_alone() -> None:
    critics = learned(dueling=True, apart=0.3)
    batch = draw(torch.Generator().manual_seed(1), 0.3)
    loss = critics.loss(batch, batch.reward)
    values = critics.online(batch.observation, batch.action)
    torch.testing.assert_close(loss.error, (values - batch.reward).square().mean(dim=1).sum())
    assert loss.total > loss.error
