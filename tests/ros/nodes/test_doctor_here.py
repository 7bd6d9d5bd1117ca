"""The doctor looks over the machine that the tests run on, with real processes."""

import json
import subprocess
import sys

import pytest

from dql_ros.processes import NodeCommand
from dql_ros.tools.doctor import ros
from dql_ros.tools.doctor.finding import Verdict

pytestmark = pytest.mark.ros


def test_this_machine_is_told_check_by_check() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dql_ros.cli.main", "doctor", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    findings = {finding["check"]: finding for finding in document["findings"]}
    assert {"python", "numpy", "onnxruntime", "ros", "rmw", "messages", "gpu"} <= set(findings)
    assert {"discovery", "timing", "cpu governor", "ROS_DOMAIN_ID"} <= set(findings)
    assert "found each other" in findings["discovery"]["found"]
    assert document["failure"] == 0
    assert document["fine"] + document["warning"] == len(findings)
    # A remedy for all that is not as it should be, and for nothing else.
    assert all(bool(f["remedy"]) == (f["verdict"] != "fine") for f in findings.values())


def test_two_processes_that_do_not_meet_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer_elsewhere(_module: str, node: str) -> NodeCommand:
        return NodeCommand(ros.ECHO, node, namespace="/elsewhere")

    monkeypatch.setattr(ros, "NodeCommand", answer_elsewhere)
    monkeypatch.setattr(ros, "_DISCOVERY_TIMEOUT_S", 1.0)
    finding = ros.check_discovery()
    assert finding.verdict is Verdict.FAILURE
    assert "no message arrived within 1 s" in finding.found
    assert "loopback interface" in finding.remedy
