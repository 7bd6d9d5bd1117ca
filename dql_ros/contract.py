"""The robot contract: one yaml file that the converter, the trainer and the nodes all obey."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from dql_core.errors import ContractError
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.strict_yaml import StrictModel, parse, read_yaml


class FieldSelection(StrictModel):
    """Which numbers of a message belong to the vector: a dotted path, then joints or indices.

    Attributes:
        path: Dotted path to a number or an array in the message (``pose.position.x``).
        joints: Joint names that select elements of the array by the message's own name list.
        indices: Positions in the array, for messages that carry no names.
        names: Field names of the vector; by default made from topic, path and joint or index.
        unit: REP-103 unit of every selected number.
        low: Lower bound, one for all or one each; actions need it.
        high: Upper bound, likewise.
    """

    path: str
    joints: tuple[str, ...] = ()
    indices: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    unit: str = ""
    low: float | tuple[float, ...] = -math.inf
    high: float | tuple[float, ...] = math.inf

    @property
    def width(self) -> int:
        """How many numbers the selection yields."""
        return len(self.joints) or len(self.indices) or 1

    @model_validator(mode="after")
    def _consistent(self) -> FieldSelection:
        if self.joints and self.indices:
            raise ValueError("give 'joints' or 'indices', not both")
        for key in ("joints", "indices"):
            if len(set(getattr(self, key))) != len(getattr(self, key)):
                raise ValueError(f"'{key}' must not name an element twice")
        if any(index < 0 for index in self.indices):
            raise ValueError("'indices' count from 0")
        if self.names and len(self.names) != self.width:
            raise ValueError(f"'names' has {len(self.names)} entries for {self.width} fields")
        for low, high in zip(self._bounds("low"), self._bounds("high"), strict=True):
            if not low < high:
                raise ValueError(f"'low' must be below 'high', not {low} and {high}")
        return self

    def fields(self, topic: str) -> tuple[FieldSpec, ...]:
        """Fields of the vector that this selection fills, in order."""
        keys: tuple[object, ...] = self.joints or self.indices
        prefix = f"{topic.rsplit('/', 1)[-1]}.{self.path}"
        names = self.names or tuple(f"{prefix}.{key}" for key in keys) or (prefix,)
        bounds = zip(names, self._bounds("low"), self._bounds("high"), strict=True)
        return tuple(FieldSpec(name, self.unit, low, high) for name, low, high in bounds)

    def _bounds(self, key: Literal["low", "high"]) -> tuple[float, ...]:
        bound: float | tuple[float, ...] = getattr(self, key)
        if not isinstance(bound, tuple):
            return (bound,) * self.width
        if len(bound) != self.width:
            raise ValueError(f"'{key}' has {len(bound)} entries for {self.width} fields")
        return bound


class QualityOfService(StrictModel):
    """The QoS policies that decide whether two endpoints connect at all."""

    reliability: Literal["best_effort", "reliable"]
    durability: Literal["volatile", "transient_local"] = "volatile"
    depth: int = Field(default=1, ge=1)


class Stream(StrictModel):
    """One topic and what it contributes to a vector.

    Attributes:
        topic: Topic name; a relative one follows the node's namespace and remappings.
        type: Message type, ``package/msg/Name``.
        fields: Selections, in the vector's order.
    """

    topic: str
    type: str = Field(pattern=r"^\w+/msg/\w+$")
    fields: tuple[FieldSelection, ...] = Field(min_length=1)

    @property
    def specs(self) -> tuple[FieldSpec, ...]:
        """The vector's fields that this stream fills, in order."""
        return tuple(spec for selection in self.fields for spec in selection.fields(self.topic))

    @property
    def width(self) -> int:
        """How many numbers the stream contributes."""
        return sum(selection.width for selection in self.fields)

    def resolved_topic(self, namespace: str = "/") -> str:
        """Absolute topic name under ``namespace``, as a bag stores it."""
        return resolve_topic(self.topic, namespace)


class ObservationStream(Stream):
    """A topic that the policy observes.

    Attributes:
        stamp: Time of a message: its header's stamp, or when it was received.
        max_age_s: Older values count as missing; in seconds.
        latched: Sent once an episode and valid until replaced; its age has no limit.
        qos: Subscription QoS; by default best effort, or reliable and transient local if latched.
    """

    stamp: Literal["header", "receive"] = "header"
    max_age_s: float = Field(default=0.5, gt=0)
    latched: bool = False
    qos: QualityOfService = Field(
        default_factory=lambda section: (
            QualityOfService(reliability="reliable", durability="transient_local")
            if section.get("latched")
            else QualityOfService(reliability="best_effort")
        )
    )

    @property
    def max_age_ns(self) -> int | None:
        """Age limit in nanoseconds; ``None`` for a latched stream."""
        return None if self.latched else round(self.max_age_s * 1e9)


class ActionStream(Stream):
    """A topic that commands the robot.

    Attributes:
        max_age_s: A recorded command stays in force for at most so long; in seconds. A tick at
            which none is in force ends the recorded episode.
        frame_id: ``header.frame_id`` of stamped commands.
        time_from_start_s: When the single point of a JointTrajectory is to be reached, seconds.
        qos: Publisher QoS; reliable by default.
    """

    max_age_s: float = Field(default=0.5, gt=0)
    frame_id: str = "base_link"
    time_from_start_s: float = Field(default=0.1, gt=0)
    qos: QualityOfService = QualityOfService(reliability="reliable")

    @property
    def max_age_ns(self) -> int:
        """Age limit of a recorded command in nanoseconds."""
        return round(self.max_age_s * 1e9)

    @field_validator("fields")
    @classmethod
    def _bounded(cls, fields: tuple[FieldSelection, ...]) -> tuple[FieldSelection, ...]:
        for selection in fields:
            specs = selection.fields("action")
            if not all(math.isfinite(spec.low) and math.isfinite(spec.high) for spec in specs):
                raise ValueError(f"action '{selection.path}' needs a finite 'low' and 'high'")
        return fields


