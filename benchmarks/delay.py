"""What `dql inspect --delay` finds of delays that were injected into the simulation.

    python -m benchmarks.delay         # prints a JSON line for each recording and command
    python -m benchmarks.delay --keep  # and writes benchmarks/results

The arm of the demo, stepped through its MJCF file 1000 times a second and told by speeds, and
Gymnasium's Reacher-v5, 50 times a second and told by torques, are driven by the bridge's own parts
(`EpisodeRunner`, `HeldCommand` and `FaultyLink`, without ROS) with a mixture of sines that is held
for 1/25 s. A command that arrives between two steps waits for the next, so that it takes effect
later than was injected: by how much on average is counted, and that is what is to be found.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore

from benchmarks.machine import Line, keep, machine, markdown_table, show, where
from dql_core.sim.scara import MODEL_FILE
from dql_ros.bag.metadata import describe
from dql_ros.bag.reader import Bag
from dql_ros.bag.writer import BagWriter
from dql_ros.codecs import StreamEncoder
from dql_ros.codecs.blank import blank_message
from dql_ros.config_files import find_config
from dql_ros.contract import ActionStream, Contract, ObservationStream, parts
from dql_ros.sim.episodes import EpisodeRunner, open_environment
from dql_ros.sim.faults import FaultyLink, LinkFaults, link_rng
from dql_ros.sim.run import HeldCommand
from dql_ros.tools.delay.pairs import find_delays

COMMAND = "python -m benchmarks.delay --keep"
LATENCIES_MS = (0.0, 20.0, 40.0, 60.0, 80.0)
SECONDS, HELD_S, START_NS = 60.0, 0.04, 1_700_000_000_000_000_000
_STORE = get_typestore(Stores.ROS2_JAZZY)
ARM_STEP_S = 0.001
ARM = """
robot: scara
rate_hz: 1000.0
observation:
  - topic: joint_states
    type: sensor_msgs/msg/JointState
    fields:
      - {path: position, joints: [shoulder, elbow], unit: rad}
action:
  - topic: velocity_controller/commands
    type: std_msgs/msg/Float64MultiArray
    fields:
      - path: data
        indices: [0, 1]
        names: [shoulder_velocity, elbow_velocity]
        unit: rad/s
        low: -2.0
        high: 2.0
"""


@dataclass(frozen=True)
class Robot:
    """What is driven, and how.

    Attributes:
        name: For the table.
        env: As `open_environment` has it.
        contract: Of its topics.
        amplitude: How far the arm swings, or with what part of its torque it is driven.
        is_by_speed: Whether the sines are positions, and their speeds commanded.
        jitter: Share of a command's time by which it is sent later.
        states_hz: How often its state is recorded.
    """

    name: str
    env: str
    contract: Contract
    amplitude: float
    is_by_speed: bool
    jitter: float = 0.0
    states_hz: float = 50.0


def arm(folder: Path) -> Robot:
    """Return the demo's arm, with finer steps."""
    model = folder / "arm.xml"
    text = MODEL_FILE.read_text()
    model.write_text(text.replace('timestep="0.005"', f'timestep="{ARM_STEP_S:g}"'))
    assert model.read_text() != text
    contract = Contract.model_validate(yaml.safe_load(ARM))
    return Robot("arm", str(model), contract, 0.3, is_by_speed=True, jitter=0.3, states_hz=100.0)


def reacher(_: Path) -> Robot:
    """Return Gymnasium's Reacher, without what its target adds."""
    path = find_config("contracts/reacher.yaml")
    assert path is not None
    document = yaml.safe_load(path.read_text())
    del document["reward"], document["episode"]
    contract = Contract.model_validate(document)
    return Robot("Reacher-v5", "Reacher-v5", contract, 0.03, is_by_speed=False)


ROBOTS = (arm, reacher)


