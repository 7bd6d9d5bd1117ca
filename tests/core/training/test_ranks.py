"""Several processes that train one run: what they come to is what one process makes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from dql_core.algo.ranks import Ranks
from dql_core.cli.train import train
from dql_core.errors import ConfigError
from tests.core.algo.shared_updates import CASES
from tests.core.training.test_seeds import CONFIG, tiny_dataset

__all__ = ["tiny_dataset"]
pytestmark = pytest.mark.slow
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
DQL = ("-m", "dql_ros.cli.main", "train")


@pytest.fixture(name="config")
def _config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


@contextmanager
def several(count: int, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """Start torchrun with so many processes; none is left behind."""
    # What computes yields to the tests of nodes beside it, which wait for the clock.
    command = ["nice", "-n", "5", sys.executable, *TORCHRUN, str(count), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def run(count: int, *arguments: object) -> tuple[int, str]:
    with several(count, *arguments) as process:
        output, _ = process.communicate(timeout=120)
        return process.returncode, output


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "checkpoints/step-00000012/state.safetensors")


def records(folder: Path, file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / file).read_text().splitlines()]


def require_alike(ours: Path, alone: Path) -> None:
    mine, expected = tensors(ours), tensors(alone)
    assert set(mine) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(mine[name], value, atol=1e-5, rtol=1e-4, msg=name)
    for file in ("metrics.jsonl", "validation.jsonl"):
        for left, right in zip(records(ours, file), records(alone, file), strict=True):
            assert numbers(left) == pytest.approx(numbers(right), abs=1e-5, rel=1e-4)


def numbers(record: dict[str, Any]) -> dict[str, float]:
    """All numbers of a record but the speed, by name."""
    nested = {name: value for name, value in record.items() if isinstance(value, dict)}
    flat = {
        f"{name}.{key}": each for name in nested for key, each in numbers(nested[name]).items()
    }
    own = {name: value for name, value in record.items() if isinstance(value, (int, float))}
    own.pop("updates_per_s", None)
    return own | flat


def test_shares_of_a_batch_make_the_update_of_the_whole() -> None:
    """For every algorithm, and every quantity that is a mean over the batch."""
    code, output = run(3, "-m", "tests.core.algo.shared_updates", 3)
    assert code == 0, output
    for name in CASES:
        assert f"{name} is the same" in output


def test_a_run_of_two_processes_is_the_run_of_one(
    tmp_path: Path, config: Path, tiny_dataset: Path
) -> None:
    train(config, [str(tiny_dataset)], tmp_path / "alone")
    options = ["--dataset", tiny_dataset, "--out", tmp_path / "run"]
    code, output = run(2, *DQL, config, *options)
    assert code == 0, output
    require_alike(tmp_path / "run", tmp_path / "alone")
    assert output.count(f"last: {tmp_path / 'run'}") == 1  # the leader alone speaks
    code, output = run(2, *DQL, config, *options)
    assert code != 0
    assert output.count("already exists") == 1, output


def test_two_processes_go_on_where_they_were_interrupted_and_end_where_one_dies(
    tmp_path: Path, config: Path, tiny_dataset: Path
) -> None:
    ours = tmp_path / "run"
    with several(2, *endless(config, tiny_dataset, ours)) as process:
        until(process, (ours / "metrics.jsonl").is_file)
        os.kill(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert "interrupted after" in output, output
    step = max(int(each.name.partition("-")[2]) for each in (ours / "checkpoints").glob("step-*"))
    assert 0 < step < 200_000
    with several(2, *DQL, "--resume", ours) as process:
        until(process, lambda: last_step(ours) > step)
        os.kill(follower(process.pid), signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "another process of this training has ended" in output or "SIGTERM" in output, output
    steps = [record["step"] for record in records(ours, "metrics.jsonl")]
    assert steps == sorted(set(steps))


def endless(config: Path, dataset: Path, out: Path) -> tuple[object, ...]:
    """Return a command that trains longer than the test takes."""
    steps = ("run.steps=200000", "run.log_every=10", "run.checkpoint_every=20")
    changes = (each for change in (*steps, "run.execution=eager") for each in ("--set", change))
    return (*DQL, config, "--dataset", dataset, "--out", out, *changes)


def until(process: "subprocess.Popen[str]", condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)


def last_step(folder: Path) -> float:
    return float(records(folder, "metrics.jsonl")[-1]["step"])


def follower(parent: int) -> int:
    """Return the process that torchrun started with rank 1."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if b"\0RANK=1\0" in b"\0" + Path(f"/proc/{child}/environ").read_bytes():
            return int(child)
    raise AssertionError("there is no second process")


@pytest.mark.parametrize(
    ("options", "words"),
    [({"seeds": "0,1"}, "start 'dql train' without torchrun"), ({}, "name it with --out RUN")],
    ids=["seeds", "no folder"],
)
def test_what_several_processes_cannot_do_is_refused(
    config: Path,
    tiny_dataset: Path,
    options: dict[str, Any],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=words):
        train(config, [str(tiny_dataset)], **options)


def test_batches_that_cannot_be_shared_evenly_are_refused() -> None:
    Ranks(0, 2).require_divisible(8)
    with pytest.raises(
        ConfigError, match=r"run\.batch_size=9: 2 processes cannot share it evenly"
    ):
        Ranks(0, 2).require_divisible(9)


def test_one_process_under_torchrun_is_as_without_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: Path, tiny_dataset: Path
) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    train(config, [str(tiny_dataset)], tmp_path / "run")
    assert len(records(tmp_path / "run", "metrics.jsonl")) == 4


UNEQUAL = """
import os
from dataclasses import replace
from pathlib import Path
from dql_core.config import load_config
from dql_core.data.dataset import load_dataset
from dql_core.training.loop import train
rank = int(os.environ["RANK"])
config = load_config(Path({config!r}), ["data.dataset={dataset}", f"critic.width={width}"])
data = load_dataset({dataset!r})
train(config, Path({out!r}), dataset=replace(data, episodes=data.episodes[:{episodes}]))
"""


@pytest.mark.parametrize(
    ("width", "episodes", "told"),
    [
        ("{8 + rank}", "3", "their configuration or version"),
        ("8", "2 + rank", "the episodes that they learn from"),
    ],
)
def test_processes_that_were_told_different_things_are_refused(
    tmp_path: Path, config: Path, tiny_dataset: Path, width: str, episodes: str, told: str
) -> None:
    """As where a file on one of several machines is an older one."""
    out = tmp_path / "run"
    code = UNEQUAL.format(
        config=str(config), dataset=str(tiny_dataset), out=str(out), width=width, episodes=episodes
    )
    status, output = run(2, "--no-python", sys.executable, "-c", code)
    assert status != 0
    assert f"the 2 processes differ in {told}: start all with" in output
    assert not out.exists()
