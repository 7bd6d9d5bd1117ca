import pytest

from dql_ros.control.health import INACTIVE, LoopHealth
from dql_ros.diagnostics import Level, Status


def judge(state: str, fault: str = "", remarks: list[str] | None = None) -> Status:
    return LoopHealth().status(state, fault, {}, remarks or [])


def test_a_running_loop_without_incidents_is_well() -> None:
    assert judge("running") == Status(Level.OK, "running", "running")


@pytest.mark.parametrize(
    ("state", "level"),
    [("stale", Level.ERROR), ("fault", Level.ERROR), ("waiting", Level.WARN)],
)
def test_a_fault_is_told_as_badly_as_the_state_is(state: str, level: Level) -> None:
    found = judge(state, "'joint_states' never came", ["'target': its newest message was refused"])
    expected = "'joint_states' never came; 'target': its newest message was refused"
    assert found == Status(level, state, expected)


def test_what_people_asked_for_is_told_with_the_way_out() -> None:
    assert judge("stopped").level is Level.ERROR
    assert "~/reset_stop" in judge("stopped").message
    assert judge("paused").level is Level.WARN
    assert "~/resume" in judge("paused").message


def test_a_node_that_gave_up_says_why_and_one_that_was_asked_to_does_not() -> None:
    assert judge(INACTIVE, "deactivated").level is Level.ERROR
    assert judge(INACTIVE) == Status(Level.OK, INACTIVE, INACTIVE)


def test_incidents_are_told_once_with_their_number() -> None:
    subject = LoopHealth()
    subject.status("running", "", {"slow_inference": 2}, [])
    found = subject.status("running", "", {"slow_inference": 5, "missed ticks": 1}, [])
    assert found.level is Level.WARN
    assert found.message == (
        "running; since the last report: slow inference 3 times, missed ticks 1 times"
    )
    again = subject.status("running", "", {"slow_inference": 5, "missed ticks": 1}, [])
    assert again == Status(Level.OK, "running", "running")


@pytest.mark.parametrize("state", ["running", "stopped", "paused", INACTIVE])
def test_what_is_nothing_wrong_is_told_last_and_at_no_higher_level(state: str) -> None:
    plain = judge(state)
    found = LoopHealth().status(state, "", {}, [], notes=["shadow mode", "nobody drives"])
    assert found == Status(plain.level, state, f"{plain.message}; shadow mode; nobody drives")
