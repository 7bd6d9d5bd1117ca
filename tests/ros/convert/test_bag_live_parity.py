"""What the converter writes is, to the bit, what the live node would have seen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dql_core.data.dataset import load_dataset
from dql_ros.bag.reader import Bag
from dql_ros.contract import Contract
from dql_ros.control.observer import Observer
from dql_ros.convert.convert import Source, convert
from tests.ros.bag.messages import messages_of

JOINTS, TWIST, POINT = (
    "sensor_msgs/msg/JointState",
    "geometry_msgs/msg/Twist",
    "geometry_msgs/msg/Point",
)
PERIOD = 50_000_000
CONTRACT = Contract.model_validate(
    {
        "robot": "rover",
        "rate_hz": 20.0,
        "observation": [
            {
                "topic": "wheels",
                "type": JOINTS,
                "max_age_s": 0.06,
                "fields": [
                    {"path": "velocity", "joints": ["left", "right"]},
                    {"path": "position", "joints": ["right"], "offset": "first"},
                    {"path": "position", "joints": ["left"], "offset": 5e6, "scale": 3.0},
                    {"path": "position", "joints": ["right", "left"], "rotation": "cos_sin"},
                ],
            },
            {
                "topic": "goal",
                "type": POINT,
                "stamp": "receive",
                "latched": True,
                "fields": [{"path": "x"}, {"path": "y"}],
            },
        ],
        "action": [
            {
                "topic": "cmd_vel",
                "type": TWIST,
                "fields": [{"path": "linear.x", "low": -1, "high": 1}],
            }
        ],
    }
)


@pytest.mark.parametrize("seed", range(3))
def test_bag_replayed_into_the_live_observer_gives_the_converters_vectors(
    tmp_path: Path, blank: Callable[[str], Any], record: Callable[..., Path], seed: int
) -> None:
    bag = record(tmp_path / "bag", irregular_recording(np.random.default_rng(seed), blank))
    report = convert(Source(CONTRACT, [bag]), tmp_path / "out")
    episodes = load_dataset(tmp_path / "out").episodes
    assert len(episodes) > 1, "the recording has pauses that split it"
    with Bag(bag) as opened:
        arrivals = list(messages_of(opened, frozenset({"/wheels", "/goal"})))
        start_ns = opened.start_ns
    observer, upcoming = Observer(CONTRACT), iter(arrivals)
    message = next(upcoming, None)
    for episode, row in zip(episodes, report["episodes"], strict=True):
        observer.begin_episode()
        for tick, written in enumerate(episode.observations):
            now = start_ns + round(row["from_s"] * 1e9) + tick * PERIOD
            while message is not None and message.log_time_ns <= now:
                observer.receive(
                    message.topic[1:], message.message, message.log_time_ns, message.log_time_ns
                )
                message = next(upcoming, None)
            seen = observer.at(now, now).values
            assert seen is not None
            assert seen.tobytes() == written.tobytes()


def irregular_recording(
    rng: np.random.Generator, blank: Callable[[str], Any]
) -> list[tuple[str, str, int, Any]]:
    """Wheel speeds that are stamped before they arrive, late, unevenly and with pauses."""
    messages: list[tuple[str, str, int, Any]] = []
    stamp = 1_700_000_000_000_000_000
    for index in range(400):
        stamp += 1000 * int(rng.exponential(10_000)) + (150_000_000 if index % 150 == 149 else 0)
        wheels = blank(JOINTS)
        wheels.header.stamp.sec, wheels.header.stamp.nanosec = divmod(stamp, 10**9)
        wheels.name = ["right", "left"] if rng.random() < 0.5 else ["left", "caster", "right"]
        if rng.random() < 0.2:
            wheels.name = ["gripper"]  # on the same topic
        wheels.velocity = rng.normal(size=len(wheels.name))
        wheels.position = 5e6 + index / 100 + rng.normal(size=len(wheels.name))
        messages.append(("/wheels", JOINTS, stamp + 1000 * int(rng.integers(12_000)), wheels))
        if index % 90 == 5:
            goal = blank(POINT)
            goal.x, goal.y = rng.normal(size=2)
            messages.append(("/goal", POINT, stamp + 1000, goal))
        if index % 3 == 0:
            twist = blank(TWIST)
            twist.linear.x = float(rng.uniform(-1, 1))
            messages.append(("/cmd_vel", TWIST, stamp + 2000, twist))
    # A recorder writes in the order of arrival, which is not that of the stamps.
    return sorted(messages, key=lambda message: message[2])
