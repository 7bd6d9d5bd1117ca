"""Bags of a made-up arm for the benchmarks of conversion, and the contract that reads them.

``/joint_states`` JointState with 7 joints at 500 Hz, ``/cmd_vel`` Twist at 50 Hz, and
``/episode_end`` Bool every 20 s; on request ``/camera`` Image, which the contract does not name,
or commands in the first and the last second only. The numbers are random, so that only names,
stamps and the like can be compressed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mcap.writer import CompressionType, Writer
from numpy.typing import NDArray
from rosbags import rosbag2
from rosbags.typesys import Stores, get_typestore

Storage = Literal["mcap", "mcap zstd", "db3"]
STORAGES: tuple[Storage, ...] = ("mcap", "mcap zstd", "db3")
JOINTS = tuple(f"joint_{i}" for i in range(1, 8))
JOINT_RATE_HZ, TWIST_RATE_HZ, EPISODE_S = 500, 50, 20
START_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000
_STORE = get_typestore(Stores.ROS2_JAZZY)
_TYPES = {
    "/joint_states": "sensor_msgs/msg/JointState",
    "/cmd_vel": "geometry_msgs/msg/Twist",
    "/episode_end": "std_msgs/msg/Bool",
    "/camera": "sensor_msgs/msg/Image",
}
# What the contract reads.
TOPICS = ("/joint_states", "/cmd_vel", "/episode_end")
# Found again in a serialised message; numbers are written over it.
_MARK = 1e300
_WIDTH, _HEIGHT = 640, 480
CONTRACT = f"""\
robot: benchmark
rate_hz: 50.0
observation:
  - topic: /joint_states
    type: sensor_msgs/msg/JointState
    max_age_s: 0.1
    fields:
      - {{path: position, joints: [{", ".join(JOINTS)}], unit: rad}}
      - {{path: velocity, joints: [{", ".join(JOINTS)}], unit: rad/s}}
action:
  - topic: /cmd_vel
    type: geometry_msgs/msg/Twist
    max_age_s: 0.1
    fields:
      - {{path: linear.x, names: [forward], unit: m/s, low: -1.0, high: 1.0}}
      - {{path: angular.z, names: [turn], unit: rad/s, low: -1.0, high: 1.0}}
reward: {{function: "dql_core.rewards:action_cost"}}
episode:
  truncated: {{topic: /episode_end, type: std_msgs/msg/Bool}}
