"""What the demo's agents came to, over the seeds, and the verdicts on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from benchmarks.demo.episodes import Episodes
from benchmarks.demo.training import Agent, Trained
from dql_core.evaluation.statistics import Estimate, estimate_mean

DEMONSTRATIONS = "demonstrations"
BEST = "diffusion_ql"
RIVALS = (DEMONSTRATIONS, "diffusion_bc", "td3_bc")
Measure = Literal["success", "return"]
MEASURES: tuple[Measure, ...] = ("success", "return")


@dataclass(frozen=True)
class Findings:
    """All results.

    Attributes:
        agents: What was trained.
        seeds: With which seeds.
        demonstrations: The demonstrations of each seed.
        trained: What came of each agent's key and seed.
    """

    agents: Sequence[Agent]
    seeds: Sequence[int]
    demonstrations: dict[int, Episodes]
    trained: dict[tuple[str, int], Trained]

    @property
    def labels(self) -> dict[str, str]:
        """Names for people, by key; the demonstrations first."""
        agents = {agent.key: agent.label for agent in self.agents}
        return {DEMONSTRATIONS: "demonstrations", **agents}

    def episodes(self, key: str, seed: int) -> Episodes:
        """Return the demonstrations or an agent's rollouts."""
        if key == DEMONSTRATIONS:
            return self.demonstrations[seed]
        return self.trained[key, seed].episodes

    def by_seed(self, key: str, measure: Measure) -> list[float]:
        """Return the success rates or mean returns in the order of the seeds."""
        episodes = [self.episodes(key, seed) for seed in self.seeds]
        if measure == "success":
            return [each.success_rate.mean for each in episodes]
        return [each.mean_return.mean for each in episodes]

    def over_seeds(self, key: str, measure: Measure) -> Estimate:
        """Mean and Student interval with the seeds as the draws."""
        return estimate_mean(self.by_seed(key, measure))

    def mean_speed(self, key: str, speed: Callable[[Trained], float]) -> float:
        """Mean over the seeds of what ``speed`` reads off a training."""
        return fmean(speed(self.trained[key, seed]) for seed in self.seeds)

    def differences(self, key: str, other: str, measure: Measure) -> list[float]:
        """How far ``key`` is above ``other`` on each seed."""
        pairs = zip(self.by_seed(key, measure), self.by_seed(other, measure), strict=True)
        return [mine - its for mine, its in pairs]

    def verdicts(self) -> list[dict[str, Any]]:
        """Is Diffusion-QL above its rivals on every seed, and is each fast variant unharmed?

        Unharmed: the 95 % interval of the mean difference to the plain run does not lie below 0,
        neither for success nor for return.
        """
        above = [
            self._verdict(
                f"{self.labels[BEST]} above {self.labels[rival]} on every seed",
                BEST,
                rival,
                lambda values: min(values) > 0,
            )
            for rival in RIVALS
        ]
        unharmed = [
            self._verdict(
                f"{agent.label} unharmed",
                agent.key,
                agent.plain,
                lambda values: estimate_mean(values).high >= 0,
            )
            for agent in self.agents
            if agent.plain
        ]
        return above + unharmed

    def _verdict(
        self, claim: str, key: str, other: str, holds: Callable[[list[float]], bool]
    ) -> dict[str, Any]:
        verdict: dict[str, Any] = {"claim": claim}
        for measure in MEASURES:
            values = self.differences(key, other, measure)
            by_seed = [round(value, 4) for value in values]
            difference = estimate_mean(values).to_json() | {"by_seed": by_seed}
            verdict[measure] = {"holds": holds(values), "difference": difference}
        return verdict
