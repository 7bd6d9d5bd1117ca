"""What rounding to float32, as the dataset and the networks have it, leaves of each field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.spec import FieldSpec
from dql_core.strict_yaml import StrictModel

# Up to it float64 has every whole number.
LARGEST_WHOLE = 2.0**53
# Rounding errors of this share of a field's usual change blur what it does.
LARGEST_SHARE = 0.05
# A single change of this share of a field's range is a jump, as at a receiver's first position.
SHARE_OF_JUMP = 0.5
# Where a field has jumped, rounding leaves at least this share of its changes.
SMALLEST_KEPT = 0.75


class PrecisionRow(StrictModel):
    """One field, at the ticks of the episodes.

    Attributes:
        low: Its smallest value before rounding.
        high: Its largest.
        changes: How often it differs from the tick before.
        kept: How often it still does after rounding.
        sum_of_changes: How much it changed, added up.
        sum_of_errors: How far rounding moved its values, added up.
        largest_change: How much it changed at most from one tick to the next.
        count: How many values it had.
    """

    low: float
    high: float
    changes: int
    kept: int
    sum_of_changes: float
    sum_of_errors: float
    largest_change: float
    count: int

    @property
    def is_constant(self) -> bool:
        """Whether it was one value throughout, before rounding."""
        return self.low == self.high

    @property
    def farthest(self) -> float:
        """The value that is farthest from 0."""
        return max(self.high, self.low, key=abs)

    @property
    def resolution(self) -> float:
        """Distance of the float32 numbers where the field's largest values are."""
        return float(np.spacing(np.float32(abs(self.farthest))))

    @property
    def mean_change(self) -> float:
        """How much it changes where it does."""
        return self.sum_of_changes / self.changes if self.changes else 0.0

    @property
    def is_wide(self) -> bool:
        """Whether even float64 has not every whole number where its values are."""
        return abs(self.farthest) > LARGEST_WHOLE

    @property
    def has_jumped(self) -> bool:
        """Whether one change made up much of its range."""
        return self.largest_change > SHARE_OF_JUMP * (self.high - self.low)

    @property
    def is_blurred(self) -> bool:
        """Whether rounding takes away much of what the field does."""
        if self.is_constant:
            return self.is_wide
        if not self.changes:  # it differs from episode to episode only
            return bool(np.float32(self.low) == np.float32(self.high))
        if self.has_jumped:  # which says nothing of how the field usually changes
            return self.kept < SMALLEST_KEPT * self.changes
        return self.sum_of_errors / self.count > LARGEST_SHARE * self.mean_change

    @property
    def blur(self) -> str:
        """What rounding takes away, as a clause; empty if it is not blurred."""
        if not self.is_blurred:
            return ""
        return (
            f"float32 blurs it: at {self.farthest:.10g} its resolution is {self.resolution:.2g}, "
            f"the field changes by {self.mean_change:.2g} at a time and "
            f"{self.high - self.low:.2g} in all, and {self.kept:,} of {self.changes:,} changes "
            f"are left"
        )


class Precision:
    """Measures what rounding takes away from the F fields of a vector, episode by episode.

    Args:
        width: F.
    """

    def __init__(self, width: int) -> None:
        self._low = np.full(width, np.inf)
        self._high = np.full(width, -np.inf)
        self._changes = np.zeros(width, np.int64)
        self._kept = np.zeros(width, np.int64)
        self._sum_of_changes = np.zeros(width)
        self._sum_of_errors = np.zeros(width)
        self._largest_change = np.zeros(width)
        self._count = 0

    def add(self, values: NDArray[np.float64], rounded: NDArray[np.float32]) -> None:
        """Take an episode's values, finite, before and after rounding; shape (n, F), n > 0."""
        self._low = np.minimum(self._low, values.min(axis=0))
        self._high = np.maximum(self._high, values.max(axis=0))
        steps = np.abs(np.diff(values, axis=0))
        self._changes += np.count_nonzero(steps, axis=0)
        self._kept += np.count_nonzero(rounded[1:] != rounded[:-1], axis=0)
        self._sum_of_changes += steps.sum(axis=0)
        self._sum_of_errors += np.abs(values - rounded).sum(axis=0)
        self._largest_change = np.maximum(self._largest_change, steps.max(axis=0, initial=0.0))
        self._count += len(values)

    def rows(self) -> tuple[PrecisionRow, ...]:
        """Return a row a field; none before the first episode."""
        if not self._count:
            return ()
        columns = (
            self._low,
            self._high,
            self._changes,
            self._kept,
            self._sum_of_changes,
            self._sum_of_errors,
            self._largest_change,
        )
        return tuple(
            PrecisionRow(**dict(zip(PrecisionRow.model_fields, (*row, self._count), strict=True)))
            for row in zip(*(column.tolist() for column in columns), strict=True)
        )


def merged(parts: Sequence[Sequence[PrecisionRow]]) -> tuple[PrecisionRow, ...]:
    """Return the rows of several bags as one of all; those without a row do not count."""
    found = [part for part in parts if part]
    return tuple(
        PrecisionRow(
            low=min(row.low for row in rows),
            high=max(row.high for row in rows),
            changes=sum(row.changes for row in rows),
            kept=sum(row.kept for row in rows),
            sum_of_changes=sum(row.sum_of_changes for row in rows),
            sum_of_errors=sum(row.sum_of_errors for row in rows),
            largest_change=max(row.largest_change for row in rows),
            count=sum(row.count for row in rows),
        )
        for rows in zip(*found, strict=True)
    )


def blurred(
    rows: Sequence[PrecisionRow], specs: Sequence[FieldSpec], *, are_observed: bool
) -> list[str]:
    """Return a sentence, without a full stop, for each field that float32 blurs.

    Args:
        rows: A row a field; none if there was no episode.
        specs: The fields.
        are_observed: Whether they are observed, so that they may be counted from the first value.
    """
    return [
        f"{spec.name}: {row.blur}{_of_integers(row)}; set {_remedy(row, are_observed)} for it in "
        f"the contract"
        for row, spec in zip(rows, specs, strict=False)
        if row.is_blurred
    ]


def _remedy(row: PrecisionRow, are_observed: bool) -> str:
    # Where it has jumped, its first value or its smallest may be none of those that are blurred.
    offset = row.farthest if row.has_jumped else row.low
    fixed = f"'offset: {offset:.0f}'" if row.is_wide else f"'offset: {offset:.10g}'"
    return f"'offset: first' or {fixed}" if are_observed and not row.has_jumped else fixed


def _of_integers(row: PrecisionRow) -> str:
    """What is lost of an integer's changes before they could be measured."""
    if not row.is_wide:
        return ""
    return (
        f"; of an integer these are already rounded to the {np.spacing(row.high):.2g} that "
        f"float64 resolves there"
    )


def to_json(row: PrecisionRow) -> dict[str, Any]:
    """Return what the report says of a field's rounding."""
    return {
        "resolution": row.resolution,
        "changes": row.changes,
        "kept_changes": row.kept,
        "mean_change": row.mean_change,
        "blurred": row.is_blurred,
    }
