"""How a policy's actions compare with those recorded in the same states, and what guards say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import Episode, LoadedDataset
from dql_core.normalize import Normalizer
from dql_core.runtime.difference import difference
from dql_core.runtime.guard import Guard, GuardLimits, Guards
from dql_core.runtime.policy import Decision
from dql_core.spec import PolicySpec

MAX_STEPS = 4_000
STRETCH_STEPS = 200
MOMENTS = 10
MOMENT_STEPS = 25
PARTS_OF_EPISODE = 10
SITUATIONS = 8
_DIGITS = 6


class Decides(Protocol):
    """Decides on many observations at once, as `dql_core.algo.policy_graph.TorchPolicy` does."""

    def decide_for_each(
        self, observations: NDArray[np.float32], rngs: list[np.random.Generator]
    ) -> Decision:
        """Decide on each of V raw observations: (V, O) -> actions (V, A), candidates (V, K, A).

        Of chunks the first actions count, as if each step had a decision of its own.
        """


@dataclass(frozen=True)
class Stretch:
    """Consecutive steps of an episode, whose actions are compared one by one.

    Attributes:
        number: The episode's.
        start: Its first step in the episode.
        episode: All of the episode.
        length: How many steps.
    """

    number: int
    start: int
    episode: Episode
    length: int

    @property
    def steps(self) -> slice:
        """Which steps of the episode."""
        return slice(self.start, self.start + self.length)


def stretches(dataset: LoadedDataset, most: int = MAX_STEPS) -> list[Stretch]:
    """Return stretches evenly spread over all episodes, with about ``most`` steps together."""
    found = [
        Stretch(number, start, episode, min(STRETCH_STEPS, len(episode) - start))
        for number, episode in enumerate(dataset.episodes)
        for start in range(0, len(episode), STRETCH_STEPS)
    ]
    total = sum(each.length for each in found)
    every = max(total / most, 1.0)
    wanted = np.arange(0.0, len(found), every).astype(int)
    return [found[index] for index in wanted]


@dataclass(frozen=True)
class FieldAgreement:
    """How far one action field is from what was recorded, on average over the steps.

    Attributes:
        name: The field's.
        unit: Of the distances.
        spread: Standard deviation of the recorded action.
        chosen: Mean distance of the chosen action.
        nearest: Mean distance of the candidate that is nearest over all fields.
        by_part: Mean distance of the chosen action in each tenth of the episodes; ``None`` where
            no step was compared.
        jerk: Mean absolute second difference of the chosen actions.
        recorded_jerk: The same of the recorded ones.
    """

    name: str
    unit: str
    spread: float
    chosen: float
    nearest: float
    by_part: tuple[float | None, ...]
    jerk: float
    recorded_jerk: float


@dataclass(frozen=True)
class Situation:
    """The steps in which one observation field is in that third of its values that is worst.

    Attributes:
        name: The field's.
        unit: Of its values.
        low: Where the third begins.
        high: Where it ends.
        steps: How many steps there are in it.
        chosen: Distance of the chosen action there, as `Agreement.chosen`.
    """

    name: str
    unit: str
    low: float
    high: float
    steps: int
    chosen: float


@dataclass(frozen=True)
class Moment:
    """One of the steps in which a policy differs most from what was recorded.

    Attributes:
        episode: Its number in the dataset.
        step: Its number in the episode.
        distance: Mean over the action fields of the distance in units of the field's spread.
        first_step: The step that the series begin at.
        recorded: Of each action field around it what was recorded, by name.
        chosen: Of each action field what the policy chose, by name.
        observation: Of each observation field what was observed, by name.
    """

    episode: int
    step: int
    distance: float
    first_step: int
    recorded: dict[str, list[float]]
    chosen: dict[str, list[float]]
    observation: dict[str, list[float]]


@dataclass(frozen=True)
class Agreement:
    """How a policy compares with the recording, step by step.

    Attributes:
        steps: How many steps were compared.
        episodes: Of how many episodes.
        candidates: Among how many candidates it chose.
        chosen: Distance of the chosen action, mean over the fields in units of their spread.
        nearest: Distance of the nearest candidate, likewise.
        jerk_ratio: Jerk in units of the recording's, mean over the fields that moved.
        guards: Share of the steps in which each guard would object, by name.
        fields: Each action field.
        situations: Where it differs more than elsewhere, at most `SITUATIONS`, the worst first.
        moments: When it differs most, the farthest first.
    """

    steps: int
    episodes: int
    candidates: int
    chosen: float
    nearest: float
    jerk_ratio: float
    guards: dict[str, float]
    fields: tuple[FieldAgreement, ...]
    situations: tuple[Situation, ...]
    moments: tuple[Moment, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


def measure_agreement(
    policy: Decides,
    parts: list[Stretch],
    spec: PolicySpec,
    statistics: Normalizer | None,
    rows_at_once: int,
    seed: int,
) -> Agreement:
    """Compare a policy with the recording.

    Args:
        policy: The policy.
        parts: At least one.
        spec: Names and limits of the fields, the tighter ones of policy and recording.
        statistics: Of what the policy was trained on, by which guards judge observations.
        rows_at_once: Observations that are decided on together.
        seed: Of the policy's noise.
    """
    observations = _observations(parts)
    chosen, nearest, candidates = _decide(
        policy, observations, _recorded(parts), rows_at_once, seed
    )
    guards = _objections(parts, observations, chosen, spec, statistics)
    return compare(parts, spec, chosen, guards, nearest, candidates)


def compare(
    parts: list[Stretch],
    spec: PolicySpec,
    chosen: NDArray[np.float32],
    guards: dict[str, float],
    nearest: NDArray[np.float32] | None = None,
    candidates: int = 1,
) -> Agreement:
    """Compare actions with those recorded at the same V steps.

    Args:
        parts: The V steps, in at least one stretch.
        spec: Names and limits of the fields.
        chosen: The actions, shape (V, A).
        guards: As `Agreement.guards`.
        nearest: Of the candidates those nearest to what was recorded, shape (V, A), if there
            were others.
        candidates: Among how many the actions were chosen.
    """
    observations, recorded = _observations(parts), _recorded(parts)
    nearest = chosen if nearest is None else nearest
    spread = np.maximum(recorded.std(axis=0), 1e-6 * (spec.action_high - spec.action_low))
    apart, nearest_apart = difference(chosen, recorded), difference(nearest, recorded)
    distance = (apart / spread).mean(axis=1)
    which = np.concatenate([_part_of_episode(each) for each in parts])
    jerk, recorded_jerk = (_jerk(parts, actions) for actions in (chosen, recorded))
    moved = recorded_jerk > 0
    fields = tuple(
        FieldAgreement(
            name=field.name,
            unit=field.unit,
            spread=float(spread[index]),
            chosen=float(apart[:, index].mean()),
            nearest=float(nearest_apart[:, index].mean()),
            by_part=_means(apart[:, index], which),
            jerk=float(jerk[index]),
            recorded_jerk=float(recorded_jerk[index]),
        )
        for index, field in enumerate(spec.action)
    )
    return Agreement(
        steps=len(recorded),
        episodes=len({each.number for each in parts}),
        candidates=candidates,
        chosen=float(distance.mean()),
        nearest=float((nearest_apart / spread).mean()),
        jerk_ratio=float((jerk[moved] / recorded_jerk[moved]).mean()) if moved.any() else 1.0,
        guards=guards,
        fields=fields,
        situations=tuple(_situations(spec, observations, distance)),
        moments=tuple(_moments(parts, spec, distance, chosen)),
    )


def _observations(parts: list[Stretch]) -> NDArray[np.float32]:
    return np.concatenate([each.episode.observations[each.steps] for each in parts])


def _recorded(parts: list[Stretch]) -> NDArray[np.float32]:
    return np.concatenate([each.episode.actions[each.steps] for each in parts])


def act(
    policy: Decides, observations: NDArray[np.float32], rows_at_once: int, seed: int
) -> NDArray[np.float32]:
    """Return the action that a policy chooses for each of V raw observations, (V, A)."""
    parts = (each.action for each in _decisions(policy, observations, rows_at_once, seed))
    return np.concatenate(list(parts))


def _decisions(
    policy: Decides, observations: NDArray[np.float32], rows_at_once: int, seed: int
) -> Iterator[Decision]:
    for start in range(0, len(observations), rows_at_once):
        rows = observations[start : start + rows_at_once]
        rngs = [np.random.default_rng((seed, start + index)) for index in range(len(rows))]
        yield policy.decide_for_each(rows, rngs)


def _decide(
    policy: Decides,
    observations: NDArray[np.float32],
    recorded: NDArray[np.float32],
    rows_at_once: int,
    seed: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    """Return chosen actions and nearest candidates, both (V, A), and the number of candidates."""
    spread = np.maximum(recorded.std(axis=0), 1e-6)
    chosen, nearest, start = [], [], 0
    for decision in _decisions(policy, observations, rows_at_once, seed):
        rows = recorded[start : start + len(decision.action)]
        start += len(rows)
        candidates = decision.first_actions
        distances = np.linalg.norm((candidates - rows[:, None]) / spread, axis=-1)
        best = distances.argmin(axis=1)[:, None, None]
        nearest.append(np.take_along_axis(candidates, best, axis=1)[:, 0])
        chosen.append(decision.action)
    return np.concatenate(chosen), np.concatenate(nearest), candidates.shape[1]


def _part_of_episode(part: Stretch) -> NDArray[np.int64]:
    steps = np.arange(part.start, part.start + part.length)
    return PARTS_OF_EPISODE * steps // len(part.episode)


def _means(values: NDArray[np.float64], which: NDArray[np.int64]) -> tuple[float | None, ...]:
    groups = (values[which == part] for part in range(PARTS_OF_EPISODE))
    return tuple(float(group.mean()) if len(group) else None for group in groups)


def _split(parts: list[Stretch], rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return np.split(rows, np.cumsum([each.length for each in parts])[:-1])


def _jerk(parts: list[Stretch], actions: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean absolute second difference within stretches, shape (A,)."""
    changes = [np.abs(np.diff(each, n=2, axis=0)) for each in _split(parts, actions)]
    joined = np.concatenate(changes).astype(np.float64)
    return joined.mean(axis=0) if len(joined) else np.zeros(actions.shape[1])


