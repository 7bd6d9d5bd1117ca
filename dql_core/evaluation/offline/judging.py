"""Judges policies by held-out episodes: what each is worth, how it acts, and which one to take."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dql_core.data.checks import require_finite
from dql_core.data.dataset import LoadedDataset, episode_digest
from dql_core.errors import ConfigError, DatasetError, counted
from dql_core.evaluation.offline.agreement import (
    Agreement,
    Decides,
    act,
    measure_agreement,
    stretches,
)
from dql_core.evaluation.offline.fitted_q import FittingSettings, PolicyActions, fit_values
from dql_core.evaluation.offline.recording import Recording, lay_out, require_rewards
from dql_core.evaluation.offline.support import OWN_FAR_SHARE, Support, measure_support
from dql_core.evaluation.offline.verdict import (
    FEW_EPISODES,
    WORDS,
    BehaviourWorth,
    Worth,
    judge_behaviour,
    judge_policy,
)
from dql_core.normalize import Normalizer
from dql_core.spec import PolicySpec

FORMAT_VERSION = 1
# Actions that a policy samples at most: in the states that follow transitions, and in first ones.
SAMPLED_AFTER, SAMPLED_FIRST = 600_000, 100_000
MAX_DRAWS_AFTER, MAX_DRAWS_FIRST = 4, 16
# Sampled together; more do not fit the caches.
SAMPLED_AT_ONCE = 6_400
# More of this speaks against a policy.
_MUCH_FAR, _MUCH_JERK, _MUCH_GUARDED = 0.2, 2.0, 0.05
# Told what is done, and how far it is, from 0 to 1.
Report = Callable[[str, float], None]


@dataclass(frozen=True)
class Candidate:
    """A policy to judge.

    Attributes:
        name: What it is called; no two have the same.
        policy: Acts as it would on the robot.
        spec: What its observation and action mean.
        num_candidates: Actions that it samples for a decision, K.
        statistics: Of the data it was trained on, by which a node's guards judge observations.
        facts: What else is known of it, JSON-ready.
        remarks: What a reader of the judgement must know, as that it was trained on what it is
            judged by.
    """

    name: str
    policy: Decides
    spec: PolicySpec
    num_candidates: int
    statistics: Normalizer | None
    facts: dict[str, Any]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judged:
    """What was found of one candidate."""

    candidate: Candidate
    worth: Worth
    agreement: Agreement

    @property
    def objections(self) -> list[str]:
        """What speaks against taking it, the weightiest first."""
        worth = self.worth
        found = list(worth.doubts)
        if worth.verdict in {"worse", "not distinguishable"}:
            found.append(f"it is {WORDS[worth.verdict]}")
        found += objections_to_acting(self.agreement, worth.far_share)
        return [*found, *self.candidate.remarks]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {
            "name": self.candidate.name,
            **self.candidate.facts,
            "worth": self.worth.to_json(),
            "agreement": self.agreement.to_json(),
            "objections": self.objections,
        }


def objections_to_acting(agreement: Agreement, far_share: float | None) -> list[str]:
    """Return what speaks against how a policy acts, whatever it is worth."""
    found = []
    if far_share is not None and far_share > _MUCH_FAR:
        found.append(
            f"in {far_share:.0%} of the states it acts like nobody recorded nearby "
            f"({OWN_FAR_SHARE:.0%} of the recorded actions do)"
        )
    if agreement.jerk_ratio > _MUCH_JERK:
        found.append(f"its actions jerk {agreement.jerk_ratio:.1f} times as much")
    for name, share in agreement.guards.items():
        if share > _MUCH_GUARDED:
            found.append(f"the guard {name} would object in {share:.0%} of the steps")
    return found


@dataclass(frozen=True)
class Judgement:
    """What was found of all candidates.

    Attributes:
        source: Where the held-out episodes came from.
        episodes: How many there are.
        transitions: How many they have.
        learned: How many of these the values were fitted to.
        discount: Of all values.
        settings: How the values were fitted.
        seed: Of all that was random.
        behaviour: What was recorded.
        judged: The candidates in their order.
        spec: What the numbers of the episodes mean.
        repeated: How many episodes are equal to earlier ones.
    """

    source: str
    episodes: int
    transitions: int
    learned: int
    discount: float
    settings: FittingSettings
    seed: int
    behaviour: BehaviourWorth
    judged: tuple[Judged, ...]
    spec: PolicySpec
    repeated: int

    @property
    def best(self) -> Judged | None:
        """The candidate to take: of the largest value that one can count on; the first of equals.

        ``None`` if no candidate has a verdict.
        """
        able = [each for each in self.judged if math.isfinite(each.worth.floor)]
        return max(able, key=lambda each: each.worth.floor, default=None)

    @property
    def remarks(self) -> list[str]:
        """What a reader must know of all that was found."""
        found = []
        if self.episodes < FEW_EPISODES:
            found.append(f"all rests on {counted(self.episodes, 'episode')} only")
        if self.repeated:
            found.append(
                f"{self.repeated:,} of the {self.episodes:,} episodes are equal to others and say "
                f"nothing new: chance goes farther than the intervals say, and actions seem "
                f"farther from all others; drop them with 'dql dataset drop'"
            )
        found += self.behaviour.doubts
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``judge.json``."""
        best = self.best
        document: dict[str, Any] = finite(
            {
                "format_version": FORMAT_VERSION,
                "dataset": {
                    "source": self.source,
                    "episodes": self.episodes,
                    "transitions": self.transitions,
                    "fitted_to": self.learned,
                },
                "spec": self.spec.to_json(),
                "discount": self.discount,
                "seed": self.seed,
                "fitting": asdict(self.settings),
                "remarks": self.remarks,
                "behaviour": self.behaviour.to_json(),
                "policies": [each.to_json() for each in self.judged],
                "take": best
                and {
                    "name": best.candidate.name,
                    "verdict": best.worth.verdict,
                    "objections": best.objections,
                },
            }
        )
        return document


