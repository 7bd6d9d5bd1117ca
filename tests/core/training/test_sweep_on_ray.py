"""Sweeps in processes of their own: interrupted, killed and gone on with, also by a cluster."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from dql_core.cli.train import train
from dql_core.config import load_config
from dql_core.data.dataset import write_dataset
from dql_core.training.run_files import checkpoint_steps
from dql_core.training.saved_config import saved_config
from dql_core.training.sweep.on_ray import WORK_FOLDER
from dql_core.training.sweep.trials import read_trials
from tests.core.conftest import TINY_SPEC, tiny_episode
from tests.core.training.test_seeds_on_ray import tensors, until
from tests.ray_nodes import needs_ray, started
from tests.ros.convert.held_conversion import MARK, marked_processes

pytestmark = [pytest.mark.slow, needs_ray]
CONFIG = """
run: {steps: 12, batch_size: 8, log_every: 4, checkpoint_every: 4, execution: eager}
policy: {width: 8}
critic: {width: 8}
validation: {held_out: 0.4, rule: td_error}
"""
TIMEOUT_S = 240.0
LONG = {"run.steps": 600, "run.checkpoint_every": 30, "run.log_every": 200}


@pytest.fixture(name="dataset", scope="module")
def _dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "dataset"
    rng = np.random.default_rng(0)
    episodes = [tiny_episode(rng, 12, terminated=index == 1) for index in range(5)]
    write_dataset(folder, episodes, TINY_SPEC)
    return folder


class Workplace:
    """A folder with a configuration and a space, and the commands in it."""

    def __init__(self, folder: Path, dataset: Path, space: str) -> None:
        self.folder, self.out = folder, folder / "sweep"
        (folder / "config.yaml").write_text(CONFIG)
        (folder / "space.yaml").write_text(space)
        self._new = ["space.yaml", "--config", "config.yaml", "--dataset", str(dataset)]

    def words(self, *more: object, **settings: object) -> list[str]:
        sets = [each for name, value in settings.items() for each in ("--set", f"{name}={value}")]
        return [*self._new, "--out", "sweep", *map(str, more), *sets]

    @contextmanager
    def running(self, *words: str, **variables: str) -> "Iterator[subprocess.Popen[str]]":
        """Run `dql sweep`; nothing of it is left behind."""
        with subprocess.Popen(
            ["nice", "-n", "5", sys.executable, "-m", "dql_ros.cli.main", "sweep", *words],
            cwd=self.folder,
            env={**os.environ, MARK: str(self.folder), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()
                for pid in marked_processes(str(self.folder)):
                    os.kill(pid, signal.SIGKILL)

    def run(self, *words: str) -> tuple[int, str]:
        with self.running(*words) as process:
            said, _ = process.communicate(timeout=240)
            return process.returncode, said

    def steps(self) -> dict[Path, int]:
        """How far each trial is."""
        return {
            path.parent: (checkpoint_steps(path.parent) or [0])[-1]
            for path in self.out.glob("trial-*/trial.json")
        }


def event_files(run: Path) -> int:
    """How many processes have written curves of a run."""
    return len(list(run.glob("events.out.tfevents.*")))


def command_lines(mark: str) -> list[str]:
    """Of the processes that a sweep has started; two of Ray outlive its kill by a minute."""
    lines = []
    for pid in marked_processes(mark):
        with suppress(OSError):
            lines.append(Path(f"/proc/{pid}/cmdline").read_text())
    return lines


def test_a_sweep_ends_with_a_table_a_picture_and_settings(tmp_path: Path, dataset: Path) -> None:
    place = Workplace(
        tmp_path,
        dataset,
        "policy.kind: [diffusion, mean_flow]\npolicy.policy_gradient: [chain, one_step]\n",
    )
    code, said = place.run(*place.words("--at-once", 2, "--seed", 3))
    assert code == 0, said
    assert "the space has 4 configurations: each is tried" in said
    assert "1 of 4 trials failed: " in said
    assert "kind: mean_flow is a single step already" in said
    assert "value: squared error of the critics on 2 held-out episodes" in said
    assert "all rests on 2 held-out episodes only" in said
    assert "looks better than it is" in said
    assert "Traceback" not in said
    assert "ray" not in said.lower().replace(str(tmp_path).lower(), "")
    results = json.loads((place.out / "results.json").read_text())
    values = [row["value"] for row in results["trials"]]
    assert values[:3] == sorted(values[:3])
    assert values[3] is None
    best = place.out / results["best"]
    assert results["trials"][0]["trial"] == best.name
    assert load_config(place.out / "best.yaml").policy == saved_config(best).policy
    assert (place.out / "sweep.svg").read_text().startswith("<svg")
    assert {path.name for path in place.out.iterdir() if not path.name.startswith("trial-")} == {
        *("best.yaml", "results.json", "space.yaml", "sweep.json", "sweep.svg")
    }
    assert not marked_processes(str(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in place.out.glob("trial-*/*")}
    code, again = place.run("--resume", "sweep")
    assert code == 0, again
    assert results["best"] in again
    assert {path: path.stat().st_mtime_ns for path in place.out.glob("trial-*/*")} == before


def test_ctrl_c_ends_a_sweep_and_says_how_to_go_on(tmp_path: Path, dataset: Path) -> None:
    place = Workplace(tmp_path, dataset, "policy.learning_rate: {low: 1e-4, high: 1e-2}\n")
    with place.running(*place.words("--at-once", 1, "--trials", 3, **LONG)) as process:
        until(
            process,
            lambda: any(0 < step < 400 for step in place.steps().values()),
            "a trial",
            TIMEOUT_S,
        )
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        said, _ = process.communicate(timeout=60)
    assert time.monotonic() - asked < 20
    assert process.returncode == 130, said
    assert "interrupted; go on with: dql sweep --resume sweep" in said
    assert not (place.out / WORK_FOLDER).exists()


def test_after_a_kill_9_a_sweep_goes_on_as_if_nothing_had_been(
    tmp_path: Path, dataset: Path
) -> None:
    place = Workplace(tmp_path, dataset, "policy.learning_rate: {low: 1e-4, high: 1e-2}\n")
    options = ("--at-once", "1", "--no-prune", "--trials", "2")
    with place.running(*place.words(*options, **LONG)) as process:
        until(
            process,
            lambda: len([step for step in place.steps().values() if step]) == 2,
            "the second",
            TIMEOUT_S,
        )
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 60
        while any("ImplicitFunc" in line for line in command_lines(str(tmp_path))):
            assert time.monotonic() < deadline, "a killed sweep goes on training"
            time.sleep(0.1)
    steps = place.steps()
    (second,) = (run for run, step in steps.items() if step < 600)
    (first,) = set(steps) - {second}
    assert 0 < steps[second] < steps[first] == 600

    code, said = place.run("--resume", "sweep", "--at-once", "1")
    assert code == 0, said
    assert sorted(place.steps().values()) == [600, 600]
    assert (event_files(first), event_files(second)) == (1, 2)
    base = load_config(tmp_path / "config.yaml", [f"{key}={value}" for key, value in LONG.items()])
    assert all(trial.finished for trial in read_trials(place.out, base))
    own = saved_config(second)
    settings = {**LONG, "run.num_threads": 1, "policy.learning_rate": own.policy.learning_rate}
    overrides = [f"{key}={value}" for key, value in settings.items()]
    alone = tmp_path / "alone"
    train(tmp_path / "config.yaml", [str(dataset)], alone, overrides)
    mine, expected = tensors(second), tensors(alone)
    assert all(torch.equal(mine[name], value) for name, value in expected.items())


def test_where_a_machine_dies_its_trials_go_on_elsewhere(tmp_path: Path, dataset: Path) -> None:
    place = Workplace(tmp_path, dataset, "policy.learning_rate: [0.001, 0.002]\n")
    with started() as ray:
        words = place.words("--ray", ray.address, "--no-prune", **LONG)
        with place.running(*words, **ray.surroundings) as process:
            until(
                process,
                lambda: len([step for step in place.steps().values() if step]) == 2,
                "both to be under way",
                TIMEOUT_S,
            )
            before = place.steps()
            ray.kill_second()
            said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert max(before.values()) < 600
    assert sorted(place.steps().values()) == [600, 600]
    assert sorted(event_files(run) for run in before) == [1, 2]
    assert "failed" not in said


def test_a_sweep_whose_trials_all_fail_says_why(tmp_path: Path, dataset: Path) -> None:
    # Of a single key Ray does not ask where the value is.
    place = Workplace(tmp_path, dataset, "policy.eta: [1.0, 2.0]\npolicy.ema_every: [1, 2]\n")
    code, said = place.run(*place.words(**{"init.run": "nowhere"}))
    assert code == 2, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("dql: sweep: none of 4 trials has a value: nowhere: ")
    assert "Last result" not in said  # as Ray says of a trial that reported nothing
