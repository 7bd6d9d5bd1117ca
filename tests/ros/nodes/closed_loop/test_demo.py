import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from dql_core.data.dataset import load_dataset
from dql_core.runtime.bundle_policy import load_policy
from tests.ros.offline import is_possible, run_offline

pytestmark = [pytest.mark.ros, pytest.mark.slow]

# A demo of the smallest size.
DEMO = (sys.executable, "-m", "dql_ros.cli.main", "demo", "--out", "demo")
SIZES = ("--episodes", "2", "--demonstrations", "4", "--steps", "2")
MARK = "DEMO_UNDER_TEST"
REACHING_OUT = {
    "looks up": "socket.getaddrinfo('telemetry.invalid', 443)",
    "connects": "socket.create_connection(('192.0.2.1', 443))",
    "sends": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('192.0.2.1', 53))",
    "sends by IPv6": "socket.socket(10, socket.SOCK_DGRAM).sendto(b'', ('2001:db8::1', 53))",
    "calls a robot": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('239.255.0.1', 7400))",
}
offline = pytest.mark.skipif(not is_possible(), reason="no network namespaces are permitted here")


def environment(folder: Path) -> dict[str, str]:
    """Return that of a machine without an OpenGL driver, so that no film is made."""
    root = str(Path(__file__).parents[4])
    return {
        **os.environ,
        "PYTHONPATH": root,
        "__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent",
        "COLUMNS": "120",
        MARK: str(folder),
    }


def descendants(folder: Path) -> list[str]:
    """Return the processes of the demo in ``folder`` that still run."""
    mark = f"{MARK}={folder}".encode()
    running = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                running.append((process / "cmdline").read_text())
        except OSError:
            continue  # it ended meanwhile, or is another user's
    return running


@dataclass(frozen=True)
class Done:
    """A demo that went the whole way, and how often it wanted to reach another machine."""

    folder: Path
    output: str
    missed: int
    home: Path


@pytest.fixture(scope="module", name="demo")
def _demo(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Run all nodes, convert, train and export, without a network where that is possible."""
    folder, home = tmp_path_factory.mktemp("demo"), tmp_path_factory.mktemp("home")
    dropped = {"XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "ORT_DISABLE_TELEMETRY"}
    kept = {name: value for name, value in environment(folder).items() if name not in dropped}
    surroundings = kept | {"HOME": str(home)}
    if is_possible():
        done, missed = run_offline([*DEMO, *SIZES], folder, surroundings)
    else:
        done, missed = run_here(folder, surroundings), 0
    assert done.returncode == 0, done.stdout + done.stderr
    return Done(folder, done.stdout, missed, home)


def run_here(folder: Path, surroundings: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEMO, *SIZES], cwd=folder, env=surroundings, capture_output=True, text=True, check=False
    )


def test_the_demo_goes_the_whole_way(demo: Done) -> None:
    out, lines = demo.folder / "demo", demo.output.splitlines()
    stages = ("record", "convert", "train", "export", "judge", "drive", "show")
    for number, stage in enumerate(stages, start=1):
        begun = [line for line in lines if line.startswith(f"{number}/7 {stage}")]
        assert len(begun) == 1, demo.output
    assert "no video" in demo.output
    policies = json.loads((out / "summary.json").read_text())["policies"]
    assert set(policies) == {"demonstrator", "diffusion_bc", "diffusion_ql"}
    assert len(load_dataset(str(out / "dataset")).episodes) == 4
    assert load_policy(out / "bundles" / "diffusion_ql").spec.robot == "scara"
    page = (out / "index.html").read_text()
    details = json.loads((out / "details.json").read_text())
    for key in ("diffusion_bc", "diffusion_ql"):
        before = details["foreseen"][key]
        assert f"<b>{before['verdict']}</b>" in page
        assert before["shadow"]["steps"] > 0
        assert before["shadow"]["missed_ticks"].isdecimal()
    judged = json.loads((out / "judge" / "judge.json").read_text())
    assert judged["dataset"]["episodes"] == 10
    remarks = [remark for each in judged["policies"] for remark in each["objections"]]
    assert not [remark for remark in remarks if "trained on" in remark]
    for name in (
        "index.html",
        "judge/judge.html",
        "paths.png",
        "learning_curves.png",
        "bags/session_0/metadata.yaml",
    ):
        assert (out / name).is_file()
    assert list(demo.folder.iterdir()) == [out]
    assert descendants(demo.folder) == []


@offline
def test_from_recording_to_driving_nothing_reaches_out(demo: Done) -> None:
    assert demo.missed == 0
    # What is written at home is ROS's log and matplotlib's list of fonts.
    left = [str(path.relative_to(demo.home)) for path in demo.home.rglob("*") if path.is_file()]
    assert all(name.startswith((".ros/log/", ".cache/matplotlib/")) for name in left), left


def is_heard(how: str, folder: Path) -> bool:
    command = [sys.executable, "-c", f"import socket; {REACHING_OUT[how]}"]
    return run_offline(command, folder, os.environ)[1] > 0


@offline
@pytest.mark.parametrize("how", REACHING_OUT)
def test_whoever_reaches_out_is_heard(tmp_path: Path, how: str) -> None:
    if how == "looks up" and not is_heard(how, tmp_path):
        pytest.skip("this machine looks names up by a service on its loopback interface")
    assert is_heard(how, tmp_path)


@pytest.mark.parametrize(("number", "after"), [(signal.SIGTERM, ""), (signal.SIGINT, "2/7")])
def test_an_interrupted_demo_leaves_no_process_and_no_file(
    tmp_path: Path, number: signal.Signals, after: str
) -> None:
    process = subprocess.Popen(
        [*DEMO, *SIZES],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    if after:  # while it trains
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith(after):
                break
        else:
            pytest.fail("".join(lines))
    else:  # while it records
        while not list(tmp_path.rglob("*.mcap")):
            assert process.poll() is None
            time.sleep(0.02)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    assert descendants(tmp_path) == []