def judge(
    candidates: Sequence[Candidate],
    dataset: LoadedDataset,
    discount: float,
    *,
    settings: FittingSettings | None = None,
    seed: int = 0,
    report: Report = lambda _stage, _share: None,
) -> Judgement:
    """Judge policies by episodes, best those that none of them was trained on.

    Values are discounted returns from the episodes' first states, in the units of the recorded
    rewards.

    Args:
        candidates: At least one.
        dataset: The episodes.
        discount: From 0 to below 1.
        settings: How much is spent on the values.
        seed: Of all that is random: equal ones give equal judgements on one machine.
        report: Told how far it is.

    Raises:
        ConfigError: If the discount is out of range or two candidates have one name.
        DatasetError: If nothing can be judged by the episodes.
        SpecMismatchError: If the numbers of the episodes mean something else to a candidate.
    """
    _require_sound(candidates, dataset, discount)
    settings = settings or FittingSettings()
    worths = estimate_worths(candidates, dataset, discount, settings, seed, report)
    parts = stretches(dataset)
    judged = []
    for index, (candidate, worth) in enumerate(zip(candidates, worths.policies, strict=True)):
        report("comparing actions", index / len(candidates))
        agreement = measure_agreement(
            candidate.policy,
            parts,
            dataset.spec.within(candidate.spec),
            candidate.statistics,
            rows_at_once(candidate),
            seed,
        )
        judged.append(Judged(candidate, worth, agreement))
    report("comparing actions", 1.0)
    return Judgement(
        source=dataset.source,
        episodes=len(dataset.episodes),
        transitions=dataset.num_transitions,
        learned=worths.learned,
        discount=discount,
        settings=settings,
        seed=seed,
        behaviour=worths.behaviour,
        judged=tuple(judged),
        spec=dataset.spec,
        repeated=len(dataset.episodes) - _count_distinct(dataset),
    )


class Worths(NamedTuple):
    """What policies are worth.

    Attributes:
        behaviour: What was recorded.
        policies: Of each candidate, in their order.
        learned: Transitions that the values were fitted to.
    """

    behaviour: BehaviourWorth
    policies: tuple[Worth, ...]
    learned: int


