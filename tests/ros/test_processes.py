import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dql_core.errors import SimulationError
from dql_ros.processes import NodeCommand, NodeProcess, NodeProcesses

LISTENS = """
    import signal, sys, threading
    asked = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: asked.set())
    sys.stderr.write("ready\\n")
    sys.stderr.flush()
    asked.wait(30)
    sys.stderr.write("[INFO] [1700000000.123] [node]: went in good order\\n")
"""


@pytest.fixture(name="modules")
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that child processes can run."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def command(modules: Path, name: str, code: str) -> NodeCommand:
    (modules / f"{name}.py").write_text(textwrap.dedent(code))
    return NodeCommand(name, name, {"contract": "arm.yaml", "seed": 3})


def wait_for_line(process: NodeProcess, line: str) -> None:
    while process.last_words != line:
        assert not process.wait(0.01), process.last_words


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_leaving_the_block_ends_a_process_in_good_order(modules: Path) -> None:
    with NodeProcesses(domain=1) as processes:
        process = processes.start(command(modules, "listens", LISTENS))
        wait_for_line(process, "ready")
    assert process.exit_code == 0
    assert process.last_words == "went in good order"


def test_an_exception_in_the_block_ends_the_processes_too(modules: Path) -> None:
    started = []

    def fail() -> None:
        with NodeProcesses(domain=1) as processes:
            started.append(processes.start(command(modules, "listens", LISTENS)))
            raise ZeroDivisionError("oops")

    with pytest.raises(ZeroDivisionError, match="oops"):
        fail()
    assert not is_running(started[0].pid)


def test_a_failed_process_is_told_with_its_last_line(modules: Path) -> None:
    code = "import sys; sys.exit('[FATAL] [1.5] [policy]: arm.yaml: no such file')"
    with NodeProcesses(domain=1) as processes:
        process = processes.start(command(modules, "fails", code))
        assert process.wait(20)
        with pytest.raises(
            SimulationError, match=r"^fails ended with code 1: arm\.yaml: no such file$"
        ):
            processes.check()


def test_a_process_that_has_done_its_work_is_no_failure(modules: Path) -> None:
    with NodeProcesses(domain=1) as processes:
        assert processes.start(command(modules, "ends", "")).wait(20)
        processes.check()


def test_a_process_gets_its_parameters_name_and_domain(modules: Path) -> None:
    code = """
        import os, sys, pathlib, yaml
        document = yaml.safe_load(pathlib.Path(sys.argv[-1]).read_text())
        sys.exit(f"{sys.argv[1:6]} {document} {os.environ['ROS_DOMAIN_ID']}")
    """
    with NodeProcesses(domain=42) as processes:
        process = processes.start(command(modules, "tells", code))
        assert process.wait(20)
        assert process.last_words == (
            "['--ros-args', '-r', '__node:=tells', '-r', '__ns:=/'] "
            "{'/**': {'ros__parameters': {'contract': 'arm.yaml', 'seed': 3}}} 42"
        )


def test_a_process_that_ignores_sigint_is_ended_all_the_same(
    modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dql_core.process._GRACE_S", (0.2, 5.0))
    code = """
        import signal, sys, threading
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stderr.write("ready\\n")
        sys.stderr.flush()
        threading.Event().wait(30)
    """
    with NodeProcesses(domain=1) as processes:
        process = processes.start(command(modules, "ignores", code))
        wait_for_line(process, "ready")
    assert process.exit_code == -signal.SIGTERM


@pytest.mark.ros
def test_a_node_ends_when_its_parent_was_killed(tmp_path: Path) -> None:
    """No process is left behind even if the parent had no time to clean up."""
    parent = """
        import sys
        from pathlib import Path
        from dql_ros.processes import own_domain
        from dql_ros.processes import NodeCommand, NodeProcesses
        contract, out = sys.argv[1:]
        parameters = {"contract": contract, "out": out}
        with own_domain() as domain, NodeProcesses(domain) as processes:
            command = NodeCommand("dql_ros.nodes.recorder_node", "recorder", parameters)
            process = processes.start(command)
            while not Path(out).is_dir():
                processes.check()
                process.wait(0.05)
            print(process.pid, flush=True)
            process.wait(60)
    """
    contract = Path(__file__).parents[2] / "config" / "contracts" / "scara.yaml"
    arguments = [sys.executable, "-c", textwrap.dedent(parent), str(contract)]
    arguments.append(str(tmp_path / "bag"))
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    deadline = subprocess.run(
        ["timeout", "20", "tail", "-f", f"--pid={pid}", "/dev/null"], check=False
    )
    assert deadline.returncode == 0
    # It ended in good order: the recording is whole.
    assert (tmp_path / "bag" / "metadata.yaml").is_file()