def record(
    folder: Path,
    robot: Robot,
    command_faults: LinkFaults,
    state_faults: LinkFaults | None = None,
    seconds: float = SECONDS,
    seed: int = 0,
) -> float:
    """Drive a robot and record it; return after what time its commands took effect, in seconds."""
    contract = robot.contract
    period_ns, steps = contract.period_ns, round(seconds * contract.rate_hz)
    environment = open_environment(robot.env, contract, max_episode_steps=steps + 1)
    runner = EpisodeRunner(environment, period_ns, seed, episodes=1)
    held = HeldCommand(
        contract.safe_command, list(parts(contract.action)), faults=command_faults, seed=seed
    )
    link: FaultyLink[int] = FaultyLink(state_faults or LinkFaults(), link_rng(seed, 0))
    width = len(contract.safe_command)
    waiting = list(_commands(robot, width, seconds, seed))[::-1]
    waits = []
    frame = runner.begin()
    with _Recording(folder, contract) as recording:
        for step in range(steps):
            now_ns = step * period_ns
            if step % round(contract.rate_hz / robot.states_hz) == 0:
                link.send(frame.observation, now_ns, now_ns)
            for came_ns, values, stamp_ns in link.due(now_ns):
                recording.states(values, stamp_ns, came_ns)
            while waiting and waiting[-1][0] <= now_ns:
                sent_ns, command = waiting.pop()
                for index, part in enumerate(parts(contract.action)):
                    held.receive(index, command[part], sent_ns)
                recording.commands(command, sent_ns)
                arrives_ns = max(sent_ns + command_faults.latency_ns, now_ns)
                waits.append(-(-arrives_ns // period_ns) * period_ns - sent_ns)
            frame = runner.advance(held.at(now_ns))
    environment.close()
    return float(np.mean(waits)) / 1e9


def _commands(
    robot: Robot, width: int, seconds: float, seed: int
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield commands and when they are sent, in nanoseconds."""
    rng = np.random.default_rng(seed)
    slots = np.arange(round(seconds / HELD_S))
    step_ns = robot.contract.period_ns
    times_ns = np.round((slots + robot.jitter * rng.random(len(slots))) * HELD_S * 1e9)
    if not robot.jitter:
        times_ns = np.round(times_ns / step_ns) * step_ns
    rates = 2 * np.pi * rng.uniform(0.2, 3.0, (12, width, 1))
    phases = rates * times_ns / 1e9 + rng.uniform(0, 2 * np.pi, (12, width, 1))
    waves = rates * np.cos(phases) if robot.is_by_speed else np.sin(phases)
    commands = robot.amplitude * waves.sum(axis=0).T / np.sqrt(12)
    yield from zip(times_ns.astype(np.int64).tolist(), commands, strict=True)


class _Recording:
    """Writes a bag of a contract's streams."""

    def __init__(self, folder: Path, contract: Contract) -> None:
        self._writer = BagWriter(folder, compression="none")
        self._streams: list[tuple[ObservationStream | ActionStream, slice, StreamEncoder]] = []
        for streams in (contract.observation, contract.action):
            for stream, part in zip(streams, parts(streams), strict=True):
                assert isinstance(stream, ObservationStream | ActionStream)
                self._streams.append((stream, part, StreamEncoder(stream)))
                topic = stream.resolved_topic()
                self._writer.add(describe(topic, stream.type, (), None, _STORE))
        self._is_first = True

    def __enter__(self) -> _Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def states(self, values: NDArray[np.float64], stamp_ns: int, came_ns: int) -> None:
        """Write the states of an instant, those that are latched once."""
        for stream, part, encoder in self._streams:
            if isinstance(stream, ObservationStream) and (not stream.latched or self._is_first):
                self._write(stream, encoder, values[part], stamp_ns, came_ns)
        self._is_first = False

    def commands(self, values: NDArray[np.float64], sent_ns: int) -> None:
        """Write a command."""
        for stream, part, encoder in self._streams:
            if isinstance(stream, ActionStream):
                self._write(stream, encoder, values[part], sent_ns, sent_ns)

    def _write(
        self,
        stream: ObservationStream | ActionStream,
        encoder: StreamEncoder,
        values: NDArray[np.float64],
        stamp_ns: int,
        came_ns: int,
    ) -> None:
        message = encoder.encode(values, blank_message(_STORE, stream.type), START_NS + stamp_ns)
        cdr = _STORE.serialize_cdr(message, stream.type)
        self._writer.write(stream.resolved_topic(), cdr, START_NS + came_ns)


def measure(robot: Robot, latency_ms: float, folder: Path) -> Iterator[Line]:
    """Yield a line for each command of a recording with a latency."""
    effect_s = record(folder, robot, LinkFaults(latency_ns=round(latency_ms * 1e6)))
    begun_s = time.perf_counter()
    with Bag(folder) as bag:
        found = find_delays(bag, robot.contract, "/", lambda _: None)
    seconds = time.perf_counter() - begun_s
    for pair in found["pairs"]:
        yield {
            "benchmark": "delay",
            "robot": robot.name,
            "command": pair["command"],
            "state": pair["state"],
            "injected_ms": latency_ms,
            "effect_ms": round(1000 * effect_s, 2),
            **{key: pair[key] for key in ("delay_ms", "low_ms", "high_ms", "explained", "lag_ms")},
            "doubt": pair["doubt"],
            "seconds": round(seconds, 1),
            **machine(),
        }


def main(arguments: Sequence[str] | None = None) -> None:
    """Drive all robots with all latencies, and tell what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    options = parser.parse_args(arguments)
    lines = []
    for make in ROBOTS:
        for latency_ms in LATENCIES_MS:
            with tempfile.TemporaryDirectory() as name:
                robot = make(Path(name))
                lines += [show(each) for each in measure(robot, latency_ms, Path(name) / "bag")]
    if options.keep:
        keep("delay", lines, table(lines))


def table(lines: Sequence[Line]) -> str:
    """Return the page of the results."""
    headings = ("robot", "command", "state", "injected", "takes effect after", "found", "lag")
    rows = [
        (
            line["robot"],
            line["command"],
            line["state"],
            f"{line['injected_ms']:g} ms",
            f"{line['effect_ms']:.1f} ms",
            found(line),
            f"{line['lag_ms']:.0f} ms",
        )
        for line in lines
    ]
    told = [line for line in lines if not line["doubt"]]
    worst = max((abs(line["delay_ms"] - line["effect_ms"]) for line in told), default=0.0)
    return (
        f"# Delays that were injected, and what is found of them\n\n    {COMMAND}\n\n"
        f"{where(list(lines))}\n"
        f"The lines as printed are in [delay.jsonl](delay.jsonl). {SECONDS:g} s of each robot, "
        f"driven by the parts of the simulation bridge\nwith `command_latency_ms`; what a command "
        f"waits for the next step of the simulation is counted in. Told in {len(told)} of\n"
        f"{len(lines)} cases, by at most {worst:.1f} ms wrong. The lag is the actuator's, and no "
        f"part of the delay.\n\n{markdown_table(headings, rows)}"
    )


def found(line: Line) -> str:
    """What was found, in words."""
    if line["delay_ms"] is None:
        return str(line["doubt"])
    interval = f"{line['delay_ms']:.1f} ms [{line['low_ms']:.1f}, {line['high_ms']:.1f}]"
    return f"cannot tell: {line['doubt']}" if line["doubt"] else interval


if __name__ == "__main__":
    main()
