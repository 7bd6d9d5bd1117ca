"""Observed transforms: the pose of one frame in another, out of the tree that tf broadcasts.

Transforms that move come on one topic, and those that never do on another, whose name ends in
``_static`` and which is latched (REP 105; ``tf2_ros``).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Tag, ValidationInfo, field_validator, model_validator

from dql_core.strict_yaml import StrictModel
from dql_ros.contract.field import FieldSelection
from dql_ros.contract.stream import MessageType, ObservationStream, QualityOfService

# What a field's path may lead to: the numbers of geometry_msgs/msg/Transform.
TRANSFORM_PATHS = (
    *(f"translation.{axis}" for axis in "xyz"),
    *(f"rotation.{axis}" for axis in "xyzw"),
)
# Type of both topics.
TRANSFORM_TYPE = "tf2_msgs/msg/TFMessage"
# Keys that say nothing of transforms, with the reason.
_NOT_OF_TRANSFORMS = {
    "latched": "what is static is known by its topic",
    "unnamed": "frames have names, and no joints",
    "when_absent": "a message without these frames is of others",
    "sim": "no simulation broadcasts transforms",
    "history": "a pose is known as it is, not as it was",
    "every_s": "a pose is known as it is, not as it was",
}
_QUATERNION = "rotation"
_STATIC = "_static"
# Several nodes broadcast on one topic, in bursts; tf2's own listeners keep as many.
_DEPTH = 100


class Frames(StrictModel):
    """Two frames of the tree.

    Attributes:
        parent: In whose axes the pose is.
        child: Whose pose it is.
    """

    parent: str
    child: str

    @field_validator("parent", "child")
    @classmethod
    def _named(cls, frame: str) -> str:
        if not frame_name(frame):
            raise ValueError("a frame needs a name")
        return frame_name(frame)

    @model_validator(mode="after")
    def _different(self) -> Frames:
        if self.parent == self.child:
            raise ValueError(f"'{self.child}' is at itself: give two frames")
        return self


def frame_name(frame: str) -> str:
    """A frame's name as tf2 has it: tf of ROS 1 wrote a slash in front."""
    return frame.removeprefix("/")


class TransformStream(ObservationStream):
    """The pose of a frame in another one, which the policy observes.

    It is put together of the transforms in the chain from one to the other, each held by itself.
    The paths of its fields lead through a ``geometry_msgs/msg/Transform``.

    Attributes:
        tf: The two frames.
        topic: Where transforms that move are broadcast; the others come on ``<topic>_static``.
        type: Type of both topics' messages.
        stamp: Time of a transform that moves: its header's stamp, or when it was received.
        max_age_s: If one of the transforms in the chain is older, the pose counts as missing; in
            seconds. Static ones have no age.
    """

    tf: Frames
    topic: str = "/tf"
    type: MessageType = TRANSFORM_TYPE
    qos: QualityOfService = QualityOfService(reliability="best_effort", depth=_DEPTH)

    @property
    def key(self) -> str:
        """See `Stream.key`."""
        return self.name or f"{self.tf.child} in {self.tf.parent}"

    @property
    def title(self) -> str:
        """See `ObservationStream.title`."""
        return f"{self.topic}: {self.tf.child} in {self.tf.parent}"

    @property
    def prefix(self) -> str:
        """See `Stream.prefix`."""
        return self.tf.child

    @property
    def origin(self) -> dict[str, Any]:
        """See `Stream.origin`: a pose of other frames means another thing."""
        return {**super().origin, "parent": self.tf.parent, "child": self.tf.child}

    @property
    def inputs(self) -> tuple[ObservationStream, ...]:
        """See `ObservationStream.inputs`: what moves, then what is static."""
        return self, self.static

    @property
    def static(self) -> TransformStream:
        """The same frames on the topic of static transforms, whose times say nothing."""
        return self.model_copy(
            update={
                "topic": f"{self.topic}{_STATIC}",
                "name": f"{self.key}, static",
                "latched": True,
                "stamp": "receive",
                "qos": QualityOfService(
                    reliability="reliable", durability="transient_local", depth=_DEPTH
                ),
            }
        )

    @model_validator(mode="before")
    @classmethod
    def _expand_rotations(cls, section: Any) -> Any:
        """Let ``rotation: 6d`` mean the rotation, without its path."""
        fields = section.get("fields") if isinstance(section, dict) else None
        if not isinstance(fields, list):
            return section
        return {**section, "fields": [_with_path(field) for field in fields]}

    @field_validator(*_NOT_OF_TRANSFORMS)
    @classmethod
    def _of_a_topic(cls, given: Any, info: ValidationInfo) -> Any:
        if given != cls.model_fields[info.field_name or ""].default:
            raise ValueError(f"{_NOT_OF_TRANSFORMS[info.field_name or '']}; take it out")
        return given

    @field_validator("fields")
    @classmethod
    def _of_a_transform(cls, fields: tuple[FieldSelection, ...]) -> tuple[FieldSelection, ...]:
        for selection in fields:
            if selection.constant is None:
                _require_in_transform(selection)
        return fields


def _with_path(field: Any) -> Any:
    if isinstance(field, dict) and "rotation" in field and "path" not in field:
        return {**field, "path": _QUATERNION}
    return field


def _require_in_transform(selection: FieldSelection) -> None:
    if selection.joints or selection.indices:
        raise ValueError("a transform has no arrays; take 'joints', 'indices' and 'slice' out")
    if selection.rotation == "cos_sin":
        raise ValueError(
            "'rotation: cos_sin' is for an angle, and a transform has a quaternion: take '6d'"
        )
    paths = (_QUATERNION,) if selection.rotation is not None else TRANSFORM_PATHS
    if selection.path not in paths:
        raise ValueError(
            f"'path' is '{selection.path}': a transform has {', '.join(TRANSFORM_PATHS)}, and "
            f"'rotation: 6d' or 'rotation: yaw' for the whole rotation"
        )


def _kind_of_observation(section: Any) -> str:
    is_transform = "tf" in section if isinstance(section, dict) else False
    if is_transform or isinstance(section, TransformStream):
        return "TransformStream"
    return "ObservationStream"


# The tags appear in pydantic's error locations; keys of the yaml have no capitals.
Observed = Annotated[
    Annotated[ObservationStream, Tag("ObservationStream")]
    | Annotated[TransformStream, Tag("TransformStream")],
    Discriminator(_kind_of_observation),
]
