"""How far a policy is from whoever drives: in the contract's units, causally."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dql_core.errors import ContractError
from dql_ros.contract import Contract, load_contract
from dql_ros.control.agreement import LiveAgreement

SECOND_NS = 1_000_000_000
ARM = """
robot: arm
rate_hz: 20.0
observation:
  - topic: joint_states
    type: sensor_msgs/msg/JointState
    fields: [{path: position, joints: [a]}]
action:
  - topic: trajectory
    type: trajectory_msgs/msg/JointTrajectory
    max_age_s: 0.2
    fields:
      - path: points.0.positions
        joints: [a, b]
        names: [first, second]
        unit: rad
        message_unit: deg
        low: -2
        high: 2
  - topic: cmd_vel
    type: geometry_msgs/msg/Twist
    max_age_s: 1.0
    fields: [{path: linear.x, names: [ahead], low: -1, high: 1}]
"""
JOINTS, AHEAD = (
    ("mean difference of first (rad)", "mean difference of second (rad)"),
    ("mean difference of ahead"),
)


@pytest.fixture(name="contract")
def _contract(tmp_path: Path) -> Contract:
    (tmp_path / "arm.yaml").write_text(ARM)
    return load_contract(tmp_path / "arm.yaml")


@pytest.fixture(name="trajectory")
def _trajectory(blank: Callable[[str], Any]) -> Callable[..., Any]:
    """Make a trajectory; of joints by name, in degrees."""

    def make(**degrees: float) -> Any:
        message = blank("trajectory_msgs/msg/JointTrajectory")
        message.joint_names = list(degrees)
        point = blank("trajectory_msgs/msg/JointTrajectoryPoint")
        point.positions = np.array(list(degrees.values()))
        message.points = [point]
        return message

    return make


@pytest.fixture(name="twist")
def _twist(blank: Callable[[str], Any]) -> Callable[[float], Any]:
    def make(ahead: float) -> Any:
        message = blank("geometry_msgs/msg/Twist")
        message.linear.x = ahead
        return message

    return make


def action(*values: float) -> Any:
    return np.array(values, np.float32)


def test_messages_are_read_in_the_contracts_units_and_order(
    contract: Contract, trajectory: Callable[..., Any], twist: Callable[[float], Any]
) -> None:
    agreement = LiveAgreement(contract)
    agreement.receive("trajectory", trajectory(b=90.0, a=-180.0), 0)
    agreement.receive("cmd_vel", twist(0.25), 0)
    in_force = agreement.in_force(0)
    np.testing.assert_allclose(in_force, [-np.pi, np.pi / 2, 0.25], rtol=1e-12)
    agreement.compare(in_force, action(-1.0, 1.0, 1.0))
    agreement.compare(in_force, action(1.0, 1.0, 0.0))
    figures = agreement.figures()
    assert [float(figures[name]) for name in JOINTS] == [
        float(f"{np.pi:.4g}"),
        float(f"{np.pi / 2 - 1:.4g}"),
    ]
    assert figures[AHEAD] == "0.5"
    assert figures["ticks compared with trajectory (%)"] == "100.0"
    assert figures["heard commands of cmd_vel"] == "1"


def test_a_command_is_in_force_for_its_streams_max_age_since_it_was_heard(
    contract: Contract, trajectory: Callable[..., Any], twist: Callable[[float], Any]
) -> None:
    agreement = LiveAgreement(contract)
    assert np.isnan(agreement.in_force(0)).all()
    agreement.receive("trajectory", trajectory(a=0.0, b=0.0), 0)
    agreement.receive("cmd_vel", twist(0.25), 0)
    for after_s, known in ((0.2, [True] * 3), (0.201, [False, False, True]), (1.001, [False] * 3)):
        in_force = agreement.in_force(round(after_s * SECOND_NS))
        assert (~np.isnan(in_force)).tolist() == known
        agreement.compare(in_force, action(1.0, 1.0, 1.0))
    figures = agreement.figures()
    assert figures["ticks compared with trajectory (%)"] == "33.3"
    assert figures["ticks compared with cmd_vel (%)"] == "66.7"
    assert figures[AHEAD] == "0.75"


def test_ages_go_by_the_robots_clock(contract: Contract, twist: Callable[[float], Any]) -> None:
    agreement = LiveAgreement(contract, real_time_factor=2.0)
    agreement.receive("cmd_vel", twist(0.25), 0)
    assert agreement.in_force(SECOND_NS // 2)[2] == 0.25
    assert np.isnan(agreement.in_force(SECOND_NS // 2 + 1)[2])


def test_what_comes_after_a_tick_has_begun_is_not_compared_with_it(
    contract: Contract, twist: Callable[[float], Any]
) -> None:
    agreement = LiveAgreement(contract)
    agreement.receive("cmd_vel", twist(0.25), 0)
    in_force = agreement.in_force(1)
    agreement.receive("cmd_vel", twist(1.0), 2)
    agreement.compare(in_force, action(0.0, 0.0, 0.0))
    assert agreement.figures()[AHEAD] == "0.25"


def test_ticks_without_an_action_of_the_policy_count_and_are_not_compared(
    contract: Contract, twist: Callable[[float], Any]
) -> None:
    agreement = LiveAgreement(contract)
    agreement.receive("cmd_vel", twist(0.25), 0)
    agreement.compare(agreement.in_force(0), None)
    assert agreement.figures()[AHEAD] == "nothing compared"
    agreement.compare(agreement.in_force(0), action(0.0, 0.0, 0.0))
    assert agreement.figures()[AHEAD] == "0.25"
    assert agreement.figures()["ticks compared with cmd_vel (%)"] == "50.0"
    agreement.clear()
    assert agreement.figures()[AHEAD] == "nothing compared"
    assert agreement.figures()["ticks compared with cmd_vel (%)"] == "0.0"
    assert agreement.figures()["heard commands of cmd_vel"] == "1"


def test_only_the_last_thousand_ticks_count(
    contract: Contract, twist: Callable[[float], Any]
) -> None:
    agreement = LiveAgreement(contract)
    agreement.receive("cmd_vel", twist(0.0), 0)
    for value in [1.0] * 500 + [0.5] * 1000:
        agreement.compare(agreement.in_force(0), action(0.0, 0.0, value))
    assert agreement.figures()[AHEAD] == "0.5"


def test_what_cannot_be_read_is_told_and_ends_the_command_before(
    contract: Contract, twist: Callable[[float], Any]
) -> None:
    agreement = LiveAgreement(contract)
    agreement.receive("cmd_vel", twist(0.25), 0)
    with pytest.raises(ContractError, match=r"cmd_vel: a command of \[nan\] is no command"):
        agreement.receive("cmd_vel", twist(np.nan), 1)
    assert np.isnan(agreement.in_force(1)[2])
    (told,) = agreement.refusals()
    assert told.endswith("cmd_vel: a command of [nan] is no command")
    assert agreement.figures()["refused commands of cmd_vel"] == "1"
    assert agreement.figures()["heard commands of cmd_vel"] == "1"
    agreement.receive("cmd_vel", twist(0.5), 2)
    assert agreement.refusals() == []
    assert agreement.in_force(2)[2] == 0.5


def test_a_trajectory_of_other_joints_is_as_if_it_had_not_come(
    contract: Contract, trajectory: Callable[..., Any]
) -> None:
    agreement = LiveAgreement(contract)
    agreement.receive("trajectory", trajectory(a=0.0, b=0.0), 0)
    agreement.receive("trajectory", trajectory(gripper=10.0), 1)
    assert agreement.in_force(1)[:2].tolist() == [0.0, 0.0]
    figures = agreement.figures()
    assert figures["heard commands of trajectory"] == "1"
    assert figures["refused commands of trajectory"] == "0"


def test_a_trajectory_without_points_ends_the_command(
    contract: Contract, trajectory: Callable[..., Any]
) -> None:
    agreement = LiveAgreement(contract)
    agreement.receive("trajectory", trajectory(a=0.0, b=0.0), 0)
    stop = trajectory(a=0.0, b=0.0)
    stop.points = []
    agreement.receive("trajectory", stop, 1)
    assert np.isnan(agreement.in_force(1)[:2]).all()
    assert agreement.refusals() == []


def test_silence_is_told_in_a_line(contract: Contract, twist: Callable[[float], Any]) -> None:
    agreement = LiveAgreement(contract)
    none = "no command was heard on {}: nothing to compare with"
    assert agreement.silence(0) == none.format("'trajectory', 'cmd_vel'")
    agreement.receive("cmd_vel", twist(0.25), 0)
    other = none.format("'trajectory'")
    assert agreement.silence(SECOND_NS) == other
    since = "no command was heard on 'cmd_vel' for 2.0 s"
    assert agreement.silence(2 * SECOND_NS) == f"{other}; {since}"


def test_with_a_delay_a_decision_is_compared_with_what_is_in_force_so_much_later(
    contract: Contract, trajectory: Callable[..., Any], twist: Callable[[float], Any]
) -> None:
    document = contract.model_dump(exclude_none=True)
    document["action"][1]["delay_s"] = 0.11  # two ticks, and a bit
    agreement = LiveAgreement(Contract.model_validate(document))
    for tick, ahead in enumerate((0.0, 0.1, 0.2, 0.3, 0.4)):
        now_ns = tick * SECOND_NS // 20
        agreement.receive("trajectory", trajectory(a=0.0, b=0.0), now_ns)
        agreement.receive("cmd_vel", twist(ahead), now_ns)
        decided = None if tick == 1 else action(0.5, 0.5, ahead + 0.2)
        agreement.compare(agreement.in_force(now_ns), decided)
    figures = agreement.figures()
    # Decided at ticks 0 and 2, in force at 2 and 4; at 0 and 1 nothing had been decided.
    assert float(figures[AHEAD]) == pytest.approx(0.0, abs=1e-6)
    assert figures["ticks compared with cmd_vel (%)"] == "40.0"
    assert figures["ticks compared with trajectory (%)"] == "80.0"
    agreement.clear()
    agreement.compare(agreement.in_force(now_ns), action(0.0, 0.0, 0.0))
    assert agreement.figures()["ticks compared with cmd_vel (%)"] == "0.0"
