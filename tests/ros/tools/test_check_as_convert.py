"""`dql contract check` finds problems if and only if `dql convert` refuses the recording."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dql_core.errors import DqlError
from dql_ros.contract import Contract
from dql_ros.convert.convert import ConvertOptions, Source, convert
from dql_ros.tools.contract_check import check_bag

STATE, FRAMES = "sensor_msgs/msg/JointState", "tf2_msgs/msg/TFMessage"
COMMAND, TRAJECTORY = "std_msgs/msg/Float64MultiArray", "trajectory_msgs/msg/JointTrajectory"
STATUS = "diagnostic_msgs/msg/DiagnosticArray"
TICKS, PERIOD = 16, 100_000_000
X = "transform.translation.x"

# What a recording has: each kind of message comes at every second tick, the usual one between.
NAMES: dict[str, dict[str, Any]] = {
    "usual": {},
    "swapped": {"name": ["b", "a"]},
    "others": {"name": ["g", "h"]},
    "some": {"name": ["a", "g"]},
    "unnamed": {"name": []},
    "blank": {"name": ["", ""]},
    "twice": {"name": ["a", "a"]},
    "short": {"velocity": np.zeros(1)},
    "long": {"velocity": np.zeros(3)},
    "empty": {"velocity": np.zeros(0)},
    "nothing": {"name": [], "position": np.zeros(0), "velocity": np.zeros(0)},
    "nan": {"position": np.array([np.nan, 1.0])},
    "nan in part": {"position": np.array([np.nan, 1.0]), "velocity": np.zeros(0)},
}
FIELDS: list[list[dict[str, Any]]] = [
    [{"path": "position", "joints": ["a", "b"]}],
    [{"path": "position", "joints": ["b"]}, {"path": "velocity", "joints": ["a"]}],
    [{"path": "position", "joints": ["a", "g"]}],
    [{"path": "position", "joints": ["a", "nowhere"]}],
    [{"path": "position", "slice": "0:2"}],
    [{"path": "velocity", "indices": [2]}],
    [{"path": "position.1"}],
    [{"path": "position[name=a]"}, {"path": "velocity[name=b]"}],
]
FRAME_PATHS = [f"transforms.0.{X}", f"transforms[child_frame_id=tool].{X}", f"transforms.2.{X}"]
# Most fit, so that the rest of the contract decides.
ACTIONS: list[tuple[str, dict[str, Any]]] = [
    *[(COMMAND, {"path": "data", "indices": [0, 1]})] * 5,
    *[(TRAJECTORY, {"path": "points.0.positions", "joints": ["a"]})] * 5,
    (COMMAND, {"path": "data", "indices": [1]}),
    (COMMAND, {"path": "data.0"}),
    (TRAJECTORY, {"path": "points.0.positions", "indices": [0]}),
]
SIGNALS = ["status.0.level", "status[name=arm].level", "status[name=nobody].level"]


def bag_of(
    folder: Path, record: Callable[..., Path], blank: Callable[[str], Any], state: str, odd: str
) -> Path:
    """A recording of all topics, with odd states, and odd messages of one other topic."""
    messages = []
    for tick in range(TICKS):
        now, is_odd = 50 * 10**9 + tick * PERIOD, bool(tick % 2)
        joints = blank(STATE)
        joints.name, joints.position, joints.velocity = ["a", "b"], np.ones(2), np.ones(2)
        for name, value in NAMES[state].items() if is_odd else ():
            setattr(joints, name, value)
        frames = blank(FRAMES)
        for frame in ["cam", "tool"] if is_odd and odd == "frames" else ["tool", "cam"]:
            frames.transforms.append(blank("geometry_msgs/msg/TransformStamped"))
            frames.transforms[-1].child_frame_id = frame
        command = blank(COMMAND)
        command.data = np.array([] if is_odd and odd == "command" else [2.0 * is_odd, 0.5])
        moves = blank(TRAJECTORY)
        moves.joint_names = ["g" if is_odd and odd == "trajectory" else "a"]
        if tick != 6:
            moves.points = [blank("trajectory_msgs/msg/JointTrajectoryPoint")]
            moves.points[0].positions = np.zeros(1)
        status = blank(STATUS)
        if not (is_odd and odd == "status"):
            status.status = [blank("diagnostic_msgs/msg/DiagnosticStatus")]
            status.status[0].name, status.status[0].level = "arm", int(tick == 9)
        messages += [
            ("/js", STATE, now, joints),
            ("/tf", FRAMES, now + 1000, frames),
            ("/status", STATUS, now + 2000, status),
            ("/cmd", COMMAND, now + 3000, command),
            ("/moves", TRAJECTORY, now + 4000, moves),
        ]
    return record(folder, messages)


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    def either(key: str, *values: Any) -> dict[str, Any]:
        chosen = draw(st.sampled_from([*[None] * 3, *values]))
        return {} if chosen is None else {key: chosen}

    absent = either("when_absent", "skip", "refuse")
    fields = draw(st.sampled_from([*FIELDS[:2] * 5, *FIELDS]))
    state = {"topic": "js", "type": STATE, "fields": fields, "stamp": "receive", **absent}
    state |= either("unnamed", "by_index")
    observation = [state]
    if draw(st.sampled_from([True, False, False])):
        path = draw(st.sampled_from(FRAME_PATHS))
        frame = {"topic": "tf", "type": FRAMES, "fields": [{"path": path}], "stamp": "receive"}
        observation.append({**frame, **either("when_absent", "skip", "refuse")})
    msgtype, field = draw(st.sampled_from(ACTIONS))
    topic = "moves" if msgtype == TRAJECTORY else "cmd"
    bounded = {**field, "low": -1.0, "high": 1.0}
    action = {"topic": topic, "type": msgtype, "fields": [bounded], "max_age_s": 1.0}
    signal = {"topic": "status", "type": STATUS}
    path = draw(st.sampled_from(SIGNALS))
    extra = {"path": path, **either("when_absent", "skip", "refuse")}
    kind = draw(st.sampled_from([*[""] * 6, "reward", "terminated", "start", "during"]))
    keys: dict[str, Any] = {}
    if kind == "reward":
        keys["reward"] = {**signal, **extra}
    elif kind:
        keys["episode"] = {kind: {**signal, **extra, **either("equals", 0, 1)}}
    document = {
        "robot": "r",
        "rate_hz": 10,
        "observation": observation,
        "action": [{**action, **either("when_absent", "skip", "refuse")}],
        **keys,
        **either("nonfinite", "drop", "split"),
        **either("beyond_bounds", "refuse", "widen"),
    }
    return Contract.model_validate(document)


@pytest.fixture(name="bags", scope="module")
def _bags(
    tmp_path_factory: pytest.TempPathFactory,
    record: Callable[..., Path],
    blank: Callable[[str], Any],
) -> dict[tuple[str, str], Path]:
    folder = tmp_path_factory.mktemp("bags")
    return {
        (state, odd): bag_of(folder / f"{state}-{odd}", record, blank, state, odd)
        for state in NAMES
        for odd in ("", "frames", "command", "trajectory", "status")
    }


@given(contract=contracts(), state=st.sampled_from([*list(NAMES)[:3] * 5, *NAMES]), data=st.data())
@settings(
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_check_has_problems_where_convert_refuses(
    tmp_path: Path,
    bags: dict[tuple[str, str], Path],
    contract: Contract,
    state: str,
    data: st.DataObject,
) -> None:
    odd = data.draw(st.sampled_from(["", "frames", "command", "trajectory", "status"]))
    bag = bags[state, odd]
    refusal = ""
    try:
        convert(Source(contract, [bag]), tmp_path / "out", ConvertOptions(dry_run=True))
    except DqlError as cause:
        refusal = str(cause)
    problems = check_bag(bag, contract).findings.problems
    assert bool(problems) == bool(refusal), (problems, refusal)
