"""A bag that is played over ROS 2 topics to the policy node gives the commands of its replay.

The node runs in lockstep: it answers each state once, so that both have been shown the same
messages at each tick. Its clock stands still at each message's time of receipt while that message
travels. Nothing is timed; every step waits for the node's answer to the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import TwistStamped

from dql_core.runtime.controller import State
from dql_ros.bag.reader import Bag
from dql_ros.contract import load_contract, resolve_topic
from dql_ros.control.loaded_policy import load_bundle
from dql_ros.control.settings import LoopSettings
from dql_ros.processes import NodeCommand, NodeProcesses, own_domain
from dql_ros.tools.replay.replayed_bag import ReplayedBag, replay_bag
from tests.ros.nodes.policy.test_bag_live_topics import Event, Replayer, persons_topics
from tests.ros.nodes.robot import Probe
from tests.ros.untrained import untrained_bundle

pytestmark = pytest.mark.ros
JOINTS, TWIST, POINT, FLOAT = (
    "sensor_msgs/msg/JointState",
    "geometry_msgs/msg/TwistStamped",
    "geometry_msgs/msg/Point",
    "std_msgs/msg/Float64",
)
PERIOD_NS = 50_000_000
START_NS = 1_700_000_000_000_000_000
SEED = 7
ROVER = """
robot: rover
rate_hz: 20.0
observation:
  - topic: wheels
    type: sensor_msgs/msg/JointState
    fields: [{path: velocity, joints: [left, right], unit: rad/s, message_unit: deg/s}]
  - topic: slope
    type: std_msgs/msg/Float64
    stamp: receive
    max_age_s: 0.12
    fields: [{path: data}]
  - topic: goal
    type: geometry_msgs/msg/Point
    stamp: receive
    latched: true
    fields: [{path: x, offset: first}]
action:
  - topic: cmd_vel
    type: geometry_msgs/msg/TwistStamped
    fields:
      - {path: twist.linear.x, low: -1.0, high: 1.0, max_rate: 9.0}
      - {path: twist.angular.z, low: -2.0, high: 2.0}
on_fault: {hold_s: 0.1, ramp_s: 0.2, command: [0.25, -0.5]}
"""


def played(contract: Path, bundle: Path, bag: Path) -> list[tuple[int, float, float]]:
    """Play a bag to the policy node; return the stamps and numbers of all its commands."""
    rules = load_contract(contract)
    names = [*(stream.topic for stream in rules.observation), *persons_topics(rules)]
    topics = frozenset(map(resolve_topic, names))
    with Bag(bag) as opened:
        events = sorted(
            Event(int(time_ns), block.topic, block.payload(index))
            for batch in opened.batches(topics)
            for block in batch.blocks
            for index, time_ns in enumerate(block.log_times_ns)
        )
    is_state = [event.topic == "/wheels" for event in events]
    parameters = {
        "contract": str(contract),
        "policy": str(bundle),
        "mode": "lockstep",
        "seed": SEED,
        "use_sim_time": True,
        "autostart": True,
    }
    with own_domain() as domain, NodeProcesses(domain) as processes:
        probe = Probe(domain, processes.check)
        try:
            commands = probe.collect(TwistStamped, "/cmd_vel")
            command = NodeCommand("tests.ros.nodes.echoing_policy_node", "witness", parameters)
            processes.start(command)
            replay = Replayer(probe, rules)
            for states, event in zip(np.cumsum(is_state), events, strict=True):
                replay.send(event)
                answered = partial(lambda number: len(commands) >= number, states)
                probe.until(answered, "a command for each state")
        finally:
            probe.close()
    return [
        (
            each.header.stamp.sec * 10**9 + each.header.stamp.nanosec,
            each.twist.linear.x,
            each.twist.angular.z,
        )
        for each in commands
    ]


def replayed(contract: Path, bundle: Path, bag: Path) -> ReplayedBag:
    rules = load_contract(contract)
    loaded = load_bundle(bundle, rules.policy_spec())
    with Bag(bag) as opened:
        return replay_bag(opened, rules, loaded, LoopSettings(lockstep=True, seed=SEED))


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_the_policy_nodes_commands_are_those_of_the_replay(
    tmp_path: Path, blank: Callable[[str], Any], record: Callable[..., Path], horizon: int
) -> None:
    contract = tmp_path / "rover.yaml"
    contract.write_text(ROVER)
    bundle = untrained_bundle(tmp_path, contract, horizon)
    bag = record(tmp_path / "bag", recording(np.random.default_rng(3), blank))
    ours = replayed(contract, bundle, bag)
    assert len(ours.ticks) == 200
    assert set(ours.states) == {State.RUNNING.value, State.STALE.value, State.FAULT.value}
    assert set(ours.guards) >= {
        "stale_stream",
        "non_finite_observation",
        "impossible_observation",
        "unusual_observation",
        "slew_limited_action",
    }
    expected = [
        (tick.time_ns, *(float(value) for value in sent))
        for tick, sent in zip(ours.ticks, ours.sent, strict=True)
    ]
    assert played(contract, bundle, bag) == expected


TAKEOVER = """
takeover:
  topics: [teleop/cmd_vel]
  switch: {topic: joy, type: sensor_msgs/msg/Joy, path: buttons.0}
  max_age_s: 0.12
  ramp_s: 0.4
