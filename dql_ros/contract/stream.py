"""The topics that an observation or an action is made of: names, types, QoS and fields."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from dql_core.spec import FieldSpec
from dql_core.streams import PREVIOUS_ACTION, SECOND_NS
from dql_core.strict_yaml import StrictModel, written_like
from dql_ros.contract.field import FieldSelection, selects_by_name, split_path
from dql_ros.contract.goals import Goals

# Thirty years; as many nanoseconds still fit 64 bits.
MAX_S = 1e9
# A longer past makes a vector that nothing is learned from.
MAX_HISTORY = 100
MAX_PAST_S = 10.0
# No robot is later, and everything that is read waits for so long.
MAX_DELAY_S = 10.0
MessageType = Annotated[str, written_like(r"\w+/msg/\w+", "must be like package/msg/Name")]
# Service events are messages of their own on a topic of their own (REP 2012).
EventType = Annotated[
    str,
    written_like(
        r"\w+/(msg/\w+|srv/\w+_Event)",
        "must be like package/msg/Name or package/srv/Name_Event",
    ),
]
# A field spec has these for itself, or they are the keys of one element.
_APART = {"names", "unit", "low", "high", "max_rate", "joints", "indices", "offset", "scale"}
# They have points, which have a time from the start.
_TRAJECTORIES = {
    "trajectory_msgs/msg/JointTrajectory",
    "trajectory_msgs/msg/MultiDOFJointTrajectory",
}
# What becomes of a message without the part that is selected; None for what is usual.
WhenAbsent = Literal["refuse", "skip"] | None


class QualityOfService(StrictModel):
    """The QoS policies that decide whether two endpoints connect at all.

    Attributes:
        reliability: A best-effort subscriber hears every publisher, a reliable one only reliable.
        durability: ``transient_local`` also serves those who subscribe later.
        depth: How many messages are kept for a slow reader.
    """

    reliability: Literal["best_effort", "reliable"]
    durability: Literal["volatile", "transient_local"] = "volatile"
    depth: int = Field(default=1, ge=1, le=1_000_000)


class Topic(StrictModel):
    """A topic by name.

    Attributes:
        topic: Topic name; a relative one follows the node's namespace and remappings.
    """

    topic: str

    def resolved_topic(self, namespace: str = "/") -> str:
        """Absolute topic name under ``namespace``, as a bag stores it."""
        return resolve_topic(self.topic, namespace)


def resolve_topic(topic: str, namespace: str = "/") -> str:
    """Absolute name of ``topic`` under ``namespace``; an absolute topic stays as it is."""
    prefix = absolute_namespace(namespace).rstrip("/")
    return topic if topic.startswith("/") else f"{prefix}/{topic}"


def absolute_namespace(namespace: str) -> str:
    """A namespace as ROS has it: ``/robot``, also of ``robot`` and ``robot/``; ``/`` of none."""
    return f"/{namespace.strip('/')}"


class Stream(Topic):
    """One topic and what it contributes to a vector.

    Attributes:
        type: Message type, ``package/msg/Name``.
        fields: Selections, in the vector's order.
        stamp: Time of a message in a recording: its header's stamp, or when it was received.
        max_skew_s: Header stamps that are farther from the time of receipt are of another clock
            and refused; in seconds, without limit if null.
        max_ahead_s: Header stamps that lie farther ahead of their receipt cannot be right, since
            nothing is measured after it was received; in seconds, one control period if null.
        unnamed: What a message with an empty list of joint names means: it is refused, or its
            elements are those of the contract's joints, in the order of their first mention.
        when_absent: What becomes of a message that has not got what is selected: it is an error,
            or skipped and counted; by default skipped where something is selected by name.
    """

    type: MessageType
    fields: tuple[FieldSelection, ...] = Field(min_length=1)
    stamp: Literal["header", "receive"] = "header"
    max_skew_s: float | None = Field(default=60.0, gt=0, le=MAX_S)
    max_ahead_s: float | None = Field(default=None, gt=0, le=MAX_S)
    unnamed: Literal["refuse", "by_index"] = "refuse"
    when_absent: WhenAbsent = None

    @property
    def skips_absent(self) -> bool:
        """Whether messages that have not got what is selected are skipped."""
        return skips_absent(self.when_absent, _is_by_name(self.fields))

    @field_validator("when_absent")
    @classmethod
    def _unusual(cls, given: WhenAbsent, info: ValidationInfo) -> WhenAbsent:
        return without_default(given, _is_by_name(info.data.get("fields", ())))

    @property
    def key(self) -> str:
        """What tells the stream from the others of its vector, in tables and messages."""
        return self.topic

    @property
    def prefix(self) -> str:
        """What the default names of its fields begin with, up to the last slash left out."""
        return self.topic

    @property
    def origin(self) -> dict[str, Any]:
        """What the meaning of all its numbers depends on, by key of the contract."""
        return {"topic": self.resolved_topic(), "type": self.type}

    @property
    def specs(self) -> tuple[FieldSpec, ...]:
        """The vector's fields that this stream fills, in order."""
        return tuple(spec for selection in self.fields for spec in selection.fields(self.prefix))

    @property
    def width(self) -> int:
        """How many numbers the stream contributes."""
        return sum(selection.width for selection in self.fields)

    @property
    def joints(self) -> tuple[str, ...]:
        """Names of the joints that the stream selects, each once, in order of first mention."""
        return tuple(dict.fromkeys(joint for field in self.fields for joint in field.joints))

    @property
    def max_skew_ns(self) -> int | None:
        """Limit on the distance of header stamp and receipt in nanoseconds."""
        return None if self.max_skew_s is None else round(self.max_skew_s * SECOND_NS)

    def max_ahead_ns(self, period_ns: int) -> int:
        """How far a header stamp may lie ahead of its receipt, in nanoseconds."""
        return period_ns if self.max_ahead_s is None else round(self.max_ahead_s * SECOND_NS)


