"""An episode as a reward function sees it: arrays, and their fields by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ContractError, did_you_mean
from dql_core.spec import FieldSpec, PolicySpec


@dataclass(frozen=True)
class LoggedEpisode:
    """One episode of T transitions, without its rewards.

    Fields are found by name; a wrong one is a `ContractError` that names the nearest right one.

    Attributes:
        observations: Shape (T + 1, O), float32; the last row is what followed the last action.
        actions: Shape (T, A), float32.
        spec: Names the O and A fields, with their units and bounds.
        terminated: The task itself ended with the last transition (success, crash).
        truncated: Only the recording of the episode ended there.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    spec: PolicySpec
    terminated: bool = False
    truncated: bool = False

    def __len__(self) -> int:
        """Number of transitions, T."""
        return len(self.actions)

    def observation(self, name: str) -> NDArray[np.float64]:
        """Return one observation field over time, shape (T + 1,)."""
        return self.observation_fields([name])[:, 0]

    def action(self, name: str) -> NDArray[np.float64]:
        """Return one action field over time, shape (T,)."""
        return self.action_fields([name])[:, 0]

    def observation_fields(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Return n observation fields in the order of ``names``, shape (T + 1, n)."""
        indices = field_indices(self.spec.observation, names, "observation")
        return self.observations[:, indices].astype(np.float64)

    def action_fields(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Return n action fields in the order of ``names``, shape (T, n)."""
        indices = field_indices(self.spec.action, names, "action")
        return self.actions[:, indices].astype(np.float64)


def field_indices(fields: Sequence[FieldSpec], names: Sequence[str], kind: str) -> list[int]:
    """Positions of named fields in their vector.

    Args:
        fields: All fields of the vector.
        names: The wanted ones.
        kind: ``observation`` or ``action``, for messages.

    Raises:
        ContractError: Naming the field that does not exist, and the nearest that does.
    """
    known = [field.name for field in fields]
    for name in names:
        if name not in known:
            raise ContractError(f"no {kind} field '{name}'{did_you_mean(str(name), known)}")
    return [known.index(name) for name in names]
