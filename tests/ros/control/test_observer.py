from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dql_core.errors import ContractError
from dql_ros.contract import Contract, load_contract
from dql_ros.control.observer import Observer

SECOND_NS = 1_000_000_000
ARM = """
robot: arm
rate_hz: 20.0
observation:
  - topic: joint_states
    type: sensor_msgs/msg/JointState
    max_age_s: 0.2
    fields:
      - {path: position, joints: [shoulder, elbow]}
      - {path: velocity, joints: [shoulder, elbow]}
  - topic: target
    type: geometry_msgs/msg/PointStamped
    latched: true
    fields: [{path: point.x}, {path: point.y}]
action:
  - topic: commands
    type: std_msgs/msg/Float64MultiArray
    fields: [{path: data, indices: [0, 1], low: -2.0, high: 2.0}]
"""


@pytest.fixture(name="contract")
def _contract(tmp_path: Path) -> Contract:
    (tmp_path / "arm.yaml").write_text(ARM)
    return load_contract(tmp_path / "arm.yaml")


def written(folder: Path, text: str) -> Contract:
    (folder / "other.yaml").write_text(text)
    return load_contract(folder / "other.yaml")


def strict(folder: Path) -> Contract:
    state = "type: sensor_msgs/msg/JointState\n"
    return written(folder, ARM.replace(state, f"{state}    when_absent: refuse\n"))


def state(blank: Callable[[str], Any], stamp_ns: int, shoulder: float = 0.1) -> Any:
    message = blank("sensor_msgs/msg/JointState")
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, SECOND_NS)
    message.name = ["elbow", "shoulder"]
    message.position = np.array([0.2, shoulder])
    message.velocity = np.array([0.4, 0.3])
    return message


def target(blank: Callable[[str], Any], stamp_ns: int, x: float = 0.5) -> Any:
    message = blank("geometry_msgs/msg/PointStamped")
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, SECOND_NS)
    message.point.x, message.point.y = x, 0.6
    return message


def test_streams_of_one_topic_are_held_by_themselves(
    tmp_path: Path, blank: Callable[[str], Any]
) -> None:
    wrist = """  - topic: joint_states
    name: wrist
    type: sensor_msgs/msg/JointState
    fields: [{path: position, joints: [wrist]}]
action:"""
    observer = Observer(written(tmp_path, ARM.replace("action:", wrist)))
    observer.receive("target", target(blank, 0), received_ns=1, steady_ns=0)
    alone = state(blank, 6, shoulder=0.7)
    alone.name = ["elbow", "wrist"]
    for message in (state(blank, 5), alone):
        for key in ("joint_states", "wrist"):
            observer.receive(key, message, received_ns=9, steady_ns=0)
    observation = observer.at(9, 0)
    assert observation.values is not None
    assert observation.values[0] == np.float32(0.1)
    assert observation.values[-1] == np.float32(0.7)
    assert (observer.arrivals["joint_states"].absent, observer.arrivals["wrist"].absent) == (1, 1)
    observer.receive("joint_states", state(blank, SECOND_NS), SECOND_NS, SECOND_NS)
    assert observer.at(SECOND_NS, SECOND_NS).missing == ("wrist",)


def test_the_vector_is_in_the_contracts_order(
    contract: Contract, blank: Callable[[str], Any]
) -> None:
    observer = Observer(contract)
    assert observer.receive("target", target(blank, 0), received_ns=99, steady_ns=0) == 0
    observer.receive("joint_states", state(blank, 5), received_ns=99, steady_ns=0)
    observation = observer.at(5, 0)
    assert observation.values is not None
    expected = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=np.float32)
    np.testing.assert_array_equal(observation.values, expected)


def test_nothing_is_made_up_for_a_stream_that_never_came(
    contract: Contract, blank: Callable[[str], Any]
) -> None:
    observer = Observer(contract)
    observer.receive("joint_states", state(blank, 0), received_ns=0, steady_ns=0)
    observation = observer.at(0, 0)
    assert observation.values is None
    assert observation.missing == ("target",)