def _objections(
    parts: list[Stretch],
    observations: NDArray[np.float32],
    chosen: NDArray[np.float32],
    spec: PolicySpec,
    statistics: Normalizer | None,
) -> dict[str, float]:
    """Return the share of steps in which each guard objects, as a node's would."""
    rates = np.array([field.max_rate for field in spec.action])
    steps = tuple((rates / spec.rate_hz).tolist()) if spec.rate_hz else ()
    guards = Guards(spec, statistics, GuardLimits(max_steps=steps))
    beyond = beyond_limits(observations, spec)
    for values in observations[~beyond]:
        unusual = guards.find_unusual(values)
        if unusual is None or not guards.forbids(unusual):
            guards.find_unseen(values)
    for part, actions in zip(parts, _split(parts, chosen), strict=True):
        # What was sent before the stretch is what was recorded.
        last = part.episode.actions[part.start - 1] if part.start else actions[0]
        for action in actions:
            within, _ = guards.clamp(action)
            last, _ = guards.limit_rate(within, last)
    counts = dict(guards.counts)
    counts[Guard.IMPOSSIBLE_OBSERVATION] += int(beyond.sum())
    asked = (
        Guard.IMPOSSIBLE_OBSERVATION,
        Guard.UNUSUAL_OBSERVATION,
        Guard.UNSEEN_OBSERVATION,
        Guard.CLAMPED_ACTION,
        Guard.SLEW_LIMITED_ACTION,
    )
    return {guard.value: counts[guard] / len(observations) for guard in asked}


