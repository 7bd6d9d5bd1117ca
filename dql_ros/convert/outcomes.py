"""What a person said of each episode of a recording, by the contract's ``outcomes``.

A label belongs to the episode that runs when it arrives, and ends it with the transition in which
it does. While none runs it belongs to the one that ended last, as people label what they have
seen. The last label of an episode counts. It makes the end of the episode the task's own: a
success always, a failure as the contract says. What follows a label is in no episode until the
contract's ``start`` or ``during`` opens another; without them until one would have ended, or
something was missing for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import counted
from dql_ros.bag.reader import Bag
from dql_ros.contract import Contract, Event, FlagStream, resolve_topic
from dql_ros.contract.outcomes import DISCARD, LABEL_TYPE, LABELS, SUCCESS, Label, Outcomes
from dql_ros.convert.columns import Times
from dql_ros.convert.recorded_episode import (
    LACKS,
    Cause,
    Reason,
    RecordedEpisode,
    SkippedSpan,
    too_short,
)
from dql_ros.convert.topic_decoders import TopicRole

# What a person stops by letting go of it: the end of the episode is there all the same.
_LET_GO = {Cause.NO_COMMAND, Cause.NO_TICK}
_UNSEEN_ENDS = LACKS - _LET_GO


def outcome_roles(bag: Bag, contract: Contract, namespace: str) -> list[TopicRole]:
    """The roles of the topics by which a person labels episodes that the bag has.

    Args:
        bag: An opened bag.
        contract: The robot contract.
        namespace: Namespace of its relative topics in the bag.

    Raises:
        BagError: If one is of another type.
    """
    outcomes = contract.outcomes
    if outcomes is None:
        return []
    rules: list[tuple[str, FlagStream | Event]] = [
        *outcomes.flags.items(),
        *((f"labels on {words.topic}", words) for words in outcomes.words),
    ]
    roles = [TopicRole(r.resolved_topic(namespace), r, "outcome", name) for name, r in rules]
    roles = [role for role in roles if role.topic in bag.topics]
    for role in roles:
        bag.require_topic(role.topic, role.rule.type, role.label, may_be_silent=True)
    return roles


def outcome_notes(bag: Bag, contract: Contract, namespace: str) -> Iterator[str]:
    """Yield what of a bag's labels nobody hears, and which flags it has not got."""
    if contract.outcomes is not None:
        raised: dict[str, list[str]] = {}
        for label, flag in contract.outcomes.flags.items():
            raised.setdefault(flag.resolved_topic(namespace), []).append(label)
        for topic in sorted(raised.keys() - bag.topics.keys()):
            yield f"has no {topic}, by which the contract labels {', '.join(raised[topic])}"
        return
    names = (Outcomes().topic, Outcomes().markers)
    rules = [*contract.signals.values(), *contract.events.values()]
    used = {rule.resolved_topic(namespace) for rule in rules}
    for name in sorted({resolve_topic(each, namespace) for each in names} - used):
        found = bag.topics.get(name)
        if found is not None and found.msgtype == LABEL_TYPE and found.count:
            yield (
                f"nobody reads the {counted(found.count, 'label')} on {name}, since the contract "
                f"has no 'outcomes': add 'outcomes: {{}}' if they are of episodes"
            )


