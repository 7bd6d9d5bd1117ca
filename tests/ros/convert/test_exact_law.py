"""A command that is an exact function of the last observation stays one; 20 ms aside, it does not.

A controller runs at 50 Hz on states that are stamped before they arrive. Each of its commands is a
dyadic combination of the newest state that it knew and of that state's stamp, so that floats hold
it exactly. The converter must find the very same pairs; commands moved by one period must show.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.data.dataset import Episode, load_dataset
from dql_ros.contract import Contract
from dql_ros.convert.convert import Source, convert
from tests.ros.bag.written_bags import STORE, Recorded, Way, write_bag

pytestmark = pytest.mark.slow

MS = 1_000_000
SECOND_NS = 1000 * MS
START_NS = 1_700_000_000 * SECOND_NS
PERIOD_NS = 20 * MS
TICKS = 200
STEPS = TICKS - 10
PLAIN = Way()
JOINTS, TWIST, POINT = (
    "sensor_msgs/msg/JointState",
    "geometry_msgs/msg/TwistStamped",
    "geometry_msgs/msg/Point",
)


class State(NamedTuple):
    """A state of the robot: what it is of, when it was received, and what it says."""

    stamp_ns: int
    log_ns: int
    position: float
    velocity: float


class Command(NamedTuple):
    """A command: the tick that it was worked out at, when it was received, and what it says."""

    tick_ns: int
    log_ns: int
    values: tuple[float, float]


class Mode(NamedTuple):
    """How commands are sent, and the rule by which the converter is to find them.

    Attributes:
        latency_ms: Least and most time from the tick to the receipt of its command.
        is_even: Whether the controller ticks evenly.
        rules: What the contract says of it.
        stream: What its action stream says.
    """

    latency_ms: tuple[int, int]
    is_even: bool
    rules: dict[str, Any]
    stream: dict[str, Any]


MODES = {
    "the first in its period": Mode((1, 15), True, {}, {"command": "first"}),
    "held, sent at once": Mode((0, 0), True, {}, {"command": "held"}),
    "stamped at the tick, late": Mode((25, 70), True, {}, {"stamp": "header", "max_skew_s": 1.0}),
    "at uneven ticks of its own": Mode((0, 0), False, {"tick": "action"}, {}),
    "at its own ticks, held": Mode((0, 0), False, {"tick": "action"}, {"command": "held"}),
    "at ticks of its own, late": Mode(
        (25, 70), False, {"tick": "action"}, {"stamp": "header", "max_skew_s": 1.0}
    ),
}


def law(position: NDArray[np.float64], velocity: NDArray[np.float64]) -> NDArray[np.float64]:
    """The command for a state; exact in float32, in which the dataset has it."""
    return 0.5 * position - 0.25 * velocity


def states(rng: np.random.Generator) -> Iterator[State]:
    """At about 200 Hz, up to 12 ms old at their receipt, some after younger ones.

    The velocity tells the stamp in milliseconds from the start.
    """
    stamp_ns = START_NS - 100 * MS
    while stamp_ns < START_NS + 2 * TICKS * PERIOD_NS:
        stamp_ns += int(rng.integers(3, 8)) * MS
        age_ns = int(rng.integers(1, 13)) * MS
        position = float(rng.integers(-(2**15), 2**15)) / 2**10
        yield State(stamp_ns, stamp_ns + age_ns, position, float((stamp_ns - START_NS) // MS))


def commands(rng: np.random.Generator, known: list[State], mode: Mode) -> Iterator[Command]:
    tick_ns = START_NS
    for _ in range(TICKS):
        before = [s for s in known if max(s.stamp_ns, s.log_ns) <= tick_ns]
        last = max(before, key=lambda state: state.stamp_ns)
        numbers = np.array([last.position]), np.array([last.velocity])
        latency_ns = int(rng.integers(mode.latency_ms[0], mode.latency_ms[1] + 1)) * MS
        values = (float(law(*numbers)[0]), last.velocity)
        yield Command(tick_ns, tick_ns + latency_ns, values)
        tick_ns += PERIOD_NS if mode.is_even else int(rng.integers(11, 35)) * MS


def recording(mode: Mode, shift_ns: int, seed: int = 3) -> list[Recorded]:
    """All messages in the order of receipt, with the commands moved by ``shift_ns``."""
    rng = np.random.default_rng(seed)
    known = list(states(rng))
    messages = [joint_state(state) for state in known]
    messages += [twist(command, shift_ns) for command in commands(rng, known, mode)]
    goal = STORE.types[POINT](x=1.0, y=2.0, z=3.0)
    # It is sent at the controller's first tick, so that the grid is the controller's.
    messages.append(Recorded("/goal", POINT, START_NS, bytes(STORE.serialize_cdr(goal, POINT))))
    return sorted(messages, key=lambda message: message.log_time_ns)


def header(stamp_ns: int) -> Any:
    sec, nanosec = divmod(stamp_ns, SECOND_NS)
    stamp = STORE.types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
    return STORE.types["std_msgs/msg/Header"](stamp=stamp, frame_id="")


def joint_state(state: State) -> Recorded:
    message = STORE.types[JOINTS](
        header=header(state.stamp_ns),
        name=["joint"],
        position=np.array([state.position]),
        velocity=np.array([state.velocity]),
        effort=np.empty(0),
    )
    return Recorded("/joints", JOINTS, state.log_ns, bytes(STORE.serialize_cdr(message, JOINTS)))


def twist(command: Command, shift_ns: int) -> Recorded:
    vector, both = STORE.types["geometry_msgs/msg/Vector3"], "geometry_msgs/msg/Twist"
    linear = vector(x=command.values[0], y=command.values[1], z=0.0)
    message = STORE.types[TWIST](
        header=header(command.tick_ns + shift_ns),
        twist=STORE.types[both](linear=linear, angular=vector(x=0.0, y=0.0, z=0.0)),
    )
    cdr = bytes(STORE.serialize_cdr(message, TWIST))
    return Recorded("/command", TWIST, command.log_ns + shift_ns, cdr)


def contract(mode: Mode, **stream: Any) -> Contract:
    joint = {"joints": ["joint"]}
    bounds = {"low": -1e6, "high": 1e6}
    return Contract.model_validate(
        {
            "robot": "lawful",
            "rate_hz": 50.0,
            "observation": [
                {
                    "topic": "/joints",
                    "type": JOINTS,
                    "stamp": "header",
                    "max_age_s": 0.1,
                    "fields": [{"path": "position", **joint}, {"path": "velocity", **joint}],
                },
                {
                    "topic": "/goal",
                    "type": POINT,
                    "stamp": "receive",
                    "latched": True,
                    "fields": [{"path": "z"}],
                },
            ],
            "action": [
                {
                    "topic": "/command",
                    "type": TWIST,
                    "max_age_s": 0.1,
                    "fields": [
                        {"path": "twist.linear.x", **bounds},
                        {"path": "twist.linear.y", **bounds},
                    ],
                    **mode.stream,
                    **stream,
                }
            ],
            **mode.rules,
        }
    )


def lawful(episode: Episode) -> NDArray[np.bool_]:
    """At which steps the action is what the law makes of the last observation, exactly.

    The last steps are left aside: states come on when the controller has stopped.
    """
    position, velocity = episode.observations[:STEPS, :2].astype(np.float64).T
    expected = np.stack([law(position, velocity), velocity], axis=1)
    same: NDArray[np.bool_] = (episode.actions[:STEPS] == expected).all(axis=1)
    return same


def convert_law(
    folder: Path, mode: Mode, shift_ns: int = 0, way: Way = PLAIN, **stream: Any
) -> Episode:
    """Convert the recording to its one episode."""
    bag = write_bag(folder / "bag", recording(mode, shift_ns), way)
    convert(Source(contract(mode, **stream), [bag]), folder / "out")
    (episode,) = load_dataset(folder / "out").episodes
    assert len(episode) >= STEPS
    return episode


@pytest.mark.parametrize("name", MODES)
def test_the_law_of_a_recording_comes_out_exactly(tmp_path: Path, name: str) -> None:
    episode = convert_law(tmp_path, MODES[name])
    assert lawful(episode).all()
    assert len(np.unique(episode.observations[:STEPS, 1])) > STEPS * 0.9, "the states differ"


@pytest.mark.parametrize("shift_ms", [-20, 20])
@pytest.mark.parametrize("name", MODES)
def test_twenty_milliseconds_of_look_ahead_or_lag_break_the_law(
    tmp_path: Path, name: str, shift_ms: int
) -> None:
    episode = convert_law(tmp_path, MODES[name], shift_ms * MS)
    assert not lawful(episode).all()
    assert lawful(episode).mean() < 0.05, "hardly a step is right by chance"


def test_the_law_breaks_where_late_commands_count_from_their_receipt(tmp_path: Path) -> None:
    mode = MODES["stamped at the tick, late"]
    episode = convert_law(tmp_path, mode, stamp="receive", max_age_s=0.2)
    assert lawful(episode).mean() < 0.05


@pytest.mark.parametrize(
    "way",
    [Way("db3"), Way("db3", files=3), Way(chunk_size=400, compression="lz4"), Way(files=4)],
    ids=str,
)
def test_the_law_does_not_depend_on_the_storage(tmp_path: Path, way: Way) -> None:
    for index, mode in enumerate(MODES.values()):
        assert lawful(convert_law(tmp_path / str(index), mode, way=way)).all()


@pytest.mark.parametrize("name", MODES)
def test_a_tick_of_the_dataset_is_one_of_the_controllers(tmp_path: Path, name: str) -> None:
    """The stamps that the actions carry tell which tick each was worked out at."""
    mode = MODES[name]
    rng = np.random.default_rng(3)
    sent = list(commands(rng, list(states(rng)), mode))
    episode = convert_law(tmp_path, mode)
    told = [list(command.values) for command in sent[:STEPS]]
    assert episode.actions[:STEPS].tolist() == told
