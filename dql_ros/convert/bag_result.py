"""What became of one bag: its share of the conversion report, which a worker hands over."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from pydantic import ConfigDict, Field

from dql_core.data.precision import PrecisionRow
from dql_core.errors import BagError
from dql_core.strict_yaml import StrictModel, parse
from dql_ros.bag.reader import Loss
from dql_ros.bag.storage.storage import lost_words
from dql_ros.contract import Label
from dql_ros.convert.full_turns import TurnRow
from dql_ros.convert.values_seen import OPENINGS, Unmatched


class Spread(StrictModel):
    """Quantiles in milliseconds; ``sampled`` if all but the ends are of a sample."""

    min: float
    p50: float
    p95: float
    max: float
    sampled: bool


class Jitter(StrictModel):
    """Distances of pauses from the median pause in milliseconds."""

    p50: float
    p95: float
    p99: float
    max: float
    sampled: bool


class StampCounts(StrictModel):
    """Header stamps before the one before, equal to it, and never set."""

    backwards: int
    duplicate: int
    zero: int


class GapRow(StrictModel):
    """A pause over the limit; times are seconds from the bag's start."""

    from_s: float
    to_s: float


class TopicRow(StrictModel):
    """One topic in one role.

    Attributes:
        topic: Absolute topic name.
        type: Message type.
        role: What the contract needs it for.
        count: Number of messages that count.
        absent: Messages that were skipped since they have not got what the contract selects.
        ended: Trajectories without points, each of which ends the command in force.
        rate_hz: Messages a second; pauses far longer than the others do not count.
        median_pause_ms: Median time between two messages.
        jitter_ms: How uneven the pauses are.
        longest_pause_s: The longest of them.
        limit_s: A longer pause is a gap; ``None`` where pauses are in order.
        gaps: Number of gaps.
        gap_spans: The first of them.
        missing_estimate: How many messages fit into pauses that are a multiple of the median;
            ``None`` where most pauses are uneven or of any length.
        receive_minus_header_ms: Time of receipt less the header's stamp; ``None`` without stamps.
        stamps: What is odd about the stamps; ``None`` without stamps.
        age_at_tick_ms: How old its value was at the ticks that used one.
    """

    topic: str
    type: str
    role: str
    count: int
    absent: int = 0
    ended: int = 0
    rate_hz: float | None
    median_pause_ms: float | None
    jitter_ms: Jitter | None
    longest_pause_s: float
    limit_s: float | None
    gaps: int
    gap_spans: tuple[GapRow, ...]
    missing_estimate: int | None
    receive_minus_header_ms: Spread | None
    stamps: StampCounts | None
    age_at_tick_ms: Spread | None


class EpisodeRow(StrictModel):
    """One episode; times are seconds from the bag's start.

    Attributes:
        from_s: Time of its first tick.
        to_s: Time of its last observation.
        length: Number of transitions.
        episode_return: Sum of its rewards; ``return`` in JSON.
        terminated: Whether the task itself ended it.
        truncated: Whether a signal, a gap or the end of the recording ended it.
        ending: How it ended, in words.
        lacked: Whether it ended where something that the contract needs was missing.
        outcome: ``success`` or ``failure``, if a person said so.
        interventions: How many of its commands are a person's.
        unattributed: Of how many nobody said whose they are, where the contract has a takeover.
    """

    model_config = ConfigDict(populate_by_name=True)

    from_s: float
    to_s: float
    length: int
    episode_return: float = Field(alias="return")
    terminated: bool
    truncated: bool
    ending: str
    lacked: bool = False
    outcome: str | None = None
    interventions: int = 0
    unattributed: int = 0


class SkippedRow(GapRow):
    """A span of the bag that is in no episode."""

    reason: str


class ClockRow(GapRow):
    """Messages whose times cannot be right, where an episode was split.

    Attributes:
        topic: Their topic.
        count: How many follow each other.
        what: What is wrong with them, in words.
    """

    topic: str
    count: int
    what: str


class LabelRow(StrictModel):
    """What became of a person's labels; see `LabelCounts`."""

    discarded: int = 0
    changed: int = 0
    unused: int = 0
    unseen: int = 0
    stuck: tuple[Label, ...] = ()


class SkippedTopic(StrictModel):
    """A topic whose messages nobody can read and nobody asked for, and why."""

    name: str
    type: str
    count: int
    reason: str


