"""The waist of the project: what the robot side and the policy side must agree on.

What an observation and an action mean, and an episode of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ContractError, SpecMismatchError, did_you_mean
from dql_core.streams import PREVIOUS_ACTION

MAX_RATE_HZ = 1e6
# Under this name recordings and datasets carry the text of their contract.
CONTRACT_KEY = "dql_contract"
_PREVIOUS = re.compile(rf"{PREVIOUS_ACTION}\.\d+\.")
_LARGEST = float(np.finfo(np.float32).max)
# More differences than these say nothing more.
_SHOWN_DIFFERENCES = 3
_REMEDY = "use the contract the policy was trained with, or convert and train again"


@dataclass(frozen=True)
class FieldSpec:
    """One scalar of an observation or action vector.

    Attributes:
        name: Unique within its vector, for example ``joint_states.position.elbow``.
        unit: REP-103 unit such as ``rad`` or ``m/s``; empty when it has none.
        low: Smallest value allowed, in ``unit``; ``-inf`` when unbounded.
        high: Largest value allowed, in ``unit``; ``inf`` when unbounded.
        max_rate: Of an action, its largest change in a second, in ``unit``/s.
        source: What else its meaning depends on, by key of the contract: topic, path, encoding.
            ``None`` where that is unknown, as for data without a contract.
    """

    name: str
    unit: str = ""
    low: float = -np.inf
    high: float = np.inf
    max_rate: float = np.inf
    source: Mapping[str, Any] | None = field(default=None, hash=False)


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
        return np.array([each.low for each in self.action], dtype=np.float32)

    @property
    def action_high(self) -> NDArray[np.float32]:
        """Upper action bounds, shape (A,)."""
        return np.array([each.high for each in self.action], dtype=np.float32)

    @property
    def previous_actions(self) -> tuple[int, ...]:
        """Positions in the observation of what was commanded before."""
        return tuple(n for n, each in enumerate(self.observation) if _PREVIOUS.match(each.name))

    @property
    def observes_past(self) -> bool:
        """Whether earlier values or commands are observed, which only a contract's rules know."""
        return any({"ago_s", "periods_ago"} & set(each.source or ()) for each in self.observation)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; an infinite bound becomes ``None``."""
        document = asdict(self)
        for kind in ("observation", "action"):
            document[kind] = list(document[kind])
        for entry in (*document["observation"], *document["action"]):
            for key in ("low", "high", "max_rate"):
                entry[key] = entry[key] if np.isfinite(entry[key]) else None
            for key in ("max_rate", "source"):
                if entry[key] is None:
                    del entry[key]
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
            for each in fields:
                bounds = f"'{each.name:.80}' is from {each.low!r:.80} to {each.high!r:.80}"
                if not each.low <= each.high:
                    raise ValueError(f"the {kind} field {bounds}")
                if not each.max_rate > 0:
                    what = f"the {kind} field '{each.name:.80}'"
                    raise ValueError(f"{what} has a max_rate of {each.max_rate!r:.80}")
                sizes = abs(each.low), abs(each.high)
                if any(size > _LARGEST and (kind == "action" or size != np.inf) for size in sizes):
                    raise ValueError(f"the {kind} field {bounds}, beyond what float32 can hold")

    def within(self, other: PolicySpec) -> PolicySpec:
        """Return this spec with the tighter limits of both, which has as many fields."""
        return self._limited(other, max, min)

    def joined(self, other: PolicySpec) -> PolicySpec:
        """Return this spec with the looser limits of both, which has as many fields."""
        return self._limited(other, min, max)

    def _limited(
        self,
        other: PolicySpec,
        of_lows: Callable[[float, float], float],
        of_highs: Callable[[float, float], float],
    ) -> PolicySpec:
        def limited(mine: FieldSpec, its: FieldSpec) -> FieldSpec:
            return replace(
                mine,
                low=of_lows(mine.low, its.low),
                high=of_highs(mine.high, its.high),
                max_rate=of_highs(mine.max_rate, its.max_rate),
            )

        return replace(
            self,
            observation=tuple(map(limited, self.observation, other.observation)),
            action=tuple(map(limited, self.action, other.action)),
        )

    def require_same_meaning(
        self, other: PolicySpec, here: str, there: str, remedy: str = _REMEDY
    ) -> None:
        """Refuse ``other`` if its numbers mean anything else; limits may differ.

        Where one of them does not say what its fields are made of, as without a contract or from
        before that was kept, limits and the contract's hash must be equal, too.

        Args:
            other: The spec on the other side of the hand-over.
            here: What this spec belongs to, for the message ("the checkpoint").
            there: What ``other`` belongs to ("dataset data/arm").
            remedy: What the user can do about it.

        Raises:
            SpecMismatchError: Naming each key that differs and both values.
        """
        found = list(islice(_differences(self, other), _SHOWN_DIFFERENCES))
        if not found and not (self._has_sources and other._has_sources):
            found = list(islice(self._unlike(other, here, there), 1))
        if found:
            raise SpecMismatchError(
                f"{here} and {there} do not describe the same robot: {'; '.join(found)}; {remedy}"
            )

    def require_fits(self, policy: PolicySpec, here: str, there: str) -> None:
        """Refuse a policy whose numbers mean anything else, or that knows tighter limits.

        Args:
            policy: What the policy was trained with.
            here: What this spec belongs to, for the message ("the contract").
            there: What ``policy`` belongs to ("bundle runs/arm/bundle").

        Raises:
            SpecMismatchError: Naming each key that differs and both values.
        """
        self.require_same_meaning(policy, here, there)
        found = list(islice(_looser_limits(self, policy), _SHOWN_DIFFERENCES))
        if found:
            raise SpecMismatchError(
                f"{here} allows more than {there} was trained with: {'; '.join(found)}; limits "
                f"may be tighter than in training, never looser: tighten them, or convert and "
                f"train again"
            )

    @property
    def _has_sources(self) -> bool:
        return all(each.source is not None for each in (*self.observation, *self.action))

    def _unlike(self, other: PolicySpec, here: str, there: str) -> Iterator[str]:
        """Compare all, with a spec that does not say what its fields are made of."""
        for kind in ("observation", "action"):
            for what, mine, its in _pairs(self, other, kind):
                for key in ("low", "high"):
                    if getattr(mine, key) != getattr(its, key):
                        yield _difference(f"{what} {key}", getattr(mine, key), getattr(its, key))
        if self.contract_hash != other.contract_hash:
            unknown = here if self._is_less_known_than(other) else there
            if not all((self.contract_hash, other.contract_hash)):
                yield f"{unknown} has no contract"
            else:
                yield (
                    f"{unknown} is of an older version, which kept of its contract only a hash, "
                    f"and that is of another contract, or of this one before a key was changed"
                )

    def _is_less_known_than(self, other: PolicySpec) -> bool:
        if not all((self.contract_hash, other.contract_hash)):
            return not self.contract_hash
        return not self._has_sources and other._has_sources


def _pairs(
    one: PolicySpec, other: PolicySpec, kind: str
) -> Iterator[tuple[str, FieldSpec, FieldSpec]]:
    for index, (mine, its) in enumerate(
        zip(getattr(one, kind), getattr(other, kind), strict=False)
    ):
        yield f"{kind} field {index} ('{mine.name}')", mine, its


def _differences(one: PolicySpec, other: PolicySpec) -> Iterator[str]:
    """Name what the numbers of two specs have of different meaning, with both values."""
    for kind in ("observation", "action"):
        for what, mine, its in _pairs(one, other, kind):
            # Of another field everything else is different, too.
            found = _meanings_apart(mine, its)
            if found is not None:
                yield _difference(f"{what} {found[0]}", *found[1:])
        counts = len(getattr(one, kind)), len(getattr(other, kind))
        if counts[0] != counts[1]:
            yield _difference(f"the number of {kind} fields", *counts)
    for key in ("rate_hz", "robot"):
        if getattr(one, key) != getattr(other, key):
            yield _difference(key, getattr(one, key), getattr(other, key))


def _meanings_apart(mine: FieldSpec, its: FieldSpec) -> tuple[str, object, object] | None:
    """Return the first key in which two fields differ, limits apart, and both values."""
    for key in ("name", "unit"):
        if getattr(mine, key) != getattr(its, key):
            return key, getattr(mine, key), getattr(its, key)
    if mine.source is None or its.source is None:
        return None
    for key in dict.fromkeys([*mine.source, *its.source]):
        if mine.source.get(key) != its.source.get(key):
            return key, mine.source.get(key), its.source.get(key)
    return None


def _looser_limits(one: PolicySpec, policy: PolicySpec) -> Iterator[str]:
    for kind in ("observation", "action"):
        for what, mine, its in _pairs(one, policy, kind):
            wider = {"low": mine.low < its.low, "high": mine.high > its.high}
            knows_rate = its.source is not None
            wider["max_rate"] = knows_rate and mine.max_rate > its.max_rate
            for key, is_wider in wider.items():
                if is_wider:
                    yield _difference(f"{what} {key}", getattr(mine, key), getattr(its, key))


def _difference(what: str, mine: object, its: object) -> str:
    former, latter = ("not given" if value is None else f"{value!r:.200}" for value in (mine, its))
    return f"{what} is {former} in the former and {latter} in the latter"


def _field_from_json(document: Any) -> FieldSpec:
    low, high = (_value(document, key, int, float, type(None)) for key in ("low", "high"))
    name, unit = (_value(document, key, str) for key in ("name", "unit"))
    # Specs of older versions have neither.
    max_rate = _value(document, "max_rate", int, float, type(None), default=None)
    source = _value(document, "source", dict, type(None), default=None)
    return FieldSpec(
        name=name,
        unit=unit,
        low=-np.inf if low is None else low,
        high=np.inf if high is None else high,
        max_rate=np.inf if max_rate is None else max_rate,
        source=source,
    )


def _value(document: Any, key: str, *types: type, default: Any = ...) -> Any:
    found = document.get(key, default) if isinstance(document, dict) else ...
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
        success: Whether the task succeeded; ``None`` where nobody knows, as of an episode that
            nobody labelled.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    spec: PolicySpec
    terminated: bool = False
    truncated: bool = False
    success: bool | None = None

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
    known = [each.name for each in fields]
    for name in names:
        if name not in known:
            raise ContractError(f"no {kind} field '{name}'{did_you_mean(str(name), known)}")
    return [known.index(name) for name in names]