class SignalStream(StrictModel):
    """A topic that carries one number or flag a tick, stamped with its receive time."""

    topic: str
    type: str = Field(pattern=r"^\w+/msg/\w+$")
    path: str = "data"

    def resolved_topic(self, namespace: str = "/") -> str:
        """Absolute topic name under ``namespace``, as a bag stores it."""
        return resolve_topic(self.topic, namespace)


class RewardFunction(StrictModel):
    """A Python function over one episode that returns its rewards, shape (T,).

    Attributes:
        function: ``module:function``.
        arguments: Keyword arguments for it.
    """

    function: str = Field(pattern=r"^[\w.]+:\w+$")
    arguments: dict[str, Any] = Field(default_factory=dict)


def _kind_of_reward(section: Any) -> str:
    is_function = "function" in section if isinstance(section, dict) else False
    return (
        "RewardFunction" if is_function or isinstance(section, RewardFunction) else "SignalStream"
    )


Reward = Annotated[
    Annotated[SignalStream, Tag("SignalStream")]
    | Annotated[RewardFunction, Tag("RewardFunction")],
    Discriminator(_kind_of_reward),
]


class EpisodeRules(StrictModel):
    """Where episodes end; without a signal, one bag is one episode that ends truncated.

    Attributes:
        terminated: True when the task itself ended (success, crash): no value follows.
        truncated: True when only the recording of the episode ended, as at a time limit.
        min_length: Shorter episodes are dropped and reported; in transitions.
    """

    terminated: SignalStream | None = None
    truncated: SignalStream | None = None
    min_length: int = Field(default=1, ge=1)


class FaultRules(StrictModel):
    """What the robot is sent when no action can be sampled.

    Attributes:
        hold_s: The last command is kept for at most so long; in seconds.
        command: The safe command that follows, length A; zeros by default.
    """

    hold_s: float = Field(default=0.0, ge=0)
    command: tuple[float, ...] = ()


class Contract(StrictModel):
    """Everything the two sides must agree on about one robot.

    Attributes:
        robot: Name of the robot.
        rate_hz: Control rate in Hz.
        observation: Streams whose fields make up the observation vector, in order.
        action: Streams whose fields make up the action vector, in order.
        reward: Where the reward comes from; `None` if the log is only imitated.
        episode: Where episodes end.
        on_fault: The safe command.
    """

    robot: str
    rate_hz: float = Field(gt=0, le=2000)
    observation: tuple[ObservationStream, ...] = Field(min_length=1)
    action: tuple[ActionStream, ...] = Field(min_length=1)
    reward: Reward | None = None
    episode: EpisodeRules = EpisodeRules()
    on_fault: FaultRules = FaultRules()

    @model_validator(mode="after")
    def _consistent(self) -> Contract:
        for kind in ("observation", "action"):
            streams: tuple[Stream, ...] = getattr(self, kind)
            _no_twin([spec.name for stream in streams for spec in stream.specs], f"{kind} field")
            _no_twin([stream.topic for stream in streams], f"{kind} topic")
        if all(stream.latched for stream in self.observation):
            raise ValueError("at least one observation stream must not be latched")
        safe, width = self.on_fault.command, sum(stream.width for stream in self.action)
        if safe and len(safe) != width:
            raise ValueError(f"on_fault.command has {len(safe)} entries for {width} action fields")
        return self

    @property
    def period_ns(self) -> int:
        """Control period in nanoseconds."""
        return round(1e9 / self.rate_hz)

    @property
    def signals(self) -> dict[str, SignalStream]:
        """The signal topics by what they tell: ``reward``, ``terminated``, ``truncated``."""
        named = {
            "reward": self.reward,
            "terminated": self.episode.terminated,
            "truncated": self.episode.truncated,
        }
        return {key: value for key, value in named.items() if isinstance(value, SignalStream)}

    @property
    def safe_command(self) -> tuple[float, ...]:
        """What is sent when no action can be sampled, length A."""
        return self.on_fault.command or (0.0,) * len(self.policy_spec().action)

    def policy_spec(self) -> PolicySpec:
        """The contract as the policy side sees it."""
        return PolicySpec(
            robot=self.robot,
            rate_hz=self.rate_hz,
            observation=tuple(spec for stream in self.observation for spec in stream.specs),
            action=tuple(spec for stream in self.action for spec in stream.specs),
            contract_hash=self.hash(),
        )

    def hash(self) -> str:
        """SHA-256 of the contract's meaning: comments and key order do not change it."""
        document = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(document.encode()).hexdigest()


def load_contract(path: Path) -> Contract:
    """Read and validate a contract file.

    Raises:
        ContractError: Naming the file, the key, its value and the rule it breaks.
    """
    return parse(read_yaml(path, ContractError), Contract, str(path), ContractError)


def resolve_topic(topic: str, namespace: str = "/") -> str:
    """Absolute name of ``topic`` under ``namespace``; an absolute topic stays as it is."""
    return topic if topic.startswith("/") else f"{namespace.rstrip('/')}/{topic}"


def _no_twin(names: list[str], what: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{what} '{name}' appears twice")
