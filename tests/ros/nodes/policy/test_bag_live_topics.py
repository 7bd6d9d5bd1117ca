"""A bag replayed over ROS 2 topics shows the policy, to the bit, what the converter wrote.

The replayer is this process, the policy node another. Its clock is simulated: it stands still
at each message's time of receipt while that message travels, and at each tick of the converter
while the node looks. Nothing is timed; every step waits for the node's answer to the one before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from dql_core.data.dataset import load_dataset
from dql_ros.bag.reader import Bag
from dql_ros.codecs.installed import message_class
from dql_ros.contract import Contract, load_contract, resolve_topic
from dql_ros.convert.bag_episodes import read_bag_episodes
from dql_ros.convert.convert import Source, convert
from dql_ros.nodes.topics import qos_profile, reliable, time_message
from dql_ros.processes import NodeCommand, NodeProcesses, own_domain
from tests.ros.nodes.robot import Probe

pytestmark = pytest.mark.ros
ROOT = Path(__file__).parents[4]
FLIGHTS = ROOT.parent / "shared" / "data" / "bags" / "crazyflie"
JOINTS, TWIST, POINT, FLOAT, FLAG = (
    "sensor_msgs/msg/JointState",
    "geometry_msgs/msg/Twist",
    "geometry_msgs/msg/Point",
    "std_msgs/msg/Float64",
    "std_msgs/msg/Bool",
)
# Observations at a tick of the node's before this many may have begun before the clock was set.
LOOKS = 3
ROVER = """
robot: rover
rate_hz: 20.0
observation:
  - topic: wheels
    type: sensor_msgs/msg/JointState
    max_age_s: 0.06
    fields:
      - {path: velocity, joints: [left, right], unit: rad/s, message_unit: deg/s}
      - {path: position, joints: [right]}
      - {path: position, joints: [left], rotation: cos_sin, message_unit: deg}
  - {topic: slope, type: std_msgs/msg/Float64, stamp: receive, fields: [{path: data}]}
  - topic: goal
    type: geometry_msgs/msg/Point
    stamp: receive
    latched: true
    fields: [{path: x}]
action:
  - topic: cmd_vel
    type: geometry_msgs/msg/Twist
    fields: [{path: linear.x, low: -1.0, high: 1.0}]
episode:
  terminated: {topic: done, type: std_msgs/msg/Bool}
clock: split
"""


class Event(NamedTuple):
    """Something that a replay does: send a message, or, without one, look."""

    time_ns: int
    topic: str = ""
    cdr: bytes = b""


class Replayer:
    """Feeds the policy node, step by step."""

    def __init__(self, probe: Probe, contract: Contract) -> None:
        self._probe = probe
        self._count = 0
        node = probe.node
        self._heard: list[String] = probe.collect(String, "/witness/heard", latched=True)
        self._seen: list[String] = probe.collect(String, "/witness/seen", latched=True)
        self._clock = node.create_publisher(Clock, "/clock", reliable(10))
        self._publishers = {
            resolve_topic(stream.topic): node.create_publisher(
                message_class(stream.type), stream.topic, qos_profile(stream.qos)
            )
            for stream in contract.observed_topics
        }
        for topic, kind in persons_topics(contract).items():
            publisher = node.create_publisher(message_class(kind), topic, reliable(10))
            self._publishers[resolve_topic(topic)] = publisher
        # The policy node subscribes to each, and the witness in it does.
        everything = (self._clock, *self._publishers.values())
        probe.until(lambda: all(p.get_subscription_count() >= 2 for p in everything), "the node")

    def set_clock(self, time_ns: int) -> None:
        """Return when the node's clock stands at ``time_ns`` and all sent before is taken in."""
        now_ns = -1
        while now_ns != time_ns:
            now_ns = self._answer(self._clock, Clock(clock=time_message(time_ns)))

    def send(self, event: Event) -> None:
        """Let the node receive a message at its time."""
        self.set_clock(event.time_ns)
        assert self._answer(self._publishers[event.topic], event.cdr) == event.time_ns
        self.set_clock(event.time_ns)

    def look(self, time_ns: int) -> bytes:
        """The observation that the policy is shown at a time."""
        self.set_clock(time_ns)
        self._seen.clear()

        def shown() -> list[str]:
            """Without those of before the last message, which may come this late."""
            seen = [json.loads(message.data) for message in self._seen]
            wanted = {"now": time_ns, "count": self._count}
            return [each["bytes"] for each in seen if each.items() >= wanted.items()]

        self._probe.until(lambda: len(shown()) >= LOOKS, f"an observation at {time_ns}")
        return bytes.fromhex(shown()[LOOKS - 1])

    def _answer(self, publisher: Any, message: Any) -> int:
        """Publish, and return the node's time when it has heard."""
        self._heard.clear()
        publisher.publish(message)
        self._probe.until(lambda: self._heard, "an answer of the node")
        heard = json.loads(self._heard[-1].data)
        self._count = heard["count"]
        return int(heard["now"])


def persons_topics(contract: Contract) -> dict[str, str]:
    """Types of the topics by which a person takes over."""
    takeover = contract.takeover
    if takeover is None:
        return {}
    types = takeover.types(contract.action)
    return {topic: types[topic] for topic in takeover.heard_topics}