class BagResult(StrictModel):
    """One bag's share of the report, JSON-ready; the report is merged from these alone.

    Attributes:
        bag: The bag, as the user named it.
        files: SHA-256 of its files, by name.
        size_bytes: Their size.
        start_ns: Log time of the first message.
        duration_s: From the first message to the last.
        message_count: Messages in the bag, of all topics.
        topics: `TopicStatistics.to_json` of each topic that the contract uses.
        skipped_topics: Topics whose messages nobody can read.
        episodes: In the dataset's order.
        left_out: What is in no episode, but for the time between episodes.
        between_episodes_s: How long the recording was between episodes.
        losses: What salvaging did not bring back.
        notes: What else the reader of the bag reports.
        dropped_ticks: Ticks that were dropped because a needed number was not finite.
        split_nonfinite: Episodes that were split for the same reason.
        clipped: Action values beyond the contract's bounds, per action field.
        action_min: Smallest action as recorded, before any clipping, per action field.
        action_max: Largest action as recorded, likewise.
        observed: What rounding to float32 leaves of each observation field.
        commanded: What it leaves of each action field.
        turned: Observation fields that step by full turns.
        commands_turned: Action fields that do.
        by_index_warnings: Messages without joint names that were read by position.
        clock_faults: Where times cannot be right.
        unmatched: Flags and events that no message raised, and what the messages had instead.
        labels: What became of a person's labels.
        error: Why the bag could not be converted; ``None`` if it was.
    """

    bag: str
    files: dict[str, str] = Field(default_factory=dict)
    size_bytes: int = 0
    start_ns: int = 0
    duration_s: float = 0.0
    message_count: int = 0
    topics: tuple[TopicRow, ...] = ()
    skipped_topics: tuple[SkippedTopic, ...] = ()
    episodes: tuple[EpisodeRow, ...] = ()
    left_out: tuple[SkippedRow, ...] = ()
    between_episodes_s: float = 0.0
    losses: tuple[Loss, ...] = ()
    notes: tuple[str, ...] = ()
    dropped_ticks: int = 0
    split_nonfinite: int = 0
    clipped: tuple[int, ...] = ()
    action_min: tuple[float, ...] = ()
    action_max: tuple[float, ...] = ()
    observed: tuple[PrecisionRow, ...] = ()
    commanded: tuple[PrecisionRow, ...] = ()
    turned: tuple[TurnRow, ...] = ()
    commands_turned: tuple[TurnRow, ...] = ()
    by_index_warnings: int = 0
    clock_faults: tuple[ClockRow, ...] = ()
    unmatched: tuple[Unmatched, ...] = ()
    labels: LabelRow = LabelRow()
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; `from_json` restores the result from it."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def from_json(cls, document: dict[str, Any], where: str = "result") -> BagResult:
        """Rebuild the result that `to_json` wrote.

        Args:
            document: The dictionary.
            where: Where it was read from, for messages.

        Raises:
            BagError: If it is none, for example one of another version.
        """
        return parse(document, cls, where, BagError)


def never_opened(unmatched: Sequence[Unmatched]) -> str:
    """Say which event never came, so that no episode began; empty if it came."""
    return "; ".join(str(each) for each in unmatched if each.role in OPENINGS)


def no_episode(
    reasons: str,
    losses: Sequence[Loss],
    wrong_stamps: Collection[str],
    unmatched: Sequence[Unmatched] = (),
) -> str:
    """Say that nothing came of a bag, why, and what to do.

    Args:
        reasons: Why, as far as the episodes show it.
        losses: What is lost of the bag.
        wrong_stamps: Topics whose header stamps cannot be right.
        unmatched: Flags and events that no message raised.
    """
    never = never_opened(unmatched)
    if losses:
        reasons = never or reasons
        return (
            f"no episode could be made of what is left of it ({reasons}); lost: "
            f"{lost_words(losses)}"
        )
    if never:
        remedy = f"{never}; correct 'path' or 'equals' in the contract"
        return f"no episode could be made ({reasons}); {remedy}"
    remedy = "lower min_length, raise max_age_s, or check start/stop/during in the contract"
    if wrong_stamps:
        topics = ", ".join(dict.fromkeys(wrong_stamps))
        remedy = f"set 'stamp: receive' for {topics} in the contract"
    return f"no episode could be made ({reasons or 'no message'}); {remedy}"
