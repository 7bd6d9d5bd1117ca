"""When and how far the averaged policy follows the policy."""

from __future__ import annotations

from dql_core.algo.diffusion_policy import DiffusionPolicy
from dql_core.config import PolicyConfig
from dql_core.networks.ema import MovingAverage


class PolicyAverage:
    """The exponential moving average of a policy, with the paper's plan of moves."""

    def __init__(self, policy: DiffusionPolicy, config: PolicyConfig) -> None:
        self._average = MovingAverage(policy.average, policy.online, config.ema_rate)
        self._config = config

    def schedule(self, step: int) -> None:
        """Set how far the average moves in the update number ``step`` (from 0)."""
        config = self._config
        due = step >= config.ema_start and step % config.ema_every == 0
        self._average.rate.fill_(config.ema_rate if due else 0.0)

    def move(self) -> None:
        """Let the average follow."""
        self._average.move()