@contextmanager
def replayer(contract: Path) -> Iterator[Replayer]:
    """Start the policy node on a domain of its own; it looks 200 times a second.

    A value also grows old while the clock stands still; ten times as slowly here, since this
    process may have to wait for a core.
    """
    rules = load_contract(contract)
    text = contract.read_text()
    assert text.count(f"rate_hz: {rules.rate_hz}") == 1
    fast = contract.with_name("fast.yaml")
    fast.write_text(text.replace(f"rate_hz: {rules.rate_hz}", "rate_hz: 2000.0"))
    parameters = {
        "contract": str(fast),
        "use_sim_time": True,
        "autostart": True,
        "activation_timeout_s": 0.0,
        "real_time_factor": 0.1,
        "when_too_slow": "warn",
    }
    module = "tests.ros.nodes.witness_node"
    with own_domain() as domain, NodeProcesses(domain) as processes:
        probe = Probe(domain, processes.check)
        try:
            processes.start(NodeCommand(module, "witness", parameters))
            yield Replayer(probe, rules)
        finally:
            probe.close()


def check_parity(contract: Path, bag: Path, folder: Path) -> int:
    """Replay a bag and compare at every tick of the dataset; returns how many there are."""
    rules = load_contract(contract)
    convert(Source(rules, [bag]), folder / "out")
    written = [row for e in load_dataset(folder / "out").episodes for row in e.observations]
    ticks: list[int] = []
    topics = frozenset(resolve_topic(stream.topic) for stream in rules.observed_topics)
    with Bag(bag) as opened:
        read_bag_episodes(
            opened, rules, "/", lambda episode: ticks.extend(episode.ticks_ns.tolist())
        )
        events = [
            Event(int(time_ns), block.topic, block.payload(index))
            for batch in opened.batches(topics)
            for block in batch.blocks
            for index, time_ns in enumerate(block.log_times_ns)
        ]
    assert len(ticks) == len(written)
    rows = iter(written)
    # What arrives at a tick is known at it.
    looks = [Event(tick) for tick in ticks]
    with replayer(contract) as replay:
        for event in sorted([*events, *looks], key=lambda e: (e.time_ns, e.topic == "")):
            if event.topic:
                replay.send(event)
            else:
                assert replay.look(event.time_ns) == next(rows).tobytes()
    assert next(rows, None) is None
    return len(ticks)


def test_a_bag_replayed_over_topics_gives_the_converters_vectors(
    tmp_path: Path, blank: Callable[[str], Any], record: Callable[..., Path]
) -> None:
    contract = tmp_path / "rover.yaml"
    contract.write_text(ROVER)
    bag = record(tmp_path / "bag", recording(np.random.default_rng(2), blank))
    assert check_parity(contract, bag, tmp_path) > 60
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    endings = {row["ending"] for row in report["episodes"]}
    clock = "a clock was set or is wrong (/wheels)"
    assert endings >= {"terminated", "no wheels for too long", clock}


@pytest.mark.realdata
@pytest.mark.skipif(not FLIGHTS.is_dir(), reason="no recordings in ../shared/data/bags")
@pytest.mark.parametrize(("flight", "ticks"), [("yx1bag", 18), ("rollbag", 240)])
def test_a_real_flight_replayed_over_topics_gives_the_converters_vectors(
    tmp_path: Path, flight: str, ticks: int
) -> None:
    contract = tmp_path / "crazyflie.yaml"
    contract.write_text((ROOT / "config" / "contracts" / "crazyflie.yaml").read_text())
    assert check_parity(contract, FLIGHTS / flight, tmp_path) == ticks


def recording(
    rng: np.random.Generator, blank: Callable[[str], Any]
) -> list[tuple[str, str, int, Any]]:
    """Streams that are late, uneven, out of order, interrupted, and stamped by a jumping clock."""
    messages: list[tuple[str, str, int, Any]] = []
    now = 1_700_000_000_000_000_000
    for index in range(400):
        now += 1000 * int(rng.exponential(10_000)) + (150_000_000 if index % 90 == 89 else 0)
        wheels = blank(JOINTS)
        late = 1000 * int(rng.integers(1, 30_000))
        stamp = now - late + (3_000_000_000 if 200 <= index < 205 else 0)
        wheels.header.stamp.sec, wheels.header.stamp.nanosec = divmod(stamp, 10**9)
        wheels.name = ["right", "left"] if rng.random() < 0.5 else ["left", "caster", "right"]
        wheels.velocity = rng.normal(size=len(wheels.name))
        wheels.position = rng.normal(size=len(wheels.name))
        messages.append(("/wheels", JOINTS, now, wheels))
        if index % 5 == 0:
            slope, twist = blank(FLOAT), blank(TWIST)
            slope.data, twist.linear.x = float(rng.normal()), float(rng.uniform(-1, 1))
            messages.append(("/slope", FLOAT, now, slope))
            messages.append(("/cmd_vel", TWIST, now + 1000, twist))
        if index % 70 == 3:
            goal = blank(POINT)
            goal.x = float(rng.normal())
            messages.append(("/goal", POINT, now + 2000, goal))
        if index in {60, 160}:
            done = blank(FLAG)
            done.data = True
            messages.append(("/done", FLAG, now + 3000, done))
    return sorted(messages, key=lambda message: message[2])
