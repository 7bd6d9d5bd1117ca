import numpy as np

from dql_ros.sim.faults import LinkFaults
from dql_ros.sim.run import HeldCommand

SECOND = 1_000_000_000
PARTS = [slice(0, 2), slice(2, 3)]
SAFE = [0.125, -0.25, 0.0]


def held(timeout_s: float | None = 0.5, faults: LinkFaults | None = None) -> HeldCommand:
    timeout_ns = None if timeout_s is None else round(timeout_s * SECOND)
    return HeldCommand(SAFE, PARTS, timeout_ns, faults)


def test_before_any_command_the_robot_is_safe_and_not_called_stopped() -> None:
    command = held()
    np.testing.assert_array_equal(command.at(100 * SECOND), SAFE)
    assert not command.stopped
    assert command.age_ns(100 * SECOND) is None


def test_streams_come_by_themselves_and_are_held() -> None:
    command = held(timeout_s=None)
    command.receive(0, np.array([1.0, 2.0]), 0)
    np.testing.assert_array_equal(command.at(0), [1.0, 2.0, 0.0])
    command.receive(1, np.array([3.0]), 1)
    np.testing.assert_array_equal(command.at(10**18), [1.0, 2.0, 3.0])


def test_without_a_command_in_time_the_whole_robot_stops_until_the_next() -> None:
    command = held(timeout_s=0.5)
    command.receive(0, np.array([1.0, 2.0]), 0)
    command.receive(1, np.array([3.0]), 0)
    np.testing.assert_array_equal(command.at(SECOND // 2), [1.0, 2.0, 3.0])
    command.receive(0, np.array([4.0, 5.0]), SECOND // 2)
    command.at(SECOND // 2)
    # One of the two streams is silent.
    np.testing.assert_array_equal(command.at(SECOND // 2 + 1), SAFE)
    command.at(SECOND // 2 + 2)
    assert (command.stopped, command.stops) == (True, 1)
    command.receive(1, np.array([6.0]), SECOND)
    np.testing.assert_array_equal(command.at(SECOND), [4.0, 5.0, 6.0])
    assert (command.stopped, command.stops) == (False, 1)


def test_a_pause_does_not_make_commands_old() -> None:
    command = held(timeout_s=0.5)
    for stream, values in ((0, [1.0, 2.0]), (1, [3.0])):
        command.receive(stream, np.array(values), 0)
    command.at(0)
    command.discount(10 * SECOND)
    np.testing.assert_array_equal(command.at(10 * SECOND + 1), [1.0, 2.0, 3.0])


def test_a_command_that_is_not_finite_is_ignored_and_counted() -> None:
    command = held()
    command.receive(0, np.array([1.0, 2.0]), 0)
    command.receive(0, np.array([np.nan, 2.0]), 1)
    np.testing.assert_array_equal(command.at(1), [1.0, 2.0, 0.0])
    assert (command.received, command.refused) == (2, 1)


def test_a_late_command_counts_from_its_arrival() -> None:
    command = held(timeout_s=0.5, faults=LinkFaults(latency_ns=SECOND))
    command.receive(0, np.array([1.0, 2.0]), 0)
    np.testing.assert_array_equal(command.at(SECOND - 1), SAFE)
    np.testing.assert_array_equal(command.at(SECOND), [1.0, 2.0, 0.0])
    np.testing.assert_array_equal(command.at(SECOND + SECOND // 2), [1.0, 2.0, 0.0])
    assert command.lost == 0