def parts(streams: Sequence[Stream]) -> Iterator[slice]:
    """Where each stream's values are in the vector that all streams make up."""
    start = 0
    for stream in streams:
        yield slice(start, start + stream.width)
        start += stream.width


def skips_absent(when_absent: WhenAbsent, is_by_name: bool) -> bool:
    """Whether messages without what is selected are skipped; by default if that is by name."""
    return is_by_name if when_absent is None else when_absent == "skip"


def without_default(when_absent: WhenAbsent, is_by_name: bool) -> WhenAbsent:
    """Return ``None`` for what is the default, so that it does not change a contract's hash."""
    is_default = skips_absent(when_absent, is_by_name) == is_by_name
    return None if is_default else when_absent


def _is_by_name(fields: tuple[FieldSelection, ...]) -> bool:
    return any(field.joints or selects_by_name(field.path) for field in fields)


class ObservationStream(Stream):
    """A topic that the policy observes.

    Attributes:
        name: Tells streams of one topic apart, such as an arm's and a gripper's that both publish
            on ``/joint_states``; the topic by default.
        max_age_s: Older values count as missing; in seconds.
        latched: Sent once an episode and valid until replaced; its age has no limit.
        history: How many values of the stream are observed: the newest at the tick, then those
            that were held at earlier instants, each as fresh at its own as `max_age_s` asks.
        every_s: How far apart these instants are, in seconds; the control period by default.
        qos: Subscription QoS; by default best effort, or reliable and transient local if latched.
        sim: What of a simulated model the topic shows: ``site:NAME``, ``body:NAME`` or
            ``sensor:NAME``; by default what has a name out of the topic's.
    """

    name: Annotated[
        str, written_like(r"[\w/.-]*", "may only have letters, digits, '_', '/', '.' and '-'")
    ] = ""
    max_age_s: float = Field(default=0.5, gt=0, le=MAX_S)
    latched: bool = False
    history: int = Field(default=1, ge=1, le=MAX_HISTORY)
    every_s: float | None = Field(default=None, gt=0, le=MAX_PAST_S)
    qos: QualityOfService = Field(
        default_factory=lambda section: (
            QualityOfService(reliability="reliable", durability="transient_local")
            if section.get("latched")
            else QualityOfService(reliability="best_effort")
        )
    )

    # It says nothing of the robot's topics, so that it is neither dumped nor hashed.
    sim: Annotated[
        str,
        written_like(
            r"((site|body|sensor):\S+)?", "must be like site:NAME, body:NAME or sensor:NAME"
        ),
    ] = Field(default="", exclude=True)

    @property
    def key(self) -> str:
        """See `Stream.key`."""
        return self.name or self.topic

    @property
    def title(self) -> str:
        """What it is called in a table of topics."""
        return self.topic

    @property
    def inputs(self) -> tuple[ObservationStream, ...]:
        """The topics that its messages come on: itself, and for transforms the static ones."""
        return (self,)

    @property
    def max_age_ns(self) -> int | None:
        """Age limit in nanoseconds; ``None`` for a latched stream."""
        return None if self.latched else round(self.max_age_s * SECOND_NS)

    def ago_ns(self, period_ns: int) -> tuple[int, ...]:
        """How long before the tick its older values are of, ascending; in nanoseconds."""
        every_ns = period_ns if self.every_s is None else round(self.every_s * SECOND_NS)
        return tuple(every_ns * number for number in range(1, self.history))

    @model_validator(mode="after")
    def _has_a_past(self) -> ObservationStream:
        if self.history == 1:
            if self.every_s is not None:
                raise ValueError(
                    f"'every_s' is {self.every_s:g} and says how far apart the values of a "
                    f"'history' are: give one of 2 or more, or take 'every_s' out"
                )
        elif self.latched:
            raise ValueError(
                f"'history' is {self.history}: what is latched is sent once an episode and has "
                f"none; take it out"
            )
        elif any(field.offset == "first" for field in self.fields):
            raise ValueError(
                f"'history' is {self.history}, and a field has 'offset: first', which is known "
                f"from the first tick of an episode on, as its history is not: take one of the "
                f"two out"
            )
        return self

    @field_validator("fields")
    @classmethod
    def _observed(cls, fields: tuple[FieldSelection, ...]) -> tuple[FieldSelection, ...]:
        for selection in fields:
            if selection.constant is not None and selection.path:
                raise ValueError(
                    f"an observed constant comes from no message; give it 'names' instead of the "
                    f"'path' '{selection.path}'"
                )
            if not all(math.isinf(rate) for rate in selection.max_rates):
                raise ValueError("'max_rate' is for actions; an observation is what it is")
        return fields


