"""The judge's own estimates, and what each policy did where it was asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.judge.policies import Made
from benchmarks.suite.measuring import Clock
from dql_core.algo.policy_graph import TorchPolicy
from dql_core.data.dataset import LoadedDataset
from dql_core.evaluation.offline.agreement import Decides
from dql_core.evaluation.offline.fitted_q import FittingSettings
from dql_core.evaluation.offline.judging import Judged, judge
from dql_core.export.candidates import Policies
from dql_core.runtime.policy import Decision
from dql_core.training.checkpoint import load_checkpoint
from dql_core.training.preparation import learned_rewards
from dql_core.training.validation import HeldOut


class Remembering:
    """A policy whose first answer to each observation is kept.

    Args:
        policy: Which acts.

    Attributes:
        answers: Actions, shape (A,), by the bytes of the raw observation.
    """

    def __init__(self, policy: Decides) -> None:
        self._policy = policy
        self.answers: dict[bytes, NDArray[np.float32]] = {}

    def decide_for_each(
        self, observations: NDArray[np.float32], rngs: list[np.random.Generator]
    ) -> Decision:
        """Decide as the policy does."""
        decision = self._policy.decide_for_each(observations, rngs)
        for observation, action in zip(observations, decision.action, strict=True):
            self.answers.setdefault(observation.tobytes(), action)
        return decision


@dataclass(frozen=True)
class Estimated:
    """What the judge says of one policy.

    Attributes:
        verdict: Beside the recorded behaviour.
        value: Discounted return from the first states; ``None`` without a verdict.
        low: Lower end of its 95 % interval.
        high: Upper end.
        floor: By which the judge chooses; ``None`` where it is not finite.
        members: The difference from the behaviour as each member of the ensemble sees it.
        far_share: Share of states in which the policy acts like nobody recorded nearby.
        distance: Of its actions from the recorded ones, in units of their spread.
    """

    verdict: str
    value: float | None
    low: float | None
    high: float | None
    floor: float | None
    members: tuple[float, ...]
    far_share: float
    distance: float


@dataclass(frozen=True)
class Estimates:
    """What the judge says of all policies of a set, together.

    Attributes:
        policies: By name.
        behaviour: What it takes the recorded behaviour to be worth.
        discount: Of all values.
        learned: Transitions that the values were fitted to.
        seconds: What the judgement took by the clock on the wall.
        cpu_seconds: What it took of computing.
    """

    policies: dict[str, Estimated]
    behaviour: float
    discount: float
    learned: int
    seconds: float
    cpu_seconds: float


def policy_of(made: Made, folder: Path) -> TorchPolicy:
    """Return what acts as a policy was made to."""
    return load_checkpoint(folder / made.checkpoint).policy(**made.selection)


def td_error(made: Made, folder: Path, held_out: LoadedDataset) -> float | None:
    """Return the critics' error on held-out episodes; ``None`` where there are no critics."""
    run = load_checkpoint(folder / made.checkpoint)
    rewards = learned_rewards(run.config, held_out)
    measures = HeldOut(run.config, held_out, run.normalizer, rewards, run.device).measure(
        run.agent
    )
    return measures.get("held_out_td_error")


def estimate(
    made: Sequence[Made],
    folder: Path,
    held_out: LoadedDataset,
    settings: FittingSettings,
    seed: int,
) -> tuple[Estimates, dict[str, Remembering]]:
    """Judge policies as `dql judge` does.

    Args:
        made: The policies.
        folder: The set's.
        held_out: What they are judged by.
        settings: How the values are fitted.
        seed: Of all that is random.

    Returns:
        What is said of them, and what they did where they were asked, by name.
    """
    found = Policies(sorted({folder / each.checkpoint for each in made}))
    by_path = {each.name: each for each in found.for_episodes(held_out)}
    asked: dict[str, Remembering] = {}
    candidates = []
    for each in made:
        policy = policy_of(each, folder)
        asked[each.name] = Remembering(policy)
        candidates.append(
            dataclasses.replace(
                by_path[str(folder / each.checkpoint)],
                name=each.name,
                policy=asked[each.name],
                num_candidates=policy.choice.num_candidates,
            )
        )
    with Clock() as clock:
        judgement = judge(candidates, held_out, max(found.discounts), settings=settings, seed=seed)
    return (
        Estimates(
            {each.candidate.name: _estimated(each) for each in judgement.judged},
            judgement.behaviour.value.mean,
            judgement.discount,
            judgement.learned,
            round(clock.seconds, 1),
            round(clock.cpu_seconds, 1),
        ),
        asked,
    )


def _estimated(judged: Judged) -> Estimated:
    worth = judged.worth
    value = worth.value
    return Estimated(
        verdict=worth.verdict,
        value=value.mean if value else None,
        low=value.low if value else None,
        high=value.high if value else None,
        floor=worth.floor if np.isfinite(worth.floor) else None,
        members=worth.members,
        far_share=worth.far_share,
        distance=judged.agreement.chosen,
    )
