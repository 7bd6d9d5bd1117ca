"""A robot's recording in every storage, with messages that are none of their type."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_typestore

from dql_ros.contract import Contract
from tests.ros.bag.written_bags import STORE, Recorded, Way, write_bag

ROS1 = get_typestore(Stores.ROS1_NOETIC)
JOINTS, TWIST = "sensor_msgs/msg/JointState", "geometry_msgs/msg/TwistStamped"
FLOAT, FLAG = "std_msgs/msg/Float64", "std_msgs/msg/Bool"
MS = 10**6
PERIOD_NS = 100 * MS
START_NS = 1_700_000_000 * 10**9
# Commands arrive so long after the time in their headers: longer than a period.
DELAY_NS = 130 * MS
COUNT = 60
STORAGES = ("mcap", "db3", "bag")


class Said(NamedTuple):
    """A message before it is serialised: its number or flag, and its header's stamp."""

    topic: str
    msgtype: str
    log_time_ns: int
    value: float
    stamp_ns: int = 0


def said() -> list[Said]:
    """What a sound recording says, in the order of its times; the value at step k is k."""
    messages = []
    for k in range(COUNT):
        now = START_NS + k * PERIOD_NS
        if k % 20 in {0, 17}:
            messages.append(Said("/record", FLAG, now, float(k % 20 == 0)))
        if k % 15 == 0:
            messages.append(Said("/goal", FLOAT, now, k // 15))
        messages.append(Said("/joints", JOINTS, now, k, now))
        stamp = now + MS
        messages.append(Said("/command", TWIST, stamp + DELAY_NS, 1000.0 + k, stamp))
        messages.append(Said("/reward", FLOAT, now + 2 * MS, k))
        messages.append(Said("/done", FLAG, now + 3 * MS, float(k == 50)))
    return sorted(messages, key=lambda message: message.log_time_ns)


def serialised(message: Said, *, ros1: bool) -> bytes:
    store = ROS1 if ros1 else STORE
    types = store.types
    time = types["builtin_interfaces/msg/Time"](*divmod(message.stamp_ns, 10**9))
    more = {"seq": 7} if ros1 else {}
    header = types["std_msgs/msg/Header"](stamp=time, frame_id="base", **more)
    found: Any
    if message.msgtype == JOINTS:
        none = np.empty(0)
        position = np.array([message.value, 0.5])
        found = types[JOINTS](header, ["a", "b"], position, velocity=none, effort=none)
    elif message.msgtype == TWIST:
        vector = types["geometry_msgs/msg/Vector3"]
        twist = types["geometry_msgs/msg/Twist"](
            linear=vector(message.value, 0.0, 0.0), angular=vector(0.0, 0.0, 0.0)
        )
        found = types[TWIST](header=header, twist=twist)
    elif message.msgtype == FLAG:
        found = types[FLAG](data=bool(message.value))
    else:
        found = types[FLOAT](data=float(message.value))
    serialise = store.serialize_ros1 if ros1 else store.serialize_cdr
    return bytes(serialise(found, message.msgtype))


DAMAGES: Mapping[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda _: b"",
    "long": lambda content: content + bytes(64),
    "noise": lambda content: b"\xee" * (len(content) + 9),
    "like compressed": lambda content: b"\x28" + content[1:] + bytes(9),
}


def recording(folder: Path, storage: str, damages: Mapping[int, str] | None = None) -> Path:
    """Write the recording.

    Args:
        folder: Where to; made if need be.
        storage: One of `STORAGES`.
        damages: What became of messages, by their places among all.
    """
    folder.mkdir(exist_ok=True)
    messages = [
        Recorded(
            each.topic, each.msgtype, each.log_time_ns, serialised(each, ros1=storage == "bag")
        )
        for each in said()
    ]
    for place, damage in (damages or {}).items():
        messages[place] = messages[place]._replace(cdr=DAMAGES[damage](messages[place].cdr))
    return write_recorded(folder / storage, storage, messages)


def write_recorded(path: Path, storage: str, messages: Sequence[Recorded]) -> Path:
    if storage != "bag":
        return write_bag(path, messages, Way(storage))  # type: ignore[arg-type]  # one of them
    with Ros1Writer(path.with_suffix(".bag")) as writer:
        connections: dict[str, Any] = {}
        for topic, msgtype, time_ns, content in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, msgtype, typestore=ROS1)
            writer.write(connections[topic], time_ns, content)
    return path.with_suffix(".bag")


def contract(**more: Any) -> Contract:
    """A contract for it, by which whatever is lost here would be bridged."""
    command = {"topic": "/command", "type": TWIST, "stamp": "header", "max_age_s": 5.0}
    document = {
        "robot": "r",
        "rate_hz": 10.0,
        "observation": [
            {
                "topic": "/joints",
                "type": JOINTS,
                "max_age_s": 5.0,
                "fields": [{"path": "position", "joints": ["a"]}],
            },
            {
                "topic": "/goal",
                "type": FLOAT,
                "stamp": "receive",
                "latched": True,
                "fields": [{"path": "data"}],
            },
        ],
        "action": [{**command, "fields": [{"path": "twist.linear.x", "low": 0, "high": 2000}]}],
        "reward": {"topic": "/reward", "type": FLOAT},
        "episode": {
            "start": {"topic": "/record", "type": FLAG, "path": "data"},
            "stop": {"topic": "/record", "type": FLAG, "path": "data", "equals": False},
            "terminated": {"topic": "/done", "type": FLAG},
        },
    }
    return Contract.model_validate({**document, **more})


def places(topic: str, *steps: int) -> list[int]:
    """Where among all messages the ones of a topic are, by their number."""
    mine = [place for place, each in enumerate(said()) if each.topic == topic]
    return [mine[step] for step in steps]
