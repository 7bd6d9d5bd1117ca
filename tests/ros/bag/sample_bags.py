"""The recordings in ../shared/data/bags, a contract for each, and what becomes of them.

``python -m tests.ros.bag.sample_bags > docs/reference/sample-bags.md`` writes the page of results.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dql_core.data.dataset import Episode, load_dataset
from dql_core.errors import DqlError
from dql_ros.bag.reader import Bag
from dql_ros.contract import Contract, load_contract
from dql_ros.convert.convert import Source, convert
from tests.core.data import sample_datasets

ROOT = Path(__file__).parents[3]
BAGS = ROOT.parent / "shared" / "data" / "bags"
CRAZYFLIE = ROOT / "config" / "contracts" / "crazyflie.yaml"
STRING, LOG, TWIST, IMU, ODOMETRY, JOINTS = (
    "std_msgs/msg/String",
    "rcl_interfaces/msg/Log",
    "geometry_msgs/msg/Twist",
    "sensor_msgs/msg/Imu",
    "nav_msgs/msg/Odometry",
    "sensor_msgs/msg/JointState",
)
RECEIVED = {"stamp": "receive"}
INTRODUCTION = """\
# What becomes of other people's bags and datasets

Recordings that others made, unmodified, each converted with a contract that asks for what is in it
(`tests/ros/bag/sample_bags.py`). Where the recordings lie in `../shared/data/bags`,
`python -m tests.ros.bag.sample_bags > docs/reference/sample-bags.md` writes this page, and
`tests/ros/convert/test_real_bag_conversion.py` holds it to what comes out.

