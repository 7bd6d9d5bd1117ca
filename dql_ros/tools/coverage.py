"""How much of a recording becomes transitions, and what the rest lacks.

Each stream covers the times at which it has a value that may be used. Where episodes are not, some
stream is missing, or the contract says that no episode runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.streams import SECOND_NS
from dql_ros.codecs.frame_tree import Edge, FrameTree
from dql_ros.codecs.transforms import by_edge
from dql_ros.contract import TransformStream
from dql_ros.convert.recorded_episode import Cause, Reason, SkippedSpan

# Starts and ends of spans of time in nanoseconds, shape (n, 2): ascending, and apart.
Spans = NDArray[np.int64]
FOREVER_NS = 1 << 62
# What else can be missing is summed up.
MOST_REASONS = 4
# Causes that are about a stream that is not there.
_OF_A_STREAM = {Cause.MISSING, Cause.OUTDATED, Cause.NO_COMMAND}


class Coverage:
    """The times at which a stream has a value.

    Args:
        before_ns: How long before its stamp a value counts already: a command's period.
        age_ns: How long it may be used; ``None`` for ever.
    """

    def __init__(self, before_ns: int, age_ns: int | None) -> None:
        self._before_ns, self._age_ns = before_ns, age_ns
        self._parts: list[Spans] = []

    def add(self, from_ns: NDArray[np.int64], stamps_ns: NDArray[np.int64]) -> None:
        """Take values that are known from some times on and were stamped at others, (n,) each."""
        ends = (
            np.full(len(from_ns), FOREVER_NS) if self._age_ns is None else stamps_ns + self._age_ns
        )
        spans = np.stack([from_ns - self._before_ns, ends], axis=1)
        self._parts.append(union(spans[spans[:, 0] < spans[:, 1]]))

    def spans(self) -> Spans:
        """The times, merged."""
        self._parts = [union(np.concatenate([np.empty((0, 2), np.int64), *self._parts]))]
        return self._parts[0]


class PoseCoverage:
    """The times at which all transforms in the chain between a stream's frames have a value.

    Args:
        stream: The contract's description.
    """

    def __init__(self, stream: TransformStream) -> None:
        self._tree, self._max_age_ns = FrameTree(stream), stream.max_age_ns
        self._parts: dict[Edge, Coverage] = {}

    def add(
        self,
        from_ns: NDArray[np.int64],
        stamps_ns: NDArray[np.int64],
        edges: NDArray[np.object_],
    ) -> None:
        """Take transforms, of the edges (n,); else as `Coverage.add`."""
        for edge, rows in by_edge(edges):
            if self._tree.add(edge):
                age_ns = None if edge.is_static else self._max_age_ns
                part = self._parts.setdefault(edge, Coverage(0, age_ns))
                part.add(from_ns[rows], stamps_ns[rows])

    def spans(self) -> Spans:
        """The times, merged."""
        chain = self._tree.chain or ()
        parts = [self._parts[step.edge].spans() for step in chain if step.edge in self._parts]
        if not parts or len(parts) < len(chain):
            return np.empty((0, 2), np.int64)
        return reduce(_both, parts)


def _both(one: Spans, other: Spans) -> Spans:
    """The times that are in spans of either."""
    bounds = np.unique(np.concatenate([one.ravel(), other.ravel()]))
    starts, ends = bounds[:-1], bounds[1:]
    is_in_both = covered(one, starts) & covered(other, starts)
    return union(np.stack([starts[is_in_both], ends[is_in_both]], axis=1))


def union(spans: Spans) -> Spans:
    """Merge spans that touch."""
    if not len(spans):
        return spans
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    ends = np.maximum.accumulate(spans[:, 1])
    firsts = np.concatenate([[0], np.flatnonzero(spans[1:, 0] > ends[:-1]) + 1])
    lasts = np.append(firsts[1:] - 1, len(spans) - 1)
    return np.stack([spans[firsts, 0], ends[lasts]], axis=1)


def covered(spans: Spans, times_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each time is in one of the spans, shape (m,)."""
    if not len(spans):
        return np.zeros(len(times_ns), bool)
    index = np.searchsorted(spans[:, 0], times_ns, side="right") - 1
    inside: NDArray[np.bool_] = (index >= 0) & (times_ns < spans[index, 1])
    return inside


