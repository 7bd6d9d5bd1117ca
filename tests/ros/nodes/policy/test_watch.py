"""`dql watch` beside a policy that drives, and beside a training."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Float64MultiArray, MultiArrayDimension, MultiArrayLayout

from dql_ros.nodes.topics import reliable
from dql_ros.processes import environment_of
from tests.cli_process import dql
from tests.html_page import browse, needs_browser
from tests.ros.nodes.arm import NODE, Arm
from tests.ros.nodes.robot import Robot

pytestmark = pytest.mark.ros


@contextmanager
def watching(robot: Robot, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Watch; yield the process and where its page is."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dql_ros.cli.main", "watch", *words],
        env=environment_of(robot.domain),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            found = re.match(r"(http://127\.0\.0\.1:\d+/)  \(Ctrl-C", told)
            assert found, told
            yield process, found[1]
        finally:
            process.kill()


def view_at(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}view.json", timeout=10) as answer:
        return dict(json.load(answer))


def charts_of(view: dict[str, Any]) -> dict[str, Any]:
    return {chart["title"]: chart for chart in view["charts"]}


@needs_browser
def test_a_policy_that_drives_is_seen(
    robot: Robot, scara: Path, scara_bundle: Path, tmp_path: Path
) -> None:
    process = robot.start(
        NODE,
        contract=str(scara),
        policy=str(scara_bundle),
        autostart=True,
        candidates_hz=20.0,
        num_candidates=5,
    )
    arm = Arm(robot)
    with watching(robot, f"/{NODE}") as (watch, address):
        arm.aim(arm.now_ns)
        arm.live(lambda: len(arm.commands) > 5, "commands")
        view = arm.live(
            lambda: (
                {"Q by action[0]", "rate (Hz)"} <= charts_of(found := view_at(address)).keys()
                and len(rates := charts_of(found)["rate (Hz)"]["lines"][0]["y"]) > 2
                and rates[-1] > 5.0  # it is 0 before the second tick
                and found
            ),
            "what is seen",
        )
        assert view["title"] == f"/{NODE}"
        charts = charts_of(view)
        names = {
            title: [line["name"] for line in chart["lines"]] for title, chart in charts.items()
        }
        assert names["age (s)"] == ["joint_states", "target"]
        assert names["inference (ms)"] == ["p50", "p99"]
        assert names["state to command (ms)"] == ["p50", "p99"]
        assert names["tick jitter (ms)"] == ["p50", "p99", "max"]
        assert charts["rate (Hz)"]["lines"][0]["y"][-1] < 12.0
        assert [len(chart["lines"][0]["x"]) for chart in view["charts"] if chart["dots"]] == [5, 5]
        best, mean, worst = (line["y"][-1] for line in charts["Q of the candidates"]["lines"])
        assert worst <= mean <= best
        tables = {
            table["title"]: dict(row[:2] for row in table["rows"]) for table in view["tables"]
        }
        assert tables["Guards"]["published"] > 0
        assert tables["Guards"]["slow_inference"] >= 0
        assert tables["Report"]["mode"] == "real_time"
        page, console = browse(tmp_path, address)
        assert console == []
        assert page.count("<svg") >= 8
        # It hears the node, and nobody hears it.
        graph = robot.probe.node.get_publisher_names_and_types_by_node("dql_watch", "/")
        assert {topic for topic, _ in graph} <= {"/parameter_events"}
        robot.kill(process)
        robot.probe.until(
            lambda: re.fullmatch(r"no report for \d+ s", view_at(address)["state"]), "silence"
        )
        watch.send_signal(signal.SIGINT)
        _, said = watch.communicate(timeout=10)
        assert watch.returncode == 128 + signal.SIGINT
        assert said.splitlines() == ["dql: ended by SIGINT; nothing unfinished is left behind"]


def test_odd_messages_neither_end_it_nor_hide_what_else_is_said(robot: Robot) -> None:
    node = robot.probe.node
    reports = node.create_publisher(DiagnosticArray, "/diagnostics", reliable(10))
    candidates = node.create_publisher(Float64MultiArray, "/policy/candidates", reliable(10))
    status = DiagnosticStatus(name="policy: x", hardware_id="/policy", message="all is well")
    values = {"guard a": "9" * 5000, "guard b": "3", "rate (Hz)": "nan", "age of t (s)": ""}
    status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
    with watching(robot, "/policy") as (_, address):

        def seen() -> Any:
            reports.publish(DiagnosticArray(status=[status]))
            for rows, data in ((4, []), (3, [1.0, 2.0]), (0, [1.0]), (2, [1.0, math.nan] * 2)):
                layout = MultiArrayLayout(dim=[MultiArrayDimension(size=rows)])
                candidates.publish(Float64MultiArray(layout=layout, data=data))
            view = view_at(address)
            return view["tables"] and view

        view = robot.probe.until(seen, "the report")
        view = robot.probe.until(seen, "the report again")
    assert view["state"] == "all is well"
    guards = {row[0]: row[1:3] for row in view["tables"][0]["rows"]}
    assert guards["b"] == [3, 0]
    assert guards["a"][1] is None
    assert [chart["title"] for chart in view["charts"]] == ["rate (Hz)", "age (s)"]


def test_a_node_that_is_not_there_is_told_with_those_that_are(robot: Robot, scara: Path) -> None:
    with watching(robot, "/nobody") as (_, address):
        robot.start("recorder", contract=str(scara), out="unused", record_at_start=False)
        robot.probe.until(
            lambda: view_at(address)["remarks"] == ["Others report: /recorder."], "the others"
        )
        view = robot.probe.until(
            lambda: (found := view_at(address))["level"] == "error" and found, "silence"
        )
        assert view["charts"] == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["runs/none"],
            "runs/none: there is no such folder; name that of a run, or a node by its",
        ),
        (["/runs/arm-1"], "/runs/arm-1: is no folder, nor can a node have that name; name the"),
        (["."], ".: holds no run of 'dql train' (no run.json, nor a folder with one)"),
    ],
)
def test_what_cannot_be_watched_is_told_in_a_line(
    tmp_path: Path, words: list[str], told: str
) -> None:
    done = dql("watch", *words, cwd=tmp_path, environment=dict(os.environ))
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
