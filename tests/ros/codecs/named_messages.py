"""Messages whose lists have names for their elements, and streams and blocks of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dql_ros.codecs import CommandEndedError, StreamDecoder
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.block_decoder import ABSENT, COMPLETE, ENDED, BlockDecoder
from dql_ros.codecs.message_path import AbsentError
from dql_ros.contract import ActionStream, ObservationStream, Stream

TF, STATES, MARKERS = "tf2_msgs/msg/TFMessage", "gazebo_msgs/msg/ModelStates", "t/msg/Markers"
JOINTS, TRAJECTORY = "sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory"
X = "transform.translation.x"
INTERFACES, DYNAMIC = "control_msgs/msg/InterfaceValue", "control_msgs/msg/DynamicJointState"


def make_types() -> Typestore:
    """ROS 2's types, and some of lists whose elements have names."""
    store = get_typestore(Stores.ROS2_JAZZY)
    model = "string[] name\ngeometry_msgs/Pose[] pose\ngeometry_msgs/Twist[] twist\n"
    marker = "int32 id\nstring label\ngeometry_msgs/Point place\n"
    for text, name in (
        (model, STATES),
        (marker, "t/msg/Marker"),
        ("t/Marker[] markers\n", MARKERS),
        ("string[] interface_names\nfloat64[] values\n", INTERFACES),
        (f"string[] joint_names\n{INTERFACES}[] interface_values\n", DYNAMIC),
    ):
        store.register(get_types_from_msg(text, name))
    return store


def observe(msgtype: str, *fields: dict[str, Any], **keys: Any) -> ObservationStream:
    return ObservationStream.model_validate(
        {"topic": "/t", "type": msgtype, "fields": fields, "stamp": "receive", **keys}
    )


def command(msgtype: str, *fields: dict[str, Any], **keys: Any) -> ActionStream:
    bounded = [{"low": -1e9, "high": 1e9, **field} for field in fields]
    return ActionStream.model_validate({"topic": "/t", "type": msgtype, "fields": bounded, **keys})


def block_of(store: Typestore, msgtype: str, messages: Sequence[Any]) -> MessageBlock:
    raws = [bytes(store.serialize_cdr(message, msgtype)) for message in messages]
    lengths = np.array([len(raw) for raw in raws], np.int64)
    return MessageBlock(
        "/t",
        msgtype,
        np.arange(len(raws), dtype=np.int64),
        np.frombuffer(b"".join(raws), np.uint8),
        np.concatenate([[0], np.cumsum(lengths)[:-1]]),
        lengths,
    )


def assert_blocks_are_as_single_messages(
    store: Typestore, stream: Stream, messages: Sequence[Any]
) -> tuple[BlockDecoder, list[int]]:
    """Decode twice, with layouts to find and known, and return what messages lack."""
    block, decoder = block_of(store, stream.type, messages), BlockDecoder(stream, store)
    single, lacks, vectors = StreamDecoder(stream), [], []
    for message in messages:
        try:
            vectors.append(single(message))
            lacks.append(COMPLETE)
        except CommandEndedError:
            lacks.append(ENDED)
        except AbsentError:
            lacks.append(ABSENT)
    for _ in range(2):
        found = decoder.decode(block)
        told = np.zeros(len(messages)) if found.lacks is None else found.lacks
        assert told.tolist() == lacks
        assert found.values[told == COMPLETE].tobytes() == np.array(vectors).tobytes()
    return decoder, lacks


def tf(store: Typestore, **places: float) -> Any:
    """Transforms to frames, at these places on the x axis."""
    types = store.types
    stamp = types["builtin_interfaces/msg/Time"](0, 0)
    turn = types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    return types[TF](
        [
            types["geometry_msgs/msg/TransformStamped"](
                types["std_msgs/msg/Header"](stamp, "base"),
                frame,
                types["geometry_msgs/msg/Transform"](
                    types["geometry_msgs/msg/Vector3"](x, 0.0, 0.0), turn
                ),
            )
            for frame, x in places.items()
        ]
    )


def model_states(store: Typestore, **places: float) -> Any:
    types = store.types
    turn, zero = types["geometry_msgs/msg/Quaternion"](0, 0, 0, 1), (0.0, 0.0, 0.0)
    point, vector = types["geometry_msgs/msg/Point"], types["geometry_msgs/msg/Vector3"]
    return types[STATES](
        list(places),
        [types["geometry_msgs/msg/Pose"](point(x, 0.0, 0.0), turn) for x in places.values()],
        [
            types["geometry_msgs/msg/Twist"](vector(-x, 0.0, 0.0), vector(*zero))
            for x in places.values()
        ],
    )


def joint_state(
    store: Typestore, names: Sequence[str], position: Sequence[float], velocity: Any = ()
) -> Any:
    types = store.types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](3, 4), "")
    return types[JOINTS](
        header, list(names), np.array(position, float), np.array(velocity, float), np.zeros(0)
    )


def trajectory(store: Typestore, joints: Sequence[str], *points: Sequence[float]) -> Any:
    types = store.types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 0), "")
    none, now = np.zeros(0), types["builtin_interfaces/msg/Duration"](0, 0)
    point = types["trajectory_msgs/msg/JointTrajectoryPoint"]
    made = [point(np.array(each, float), none, none, none, now) for each in points]
    return types[TRAJECTORY](header, list(joints), made)


def dynamic_state(store: Typestore, joints: Sequence[str], *values: Sequence[float]) -> Any:
    """A DynamicJointState (without header) of the interfaces position and velocity."""
    made = store.types[INTERFACES]
    interfaces = [made(["position", "velocity"], np.array(each, float)) for each in values]
    return store.types[DYNAMIC](list(joints), interfaces)