def test_a_stream_without_header_stamps_is_stamped_on_receipt(
    contract: Contract, blank: Callable[[str], Any]
) -> None:
    stream = contract.observation[0].model_copy(update={"stamp": "receive"})
    received = contract.model_copy(update={"observation": (stream, contract.observation[1])})
    assert (
        Observer(received).receive("joint_states", state(blank, 5), received_ns=99, steady_ns=0)
        == 99
    )


def test_a_clock_that_was_set_back_makes_a_stream_begin_anew(
    contract: Contract, blank: Callable[[str], Any]
) -> None:
    observer = Observer(contract)
    observer.receive("target", target(blank, 0), received_ns=0, steady_ns=0)
    for stamp_ns, shoulder in ((90 * SECOND_NS, 0.9), (SECOND_NS, 0.7)):
        observer.receive("joint_states", state(blank, stamp_ns, shoulder), stamp_ns, steady_ns=0)
    observation = observer.at(90 * SECOND_NS, 0)
    assert observation.missing == ("joint_states",)
    assert observation.ages_ns["joint_states"] == 89 * SECOND_NS


def test_a_message_of_other_joints_is_skipped_and_counted(
    contract: Contract, blank: Callable[[str], Any]
) -> None:
    """As offline: arm and gripper may share a topic."""
    observer, gripper = Observer(contract), state(blank, SECOND_NS)
    gripper.name = ["left", "right"]
    observer.receive("target", target(blank, 0), received_ns=0, steady_ns=0)
    assert observer.receive("joint_states", gripper, SECOND_NS, steady_ns=0) is None
    assert "skipped: joint_states: joint 'shoulder' is not" in observer.problem("joint_states")
    observer.receive("joint_states", state(blank, SECOND_NS), SECOND_NS, steady_ns=0)
    assert observer.receive("joint_states", gripper, 2 * SECOND_NS, steady_ns=0) is None
    arrivals = observer.arrivals["joint_states"]
    assert (arrivals.absent, arrivals.refused, arrivals.newest_ns) == (2, 0, SECOND_NS)
    assert observer.problem("joint_states") == ""
    observer.heartbeat(200_000_001)
    assert "left, right" in observer.problem("joint_states")
    found = observer.at(SECOND_NS, 0).values
    assert found is not None
    assert found[:4].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize("names", [["shoulder", "elbow"], []])
@pytest.mark.parametrize("numbers", [[], [0.5]])
def test_a_message_without_numbers_or_names_is_skipped_and_counted(
    contract: Contract, blank: Callable[[str], Any], names: list[str], numbers: list[float]
) -> None:
    observer, short = Observer(contract), state(blank, SECOND_NS)
    short.name, short.position = names, np.array(numbers)
    assert observer.receive("joint_states", short, SECOND_NS, steady_ns=0) is None
    arrivals = observer.arrivals["joint_states"]
    assert (arrivals.absent, arrivals.refused) == (1, 0)
    assert "its messages are skipped: joint_states: " in observer.problem("joint_states")


def test_a_message_without_a_joint_is_refused_where_the_contract_says_so(
    tmp_path: Path, blank: Callable[[str], Any]
) -> None:
    message = state(blank, 0)
    message.name = ["elbow", "wrist"]
    with pytest.raises(ContractError, match=r"'shoulder' is not in the message.*elbow, wrist"):
        Observer(strict(tmp_path)).receive("joint_states", message, received_ns=0, steady_ns=0)


def test_offsets_are_taken_before_rounding_and_from_the_first_tick_of_an_episode(
    tmp_path: Path, blank: Callable[[str], Any]
) -> None:
    text = ARM.replace("{path: point.x}", "{path: point.x, offset: first, scale: 100}")
    contract = written(tmp_path, text.replace("{path: point.y}", "{path: point.y, offset: 0.5}"))
    observer, north = Observer(contract), 5_400_000.0

    def seen(second: int, x: float) -> tuple[float, float]:
        time_ns = second * SECOND_NS
        observer.receive("target", target(blank, time_ns, x), time_ns, steady_ns=0)
        observer.receive("joint_states", state(blank, time_ns), time_ns, steady_ns=0)
        values = observer.at(time_ns, 0).values
        assert values is not None
        return values[4].item(), values[5].item()

    assert seen(1, north) == pytest.approx((0.0, 0.1))
    assert seen(2, north + 0.02)[0] == pytest.approx(2.0, abs=1e-6)
    assert seen(3, north - 0.01)[0] == pytest.approx(-1.0, abs=1e-6)
    observer.begin_episode()
    assert seen(4, north + 1.0)[0] == 0.0
    assert seen(5, north + 1.01)[0] == pytest.approx(1.0, abs=1e-6)


