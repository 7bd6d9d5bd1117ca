import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dql_core.data.dataset import load_dataset
from dql_core.runtime.bundle_policy import load_policy
from dql_ros.processes import PARENT_VARIABLE

pytestmark = [pytest.mark.ros, pytest.mark.slow]


def start_demo(out: Path) -> subprocess.Popen[str]:
    """Start a demo of the smallest size, on a machine without an OpenGL driver."""
    sizes = ["--episodes", "2", "--demonstrations", "4", "--steps", "8"]
    return subprocess.Popen(
        [sys.executable, "-m", "dql_ros.cli.main", "demo", "--out", str(out), *sizes],
        env=os.environ | {"__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def descendants(pid: int) -> list[str]:
    """Return the processes that the demo ``pid`` started and that still run."""
    mark = f"{PARENT_VARIABLE}={pid}".encode()
    running = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                running.append((folder / "cmdline").read_text())
        except OSError:
            continue  # it ended meanwhile, or is another user's
    return running


def test_the_demo_goes_the_whole_way(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    process = start_demo(out)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    lines = said.splitlines()
    stages = ("record", "convert", "train", "export", "drive", "show")
    for number, stage in enumerate(stages, start=1):
        assert len([line for line in lines if line.startswith(f"{number}/6 {stage}")]) == 1, said
    assert "no video" in said
    policies = json.loads((out / "summary.json").read_text())["policies"]
    assert set(policies) == {"demonstrator", "diffusion_bc", "diffusion_ql"}
    assert len(load_dataset(str(out / "dataset")).episodes) == 4
    assert load_policy(out / "bundles" / "diffusion_ql").spec.robot == "scara"
    for name in ("index.html", "paths.png", "learning_curves.png", "bags/session_0/metadata.yaml"):
        assert (out / name).is_file()
    assert list(tmp_path.iterdir()) == [out]
    assert descendants(process.pid) == []


@pytest.mark.parametrize(("number", "after"), [(signal.SIGTERM, ""), (signal.SIGINT, "2/6")])
def test_an_interrupted_demo_leaves_no_process_and_no_file(
    tmp_path: Path, number: signal.Signals, after: str
) -> None:
    process = start_demo(tmp_path / "demo")
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
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    assert descendants(process.pid) == []
