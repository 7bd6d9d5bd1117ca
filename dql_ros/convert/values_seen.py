"""What messages had instead, where none of a recording raised a flag or an event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from dql_core.strict_yaml import StrictModel
from dql_ros.contract import Equals, equal_values

MOST_SHOWN = 4
MOST_CHARACTERS = 40
# Of more different values than this, the rare ones are counted together.
MOST_KINDS = 100
# Without these events no episode begins.
OPENINGS = {"start", "during"}


class SeenValue(StrictModel):
    """A value as yaml has it, a long one shortened, and how many messages had it."""

    value: str
    count: int


class Unmatched(StrictModel):
    """A flag or an event that no message of a recording raised.

    Attributes:
        role: The contract's key: ``start``, ``stop``, ``during``, ``terminated``, ``truncated``.
        topic: Absolute topic name.
        path: Path to what was compared.
        wanted: What would have raised it, in words.
        seen: The most frequent values, the most frequent first; none where no message has the
            path.
        others: How many messages had another value than these.
    """

    role: str
    topic: str
    path: str
    wanted: str
    seen: tuple[SeenValue, ...]
    others: int = 0

    def __str__(self) -> str:
        """Return it in words."""
        if not self.seen:
            return f"{self.role}: no message of {self.topic} has {self.path}"
        values = [f"{each.value} {each.count:,} x" for each in self.seen]
        values += [f"others {self.others:,} x"] if self.others else []
        return (
            f"{self.role}: {self.topic} {self.path} is never {self.wanted} "
            f"(seen: {', '.join(values)})"
        )


def merged(rows: Sequence[Unmatched]) -> Unmatched:
    """Return what several recordings had of one flag or event."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update({each.value: each.count for each in row.seen})
    seen, rare = _most_frequent(counts)
    others = rare + sum(row.others for row in rows)
    return rows[0].model_copy(update={"seen": seen, "others": others})


class ValuesSeen:
    """Counts the values of a flag or an event up to the first message that raises it.

    Of more than `MOST_KINDS` different ones, the counts may be too low.

    Args:
        role: The contract's key.
        topic: Absolute topic name.
        path: Path to what is compared.
        equals: What raises it, as the contract has it.
    """

    def __init__(self, role: str, topic: str, path: str, equals: Equals | None) -> None:
        self._role, self._topic, self._path, self._equals = role, topic, path, equals
        self._of_flags = equals is not None and all(
            isinstance(each, bool) for each in equal_values(equals)
        )
        self._counts: Counter[str] = Counter()
        self._others = 0
        self._is_heard = self._is_raised = False

    def add(self, values: NDArray[np.float64] | list[object], raised: NDArray[np.float64]) -> None:
        """Take in the values of n messages and which of them raise it.

        Args:
            values: Shape (n,), or a list that has ``None`` for a message without the path. NaN
                in an array is such a message, too.
            raised: 1 for those that do, shape (n,).
        """
        if self._is_raised or not len(raised):
            return
        self._is_heard = True
        if (raised == 1).any():
            self._is_raised = True
            return
        found = _counted(values) if isinstance(values, np.ndarray) else Counter(values).items()
        for value, count in found:
            if value is not None:
                self._counts[self._shown(value)] += count
        if len(self._counts) > MOST_KINDS:
            kept = Counter(dict(self._counts.most_common(MOST_KINDS)))
            self._others += self._counts.total() - kept.total()
            self._counts = kept

    @property
    def unmatched(self) -> Unmatched | None:
        """What was seen; ``None`` if it was raised, or there was no message."""
        if self._is_raised or not self._is_heard:
            return None
        seen, rare = _most_frequent(self._counts)
        return Unmatched(
            role=self._role,
            topic=self._topic,
            path=self._path,
            wanted=self._wanted(),
            seen=seen,
            others=rare + self._others,
        )

    def _wanted(self) -> str:
        if self._equals is not None:
            wanted = [_shown(each) for each in equal_values(self._equals)]
            more = len(wanted) - MOST_SHOWN
            wanted[MOST_SHOWN:] = [f"one of {more} more"] if more > 0 else []
            return " or ".join(wanted)
        if "false" in self._counts:
            return "true"
        return "other than ''" if "''" in self._counts else "other than 0"

    def _shown(self, value: object) -> str:
        return _shown(bool(value) if self._of_flags and value in {0, 1} else value)


def _counted(values: NDArray[np.float64]) -> Iterable[tuple[float, int]]:
    found, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    return zip(found.tolist(), counts.tolist(), strict=True)


def _most_frequent(counts: Counter[str]) -> tuple[tuple[SeenValue, ...], int]:
    """Return the most frequent values, and how many messages had another."""
    shown = tuple(
        SeenValue(value=value, count=count) for value, count in counts.most_common(MOST_SHOWN)
    )
    return shown, counts.total() - sum(each.count for each in shown)


def _shown(value: object) -> str:
    """Return a value as the contract would have it."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, str):
        is_long = len(value) > MOST_CHARACTERS
        return repr(f"{value[:MOST_CHARACTERS]}…" if is_long else value)
    # All digits: a float32 of 0.1 does not equal 0.1.
    if isinstance(value, float | np.floating):
        return repr(float(value)).removesuffix(".0")
    return str(value)