def test_a_stamp_that_is_ahead_is_refused_and_never_used(
    contract: Contract, blank: Callable[[str], Any]
) -> None:
    observer = Observer(contract)
    observer.receive("target", target(blank, 0), received_ns=0, steady_ns=0)
    with pytest.raises(ContractError, match=r"is 2\.000 s ahead.*\(limit 0\.05 s\).*max_ahead_s"):
        observer.receive("joint_states", state(blank, 3 * SECOND_NS), SECOND_NS, steady_ns=0)
    assert observer.at(SECOND_NS, 0).missing == ("joint_states",)
    # Nor once the clock has come to it.
    assert observer.at(3 * SECOND_NS, 0).missing == ("joint_states",)
    assert observer.arrivals["joint_states"].ahead == 1
    assert "is 2.000 s ahead of this node's clock" in observer.problem("joint_states")
    within_ns = SECOND_NS + contract.period_ns
    observer.receive("joint_states", state(blank, within_ns), SECOND_NS, steady_ns=0)
    assert observer.problem("joint_states") == ""
    assert observer.at(within_ns, 0).missing == ()


def test_a_replayed_bag_is_told_from_a_late_stream(
    contract: Contract, blank: Callable[[str], Any]
) -> None:
    observer, now_ns = Observer(contract), 53_260_748 * SECOND_NS
    observer.receive("joint_states", state(blank, now_ns - SECOND_NS), now_ns, 0)
    assert observer.problem("joint_states") == ""
    observer.receive("joint_states", state(blank, 0), now_ns, 0)
    observer.receive("target", target(blank, 0), now_ns, 0)
    problem = observer.problem("joint_states")
    assert "its header stamps are 53260748 s behind this node's clock" in problem
    assert "use_sim_time" in problem
    assert observer.problem("target") == ""  # it may be as old as it likes


def test_a_simulated_clock_that_did_not_come_is_named(
    contract: Contract, blank: Callable[[str], Any]
) -> None:
    message = state(blank, 1_700_000_000 * SECOND_NS)
    with pytest.raises(ContractError, match="use_sim_time is true, and /clock did not come"):
        Observer(contract, is_simulated=True).receive("joint_states", message, 0, 0)
    with pytest.raises(ContractError, match="synchronise the two clocks"):
        Observer(contract).receive("joint_states", message, 0, 0)


def test_how_far_stamps_may_be_ahead_is_the_contracts(
    contract: Contract, blank: Callable[[str], Any]
) -> None:
    stream = contract.observation[0].model_copy(update={"max_ahead_s": 3.0})
    tolerant = contract.model_copy(update={"observation": (stream, contract.observation[1])})
    observer = Observer(tolerant)
    assert observer.receive("joint_states", state(blank, 3 * SECOND_NS), 0, 0) == 3 * SECOND_NS


@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_a_value_is_at_least_as_old_as_its_receipt(
    contract: Contract, blank: Callable[[str], Any], factor: float
) -> None:
    """Whatever the clock says: here it stands still, and the limit is 0.2 s."""
    observer = Observer(contract, real_time_factor=factor)
    observer.receive("target", target(blank, 0), received_ns=0, steady_ns=0)
    observer.receive("joint_states", state(blank, 5), received_ns=5, steady_ns=0)
    limit_ns = round(0.2 * SECOND_NS / factor)
    assert observer.at(5, limit_ns).missing == ()
    too_old = observer.at(5, limit_ns + 8)
    assert too_old.missing == ("joint_states",)
    assert too_old.ages_ns["joint_states"] == round((limit_ns + 8) * factor)


