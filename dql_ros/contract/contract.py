"""The whole contract, and how its file is found and read."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from dql_core.errors import ContractError
from dql_core.rewards.call import RewardFunction
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.strict_yaml import StrictModel, parse, problems_in, read_yaml
from dql_ros.config_files import find_config
from dql_ros.contract.field import require_few
from dql_ros.contract.outcomes import Outcomes
from dql_ros.contract.stream import (
    MAX_HISTORY,
    MAX_PAST_S,
    ActionStream,
    ObservationStream,
    Stream,
    encoded_specs,
    observed_specs,
    previous_specs,
    resolve_topic,
)
from dql_ros.contract.takeover import Takeover
from dql_ros.contract.task import SIM_RESET, EpisodeRules, Event, FlagStream, Reward, SignalStream
from dql_ros.contract.transforms import Observed

MIN_RATE_HZ = 0.001
# What the running node obeys: it may be changed without a new dataset and a new policy.
_LIVE_ONLY: Any = {
    "on_fault": True,
    "takeover": True,
    "observation": {"__all__": {"max_ahead_s"}},
    "action": {
        "__all__": {"max_ahead_s": True, "send_as": True, "fields": {"__all__": {"max_rate"}}}
    },
}


_TWIN_TOPICS = {
    "observation": "; select all of one message's fields in one stream, or give streams of "
    "different messages a 'name' each",
    "action": "; a command is one message",
}


class FaultRules(StrictModel):
    """What the robot is sent when no action can be sampled: hold, then ramp, then give up.

    Attributes:
        hold_s: The last command is kept for at most so long; in seconds.
        ramp_s: It then goes to the safe command in a straight line within so long; in seconds.
        command: The safe command, length A; zeros by default.
        deactivate_after_s: The policy node deactivates itself when it could not act for so long,
            in seconds; if null, it goes on as soon as it can.
    """

    hold_s: float = Field(default=0.0, ge=0, le=3600)
    ramp_s: float = Field(default=0.0, ge=0, le=3600)
    command: tuple[float, ...] = ()
    deactivate_after_s: float | None = Field(default=None, gt=0, le=86400)

    def problems(self, action: Sequence[FieldSpec]) -> Iterator[str]:
        """Yield what is wrong for an action of these fields."""
        if self.command and len(self.command) != len(action):
            yield (
                f"on_fault.command has {len(self.command)} entries for {len(action)} action fields"
            )
        given = self.command or (0.0,) * len(action)
        for field, value in zip(action, given, strict=False):
            if not math.isfinite(value):
                yield f"on_fault.command has an entry {value}: a robot can only be sent numbers"
            elif not field.low <= value <= field.high:
                what = "" if self.command else ", the default,"
                yield (
                    f"on_fault.command is {value:g}{what} for '{field.name}', outside of its "
                    f"bounds {field.low:g} to {field.high:g}: give on_fault.command within them"
                )
        if self.deactivate_after_s is not None:
            needed_s = self.hold_s + self.ramp_s
            if self.deactivate_after_s < needed_s:
                yield (
                    f"on_fault.deactivate_after_s is {self.deactivate_after_s:g}, before hold and "
                    f"ramp are over: give at least {needed_s:g}"
                )


class Contract(StrictModel):
    """Everything the two sides must agree on about one robot.

    Attributes:
        robot: Name of the robot.
        rate_hz: Control rate in Hz.
        tick: What the ticks of a recording are: a grid of that rate, or the stamps of the first
            action topic's own messages.
        observation: Streams whose fields make up the observation vector, in order.
        action: Streams whose fields make up the action vector, in order.
        previous_action: Of how many control periods before the tick the command is observed, too,
            newest first, behind all streams: what the robot was sent then, whoever decided it.
        reward: Where the reward comes from; `None` if the log is only imitated.
        episode: Where episodes begin and end.
        nonfinite: What becomes of a NaN or an infinity in a needed field of a recording: it is
            refused, the ticks that it reaches are dropped, or the episode is split there.
        beyond_bounds: What becomes of recorded actions beyond the bounds: they are clipped, they
            are refused, or the dataset's bounds are widened.
        clock: What becomes of a recording whose times cannot be right - its clock was set back, a
            stamp is later than its receipt or is no time, the two clocks were moved against each
            other: it is refused, or the episode is split there.
        on_fault: What the robot is sent when no action can be sampled.
        takeover: How a person takes over from the policy; ``None`` if nobody can.
        outcomes: How a person labels episodes; ``None``: labels do not matter.
    """

    robot: str
    rate_hz: float = Field(gt=0, le=2000)
    tick: Literal["grid", "action"] = "grid"
    observation: tuple[Observed, ...] = Field(min_length=1)
    action: tuple[ActionStream, ...] = Field(min_length=1)
    previous_action: int = Field(default=0, ge=0, le=MAX_HISTORY)
    reward: Reward | None = None
    episode: EpisodeRules = EpisodeRules()
    nonfinite: Literal["refuse", "drop", "split"] = "refuse"
    beyond_bounds: Literal["clip", "refuse", "widen"] = "clip"
    clock: Literal["refuse", "split"] = "refuse"
    on_fault: FaultRules = FaultRules()
    takeover: Takeover | None = None
    outcomes: Outcomes | None = None

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, document: Any) -> Any:
        require_few(document)
        return document

    @model_validator(mode="after")
    def _consistent(self) -> Contract:
        problems = list(self._problems())
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        if self.rate_hz < MIN_RATE_HZ:
            yield f"rate_hz is {self.rate_hz:g}: a control rate is {MIN_RATE_HZ:g} Hz or more"
            return  # the past is counted in periods
        for kind, fields in (("observation", self._observed), ("action", self._commanded)):
            streams: tuple[Stream, ...] = getattr(self, kind)
            yield from _twins([spec.name for spec in fields], f"{kind} field")
            yield from _twins(
                [stream.key for stream in streams], f"{kind} topic", _TWIN_TOPICS[kind]
            )
        if all(stream.latched for stream in self.observation):
            yield "at least one observation stream must not be latched"
        yield from self._problems_of_the_past()
        goals = [stream.send_as for stream in self.action if stream.send_as]
        yield from _twins([resolve_topic(each.action) for each in goals], "send_as.action")
        yield from self.on_fault.problems([s for stream in self.action for s in stream.specs])
        if self.takeover is not None:
            yield from self.takeover.problems(self.action)
        if self.outcomes is not None:
            streams = (*self.observation, *self.action)
            yield from self.outcomes.problems([stream.topic for stream in streams])

    def _problems_of_the_past(self) -> Iterator[str]:
        past_s = {s.key: max(s.ago_ns(self.period_ns), default=0) / 1e9 for s in self.observation}
        past_s["previous_action"] = self.previous_action * self.period_ns / 1e9
        for key, seconds in past_s.items():
            if seconds > MAX_PAST_S:
                yield (
                    f"{key} is observed {seconds:g} s back: {MAX_PAST_S:g} s is the most; observe "
                    f"fewer values, or closer ones"
                )

    @property
    def _observed(self) -> tuple[FieldSpec, ...]:
        """The fields of the observation vector."""
        return (
            *(spec for s in self.observation for spec in observed_specs(s, self.period_ns)),
            *previous_specs(self._commanded, self.previous_action),
        )

    @property
    def _commanded(self) -> tuple[FieldSpec, ...]:
        """The fields of the action vector."""
        return tuple(spec for stream in self.action for spec in encoded_specs(stream))

    @property
    def period_ns(self) -> int:
        """Control period in nanoseconds."""
        return round(1e9 / self.rate_hz)

    @property
    def previous_bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Within what an observed previous action is, shape (previous_action * A,) each.

        As with the actions of a dataset, that is the bounds, if what is beyond them is clipped.
        """
        is_bounded = self.beyond_bounds == "clip"
        low, high = (
            np.array([getattr(spec, side) if is_bounded else limit for spec in self._commanded])
            for side, limit in (("low", -np.inf), ("high", np.inf))
        )
        return (
            np.tile(low.astype(np.float32), self.previous_action),
            np.tile(high.astype(np.float32), self.previous_action),
        )

    def of_one_instant(self) -> Contract:
        """The same robot without its past: what a simulation shows, and a recording has."""
        now = {"history": 1, "every_s": None}
        return self.model_copy(
            update={
                "observation": tuple(s.model_copy(update=now) for s in self.observation),
                "previous_action": 0,
            }
        )

    def require_known_past(self, where: str) -> None:
        """Refuse to observe others' commands of which the last are not known yet at a tick.

        Args:
            where: Who would observe them, as the beginning of a sentence.

        Raises:
            ContractError: If previous actions are observed, and recorded later than their ticks.
        """
        for stream in self.action:
            if self.previous_action and stream.lookahead_ns:
                raise ContractError(
                    f"{where} cannot observe previous_action: by delay_s {stream.delay_s:g} and "
                    f"recorded_delay_s {stream.recorded_delay_s:g} of '{stream.topic}' the "
                    f"commands before a tick come after it; where those who are heard command "
                    f"with the same delay, set recorded_delay_s to {stream.delay_s:g}"
                )

    @property
    def observed_topics(self) -> tuple[ObservationStream, ...]:
        """The topics that the observation comes on: more than streams, if some are transforms."""
        return tuple(each for stream in self.observation for each in stream.inputs)

    @property
    def fields_from_first(self) -> tuple[int, ...]:
        """Positions of the observation fields that are less their first value of the episode."""
        fields = [field for stream in self.observation for field in stream.fields]
        is_from_first = [field.offset == "first" for field in fields for _ in range(field.width)]
        return tuple(index for index, flag in enumerate(is_from_first) if flag)

    @property
    def signals(self) -> dict[str, SignalStream]:
        """The signal topics by what they carry: ``reward``, ``terminated``, ``truncated``."""
        named = {
            "reward": self.reward,
            "terminated": self.episode.terminated,
            "truncated": self.episode.truncated,
        }
        return {key: value for key, value in named.items() if isinstance(value, SignalStream)}

    @property
    def reset_signal(self) -> FlagStream | None:
        """What a simulation reports resets on; ``None`` if ``episode.truncated`` reports them."""
        return SIM_RESET if self.episode.truncated is None else None

    @property
    def events(self) -> dict[str, Event]:
        """The event topics by what they mark: ``start``, ``stop``, ``during``."""
        named = {
            "start": self.episode.start,
            "stop": self.episode.stop,
            "during": self.episode.during,
        }
        return {key: value for key, value in named.items() if value is not None}

    @property
    def reward_functions(self) -> tuple[RewardFunction, ...]:
        """The functions whose weighted sum is the reward; empty if it comes from a topic."""
        if isinstance(self.reward, RewardFunction):
            return (self.reward,)
        return self.reward if isinstance(self.reward, tuple) else ()

    @property
    def safe_command(self) -> tuple[float, ...]:
        """What is sent when no action can be sampled, length A."""
        return self.on_fault.command or (0.0,) * sum(stream.width for stream in self.action)

    @property
    def max_rates(self) -> tuple[float, ...]:
        """Largest change of each action field in a second, length A; ``inf`` for any."""
        return tuple(
            rate for stream in self.action for field in stream.fields for rate in field.max_rates
        )

    def policy_spec(self) -> PolicySpec:
        """The contract as the policy side sees it."""
        return PolicySpec(
            robot=self.robot,
            rate_hz=self.rate_hz,
            observation=self._observed,
            action=self._commanded,
            contract_hash=self.hash(),
        )

    def hash(self) -> str:
        """SHA-256 of the contract's meaning.

        Comments, the order of keys, keys that repeat their default and keys that only the running
        node obeys (``on_fault``, ``takeover``, ``send_as``, ``max_ahead_s``, ``max_rate``) do not
        change it.
        """
        meaning = self.model_dump(mode="json", exclude_defaults=True, exclude=_LIVE_ONLY)
        if not meaning.get("episode"):  # as with nothing but a rule that is not dumped
            meaning.pop("episode", None)
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def contract_path(given: Path) -> Path:
    """Return ``given``, or the contract of this package that a bare name like scara means.

    A file of that name in the working directory goes first.
    """
    if given.is_file() or len(given.parts) != 1 or given.suffix not in {"", ".yaml"}:
        return given
    return find_config(f"contracts/{given.stem}.yaml") or given


def load_contract(path: Path) -> Contract:
    """Read and validate a contract file.

    Raises:
        ContractError: Naming the file, the key, its value and the rule it breaks.
    """
    return parse(read_yaml(path, ContractError), Contract, str(path), ContractError)


def contract_problems(path: Path) -> list[str]:
    """Return all that is wrong with a contract file by itself, a sentence each.

    Raises:
        ContractError: If there is no such file, or it is no yaml mapping.
    """
    return problems_in(read_yaml(path, ContractError), Contract)


def _twins(names: list[str], what: str, remedy: str = "") -> Iterator[str]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f"{what} '{name}' appears twice{remedy}"