@dataclass(frozen=True)
class Usage:
    """What becomes of a recording.

    Attributes:
        recorded_ns: How long it is.
        used_ns: How much of it is in transitions.
        lost_ns: The rest by what it lacks, the longest first.
        gains_ns: For each stream, how much longer all others have values together than with it.
        covered_ns: For each stream, how long it has values.
    """

    recorded_ns: int
    used_ns: int
    lost_ns: tuple[tuple[str, int], ...]
    gains_ns: Mapping[tuple[str, str], int]
    covered_ns: Mapping[tuple[str, str], int]

    def to_json(self) -> dict[str, Any]:
        """Return the figures in seconds, JSON-ready."""
        return {
            "recorded_s": round(self.recorded_ns / SECOND_NS, 6),
            "used_s": round(self.used_ns / SECOND_NS, 6),
            "lost": [
                {"reason": reason, "lost_s": round(ns / SECOND_NS, 6)}
                for reason, ns in self.lost_ns
            ],
        }

    def __str__(self) -> str:
        """In a sentence: ``5 of 18 s; lost: 9 s no /cmd, 4 s no /pose``."""
        recorded_s, used_s = self.recorded_ns / SECOND_NS, self.used_ns / SECOND_NS
        recorded = _short(recorded_s)
        used = _short(used_s)
        if recorded.endswith(" s"):
            used = used.removesuffix(" s")
        text = f"{used} of {recorded}"
        lost = [(reason, ns) for reason, ns in self.lost_ns if _counts(ns, self.recorded_ns)]
        if not lost:
            return text
        parts = [f"{_short(ns / SECOND_NS)} {reason}" for reason, ns in lost[:MOST_REASONS]]
        if rest := sum(ns for _, ns in lost[MOST_REASONS:]):
            parts.append(f"{_short(rest / SECOND_NS)} for other reasons")
        return f"{text}; lost: {', '.join(parts)}"


def usage(
    recorded: tuple[int, int],
    episodes: Sequence[tuple[int, int]],
    streams: Mapping[tuple[str, str], Spans],
    skipped: Sequence[SkippedSpan],
) -> Usage:
    """Say what became of a recording.

    Args:
        recorded: Its first and last time, in nanoseconds.
        episodes: First and last tick of each episode.
        streams: By kind and topic, when each stream has a value.
        skipped: What is in no episode, with the reasons.
    """
    start_ns, end_ns = recorded
    used = union(np.array(episodes, np.int64).reshape(-1, 2))
    edges = [np.array(recorded, np.int64), used.ravel(), *(s.ravel() for s in streams.values())]
    edges += [np.array([each.start_ns, each.end_ns], np.int64) for each in skipped]
    bounds = np.unique(np.clip(np.concatenate(edges), start_ns, end_ns))
    starts, lengths = bounds[:-1], np.diff(bounds)
    in_episode = covered(used, starts)
    has = {key: covered(spans, starts) for key, spans in streams.items()}
    return Usage(
        recorded_ns=end_ns - start_ns,
        used_ns=int(lengths[in_episode].sum()),
        lost_ns=tuple(_lost(has, starts[~in_episode], lengths[~in_episode], ~in_episode, skipped)),
        gains_ns=dict(_gains(has, lengths)),
        covered_ns={key: int(lengths[known].sum()) for key, known in has.items()},
    )


def _lost(
    has: Mapping[tuple[str, str], NDArray[np.bool_]],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    is_lost: NDArray[np.bool_],
    skipped: Sequence[SkippedSpan],
) -> list[tuple[str, int]]:
    """What the lost times lack, and for how long, the longest first."""
    topics = [topic for _, topic in has]
    lacks = np.array([~known[is_lost] for known in has.values()]).reshape(len(topics), len(starts))
    kinds, which = np.unique(lacks, axis=1, return_inverse=True)
    lost: Counter[str] = Counter()
    for index, kind in enumerate(kinds.T):
        pieces = np.flatnonzero(which.ravel() == index)
        if kind.any():
            absent = tuple(
                dict.fromkeys(t for t, lacking in zip(topics, kind, strict=True) if lacking)
            )
            lost[_missing(absent)] += int(lengths[pieces].sum())
            continue
        for piece in pieces.tolist():
            lost[_reason(skipped, int(starts[piece]))] += int(lengths[piece])
    return lost.most_common()


def _gains(
    has: Mapping[tuple[str, str], NDArray[np.bool_]], lengths: NDArray[np.int64]
) -> Iterator[tuple[tuple[str, str], int]]:
    everything = np.ones(len(lengths), bool)
    together = np.logical_and.reduce([everything, *has.values()])
    for key in has:
        others = [known for other, known in has.items() if other != key]
        without = np.logical_and.reduce([everything, *others])
        yield key, int(lengths[without].sum()) - int(lengths[together].sum())


def _missing(topics: Sequence[str]) -> str:
    if len(topics) > 2:
        return f"no {topics[0]} and {len(topics) - 1} others"
    return f"no {' and no '.join(topics)}" if topics else ""


def _reason(skipped: Sequence[SkippedSpan], time_ns: int) -> str:
    """What a time lacks at which each stream has a value."""
    for span in skipped:
        if span.start_ns <= time_ns < span.end_ns:
            rules = [each for each in span.reasons if each.cause not in _OF_A_STREAM]
            return str((rules or [Reason(Cause.BETWEEN)])[0])
    return str(Reason(Cause.BETWEEN))


def _counts(duration_ns: int, recorded_ns: int) -> bool:
    """Whether a loss is worth a word: what is shorter lies between two ticks."""
    return duration_ns >= max(0.01 * recorded_ns, 1)


def _short(seconds: float) -> str:
    """Return a duration as a person reads it: ``4.2 s``, ``34 min``, ``5.3 h``, ``120 days``."""
    for unit, length_s, least in (("days", 86400, 3), ("h", 3600, 3), ("min", 60, 10)):
        if seconds >= least * length_s:
            return f"{seconds / length_s:,.{1 if seconds < 10 * length_s else 0}f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.2g} s"