class ActionStream(Stream):
    """A topic that commands the robot.

    Attributes:
        stamp: Time of a recorded command: when it was received, or its header's stamp.
        command: Which recorded command is the action of the tick t: the ``first`` in [t, t + dt),
            else the one held; or the one ``held`` at t, the newest that is not from after it.
        max_age_s: A recorded command stays in force for at most so long; in seconds. A tick at
            which none is in force ends the recorded episode.
        delay_s: What the node decides at a tick takes effect so long after it, in seconds: what
            is learned at a tick is the command that took effect so long after it.
        recorded_delay_s: A recorded command took effect so long after its time, in seconds.
        frame_id: ``header.frame_id`` of stamped commands.
        time_from_start_s: When the first point of a JointTrajectory is to be reached, seconds.
        qos: Publisher QoS; reliable by default.
        send_as: The action of which the robot takes commands as goals; ``None``: none, it hears
            the topic.
    """

    stamp: Literal["header", "receive"] = "receive"
    command: Literal["first", "held"] = "first"
    max_age_s: float = Field(default=0.5, gt=0, le=MAX_S)
    delay_s: float = Field(default=0.0, ge=0, le=MAX_DELAY_S)
    recorded_delay_s: float = Field(default=0.0, ge=0, le=MAX_DELAY_S)
    frame_id: str = "base_link"
    time_from_start_s: float = Field(default=0.1, gt=0, le=MAX_S)
    qos: QualityOfService = QualityOfService(reliability="reliable")
    send_as: Goals | None = None

    @property
    def max_age_ns(self) -> int:
        """Age limit of a recorded command in nanoseconds."""
        return round(self.max_age_s * SECOND_NS)

    @property
    def takes_chunks(self) -> bool:
        """Whether it is a trajectory of one point, behind which those of a chunk can follow.

        A goal has no further points: it goes on while nothing new is sent, as while a command is
        held.
        """
        paths = [split_path(selection.path) for selection in self.fields]
        points = {steps[1] for steps in paths if steps[0] == "points"}
        is_due = any(steps[2:3] == ("time_from_start",) for steps in paths)
        is_replaced = self.type in _TRAJECTORIES and self.send_as is None
        return is_replaced and points == {0} and not is_due

    @property
    def delay_ns(self) -> int:
        """How long after its tick a command of the node takes effect, in nanoseconds."""
        return round(self.delay_s * SECOND_NS)

    @property
    def lookahead_ns(self) -> int:
        """How much later than a tick its action was recorded, in nanoseconds."""
        return self.delay_ns - round(self.recorded_delay_s * SECOND_NS)

    @property
    def origin(self) -> dict[str, Any]:
        """See `Stream.origin`; what is learned for another delay is another action."""
        return super().origin | ({"delay_s": self.delay_s} if self.delay_s else {})

    @field_validator("recorded_delay_s")
    @classmethod
    def _not_later(cls, given: float, info: ValidationInfo) -> float:
        delay_s = info.data.get("delay_s", MAX_DELAY_S)
        if given > delay_s:
            raise ValueError(
                f"is {given:g}, more than delay_s, {delay_s:g}: commands of the node would take "
                f"effect sooner than recorded ones did; give delay_s at least as much"
            )
        return given

    @field_validator("fields")
    @classmethod
    def _commanded(cls, fields: tuple[FieldSelection, ...]) -> tuple[FieldSelection, ...]:
        problems = [problem for selection in fields for problem in _command_problems(selection)]
        if all(selection.width == 0 for selection in fields):
            problems.append("at least one field must not be a constant")
        if problems:
            raise ValueError("\n".join(problems))
        return fields


