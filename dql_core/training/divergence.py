"""Whether the critics diverge: their values leave what was recorded, or their errors only grow.

It is the method's most frequent failure, and nothing that is learned after it is worth keeping.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dql_core.config import DETERMINISTIC_AGENTS, TrainConfig
from dql_core.data.return_range import ReturnRange
from dql_core.training.checkpoint import Progress

# Values beyond the range of returns by this share of it, and errors as large, are an estimate's.
TOLERANCE = 0.1
# So are smaller ones than what a network says that has learned nothing.
UNTRAINED = 0.2
# An error that grows in so many readings in a row, and by this factor, is larger for a reason.
READINGS, GROWTH = 5, 2.0
# So many times as far beyond as they began, untrained critics may be until they are within once.
ALLOWED_OF_UNTRAINED = 2.0


@dataclass(frozen=True)
class ValueLimits:
    """What the mean values of the data's actions may be.

    Attributes:
        returns: The range of the recorded discounted returns.
        factor: By what it is multiplied; more waits longer before it alarms.
    """

    returns: ReturnRange
    factor: float = 1.0

    @property
    def limits(self) -> ReturnRange:
        """The smallest and the largest mean value that is an estimate."""
        low, high = self.factor * self.returns.low, self.factor * self.returns.high
        return ReturnRange(low - self.margin, high + self.margin)

    @property
    def margin(self) -> float:
        """The largest error of an estimate, of a value or of the mean over all."""
        spread = self.factor * (self.returns.high - self.returns.low)
        return max(TOLERANCE * spread, UNTRAINED)

    def allow_untrained(self, known: Progress, q_data: float, q_magnitude: float) -> None:
        """Allow for what critics say before the first update, which is no divergence.

        Args:
            known: Where it is noted.
            q_data: Mean value of the data's actions.
            q_magnitude: Mean absolute value.
        """
        _, worst = self._worst(q_data, q_magnitude)
        known.allowance = ALLOWED_OF_UNTRAINED * max(worst, 0.0)

    def reason(self, known: Progress, metrics: Mapping[str, float]) -> str:
        """Return why the critics diverge, or nothing if they do not.

        Args:
            known: What is known from the readings before; this one is added to it.
            metrics: ``q_data``, ``q_magnitude`` and ``critic_rms``, the root of the mean squared
                error of a critic, at this reading.
        """
        growing = self._growing(known, metrics["critic_rms"])
        return self._beyond(known, metrics) or growing

    def _beyond(self, known: Progress, metrics: Mapping[str, float]) -> str:
        what, worst = self._worst(metrics["q_data"], metrics["q_magnitude"])
        if worst <= 0.0:
            known.allowance = 0.0
        if worst <= known.allowance:
            return ""
        return f"{what}, and the discounted returns in the data are {self.returns}"

    def _worst(self, mean: float, magnitude: float) -> tuple[str, float]:
        """Return what is farthest beyond its limits, and by how much."""
        limits = self.limits
        excess = {
            f"mean Q is {mean:.3g}": max(mean - limits.high, limits.low - mean),
            f"mean |Q| is {magnitude:.3g}": magnitude - max(limits.high, -limits.low),
        }
        return max(excess.items(), key=lambda item: item[1])

    def _growing(self, known: Progress, error: float) -> str:
        known.errors = [*known.errors[-READINGS:], error]
        first, large = known.errors[0], self.margin
        pairs = zip(known.errors, known.errors[1:], strict=False)
        grows = len(known.errors) > READINGS and all(now > before for before, now in pairs)
        if known.sound_error is not None and error <= max(known.sound_error, large):
            known.sound_error = None
        elif known.sound_error is None and grows and error > max(GROWTH * first, large):
            known.sound_error = first
        if known.sound_error is None:
            return ""
        return (
            f"the critics' error has grown from {known.sound_error:.3g} to {error:.3g}, and the "
            f"discounted returns in the data are {self.returns}"
        )


def root_mean_square(loss: float, num_critics: int) -> float:
    """Return a critic's typical error from the critics' summed squared error."""
    return math.sqrt(loss / num_critics)


def divergence_remedy(config: TrainConfig) -> str:
    """Return which keys to change, of those that are not yet set against divergence."""
    critic = config.critic
    weight = "td3.alpha" if config.agent in DETERMINISTIC_AGENTS else "policy.eta"
    remedies = {
        "set critic.layer_norm=true": not critic.layer_norm,
        "set critic.max_q_samples=1": critic.max_q_samples > 1,
        "set critic.bound_targets=true": not critic.bound_targets,
        f"lower {weight}": weight != "policy.eta" or config.policy.eta > 0,
        "lower data.reward_scale": True,
    }
    return ", ".join(remedy for remedy, helps in remedies.items() if helps)
