"""A real-time priority is taken where it is permitted, and nothing is changed where it is not."""

import json
import os
import subprocess
import sys

import pytest

from dql_ros.tools.doctor.checks import check_priority
from dql_ros.tools.doctor.finding import Verdict

# Run in a process of its own, whose threads may be changed; prints what has become of each.
_TRY = """
import json, os, threading
from dql_ros.control.ticking import raise_priority_of_all_threads, raise_priority_of_this_thread
{before}
idle = threading.Event()
other = threading.Thread(target=idle.wait)
other.start()
permitted = raise_priority_of_all_threads(7)
later = threading.Thread(target=idle.wait)
later.start()
if permitted:
    raise_priority_of_this_thread(8)
threads = [thread.native_id for thread in (threading.main_thread(), other, later)]
found = [(os.sched_getscheduler(i), os.sched_getparam(i).sched_priority) for i in threads]
idle.set()
print(json.dumps([permitted, *found]))
"""
# What a user without the right to it has.
_AS_NOBODY = """
import resource
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
if os.getuid() == 0:
    os.setuid(65534)
"""
PERMITTED = check_priority().verdict is Verdict.FINE


def outcome(before: str = "") -> list[object]:
    done = subprocess.run(
        [sys.executable, "-c", _TRY.format(before=before)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found: list[object] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(not PERMITTED, reason="this user may not have a real-time priority")
def test_all_threads_and_those_they_start_go_first() -> None:
    fifo = os.SCHED_FIFO
    assert outcome() == [True, [fifo, 8], [fifo, 7], [fifo, 7]]


def test_what_is_not_permitted_changes_nothing() -> None:
    other = os.SCHED_OTHER
    assert outcome(_AS_NOBODY) == [False, [other, 0], [other, 0], [other, 0]]


def test_the_doctor_leaves_this_process_as_it_is() -> None:
    finding = check_priority()
    assert finding.check == "priority"
    assert bool(finding.remedy) == (finding.verdict is Verdict.WARNING)
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