Most of the bags are no recordings of a robot at work: where no topic carries commands, one that
carries numbers stands for them; where a bag has nothing but texts, or one message of each, the
refusal is the right answer.
"""


@dataclass(frozen=True)
class Sample:
    """One recording.

    Attributes:
        bag: Its path in the folder of recordings.
        kind: What it is a sample of.
        asked: What the contract asks for, in words.
        contract: The contract.
        messages: How many messages it has, by the folder's README.
    """

    bag: str
    kind: str
    asked: str
    contract: Contract
    messages: int | None = None

    @property
    def path(self) -> Path:
        """Where it lies."""
        return BAGS / self.bag


@dataclass(frozen=True)
class Outcome:
    """What became of a recording.

    Attributes:
        messages: How many messages were counted in all topics.
        report: The conversion's report; ``None`` if it was refused.
        episodes: The dataset's.
        refusal: Why it was refused, without the folder's name.
    """

    messages: int
    report: dict[str, Any] | None
    episodes: tuple[Episode, ...] = ()
    refusal: str = ""


def stream(topic: str, msgtype: str, *fields: Any, **more: Any) -> dict[str, Any]:
    """Describe a stream; a field that is a text is a path."""
    selections = [{"path": each} if isinstance(each, str) else each for each in fields]
    return {"topic": topic, "type": msgtype, "fields": selections, **more}


def bounded(*paths: str, bound: float = 1e4) -> list[dict[str, Any]]:
    """Describe fields of an action."""
    return [{"path": path, "low": -bound, "high": bound} for path in paths]


def rules(
    rate_hz: float, observed: list[dict[str, Any]], commands: dict[str, Any], **more: Any
) -> Contract:
    """Make a contract."""
    document = {"robot": "sample", "rate_hz": rate_hz, "observation": observed}
    return Contract.model_validate({**document, "action": [commands], **more})


def samples() -> Iterator[Sample]:
    """Yield all recordings of the folder."""
    yield from _robots()
    yield from _texts()
    yield from _single_messages()


def _robots() -> Iterator[Sample]:
    flown = "the drone's own contract, `config/contracts/crazyflie.yaml`"
    for name in ("pitch0bag", "rollbag", "yx1bag"):
        contract = load_contract(CRAZYFLIE)
        yield Sample(f"crazyflie/{name}", "Jazzy, MCAP: a flight", flown, contract)
    imu = stream(
        "/imu/data",
        IMU,
        "angular_velocity.z",
        "linear_acceleration.x",
        {"path": "orientation", "rotation": "yaw"},
        max_age_s=0.5,
    )
    for name, base, count in (("test1", "husky", 16806), ("test2", "jackal", 6121)):
        wheels = stream(
            f"/{base}_velocity_controller/odom",
            ODOMETRY,
            *bounded("twist.twist.linear.x", "twist.twist.angular.z"),
            stamp="header",
        )
        yield Sample(
            f"robot_localization_ros1/{name}.bag",
            f"ROS 1: a {base} drives",
            "IMU; the odometry's speeds as commands, whose stamps are the ticks",
            rules(10.0, [imu], wheels, tick="action"),
            count,
        )
    pose = stream("/turtle1/pose", "turtlesim/msg/Pose", "x", "y", "theta", **RECEIVED)
    speeds = stream("/turtle1/cmd_vel", TWIST, *bounded("linear.x", "angular.z"), max_age_s=1.0)
    yield Sample(
        "turtlesim_jazzy",
        "Jazzy, MCAP: a type that only the bag defines",
        "the turtle's pose; cmd_vel, in force for a second",
        rules(10.0, [pose], speeds),
        2519,
    )
    clock = stream("/clock", "rosgraph_msgs/msg/Clock", "clock.sec", "clock.nanosec", **RECEIVED)
    costmap = stream(
        "/local_costmap/costmap",
        "nav2_msgs/msg/Costmap",
        {"path": "data", "slice": "0:4"},
        stamp="receive",
    )
    smoothed = stream("/cmd_vel_smoothed", TWIST, *bounded("linear.x", "angular.z"))
    yield Sample(
        "nav2_mcap_zstd",
        "MCAP in zstd, a type that no standard type store knows",
        "the clock and the first cells of the costmap; cmd_vel_smoothed",
        rules(20.0, [clock, costmap], smoothed),
        693,
    )


def _texts() -> Iterator[Sample]:
    log = stream("/rosout", LOG, "line", "level", stamp="receive", max_age_s=2.0)
    levels = stream("/rosout", LOG, *bounded("level"), max_age_s=2.0)
    asked = "the log's line numbers; its levels as commands"
    for name, kind, count in (
        ("rosbag2_samples/zstd_file_compression", "Foxy, sqlite, zstd by file", 775),
        ("rosbag2_samples/zstd_message_compression", "Foxy, sqlite, zstd by message", 1127),
        ("galactic_sqlite3", "Galactic, sqlite with side files", 280),
    ):
        yield Sample(name, kind, asked, rules(2.0, [log], levels), count)
    for storage in ("mcap", "sqlite3"):
        for name, topic, kind, count in (
            ("no_metadata_multiple_files", "/chatter", "split, without metadata", 3177),
            ("wbag", "AAA", "split, microseconds after the epoch", 6074),
        ):
            texts = stream(topic, STRING, "data", **RECEIVED)
            yield Sample(
                f"rosbag2_samples/{storage}/{name}",
                f"{storage}, {kind}",
                f"the texts of {topic} as if they were numbers",
                rules(10.0, [texts], stream(topic, STRING, *bounded("data"))),
                count,
            )


def _single_messages() -> Iterator[Sample]:
    for name in ("test_bag_mcap", "test_bag_sqlite3"):
        joints = {"path": "position", "joints": ["joint3", "joint1"]}
        state = stream("/test/sensor_msgs/joint_state", JOINTS, joints, max_age_s=20.0)
        speeds = stream("/test/geometry_msgs/twist", TWIST, *bounded("linear.x"), max_age_s=20.0)
        yield Sample(
            f"all_common_interfaces/{name}",
            "every type of common_interfaces, twice",
            "joint_state and twist, of which two messages are there",
            rules(1.0, [state], speeds),
            188,
        )
    imu = stream("/one_shot/imu", IMU, "angular_velocity.z", max_age_s=9.0)
    joint = {"path": "velocity", "joints": ["joint2"], "low": -1.0, "high": 1.0}
    moved = stream("/one_shot/joint_state", JOINTS, joint, max_age_s=9.0)
    yield Sample(
        "libmcap_0_8/array_msgs",
        "old libmcap writer, one message a topic",
        "IMU by header stamp, which nobody set; joint velocity as the command",
        rules(1.0, [imu], moved),
        2,
    )
    vector = stream(
        "/one_shot/vector3", "geometry_msgs/msg/Vector3", "x", max_age_s=9.0, **RECEIVED
    )
    yield Sample(
        "libmcap_0_8/base_msgs",
        "old libmcap writer, one message a topic",
        "vector3 and twist, of which one message is there",
        rules(
            1.0, [vector], stream("/one_shot/twist", TWIST, *bounded("linear.x"), max_age_s=9.0)
        ),
        3,
    )


def outcome(sample: Sample, out: Path) -> Outcome:
    """Convert a recording to ``out``."""
    with Bag(sample.path) as bag:
        messages = sum(
            len(block) for batch in bag.batches(frozenset(bag.topics)) for block in batch.blocks
        )
        if messages != bag.message_count:
            raise AssertionError(f"{sample.bag}: {messages} read of {bag.message_count}")
    try:
        report = convert(Source(sample.contract, [sample.path]), out)
    except DqlError as error:
        return Outcome(messages, None, refusal=str(error).replace(f"{BAGS}/", ""))
    return Outcome(messages, report, tuple(load_dataset(out).episodes))


def page() -> str:
    """Convert all recordings, import all datasets, and describe the results."""
    rows = []
    for sample in samples():
        with tempfile.TemporaryDirectory() as folder:
            rows.append(_row(sample, outcome(sample, Path(folder) / "out")))
    head = (
        "| bag | what it is | messages | asked for | result |\n| --- | --- | ---: | --- | --- |\n"
    )
    return f"{INTRODUCTION}\n{head}{''.join(rows)}{sample_datasets.table()}"


def _row(sample: Sample, found: Outcome) -> str:
    if found.report is None:
        result = f"refused: {found.refusal}"
    else:
        totals = found.report["totals"]
        span = found.report["totals"]["recorded_s"]
        episodes = "1 episode" if totals["episodes"] == 1 else f"{totals['episodes']} episodes"
        result = f"{episodes}, {totals['transitions']} transitions of {span:.1f} s"
    cells = (f"`{sample.bag}`", sample.kind, str(found.messages), sample.asked, result)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


if __name__ == "__main__":
    sys.stdout.write(page())