"""
Message = tuple[int, str, bytes]  # log time in ns, topic, CDR


def write_contract(folder: Path) -> Path:
    """Write the contract of all these bags into a folder."""
    path = folder / "benchmark.yaml"
    path.write_text(CONTRACT)
    return path


def write_bag(
    folder: Path,
    storage: Storage,
    *,
    seconds: int | None = None,
    size_bytes: int | None = None,
    images_hz: int = 0,
    seed: int = 0,
    is_paused: bool = False,
) -> Path:
    """Write a bag of so many seconds, or as many as reach a size.

    Args:
        folder: Made to hold the bag.
        storage: Kind of file.
        seconds: Length.
        size_bytes: Instead of ``seconds``: the size of its serialised messages.
        images_hz: Rate of the camera, 921,600 bytes an image.
        seed: Of the random numbers.
        is_paused: Whether commands came in the first and the last second only; with ``seconds``.

    Returns:
        What to convert: ``folder``, or the file in it.
    """
    rng = np.random.default_rng(seed)
    topics = [topic for topic in _TYPES if topic != "/camera" or images_hz]
    written, second = 0, 0
    with (_db3 if storage == "db3" else _mcap)(folder, storage, topics) as (path, write):
        while second < seconds if seconds is not None else written < (size_bytes or 0):
            is_commanded = not is_paused or second in {0, (seconds or 0) - 1}
            for time_ns, topic, cdr in _second(rng, second, images_hz):
                if topic == "/cmd_vel" and not is_commanded:
                    continue
                write(time_ns, topic, cdr)
                written += len(cdr)
            second += 1
    return path


def message_count(seconds: int, *, is_paused: bool = False) -> int:
    """Number of messages that the contract asks for in a bag of so many seconds."""
    commanded = min(seconds, 2) if is_paused else seconds
    return seconds * JOINT_RATE_HZ + commanded * TWIST_RATE_HZ + seconds // EPISODE_S


def _second(rng: np.random.Generator, second: int, images_hz: int) -> Iterator[Message]:
    """Make the messages of one second, in the order of their times."""
    begin = START_NS + second * SECOND_NS
    messages = [
        *_stamped(rng, "/joint_states", _joint_state(), begin, JOINT_RATE_HZ),
        *_stamped(rng, "/cmd_vel", _twist(), begin + 1_000_000, TWIST_RATE_HZ),
    ]
    for index in range(images_hz):
        time_ns = begin + 2_000_000 + index * SECOND_NS // images_hz
        messages.append((time_ns, "/camera", _image(time_ns, rng.bytes(_WIDTH * _HEIGHT * 3))))
    if (second + 1) % EPISODE_S == 0:
        flag = _STORE.types["std_msgs/msg/Bool"](data=True)
        messages.append((begin + SECOND_NS - 1, "/episode_end", _serialized("/episode_end", flag)))
    return iter(sorted(messages, key=lambda message: message[0]))


def _stamped(
    rng: np.random.Generator, topic: str, template: bytes, begin_ns: int, rate_hz: int
) -> Iterator[Message]:
    """Write stamps and random numbers into copies of a serialised message."""
    rows = np.tile(np.frombuffer(template, np.uint8), (rate_hz, 1))
    times = begin_ns + np.arange(rate_hz) * (SECOND_NS // rate_hz)
    if topic == "/joint_states":
        stamps = np.stack([times // SECOND_NS, times % SECOND_NS], axis=1).astype("<u4")
        rows[:, 4:12] = stamps.view(np.uint8)
    mark = np.float64(_MARK).tobytes()
    places = [at for at in range(len(template)) if template[at : at + 8] == mark]
    numbers: NDArray[np.float64] = rng.uniform(-1.2, 1.2, (rate_hz, len(places)))
    for column, place in enumerate(places):
        rows[:, place : place + 8] = numbers[:, [column]].view(np.uint8)
    return ((int(time), topic, row.tobytes()) for time, row in zip(times, rows, strict=True))


def _joint_state() -> bytes:
    values = np.full(len(JOINTS), _MARK)
    message = _STORE.types["sensor_msgs/msg/JointState"](
        header=_header(0), name=list(JOINTS), position=values, velocity=values, effort=values
    )
    return _serialized("/joint_states", message)


def _twist() -> bytes:
    vector = _STORE.types["geometry_msgs/msg/Vector3"](x=_MARK, y=_MARK, z=_MARK)
    return _serialized("/cmd_vel", _STORE.types[_TYPES["/cmd_vel"]](linear=vector, angular=vector))


def _image(time_ns: int, pixels: bytes) -> bytes:
    message = _STORE.types[_TYPES["/camera"]](
        header=_header(time_ns),
        height=_HEIGHT,
        width=_WIDTH,
        encoding="rgb8",
        is_bigendian=0,
        step=_WIDTH * 3,
        data=np.frombuffer(pixels, np.uint8),
    )
    return _serialized("/camera", message)


def _header(time_ns: int) -> Any:
    stamp = _STORE.types["builtin_interfaces/msg/Time"](
        sec=time_ns // SECOND_NS, nanosec=time_ns % SECOND_NS
    )
    return _STORE.types["std_msgs/msg/Header"](stamp=stamp, frame_id="base_link")


def _serialized(topic: str, message: object) -> bytes:
    return bytes(_STORE.serialize_cdr(message, _TYPES[topic]))


Write = Callable[[int, str, bytes], None]


@contextmanager
def _mcap(folder: Path, storage: Storage, topics: list[str]) -> Iterator[tuple[Path, Write]]:
    """One file with chunks and checksums, as a Jazzy recorder writes it."""
    folder.mkdir(parents=True)
    path = folder / f"{folder.name}_0.mcap"
    compression = CompressionType.ZSTD if storage == "mcap zstd" else CompressionType.NONE
    with path.open("wb") as file:
        writer = Writer(file, compression=compression)
        writer.start(profile="ros2", library="benchmark")
        channels = {topic: _channel(writer, topic) for topic in topics}
        yield (
            path,
            lambda time_ns, topic, cdr: writer.add_message(channels[topic], time_ns, cdr, time_ns),
        )
        writer.finish()  # type: ignore[no-untyped-call]  # the library's gap


def _channel(writer: Writer, topic: str) -> int:
    definition = _STORE.generate_msgdef(_TYPES[topic], ros_version=2)[0].encode()
    schema = writer.register_schema(name=_TYPES[topic], encoding="ros2msg", data=definition)
    return writer.register_channel(topic=topic, message_encoding="cdr", schema_id=schema)


@contextmanager
def _db3(folder: Path, _storage: Storage, topics: list[str]) -> Iterator[tuple[Path, Write]]:
    """A folder with metadata.yaml and one sqlite3 file."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with rosbag2.Writer(folder, version=9, storage_plugin=rosbag2.StoragePlugin.SQLITE3) as writer:
        connections = {
            topic: writer.add_connection(topic, _TYPES[topic], typestore=_STORE)
            for topic in topics
        }
        yield folder, lambda time_ns, topic, cdr: writer.write(connections[topic], time_ns, cdr)
