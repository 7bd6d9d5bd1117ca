import os
import re
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dql_core.ray_cluster import Surroundings
from dql_ros import __version__
from dql_ros.contract import load_contract
from dql_ros.convert.bag_job import BagJob
from dql_ros.convert.ray_cluster import attempt_there
from tests.ray_nodes import Cluster, cluster, needs_ray
from tests.ros.convert.held_conversion import (
    HELD,
    KILLED,
    Workplace,
    contents,
    wait_for,
)
from tests.ros.convert.test_convert import ARM, Robot
from tests.ros.offline import is_possible, listening, run_offline

__all__ = ["cluster"]
pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path: Path, blank: Callable[[str], Any], record: Callable[..., Path]) -> Workplace:
    return Workplace(tmp_path, Robot(blank), record)


@needs_ray
def test_two_machines_of_a_cluster_make_the_same_files(place: Workplace, cluster: Cluster) -> None:
    place.surroundings = cluster.surroundings
    bags = [*place.bags(3, 5, HELD), place.bag(HELD, "bag_other"), place.bag(4)]
    with place.started(*bags, "--out", "out", "--ray", cluster.address) as process:
        # Both of them convert a bag at the same time, and find the module in this folder.
        wait_for(lambda: len(list(place.folder.glob("held-*"))) == 2, "two workers at once")
        place.release()
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
    assert place.left == {"out"}
    assert place.run(*bags, "--out", "alone").returncode == 0
    assert contents(place.folder / "out") == contents(place.folder / "alone")


@needs_ray
def test_a_worker_killed_on_a_cluster_costs_one_bag(place: Workplace, cluster: Cluster) -> None:
    place.surroundings = cluster.surroundings
    bags = place.bags(3, KILLED, 4)
    options = ("--out", "out", "--ray", cluster.address)
    failed = place.run(*bags, *options)
    assert failed.returncode == 2
    (line,) = failed.stderr.splitlines()
    assert line.startswith(f"dql: bag_{KILLED}: the Ray worker that converted it failed: ")
    assert place.left == {".out.parts"}
    kept = place.run(*bags, *options, "--resume", "--keep-going")
    assert kept.returncode == 3
    assert kept.stderr.startswith(f"dql: left out: bag_{KILLED}: the Ray worker")
    assert place.left == {"out"}


@needs_ray
def test_ctrl_c_stops_the_work_on_the_cluster(place: Workplace, cluster: Cluster) -> None:
    place.surroundings = cluster.surroundings
    bags = place.bags(3, HELD, 4)
    options = ("--out", "out", "--ray", cluster.address)
    with place.started(*bags, *options) as process:
        worker = place.holder()
        place.converted(2)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (130, "")
        assert err == (
            "dql: interrupted; out was not made; 2 of 3 bags are done, continue with --resume\n"
        )
    assert place.left == {".out.parts"}
    wait_for(lambda: not Path(f"/proc/{worker}").exists(), "the worker to end")
    place.release()
    assert place.run(*bags, *options, "--resume").returncode == 0
    assert place.seen == [3, 4, HELD, HELD]


@needs_ray
def test_a_cluster_for_one_conversion_begins_and_ends_with_it_and_asks_no_other_machine(
    place: Workplace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Ray looks for its address on the way to a name server, and for the cloud's metadata."""
    with tempfile.TemporaryDirectory(prefix="dql_") as temporary:
        home = tmp_path_factory.mktemp("home")
        place.surroundings = {"TMPDIR": temporary, "HOME": str(home)}
        bags = place.bags(3, 4)
        words = (*bags, "--out", "out", "--ray", "local", "--workers", "2")
        if is_possible():
            run, missed = run_offline(place.command(*words), place.folder, place.environment())
        else:  # no network namespaces are permitted here
            run, missed = place.run(*words), 0
        assert (run.returncode, run.stderr) == (0, "")
        assert missed == 0
        wait_for(lambda: not place.processes(), "the cluster to end")
        assert os.listdir(temporary) == []
    assert place.left == {"out"}
    assert place.run(*bags, "--out", "alone").returncode == 0
    assert contents(place.folder / "out") == contents(place.folder / "alone")


@needs_ray
def test_a_cluster_of_its_own_is_heard_on_this_machine_only(
    place: Workplace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with tempfile.TemporaryDirectory(prefix="dql_") as temporary:
        place.surroundings = {"TMPDIR": temporary, "HOME": str(tmp_path_factory.mktemp("home"))}
        bags = [place.bag(HELD)]
        with place.started(*bags, "--out", "out", "--ray", "local") as process:
            place.holder()
            heard = listening(place.processes())
            place.release()
            assert process.wait(60) == 0
    assert heard
    assert {address for address in heard if not address.is_loopback} == set()


@pytest.mark.parametrize(
    ("seen", "version", "told"),
    [
        (True, "0.0", "has dql_ros .* and this machine 0.0; install the same on all"),
        (
            False,
            __version__,
            "bag: .* cannot access .*there; put bags, --out and the working",
        ),
    ],
)
def test_machines_that_differ_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: bool, version: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    job = BagJob(Path("bag"), load_contract(ARM), tmp_path / "there" / ".out.parts" / "0")
    if seen:
        job.folder.mkdir(parents=True)
    outcome = attempt_there(job, Surroundings(str(tmp_path), (), version))
    assert re.search(told, str(outcome.error))


@needs_ray
@pytest.mark.parametrize(
    ("address", "told"),
    [
        (
            "127.0.0.1:1",
            "--ray 127.0.0.1:1: no Ray cluster answers at this address (Connection refused)",
        ),
        ("somewhere", "--ray somewhere: not an address; write host:port, auto or local"),
    ],
)
def test_a_wrong_address_is_one_line_at_once(place: Workplace, address: str, told: str) -> None:
    run = place.run(place.bag(3), "--out", "out", "--ray", address)
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert told in line
    assert place.left == set()


def test_without_ray_the_error_says_how_to_install_it(place: Workplace) -> None:
    (place.folder / "ray.py").write_text("raise ModuleNotFoundError(\"No module named 'ray'\")\n")
    run = place.run(place.bag(3), "--out", "out", "--ray", "auto")
    assert run.returncode == 2
    assert run.stderr == (
        "dql: --ray needs Ray (No module named 'ray'); install it with: "
        "pip install 'dql_ros[ray]'\n"
    )
    # And nothing else needs it.
    assert place.run("bag_3", "--out", "out").returncode == 0