def beyond_limits(observations: NDArray[np.float32], spec: PolicySpec) -> NDArray[np.bool_]:
    """Tell which of V observations have a field beyond the contract's limits, shape (V,)."""
    low = np.array([field.low for field in spec.observation], dtype=np.float32)
    high = np.array([field.high for field in spec.observation], dtype=np.float32)
    beyond: NDArray[np.bool_] = np.any((observations < low) | (observations > high), axis=1)
    return beyond


def _situations(
    spec: PolicySpec, observations: NDArray[np.float32], distance: NDArray[np.float64]
) -> list[Situation]:
    """Return the worst third of each observation field, if it is worse than all steps together."""
    overall = float(distance.mean())
    found = []
    for field, values in zip(spec.observation, observations.T, strict=True):
        edges = np.quantile(values, [0.0, 1 / 3, 2 / 3, 1.0])
        if not (np.diff(edges) > 0).all():
            continue
        thirds = np.digitize(values, edges[1:3])
        counts = np.bincount(thirds, minlength=3)
        means = np.bincount(thirds, weights=distance, minlength=3) / counts
        worst = int(means.argmax())
        if means[worst] > overall:
            low, high = (_rounded(edge) for edge in edges[worst : worst + 2])
            place = (field.name, field.unit, low, high)
            found.append(Situation(*place, int(counts[worst]), float(means[worst])))
    return sorted(found, key=lambda each: -each.chosen)[:SITUATIONS]


def _moments(
    parts: list[Stretch],
    spec: PolicySpec,
    distance: NDArray[np.float64],
    chosen: NDArray[np.float32],
) -> list[Moment]:
    """Return where the distance is largest, one of each neighbourhood."""
    left = distance.copy()
    owners = np.repeat(np.arange(len(parts)), [each.length for each in parts])
    starts = np.cumsum([0, *(each.length for each in parts)])
    found: list[Moment] = []
    while len(found) < MOMENTS and np.isfinite(left.max()):
        row = int(left.argmax())
        owner = int(owners[row])
        start = int(starts[owner])
        first = max(row - MOMENT_STEPS, start)
        last = min(row + MOMENT_STEPS + 1, int(starts[owner + 1]))
        left[first:last] = -np.inf
        found.append(
            _moment(
                parts[owner],
                spec,
                row - start,
                chosen[first:last],
                first - start,
                float(distance[row]),
            )
        )
    return found


def _moment(
    part: Stretch,
    spec: PolicySpec,
    step: int,
    chosen: NDArray[np.float32],
    first: int,
    distance: float,
) -> Moment:
    around = slice(part.start + first, part.start + first + len(chosen))
    return Moment(
        episode=part.number,
        step=part.start + step,
        distance=distance,
        first_step=around.start,
        recorded=_series([each.name for each in spec.action], part.episode.actions[around]),
        chosen=_series([each.name for each in spec.action], chosen),
        observation=_series(
            [each.name for each in spec.observation], part.episode.observations[around]
        ),
    )


def _series(names: list[str], rows: NDArray[np.float32]) -> dict[str, list[float]]:
    return {
        name: [_rounded(value) for value in column]
        for name, column in zip(names, rows.T.tolist(), strict=True)
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
