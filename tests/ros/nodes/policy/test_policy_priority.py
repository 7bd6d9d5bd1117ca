"""The policy node's real-time priority, as the operating system tells it."""

import os
from pathlib import Path

import pytest

from tests.ros.control.test_realtime_priority import PERMITTED
from tests.ros.nodes.arm import NODE, Arm, Told
from tests.ros.nodes.robot import Robot

pytestmark = pytest.mark.ros


def schedules(process: int) -> set[tuple[int, int]]:
    """Return scheduler and priority of a process's threads."""
    threads = [int(path.name) for path in Path(f"/proc/{process}/task").iterdir()]
    return {(os.sched_getscheduler(i), os.sched_getparam(i).sched_priority) for i in threads}


@pytest.mark.parametrize("wanted", [0, 20])
def test_ticks_go_before_other_programs_if_that_is_wished_and_permitted(
    robot: Robot, scara: Path, scara_bundle: Path, wanted: int
) -> None:
    node = robot.start(
        NODE,
        contract=str(scara),
        policy=str(scara_bundle),
        device="cpu",
        autostart=True,
        thread_priority=wanted,
    )
    arm, told = Arm(robot), Told(robot)
    arm.aim(arm.now_ns)
    arm.live(lambda: told.state == "running" and told.values, "the arm to move")
    if wanted and PERMITTED:
        assert schedules(node.pid) == {
            (os.SCHED_FIFO, 19),
            (os.SCHED_FIFO, 20),
            (os.SCHED_FIFO, 21),
        }
        assert told.values["thread priority"] == "20"
    else:
        assert schedules(node.pid) == {(os.SCHED_OTHER, 0)}
        assert told.values["thread priority"] == "0"