def _command_problems(selection: FieldSelection) -> Iterator[str]:
    if selection.offset == "first":
        yield "'offset: first' is for observations; a command that is sent needs a number"
    if selection.rotation == "cos_sin":
        yield (
            "'rotation: cos_sin' is for observations: of a command, 'max_rate', a ramp and the "
            "bounds would be of the cosine and the sine, not of the angle that is sent; command "
            "the angle or its rate"
        )
    if selection.constant is not None and not selection.path:
        yield f"the constant '{selection.names[0]}' needs the 'path' that it is sent to"
    specs = selection.fields("action")
    if not all(math.isfinite(spec.low) and math.isfinite(spec.high) for spec in specs):
        yield f"action '{selection.path or selection.names}' needs a finite 'low' and 'high'"


def encoded_specs(stream: Stream) -> Iterator[FieldSpec]:
    """Yield the fields of the vector that a stream fills, with where their numbers come from.

    That is what a policy depends on. All other keys of a stream, such as its QoS and its
    ``max_age_s``, may be others on the robot than in the recordings.
    """
    common = stream.origin
    if sent := _sent_constants(stream):
        common["constants"] = sent
    for selection in stream.fields:
        encoding = common | _encoding(selection)
        specs = selection.fields(stream.prefix)
        elements, shifts = _elements(selection), _shifts(selection)
        for spec, element, shift, rate in zip(
            specs, elements, shifts, selection.max_rates, strict=False
        ):
            yield replace(spec, max_rate=rate, source=encoding | element | shift)


def observed_specs(stream: ObservationStream, period_ns: int) -> Iterator[FieldSpec]:
    """Yield the fields of a stream's newest value, then those of each older one."""
    for ago_ns in (0, *stream.ago_ns(period_ns)):
        ago_s = ago_ns / SECOND_NS
        for spec in encoded_specs(stream):
            source = {**(spec.source or {}), "ago_s": ago_s}
            yield replace(spec, name=f"{spec.name}@-{ago_s:g}s", source=source) if ago_ns else spec


def previous_specs(action: Sequence[FieldSpec], count: int) -> Iterator[FieldSpec]:
    """Yield the fields of the commands of so many control periods, newest first.

    They have no limits: what was sent was judged before it was.
    """
    for ago in range(1, count + 1):
        for spec in action:
            yield FieldSpec(
                f"{PREVIOUS_ACTION}.{ago}.{spec.name}",
                spec.unit,
                source={**(spec.source or {}), "periods_ago": ago},
            )


def _encoding(selection: FieldSelection) -> dict[str, Any]:
    """The keys of a selection that say how its numbers are read, where they are not the default.

    A key that is new to a selection counts, unless `_APART` names it.
    """
    keys = selection.model_dump(mode="json", exclude_defaults=True, exclude=_APART)
    usual = "rad" if selection.rotation == "cos_sin" else selection.vector_unit
    if keys.get("message_unit") == usual:
        del keys["message_unit"]
    return keys


def _elements(selection: FieldSelection) -> list[dict[str, Any]]:
    """What else leads to each number of a selection, one for each; empty without fields."""
    if selection.is_of_quaternion:
        each = {"indices": list(selection.indices)} if selection.indices else {}
        return [each] * selection.width
    found: list[dict[str, Any]] = [{"joint": joint} for joint in selection.joints]
    found = found or [{"index": index} for index in selection.indices]
    if not found:
        return [{}] * selection.width
    parts = selection.width // len(found)
    return [each for each in found for _ in range(parts)]


def _shifts(selection: FieldSelection) -> list[dict[str, Any]]:
    """The offset and the scale of each number of a selection, where they are not the default."""
    offsets: Sequence[Any] = selection.offsets
    if selection.offset == "first":
        offsets = ["first"] * selection.width
    return [
        ({"offset": offset} if offset else {}) | ({"scale": scale} if scale != 1.0 else {})
        for offset, scale in zip(offsets, selection.scales, strict=True)
    ]


def _sent_constants(stream: Stream) -> dict[str, float | str]:
    """The values that each command carries besides the action, by path and element."""
    sent: dict[str, float | str] = {}
    for selection in stream.fields:
        if isinstance(selection.constant, str):
            sent[selection.path] = selection.constant
        elif selection.constant is not None:
            for element in selection.elements:
                place = ".".join(str(part) for part in element if part is not None)
                sent[place] = selection.constant
    return sent