"""


def test_a_person_takes_over_in_the_replay_as_they_did_from_the_node(
    tmp_path: Path, blank: Callable[[str], Any], record: Callable[..., Path]
) -> None:
    contract = tmp_path / "rover.yaml"
    contract.write_text(ROVER + TAKEOVER)
    bundle = untrained_bundle(tmp_path, contract)
    rng = np.random.default_rng(5)
    messages = [*recording(rng, blank), *interventions(rng, blank)]
    bag = record(tmp_path / "bag", sorted(messages, key=lambda message: message[2]))
    ours = replayed(contract, bundle, bag)
    assert set(ours.states) == {each.value for each in State} - {"waiting", "stopped", "paused"}
    assert ours.states["takeover"] > 40
    assert {"silent_person", "clamped_action", "slew_limited_action"} <= set(ours.guards)
    expected = [
        (tick.time_ns, *(float(value) for value in sent))
        for tick, sent in zip(ours.ticks, ours.sent, strict=True)
    ]
    assert played(contract, bundle, bag) == expected


def interventions(
    rng: np.random.Generator, blank: Callable[[str], Any]
) -> list[tuple[str, str, int, Any]]:
    """A person's commands, with pauses, and a joystick, both well before a tick."""
    messages = []
    for tick in range(1, 200):
        before = START_NS + tick * PERIOD_NS - int(rng.integers(27, 43)) * 1_000_000
        if tick % 40 < 34 and 5 <= tick < 190:
            twist = blank(TWIST)
            twist.twist.linear.x, twist.twist.angular.z = rng.normal(scale=1.5, size=2)
            messages.append(("/teleop/cmd_vel", TWIST, before, twist))
        joy = blank("sensor_msgs/msg/Joy")
        joy.buttons = np.array([tick // 13 % 2], np.int32)
        messages.append(("/joy", "sensor_msgs/msg/Joy", before - 1_000_000, joy))
    return messages


def recording(
    rng: np.random.Generator, blank: Callable[[str], Any]
) -> list[tuple[str, str, int, Any]]:
    """States at each period, some of them broken, between uneven, late and lost messages."""
    messages: list[tuple[str, str, int, Any]] = []
    goal = blank(POINT)
    messages.append(("/goal", POINT, START_NS - 2_000_000, goal))
    for tick in range(200):
        now = START_NS + tick * PERIOD_NS
        if not 60 <= tick < 75 and tick != 150:
            slope = blank(FLOAT)
            slope.data = float(rng.normal())
            messages.append(("/slope", FLOAT, now - int(rng.integers(1, PERIOD_NS)), slope))
        if tick % 45 == 20:
            goal = blank(POINT)
            goal.x = float(rng.normal())
            messages.append(("/goal", POINT, now - int(rng.integers(1, PERIOD_NS)), goal))
        wheels = blank(JOINTS)
        wheels.header.stamp.sec, wheels.header.stamp.nanosec = divmod(now, 10**9)
        wheels.name = ["right", "left"] if rng.random() < 0.5 else ["left", "caster", "right"]
        wheels.velocity = np.degrees(rng.normal(size=len(wheels.name)))
        if tick in {100, 101, 130, 140}:
            broken = {100: np.nan, 101: np.inf, 130: 1e5, 140: np.degrees(20.0)}[tick]
            wheels.velocity[0] = broken
        messages.append(("/wheels", JOINTS, now, wheels))
    return sorted(messages, key=lambda message: message[2])
