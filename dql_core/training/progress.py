"""What a run has summed up and not yet written down; a checkpoint carries it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter


@dataclass
class LossSums:
    """Sums of losses over updates.

    Losses are added one update after the other, so that a pause at any of them changes no bit.

    Attributes:
        totals: Sum of each loss by its name.
        count: Updates summed up.
    """

    totals: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def add(self, names: Sequence[str], rows: NDArray[np.float64]) -> None:
        """Add the losses of n updates, shape (n, len(names))."""
        before = [self.totals.get(name, 0.0) for name in names]
        # A sum over an axis may add in any order, a cumulative one may not.
        sums = np.cumsum(np.vstack([before, rows]), axis=0)[-1]
        self.totals = dict(zip(names, sums.tolist(), strict=True))
        self.count += len(rows)

    def means(self) -> dict[str, float]:
        """Return the mean of each loss; nothing if there was no update."""
        return {name: total / self.count for name, total in self.totals.items()}

    def reset(self) -> None:
        """Start again."""
        self.totals, self.count = {}, 0


@dataclass
class Progress:
    """The sums of a run.

    Attributes:
        since_reading: Losses since the last line of metrics.
        since_checkpoint: Losses since the last due checkpoint.
        alarming: Whether the values are out of all bounds.
    """

    since_reading: LossSums = field(default_factory=LossSums)
    since_checkpoint: LossSums = field(default_factory=LossSums)
    alarming: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document; its numbers come back to the last bit."""
        return {
            "since_reading": vars(self.since_reading),
            "since_checkpoint": vars(self.since_checkpoint),
            "alarming": self.alarming,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Progress:
        """Rebuild what `to_json` described.

        Raises:
            ValueError: If ``document`` is something else.
        """
        progress = TypeAdapter(cls).validate_python(document)
        for sums in (progress.since_reading, progress.since_checkpoint):
            if sums.count < bool(sums.totals):
                raise ValueError(f"losses of {sums.count} updates are summed up")
        return progress
