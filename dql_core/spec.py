"""The waist of the project: what the robot side and the policy side must agree on.

What an observation and an action mean, and an episode of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ContractError, SpecMismatchError, did_you_mean

MAX_RATE_HZ = 1e6
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class FieldSpec:
    """One scalar of an observation or action vector.

    Attributes:
        name: Unique within its vector, for example ``joint_states.position.elbow``.
        unit: REP-103 unit such as ``rad`` or ``m/s``; empty when it has none.
        low: Smallest value allowed, in ``unit``; ``-inf`` when unbounded.
        high: Largest value allowed, in ``unit``; ``inf`` when unbounded.
    """

    name: str
    unit: str = ""
    low: float = -np.inf
    high: float = np.inf


@dataclass(frozen=True)
class PolicySpec:
    """Ordered observation and action fields at a control rate, with the hash of their contract.

    It is written into every dataset, checkpoint and policy bundle and compared at each hand-over.

    Attributes:
        robot: Name of the robot or environment.
        rate_hz: Control rate in Hz; 0 when unknown, as for a dataset without a contract.
        observation: Fields of the observation vector, length O.
        action: Fields of the action vector, length A; their bounds are finite.
        contract_hash: SHA-256 of the contract, or empty when there is none.
    """

    robot: str
    rate_hz: float
    observation: tuple[FieldSpec, ...]
    action: tuple[FieldSpec, ...]
    contract_hash: str = ""

    @property
    def action_low(self) -> NDArray[np.float32]:
        """Lower action bounds, shape (A,)."""
        return np.array([field.low for field in self.action], dtype=np.float32)

    @property
    def action_high(self) -> NDArray[np.float32]:
        """Upper action bounds, shape (A,)."""
        return np.array([field.high for field in self.action], dtype=np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; an infinite bound becomes ``None``."""
        document = asdict(self)
        for kind in ("observation", "action"):
            document[kind] = list(document[kind])
        for field in (*document["observation"], *document["action"]):
            field["low"] = field["low"] if np.isfinite(field["low"]) else None
            field["high"] = field["high"] if np.isfinite(field["high"]) else None
        return document

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> PolicySpec:
        """Rebuild the spec that `to_json` wrote.

        Raises:
            ValueError: If ``document`` is none, naming the key that is wrong.
        """
        return cls(
            robot=_value(document, "robot", str),
            rate_hz=_value(document, "rate_hz", int, float),
            observation=tuple(map(_field_from_json, _value(document, "observation", list))),
            action=tuple(map(_field_from_json, _value(document, "action", list))),
            contract_hash=_value(document, "contract_hash", str),
        )

    def require_sound(self) -> None:
        """Refuse numbers that no robot has, in a spec that somebody else may have written.

        Raises:
            ValueError: Naming the first that breaks a rule.
        """
        if not 0.0 <= self.rate_hz <= MAX_RATE_HZ:
            raise ValueError(f"a spec's rate_hz is {self.rate_hz!r:.80}, beyond 0 to 1e6")
        for kind, fields in (("observation", self.observation), ("action", self.action)):
            if not fields:
                raise ValueError(f"a spec has no {kind} field")
            for field in fields:
                bounds = f"'{field.name:.80}' is from {field.low!r:.80} to {field.high!r:.80}"
                if not field.low <= field.high:
                    raise ValueError(f"the {kind} field {bounds}")
                sizes = abs(field.low), abs(field.high)
                if any(size > _LARGEST and (kind == "action" or size != np.inf) for size in sizes):
                    raise ValueError(f"the {kind} field {bounds}, beyond what float32 can hold")

    def require_equal(self, other: PolicySpec, here: str, there: str) -> None:
        """Compare with ``other`` and name the first difference.

        Args:
            other: The spec on the other side of the hand-over.
            here: What this spec belongs to, for the message ("contract arm.yaml").
            there: What ``other`` belongs to ("bundle runs/arm/bundle").

        Raises:
            SpecMismatchError: Naming the first difference and both values.
        """
        difference = self._first_difference(other)
        if difference is not None:
            what, mine, theirs = difference
            raise SpecMismatchError(
                f"{here} and {there} do not describe the same robot: {what} is {mine} in the "
                f"former and {theirs} in the latter; use the contract the policy was trained "
                f"with, or convert and train again"
            )

    def _first_difference(self, other: PolicySpec) -> tuple[str, object, object] | None:
        for kind in ("observation", "action"):
            mine, theirs = getattr(self, kind), getattr(other, kind)
            for index, (field, its) in enumerate(zip(mine, theirs, strict=False)):
                for key in ("name", "unit", "low", "high"):
                    if getattr(field, key) != getattr(its, key):
                        what = f"{kind} field {index} ('{field.name}') {key}"
                        return what, repr(getattr(field, key)), repr(getattr(its, key))
            if len(mine) != len(theirs):
                return f"the number of {kind} fields", len(mine), len(theirs)
        for key in ("rate_hz", "robot", "contract_hash"):
            if getattr(self, key) != getattr(other, key):
                return key, repr(getattr(self, key)), repr(getattr(other, key))
        return None


def _field_from_json(document: Any) -> FieldSpec:
    low, high = (_value(document, key, int, float, type(None)) for key in ("low", "high"))
    return FieldSpec(
        name=_value(document, "name", str),
        unit=_value(document, "unit", str),
        low=-np.inf if low is None else low,
        high=np.inf if high is None else high,
    )


def _value(document: Any, key: str, *types: type) -> Any:
    found = document.get(key, ...) if isinstance(document, dict) else ...
    is_nan = isinstance(found, float) and math.isnan(found)
    if type(found) not in types or is_nan:
        raise ValueError(f"a spec's '{key}' is {'missing' if found is ... else repr(found):.80}")
    return found


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
    """Positions of named fields in their vector, which is of ``kind``."""
    known = [field.name for field in fields]
    for name in names:
        if name not in known:
            raise ContractError(f"no {kind} field '{name}'{did_you_mean(str(name), known)}")
    return [known.index(name) for name in names]
