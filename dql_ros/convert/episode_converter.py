"""From an episode as the bag has it to one of the dataset.

Its origin, its rounding to float32, its end, its bounds and its rewards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import Episode
from dql_core.data.infos import INTERVENTION, SUCCESS
from dql_core.data.precision import Precision
from dql_core.errors import BagError
from dql_core.rewards import LoggedEpisode
from dql_core.rewards.call import load_predicate, load_rewards
from dql_ros.contract import Contract, Predicate
from dql_ros.convert.full_turns import FullTurns
from dql_ros.convert.recorded_episode import (
    Cause,
    Reason,
    RecordedEpisode,
    SkippedSpan,
    too_short,
)


@dataclass(frozen=True)
class ConvertedEpisode:
    """An episode of the dataset and where it comes from.

    Attributes:
        episode: As the dataset has it.
        recorded: As the bag has it, up to its end.
        beyond: How many of its actions lie beyond the contract's bounds, per action field.
    """

    episode: Episode
    recorded: RecordedEpisode
    beyond: NDArray[np.int64]


class EpisodeConverter:
    """Applies what the contract says of episodes as a whole.

    Attributes:
        observed: What rounding made of the observations so far.
        commanded: What it made of the actions.
        turned: Which observations stepped by full turns so far.
        commands_turned: Which actions did.

    Args:
        contract: Names the predicate and the rewards, and what becomes of actions beyond the
            bounds.

    Raises:
        ContractError: If a function that it names cannot be called.
    """

    def __init__(self, contract: Contract) -> None:
        terminated = contract.episode.terminated
        self._contract = contract
        self._spec = contract.policy_spec()
        self._from_first = list(contract.fields_from_first)
        self._previous_bounds = contract.previous_bounds
        self.observed = Precision(len(self._spec.observation))
        self.commanded = Precision(len(self._spec.action))
        self.turned = FullTurns(self._spec.observation)
        self.commands_turned = FullTurns(self._spec.action)
        self._ends = load_predicate(terminated) if isinstance(terminated, Predicate) else None
        functions = contract.reward_functions
        self._rewards = load_rewards(functions) if functions else None

    def __call__(self, recorded: RecordedEpisode) -> Iterator[ConvertedEpisode | SkippedSpan]:
        """Yield the episode, and what of it is skipped.

        Raises:
            BagError: If actions lie beyond the bounds and the contract refuses them.
            ContractError: If a function fails or returns what it must not.
        """
        actions, beyond = self._bounded(recorded)
        observations = self._bounded_past(self._from_origin(recorded.observations))
        rounded = observations.astype(np.float32)
        episode, skipped = self._until_its_end(recorded, rounded, actions)
        if skipped is not None:
            yield skipped
        length, minimum = len(episode), self._contract.episode.min_length
        if length < minimum:
            yield too_short(episode.start_ns, episode.end_ns, length, minimum)
            return
        rounded, actions = rounded[: length + 1], actions[:length]
        self.observed.add(observations[: length + 1], rounded)
        self.commanded.add(episode.actions, episode.actions.astype(np.float32))
        self.turned.add(observations[: length + 1])
        self.commands_turned.add(episode.actions)
        yield ConvertedEpisode(
            Episode(
                rounded,
                actions,
                self._rewarded(episode, rounded, actions),
                episode.terminated,
                episode.truncated,
                _infos(episode),
            ),
            episode,
            beyond[:length].sum(axis=0),
        )

    def _from_origin(self, observations: NDArray[np.float64]) -> NDArray[np.float64]:
        """Subtract from the fields that ask for it what they were at the first tick."""
        if not self._from_first:
            return observations
        relative = observations.copy()
        relative[:, self._from_first] -= observations[0, self._from_first]
        return relative

    def _bounded_past(self, observations: NDArray[np.float64]) -> NDArray[np.float64]:
        """Let previous actions be as the dataset has the actions themselves."""
        low, high = self._previous_bounds
        if not len(low):
            return observations
        now, before = np.split(observations, [-len(low)], axis=1)
        return np.concatenate([now, np.clip(before, low, high)], axis=1)

    def _bounded(self, recorded: RecordedEpisode) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Actions in the dataset's precision and by the contract's rule; which were beyond."""
        actions = recorded.actions.astype(np.float32)
        clipped = np.clip(actions, self._spec.action_low, self._spec.action_high)
        beyond = actions != clipped
        rule = self._contract.beyond_bounds
        if rule == "refuse" and beyond.any():
            row, column = (int(each[0]) for each in np.nonzero(beyond))
            field = self._spec.action[column]
            raise BagError(
                f"action '{field.name}' is {actions[row, column]:g} at "
                f"{recorded.ticks_ns[row] / 1e9:.3f} s, beyond its bounds {field.low:g} to "
                f"{field.high:g}; correct them, or set 'beyond_bounds: clip' or 'widen' in the "
                f"contract"
            )
        return (actions if rule == "widen" else clipped), beyond

    def _until_its_end(
        self,
        recorded: RecordedEpisode,
        observations: NDArray[np.float32],
        actions: NDArray[np.float32],
    ) -> tuple[RecordedEpisode, SkippedSpan | None]:
        """Cut the episode after the transition with which the predicate says that it ended."""
        if self._ends is None:
            return recorded, None
        flags = self._ends(self._logged(recorded, observations, actions))
        if not flags.any():
            return recorded, None
        length = int(np.argmax(flags)) + 1
        interventions = recorded.interventions
        ended = replace(
            recorded,
            ticks_ns=recorded.ticks_ns[: length + 1],
            observations=recorded.observations[: length + 1],
            actions=recorded.actions[:length],
            rewards=None if recorded.rewards is None else recorded.rewards[:length],
            terminated=True,
            truncated=False,
            ending=Reason(Cause.TERMINATED),
            interventions=None if interventions is None else interventions[:length],
        )
        if length == len(recorded):
            return ended, None
        rest = (Reason(Cause.AFTER_THE_END),)
        return ended, SkippedSpan(ended.end_ns, recorded.end_ns, rest)

    def _rewarded(
        self,
        recorded: RecordedEpisode,
        observations: NDArray[np.float32],
        actions: NDArray[np.float32],
    ) -> NDArray[np.float64]:
        if self._rewards is not None:
            return self._rewards(self._logged(recorded, observations, actions))
        if recorded.rewards is not None:
            return recorded.rewards
        # The contract says by its silence that the log is to be imitated, not valued.
        return np.zeros(len(recorded))

    def _logged(
        self,
        recorded: RecordedEpisode,
        observations: NDArray[np.float32],
        actions: NDArray[np.float32],
    ) -> LoggedEpisode:
        ends = recorded.terminated, recorded.truncated
        return LoggedEpisode(observations, actions, self._spec, *ends, recorded.success)


def _infos(recorded: RecordedEpisode) -> dict[str, NDArray[np.bool_]]:
    """What else the dataset says of each step; what nobody said of a command counts as no.

    A success is one with the last step.
    """
    infos = {}
    if recorded.interventions is not None:
        infos[INTERVENTION] = recorded.interventions == 1
    if recorded.success is not None:
        infos[SUCCESS] = np.zeros(len(recorded), bool)
        infos[SUCCESS][-1] = recorded.success
    return infos