def estimate_worths(
    candidates: Sequence[Candidate],
    dataset: LoadedDataset,
    discount: float,
    settings: FittingSettings,
    seed: int,
    report: Report = lambda _stage, _share: None,
) -> Worths:
    """Say what policies are worth, and nothing of how they act; all is as for `judge`."""
    recording = lay_out(dataset, discount)
    rng = np.random.default_rng(seed)
    sampled = max(each.num_candidates for each in candidates)
    count = min(len(recording), settings.transitions, max(SAMPLED_AFTER // sampled, 1))
    chosen = np.sort(rng.permutation(len(recording))[:count])
    actions = _actions(candidates, recording, chosen, settings.members, seed, report)
    fitted = fit_values(
        recording, actions, settings, seed, lambda share: report("fitting values", share)
    )
    behaviour = judge_behaviour(recording, fitted)
    far_shares = (actions.after_exits > 0).mean(axis=(1, 2))
    policies = [
        judge_policy(recording, fitted, number, behaviour, float(far_shares[number]))
        for number in range(1, len(candidates) + 1)
    ]
    return Worths(behaviour, tuple(policies), len(chosen))


def rows_at_once(candidate: Candidate) -> int:
    """Return how many observations a candidate decides on together."""
    return max(SAMPLED_AT_ONCE // candidate.num_candidates, 1)


def finite(document: Any) -> Any:
    """Return a JSON document in which numbers that are none are ``None``."""
    if isinstance(document, dict):
        return {key: finite(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [finite(value) for value in document]
    if isinstance(document, float) and not math.isfinite(document):
        return None
    return document


def _require_sound(
    candidates: Sequence[Candidate], dataset: LoadedDataset, discount: float
) -> None:
    if not 0.0 <= discount < 1.0:
        raise ConfigError(f"discount is {discount:g}: it must be from 0 to below 1")
    names = [each.name for each in candidates]
    for candidate in candidates:
        if names.count(candidate.name) > 1:
            raise ConfigError(f"{candidate.name}: named twice; name each policy once")
        dataset.spec.require_same_meaning(
            candidate.spec,
            f"dataset {dataset.source}",
            candidate.name,
            "judge it by episodes of its own contract",
        )
    require_finite(dataset)
    require_rewards(dataset)
    if _count_distinct(dataset) < 2:
        times = f" {len(dataset.episodes):,} times" if len(dataset.episodes) > 1 else ""
        raise DatasetError(
            f"{dataset.source}: holds one episode{times}, which cannot say how far chance goes: "
            f"at least two are needed; record more, or name more with --dataset"
        )


def _count_distinct(dataset: LoadedDataset) -> int:
    return len({episode_digest(episode) for episode in dataset.episodes})


def _actions(
    candidates: Sequence[Candidate],
    recording: Recording,
    chosen: NDArray[np.int64],
    members: int,
    seed: int,
    report: Report,
) -> PolicyActions:
    """Let all policies act in the states after the chosen transitions and in the first ones."""
    raw, sampled = recording.raw_observations(), max(each.num_candidates for each in candidates)
    rows = np.concatenate([recording.rows[chosen] + 1, recording.rows[recording.firsts]])
    support = measure_support(recording, rows, seed)
    there, at_first = support.of(slice(len(chosen))), support.of(slice(len(chosen), None))
    after_rows, first_rows = raw[rows[: len(chosen)]], raw[rows[len(chosen) :]]
    draws = max(min(SAMPLED_AFTER // sampled // len(chosen), MAX_DRAWS_AFTER), 1)
    first_draws = max(min(SAMPLED_FIRST // sampled // len(first_rows), MAX_DRAWS_FIRST), 1)
    after = [recorded_after(recording, chosen, there, draws)]
    first = [np.stack([recording.actions[recording.firsts]] * first_draws)]
    for index, candidate in enumerate(candidates):
        for asked, times, kept in ((after_rows, draws, after), (first_rows, first_draws, first)):
            drawn = []
            for draw in range(times):
                seeds = seed + 2 * draw + (asked is first_rows)
                drawn.append(act(candidate.policy, asked, rows_at_once(candidate), seeds))
                report("asking policies", (index + (draw + 1) / times / 2) / len(candidates))
            kept.append(recording.standardized(np.stack(drawn)))
    report("asking policies", 1.0)
    return PolicyActions(
        chosen=chosen,
        after=np.stack(after),
        first=np.stack(first),
        after_exits=_exits(there, after),
        first_exits=_exits(at_first, first),
        after_limit=there.earned(members),
        first_limit=at_first.earned(members),
    )


def recorded_after(
    recording: Recording, chosen: NDArray[np.int64], support: Support, draws: int
) -> NDArray[np.float32]:
    """Return what the behaviour did after transitions, (S, L, A), of which draws differ at ends.

    Args:
        recording: The transitions.
        chosen: Numbers of L of them.
        support: Of the states that follow them.
        draws: S.
    """
    following = np.tile(recording.following[chosen], (draws, 1))
    nearest = support.nearby[:, np.arange(draws) % support.nearby.shape[1]].T
    actions: NDArray[np.float32] = recording.actions[np.where(following < 0, nearest, following)]
    return actions


def _exits(support: Support, actions: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return how surely policies leave what was recorded, of which the first one is the source."""
    return np.stack(
        [np.zeros(actions[0].shape[:-1], np.float32), *map(support.exits, actions[1:])]
    )


def meets(judgement: Judgement, *, better: bool) -> bool:
    """Whether there is a candidate to take that is better than the data, or at least not worse."""
    if judgement.best is None:
        return False
    verdict = judgement.best.worth.verdict
    return verdict == "better" or (not better and verdict != "worse")
