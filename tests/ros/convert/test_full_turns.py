"""Which steps are an angle's that wraps around, and where a report and a check tell of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dql_core.data.dataset import load_dataset
from dql_core.spec import FieldSpec
from dql_ros.contract import Contract
from dql_ros.convert.convert import Source, convert
from dql_ros.convert.full_turns import FullTurns, full_turn_steps, turned
from dql_ros.tools.contract_check import check_bag
from tests.ros.bag.sample_bags import BAGS, TWIST, bounded, rules, stream

TURN = 2 * np.pi
TICKS = np.arange(100)
SECOND = 1_000_000_000


def wrapped(angles: NDArray[np.floating]) -> NDArray[np.float64]:
    """The angles in [-pi, pi)."""
    return np.asarray(np.remainder(angles + np.pi, TURN) - np.pi, np.float64)


@given(start=st.floats(-4, 4), step=st.floats(0.08, 1.2), held=st.integers(1, 5))
def test_every_turn_of_what_goes_round_is_counted(start: float, step: float, held: int) -> None:
    angles = start + step * TICKS
    expected = int((np.abs(np.diff(wrapped(angles))) > np.pi).sum())
    for each in (angles, -angles):
        assert full_turn_steps(np.repeat(wrapped(each), held), TURN) == expected > 0
    degrees = np.degrees(np.remainder(angles, TURN))
    assert full_turn_steps(degrees, 360.0) == (np.abs(np.diff(degrees)) > 180).sum()


def test_what_stands_and_trembles_where_it_wraps_around_is_counted() -> None:
    trembling = wrapped(np.pi + np.random.default_rng(0).normal(0, 0.02, 50))
    assert full_turn_steps(trembling, TURN) == (np.abs(np.diff(trembling)) > np.pi).sum() > 9


@given(
    amplitude=st.floats(0, 3.1),
    pace=st.floats(0, np.pi),
    phase=st.floats(0, TURN),
)
def test_a_joint_that_moves_fast_does_not_begin_anew(
    amplitude: float, pace: float, phase: float
) -> None:
    assert full_turn_steps(amplitude * np.sin(pace * TICKS + phase), TURN) == 0


@pytest.mark.parametrize(
    "values",
    [
        [],
        [0.5],
        [-1e308, 1e308],
        np.repeat([-2.9, 2.9] * 5, 10),
        [-2.75, 2.75] * 20,
        np.random.default_rng(0).uniform(-3.1, 3.1, 100),
        np.repeat(np.random.default_rng(1).uniform(-3.1, 3.1, 20), 5),
        [*np.arange(0, 20, 0.3), *np.arange(20 - TURN, 30, 0.3)],
        [0.0, 0.1, 6.0, 6.1, 0.2, 0.3],
    ],
    ids=[
        "none",
        "one",
        "huge",
        "commands",
        "at once",
        "noise",
        "goals",
        "counts on",
        "another step",
    ],
)
def test_what_steps_otherwise_does_not_begin_anew(values: Any) -> None:
    assert full_turn_steps(np.array(values, float), TURN) == 0


def test_only_fields_with_a_unit_of_angles_are_told_of_with_what_helps() -> None:
    specs = [
        FieldSpec("theta", "rad", source={}),
        FieldSpec("yaw", "deg", source={"rotation": "yaw"}),
        FieldSpec("theta@-0.1s", "rad", source={"ago_s": 0.1}),
        FieldSpec("unknown"),
        FieldSpec("x", "m", source={}),
    ]
    angles = wrapped(0.1 * TICKS)[:, None]
    seen = FullTurns(specs)
    seen.add(angles * [1, np.degrees(1), 1, 1, 1])
    seen.add(angles[:40] * [1, np.degrees(1), 1, 1, 1])
    seen.add(angles[:2] * np.zeros(5))
    parts = [seen.rows(), seen.rows()]
    assert list(turned(parts, specs, are_observed=True)) == [
        "theta jumps by a full turn in one step, 6 times in 4 episodes, as an angle does that "
        "wraps around: one heading is two numbers far apart; set 'rotation: cos_sin' for it in "
        "the contract",
        "yaw jumps by a full turn in one step, 6 times in 4 episodes, as an angle does that "
        "wraps around: one heading is two numbers far apart; set 'rotation: 6d' for it in "
        "the contract",
    ]
    (command, _) = turned(parts, specs, are_observed=False)
    assert command.endswith(
        "; command its rate, or a quaternion with 'rotation: 6d', if the robot can"
    )


def contract(**field: Any) -> Contract:
    return Contract.model_validate(
        {
            "robot": "turtle",
            "rate_hz": 10.0,
            "observation": [
                {
                    "topic": "pose",
                    "type": "geometry_msgs/msg/Pose2D",
                    "stamp": "receive",
                    "fields": [{"path": "theta", **field}],
                }
            ],
            "action": [
                {
                    "topic": "heading",
                    "type": "std_msgs/msg/Float64",
                    "fields": [{"path": "data", "unit": "rad", "low": -4, "high": 4}],
                }
            ],
        }
    )


def test_a_report_and_a_check_tell_of_angles_that_begin_anew(
    tmp_path: Path, blank: Callable[[str], Any], record: Callable[..., Path]
) -> None:
    messages = []
    for tick, angle in enumerate(wrapped(0.2 * TICKS)):
        pose, heading = blank("geometry_msgs/msg/Pose2D"), blank("std_msgs/msg/Float64")
        pose.theta = heading.data = float(angle)
        at_ns = SECOND + tick * SECOND // 10
        messages += [
            ("/pose", "geometry_msgs/msg/Pose2D", at_ns, pose),
            ("/heading", "std_msgs/msg/Float64", at_ns + 1000, heading),
        ]
    bag = record(tmp_path / "bag", messages)

    def told(rules: Contract, out: str) -> list[str]:
        remarks = convert(Source(rules, [bag]), tmp_path / out)["remarks"]
        found = [text for text in remarks if "full turn" in text]
        checked = check_bag(bag, rules).findings.warnings
        assert [f"{bag}: {text}" for text in found] == [
            f"{text}." for text in checked if "full turn" in text
        ]
        return found

    observed, commanded = told(contract(unit="rad"), "raw")
    assert observed.startswith("pose.theta jumps by a full turn in one step, 3 times in 1 episode")
    assert commanded.startswith("heading.data jumps by a full turn in one step, 3 times in 1 epis")
    assert told(contract(rotation="cos_sin"), "mended") == [commanded]


@pytest.mark.realdata
@pytest.mark.skipif(not BAGS.is_dir(), reason="no recordings in ../shared/data/bags")
def test_the_heading_of_a_recorded_turtle_wraps_around_and_its_cosine_does_not(
    tmp_path: Path,
) -> None:
    fields = {"path": "theta", "unit": "rad"}, {"path": "theta", "rotation": "cos_sin"}
    pose = stream("/turtle1/pose", "turtlesim/msg/Pose", *fields, stamp="receive")
    speeds = stream("/turtle1/cmd_vel", TWIST, *bounded("linear.x", "angular.z"), max_age_s=1.0)
    source = Source(rules(10.0, [pose], speeds), [BAGS / "turtlesim_jazzy"])
    found = [text for text in convert(source, tmp_path / "out")["remarks"] if "turn" in text]
    assert [text.partition(", as")[0] for text in found] == [
        "pose.theta jumps by a full turn in one step, 1 time in 1 episode"
    ]
    steps = [
        np.abs(np.diff(each.observations, axis=0))
        for each in load_dataset(tmp_path / "out").episodes
    ]
    farthest = np.concatenate(steps).max(axis=0)
    assert farthest[0] > 6.0
    assert farthest[1:].max() < 1.0
