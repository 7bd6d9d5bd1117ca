"""What a recording holds: episodes, and spans that are in none of them, with the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from dql_ros.contract.outcomes import SUCCESS, Label


class Cause(Enum):
    """Why an episode ended or a span is in no episode; the value is its text."""

    TERMINATED = "terminated"
    TRUNCATED = "truncated"
    RECORDING_STOPPED = "the recording stopped"
    MARKED = "ended by the stop event"
    NO_TICK = "no usable tick for too long"
    OUTDATED = "no {} for too long"
    NO_COMMAND = "no command on {}"
    NOT_FINITE = "no finite value on {}"
    NO_REWARD = "no reward"
    LOST = "a part of the recording is lost"
    CLOCK = "a clock was set or is wrong ({})"
    MISSING = "no {}"
    NONE_FINITE = "no finite value"
    TOO_SHORT = "episode of {}"
    AFTER_THE_END = "after the end of the task"
    LABELLED = "labelled by a person"
    DISCARDED = "discarded by a person"
    AFTER_LABEL = "after a person's label"
    BETWEEN = "between episodes"


# Ends of episodes where something was missing that the contract needs.
LACKS = frozenset(
    {
        Cause.NO_TICK,
        Cause.OUTDATED,
        Cause.NO_COMMAND,
        Cause.NOT_FINITE,
        Cause.NO_REWARD,
        Cause.LOST,
        Cause.CLOCK,
    }
)
# What is known already when the first is to be noted after the second.
_COVERED = {Cause.MISSING: {Cause.MISSING, Cause.OUTDATED}, Cause.NONE_FINITE: {Cause.NOT_FINITE}}


@dataclass(frozen=True)
class Reason:
    """A cause, with the topics that it concerns.

    Attributes:
        cause: The cause.
        details: What its text is completed with: topics, or an episode's length.
    """

    cause: Cause
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The reason in words."""
        return self.cause.value.format(" and no ".join(self.details))

    def covers(self, other: Reason) -> bool:
        """Whether ``other`` adds nothing to this reason."""
        return (
            self.cause is Cause.BETWEEN
            or self == other
            or (
                self.cause in _COVERED.get(other.cause, ())
                and self.details[: len(other.details)] == other.details
            )
        )


@dataclass(frozen=True)
class Interruption:
    """Where a recording is not to be believed: nothing from before it is known after it.

    Attributes:
        start_ns: What arrived before this time is believed.
        end_ns: So is what arrived at this time or later; equal to the start for an instant.
        reason: What happened.
        unheard: Kind and name of the streams, signals and events, as `Alignment.push` names them,
            of which messages were lost: what those said is not known.
    """

    start_ns: int
    end_ns: int
    reason: Reason
    unheard: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class RecordedEpisode:
    """An episode as the bag has it.

    Attributes:
        ticks_ns: When each observation is of, shape (T + 1,).
        observations: Shape (T + 1, O), not rounded, and without offsets that are known only now.
        actions: Shape (T, A), as commanded: not clipped.
        rewards: Shape (T,), or ``None`` if the contract names no reward topic.
        terminated: Whether the task itself ended it.
        truncated: Whether a signal, a gap or the end of the recording ended it.
        ending: How it ended.
        interventions: Of each action 1 if it is a person's, 0 if not, and -1 if nobody said so,
            shape (T,); ``None`` if the contract has no takeover.
        outcome: ``success`` or ``failure``, if a person said so by the contract's ``outcomes``.
    """

    ticks_ns: NDArray[np.int64]
    observations: NDArray[np.float64]
    actions: NDArray[np.float64]
    rewards: NDArray[np.float64] | None
    terminated: bool
    truncated: bool
    ending: Reason
    interventions: NDArray[np.int8] | None = None
    outcome: Label | None = None

    @property
    def start_ns(self) -> int:
        """Time of its first tick."""
        return int(self.ticks_ns[0])

    @property
    def end_ns(self) -> int:
        """Time of its last observation."""
        return int(self.ticks_ns[-1])

    @property
    def success(self) -> bool | None:
        """Whether a person called it a success; ``None`` where nobody said anything."""
        return None if self.outcome is None else self.outcome == SUCCESS

    def __len__(self) -> int:
        """Number of transitions, T."""
        return len(self.actions)


@dataclass(frozen=True)
class SkippedSpan:
    """A span of a recording that is in no episode.

    Attributes:
        start_ns: Where it begins.
        end_ns: Where it ends.
        reasons: Why nothing could be made of it, in the order in which they arose.
    """

    start_ns: int
    end_ns: int
    reasons: tuple[Reason, ...]

    @property
    def reason(self) -> str:
        """The reasons in words."""
        return ", then ".join(map(str, self.reasons))

    @property
    def is_between(self) -> bool:
        """Whether the recording was between two episodes, so that nothing is lost."""
        return [reason.cause for reason in self.reasons] == [Cause.BETWEEN]


def too_short(start_ns: int, end_ns: int, length: int, minimum: int) -> SkippedSpan:
    """Return the span of an episode that has fewer transitions than the contract wants."""
    details = f"{length} transitions, shorter than min_length {minimum}"
    return SkippedSpan(start_ns, end_ns, (Reason(Cause.TOO_SHORT, (details,)),))
