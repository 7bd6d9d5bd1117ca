"""Seeds on a Ray cluster are the runs of one machine, also where one of its machines dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from dql_core.cli.train import train
from dql_core.config import load_config
from dql_core.data.dataset import write_dataset
from dql_core.errors import ConfigError
from dql_core.ray_cluster import Surroundings
from dql_core.training.multi_seed import create_seed_folder, read_seed_folder, seed_runs
from dql_core.training.run_files import METRICS_FILE, checkpoint_steps, read_records
from dql_core.training.seeds_on_ray import train_there
from tests.core.conftest import TINY_SPEC, tiny_episode
from tests.core.training.test_seeds import CONFIG, tiny_dataset
from tests.ray_nodes import Cluster, cluster, needs_ray, with_a_cluster

__all__ = ["cluster", "tiny_dataset"]
pytestmark = pytest.mark.slow
STEPS = 1000
LONG = {"run.steps": STEPS, "run.checkpoint_every": 25, "run.execution": "eager"}


@pytest.fixture(name="config")
def _config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def command(*words: object, **settings: object) -> list[str]:
    changes = [each for name, value in settings.items() for each in ("--set", f"{name}={value}")]
    return [sys.executable, "-m", "dql_ros.cli.main", "train", *map(str, words), *changes]


def tensors(run: Path) -> dict[str, torch.Tensor]:
    (last,) = (run / "checkpoints").glob(f"step-{checkpoint_steps(run)[-1]:08d}")
    return safetensors.torch.load_file(last / "state.safetensors")


def until(
    process: "subprocess.Popen[str]",
    condition: Callable[[], object],
    what: str,
    timeout_s: float = 120.0,
) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


@needs_ray
def test_where_a_machine_dies_its_run_goes_on_elsewhere_with_the_same_bits(
    tmp_path: Path, config: Path, tiny_dataset: Path
) -> None:
    out, alone = tmp_path / "seeds", tmp_path / "alone"
    words = (config, "--dataset", tiny_dataset, "--seeds", "3,5", "--out", out)
    with with_a_cluster(*command(*words, **LONG)) as (process, kill_second):
        runs = [out / "seed-3", out / "seed-5"]
        until(process, lambda: all(map(checkpoint_steps, runs)), "both to be under way")
        before = [checkpoint_steps(run)[-1] for run in runs]
        kill_second()
        said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert max(before) < STEPS
    assert (out / "summary.json").is_file()
    assert "seed 3: data: " in said
    # One of the two wrote a second file of curves: it went on.
    files = {run: len(list(run.glob("events.out.tfevents.*"))) for run in runs}
    assert sorted(files.values()) == [1, 2]
    moved = max(runs, key=lambda run: files[run])
    seed = moved.name.removeprefix("seed-")
    settings = [*(f"{name}={value}" for name, value in LONG.items()), "run.num_threads=1"]
    train(config, [str(tiny_dataset)], alone, [*settings, f"run.seed={seed}"])
    mine, expected = tensors(moved), tensors(alone)
    assert all(torch.equal(mine[name], value) for name, value in expected.items())
    steps = [record["step"] for record in read_records(moved / METRICS_FILE)]
    assert steps == sorted(set(steps))


@needs_ray
def test_ctrl_c_saves_checkpoints_on_the_cluster_and_failures_are_told(
    tmp_path: Path, config: Path, tiny_dataset: Path, cluster: Cluster
) -> None:
    out = tmp_path / "seeds"
    words = (config, "--dataset", tiny_dataset, "--seeds", "0,1", "--out", out)
    endless = LONG | {"run.steps": 100_000_000, "run.checkpoint_every": 100_000_000}
    with subprocess.Popen(
        command(*words, "--ray", cluster.address, **endless),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **cluster.surroundings},
    ) as process:
        try:
            metrics = out / "seed-0" / METRICS_FILE
            until(process, metrics.is_file, "the first reading")
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=90)
        finally:
            process.kill()
    assert process.returncode == 130, said
    assert f"resume with: dql train --resume {out} --ray {cluster.address}" in said
    assert checkpoint_steps(out / "seed-0")


@needs_ray
def test_two_datasets_at_once_are_trained_on_one_cluster_with_the_bits_of_one_machine(
    tmp_path: Path, config: Path, tiny_dataset: Path, cluster: Cluster
) -> None:
    other = tmp_path / "other"
    rng = np.random.default_rng(9)
    write_dataset(other, [tiny_episode(rng, 15, terminated=True) for _ in range(3)], TINY_SPEC)
    datasets = {"first": tiny_dataset, "second": other}
    processes = [
        subprocess.Popen(
            command(
                *(config, "--dataset", data, "--seeds", "1", "--out", tmp_path / name),
                *("--ray", cluster.address),
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **cluster.surroundings},
        )
        for name, data in datasets.items()
    ]
    try:
        for process in processes:
            said, _ = process.communicate(timeout=240)
            assert process.returncode == 0, said
    finally:
        for process in processes:
            process.kill()
    for name, data in datasets.items():
        alone = tmp_path / f"{name}-alone"
        train(config, [str(data)], alone, ["run.num_threads=1", "run.seed=1"])
        mine, expected = tensors(tmp_path / name / "seed-1"), tensors(alone)
        assert all(torch.equal(mine[each], value) for each, value in expected.items())


def test_a_run_that_fails_there_says_why(tmp_path: Path, config: Path, tiny_dataset: Path) -> None:
    here = Surroundings.here()
    create_seed_folder(
        tmp_path / "seeds", load_config(config, [f"data.dataset={tiny_dataset}"]), (0,)
    )
    (run,) = seed_runs(tmp_path / "seeds", *read_seed_folder(tmp_path / "seeds"))
    run.out.mkdir()
    (run.out / "note").write_text("in the way")
    assert "already exists" in train_there(run, here).error
    other = Surroundings(here.folder, (), "0.0")
    assert "install the same on all" in train_there(run, other).error
    nowhere = Surroundings(str(tmp_path / "nowhere"), (), here.version)
    assert "use a disk that all machines share" in train_there(run, nowhere).error


def test_a_cluster_for_one_run_is_refused(config: Path, tiny_dataset: Path) -> None:
    with pytest.raises(ConfigError, match="give --seeds 0,1,2 to train several there"):
        train(config, [str(tiny_dataset)], ray="auto")