@pytest.mark.parametrize(
    ("stamp", "is_simulated", "trusted"),
    [("header", False, True), ("header", True, False), ("receive", False, False)],
)
def test_what_had_waited_while_the_process_was_stopped_is_not_taken_for_new(
    contract: Contract, blank: Callable[[str], Any], stamp: str, is_simulated: bool, trusted: bool
) -> None:
    stream = contract.observation[0].model_copy(update={"stamp": stamp})
    made = contract.model_copy(update={"observation": (stream, contract.observation[1])})
    observer = Observer(made, is_simulated=is_simulated)
    observer.receive("target", target(blank, 0), received_ns=0, steady_ns=0)
    waited_ns = 5 * SECOND_NS
    observer.receive("joint_states", state(blank, waited_ns), waited_ns, steady_ns=waited_ns)
    assert observer.at(waited_ns, waited_ns).missing == (() if trusted else ("joint_states",))
    assert observer.arrivals["joint_states"].delayed == (0 if trusted else 1)
    later_ns = waited_ns + SECOND_NS // 20
    observer.receive("joint_states", state(blank, later_ns), later_ns, steady_ns=later_ns)
    assert observer.at(later_ns, later_ns).missing == ()


def test_an_invalid_stamp_is_refused(contract: Contract, blank: Callable[[str], Any]) -> None:
    message = state(blank, 0)
    message.header.stamp.nanosec = 1_500_000_000
    with pytest.raises(ContractError, match=r"nanosec is 1500000000"):
        Observer(contract).receive("joint_states", message, 2 * SECOND_NS, steady_ns=0)


def test_what_a_message_is_quoted_with_is_visible_and_short(
    tmp_path: Path, blank: Callable[[str], Any]
) -> None:
    message = state(blank, 0)
    message.name = [
        "elbow",
        "\x1b]0;title\x07\nforged line",
        *(f"joint{i}" for i in range(10_000)),
    ]
    observer = Observer(strict(tmp_path))
    with pytest.raises(ContractError) as raised:
        observer.receive("joint_states", message, received_ns=0, steady_ns=0)
    for text in (str(raised.value), observer.problem("joint_states")):
        assert text.isprintable()
        assert len(text) < 5000


def test_in_lockstep_the_stamps_are_the_clock(
    contract: Contract, blank: Callable[[str], Any]
) -> None:
    observer = Observer(contract, lockstep=True)
    observer.receive("target", target(blank, 0), received_ns=0, steady_ns=0)
    observer.receive("joint_states", state(blank, 5 * SECOND_NS), received_ns=0, steady_ns=0)
    assert observer.problem("joint_states") == ""
    # A simulator that waits for a person makes nothing old.
    assert observer.at(5 * SECOND_NS, 99 * SECOND_NS).missing == ()


def test_a_refused_message_is_told_until_a_good_one_comes(
    tmp_path: Path, blank: Callable[[str], Any]
) -> None:
    observer = Observer(strict(tmp_path))
    message = state(blank, 0)
    message.name = ["elbow", "wrist"]
    for _ in range(2):
        with pytest.raises(ContractError):
            observer.receive("joint_states", message, received_ns=0, steady_ns=0)
    assert observer.arrivals["joint_states"].refused == 2
    assert "refused: joint_states: joint 'shoulder'" in observer.problem("joint_states")
    observer.receive("joint_states", state(blank, 0), received_ns=0, steady_ns=0)
    assert observer.problem("joint_states") == ""
    assert observer.arrivals["joint_states"].refused == 2


def test_a_clock_that_went_back_leaves_only_latched_values_from_before(
    contract: Contract, blank: Callable[[str], Any]
) -> None:
    for target_ns, known in ((SECOND_NS, True), (3 * SECOND_NS, False)):
        observer = Observer(contract)
        observer.receive("target", target(blank, target_ns), target_ns, steady_ns=0)
        observer.receive("joint_states", state(blank, 3 * SECOND_NS), 3 * SECOND_NS, steady_ns=0)
        observer.clock_went_back(2 * SECOND_NS)
        observer.receive("joint_states", state(blank, 2 * SECOND_NS), 2 * SECOND_NS, steady_ns=0)
        assert observer.at(2 * SECOND_NS, 0).missing == (() if known else ("target",))