class Labels:
    """The labels of one recording, in the order of their times, until they are taken.

    Of labels of the same time the last of `LABELS` comes last.

    Attributes:
        times_ns: When each arrived, shape (n,).
    """

    def __init__(self) -> None:
        self.times_ns: Times = np.empty(0, np.int64)
        self._codes: NDArray[np.int64] = np.empty(0, np.int64)
        self._raised: dict[Label, bool] = {}
        self._counts: dict[Label, tuple[int, int]] = {}  # raised messages, and others

    def extend(self, name: str, arrived_ns: Times, values: NDArray[np.float64]) -> None:
        """Take in the messages of one topic, in their order.

        Args:
            name: The label that a flag gives, or of a topic that has them in words another name.
            arrived_ns: Shape (n,).
            values: Of a flag whether it is raised, and of words the position of a label in
                `LABELS`, from 1; else 0. Shape (n,).
        """
        codes = values.astype(np.int64)
        if (label := next((each for each in LABELS if each == name), None)) is not None:
            codes = self._edges(label, values != 0) * (LABELS.index(label) + 1)
        is_label = codes != 0
        times_ns = np.concatenate([self.times_ns, arrived_ns[is_label]])
        codes = np.concatenate([self._codes, codes[is_label]])
        order = np.lexsort((codes, times_ns))
        self.times_ns, self._codes = times_ns[order], codes[order]

    def _edges(self, label: Label, raised: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Where a flag is raised that was not before: a button that is held labels once."""
        before = np.concatenate([[self._raised.get(label, False)], raised[:-1]])
        self._raised[label] = bool(raised[-1])
        ups, downs = self._counts.get(label, (0, 0))
        self._counts[label] = ups + int(raised.sum()), downs + int((~raised).sum())
        edges: NDArray[np.bool_] = raised & ~before
        return edges

    @property
    def stuck(self) -> tuple[Label, ...]:
        """See `LabelCounts.stuck`."""
        return tuple(label for label, (up, down) in self._counts.items() if up > 1 and not down)

    def are_in(self, starts_ns: Times, ends_ns: Times) -> NDArray[np.bool_]:
        """Whether there is a label in each (start, end], shape (m,)."""
        first, end = (
            np.searchsorted(self.times_ns, times_ns, side="right")
            for times_ns in (starts_ns, ends_ns)
        )
        found: NDArray[np.bool_] = end > first
        return found

    def take(self, until_ns: int) -> list[tuple[int, Label]]:
        """Take out the labels up to a time, and return them with their times."""
        count = int(np.searchsorted(self.times_ns, until_ns, side="right"))
        taken = zip(self.times_ns[:count].tolist(), self._codes[:count].tolist(), strict=True)
        self.times_ns, self._codes = self.times_ns[count:], self._codes[count:]
        return [(time_ns, LABELS[code - 1]) for time_ns, code in taken]

    def close(
        self,
        is_open: NDArray[np.bool_],
        ticks_ns: Times,
        opening_after: Callable[[int], int],
    ) -> None:
        """Let no tick be open that follows a label, until another opening; shape (m,) each.

        Of each tick the label before it says that, since no label waits for an earlier opening
        than one before it; a recording may have far more labels than ticks.
        """
        after = np.searchsorted(self.times_ns, ticks_ns, side="right")
        follows = after > 0
        last_ns, which = np.unique(self.times_ns[after[follows] - 1], return_inverse=True)
        openings_ns = np.array([opening_after(each) for each in last_ns.tolist()], np.int64)
        is_open[follows] &= ticks_ns[follows] >= openings_ns[which]


@dataclass
class LabelCounts:
    """What became of a recording's labels.

    Attributes:
        discarded: Episodes that were left out.
        changed: Labels that say something else than the one before, of the same episode.
        unused: Labels that belong to no episode, or to one that is too short.
        unseen: Episodes whose label does not count, since they ended where something was missing.
        stuck: Flags of which several messages are raised and none is not: they label once.
    """

    discarded: int = 0
    changed: int = 0
    unused: int = 0
    unseen: int = 0
    stuck: tuple[Label, ...] = ()


class LabelledEpisodes:
    """Keeps each episode until it is known what a person says of it, and passes it on.

    Attributes:
        counts: What became of the labels.

    Args:
        contract: Says what a label makes of an episode; without ``outcomes`` nothing is kept.
        labels: The recording's.
        on_episode: Takes the episodes of the dataset.
        on_skipped: Takes what is left out.
    """

    def __init__(
        self,
        contract: Contract,
        labels: Labels,
        on_episode: Callable[[RecordedEpisode], None],
        on_skipped: Callable[[SkippedSpan], None],
    ) -> None:
        self.counts = LabelCounts()
        self._outcomes, self._min_length = contract.outcomes, contract.episode.min_length
        self._labels = labels
        self._on_episode, self._on_skipped = on_episode, on_skipped
        self._kept: RecordedEpisode | None = None

    def add(self, episode: RecordedEpisode) -> None:
        """Take an episode that ended."""
        if self._outcomes is None:
            self._pass_on(episode, None)
        else:
            self._kept = episode

    def settle(self, until_ns: int) -> None:
        """Let labels up to a time count for the last episode: another one begins there."""
        if self._outcomes is None:
            return
        kept, self._kept = self._kept, None
        self.counts.stuck = self._labels.stuck
        start_ns = until_ns if kept is None else kept.start_ns
        said = self._labels.take(until_ns)
        own = [label for time_ns, label in said if time_ns > start_ns]
        self.counts.unused += len(said) - len(own)
        self.counts.changed += sum(one != other for one, other in pairwise(own))
        if kept is not None:
            self._pass_on(kept, own[-1] if own else None)

    def _pass_on(self, episode: RecordedEpisode, label: Label | None) -> None:
        start_ns, end_ns, length = episode.start_ns, episode.end_ns, len(episode)
        if label == DISCARD:
            self.counts.discarded += 1
            self._on_skipped(SkippedSpan(start_ns, end_ns, (Reason(Cause.DISCARDED),)))
        elif length < self._min_length:
            self.counts.unused += label is not None
            self._on_skipped(too_short(start_ns, end_ns, length, self._min_length))
        elif label is not None and episode.ending.cause in _UNSEEN_ENDS:
            self.counts.unseen += 1
            self._on_episode(episode)
        else:
            self._on_episode(episode if label is None else self._labelled(episode, label))

    def _labelled(self, episode: RecordedEpisode, label: Label) -> RecordedEpisode:
        assert self._outcomes is not None
        if label == SUCCESS or self._outcomes.failure_is == "terminated":
            return replace(episode, terminated=True, truncated=False, outcome=label)
        return replace(episode, outcome=label)
