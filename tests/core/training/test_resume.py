"""A run that was killed and went on is the run that never stopped, to the last bit."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from dql_core.algo.backends import BackendName, named_backend
from dql_core.config import TrainConfig
from dql_core.errors import CheckpointError, ConfigError
from dql_core.export.bundle import export_bundle
from dql_core.runtime.bundle_policy import load_policy
from dql_core.training.checkpoint import load_checkpoint
from dql_core.training.loop import train
from dql_core.training.run_files import checkpoint_folder, update_run_info
from dql_core.training.saved_config import saved_config
from tests.core.training.test_checkpoint import edit_document

pytestmark = pytest.mark.slow

STEPS = 400
# Runs up to its end unless it is killed, for which it waits in its last quarter.
CHILD = """
import sys
from pathlib import Path
from dql_core.config import TrainConfig
from dql_core.training.loop import train

def report(step, metrics):
    print(step, flush=True)
    if step > 300:
        sys.stdin.read()

train(TrainConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]), report)
"""


def make_config(dataset: Path, **changes: Any) -> TrainConfig:
    run = {"batch_size": 8, "log_every": 7, "checkpoint_every": 40, "num_threads": 1}
    return TrainConfig.model_validate(
        {
            "data": {"dataset": str(dataset)},
            "policy": {"width": 8},
            "critic": {"width": 8},
            **changes,
            "run": run | {"steps": STEPS} | changes.get("run", {}),
        }
    )


def tensors(run: Path, step: int) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / f"checkpoints/step-{step:08d}/state.safetensors")


def documents(run: Path, step: int) -> Any:
    return json.loads((run / f"checkpoints/step-{step:08d}/checkpoint.json").read_text())


def metrics(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if key != "updates_per_s"} for line in lines]


def require_equal_runs(first: Path, second: Path, step: int) -> None:
    a, b = tensors(first, step), tensors(second, step)
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name
    assert documents(first, step) == documents(second, step)
    assert metrics(first) == metrics(second)


def kill_while_training(config: TrainConfig, run: Path, after: int) -> None:
    """Train in a process of its own and kill it some time after the step ``after``."""
    command = [sys.executable, "-c", CHILD, config.model_dump_json(), str(run)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= after:
                break
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        assert process.returncode == -signal.SIGKILL


def test_a_run_that_is_killed_while_it_trains_goes_on_to_the_same_bits(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    config = make_config(tiny_dataset)
    train(config, tmp_path / "whole")
    kill_while_training(config, tmp_path / "killed", after=150)
    left = max((tmp_path / "killed" / "checkpoints").glob("step-*"))
    assert 120 <= int(left.name[5:]) < STEPS
    result = train(config, tmp_path / "killed", resume=True)
    assert (result.step, result.finished) == (STEPS, True)
    require_equal_runs(tmp_path / "whole", tmp_path / "killed", STEPS)


@pytest.mark.parametrize(
    ("agent", "critic", "policy"),
    [
        ("diffusion_bc", {}, {}),
        ("diffusion_bc", {}, {"kind": "mean_flow"}),
        ("td3_bc", {}, {}),
        ("td3_bc", {"num_critics": 3, "lower_bound": 1.0}, {}),
        ("diffusion_ql", {"num_critics": 1}, {"max_imitation_ratio": 1.01}),
        ("diffusion_ql", {"num_critics": 5, "lower_bound": 2.0}, {}),
        ("diffusion_ql", {"kind": "expectile", "num_critics": 3}, {}),
        ("diffusion_ql", {}, {"kind": "mean_flow", "max_imitation_ratio": 1.01}),
    ],
    ids=str,
)
def test_every_agent_goes_on_to_the_same_bits_and_is_exported(
    tmp_path: Path,
    tiny_dataset: Path,
    agent: str,
    critic: dict[str, Any],
    policy: dict[str, Any],
) -> None:
    # Three updates after the checkpoint, which is between two updates of TD3+BC's policy.
    config = make_config(
        tiny_dataset,
        agent=agent,
        policy={"width": 8, **policy},
        critic={"width": 8, **critic},
        run={"steps": 30, "log_every": 4, "checkpoint_every": 13},
    )
    train(config, tmp_path / "whole")
    stop_at(16, config, tmp_path / "stopped")
    train(config, tmp_path / "stopped", resume=True)
    require_equal_runs(tmp_path / "whole", tmp_path / "stopped", 30)
    manifest = export_bundle(tmp_path / "stopped", tmp_path / "bundle")
    assert manifest.has_critic == (agent == "diffusion_ql")
    names: tuple[BackendName, ...] = ("onnx", "torch")
    first, second = (
        load_policy(tmp_path / "bundle", backend=named_backend(name)).act(
            np.zeros(3, np.float32), np.random.default_rng(0)
        )
        for name in names
    )
    np.testing.assert_allclose(first.q_values, second.q_values, atol=1e-5)
    np.testing.assert_allclose(first.action, second.action, atol=1e-5)


def test_a_run_from_before_there_were_bounds_goes_on_without_them(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    settings = {"width": 8, "bound_targets": False}
    config = make_config(tiny_dataset, critic=settings, run={"steps": 80})
    run = train(config, tmp_path / "run").run
    shutil.rmtree(checkpoint_folder(run, 80))
    document = yaml.safe_load((run / "config.yaml").read_text())
    del document["critic"]["bound_targets"]
    (run / "config.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    # What that version knew of its keys, to the bit and in what they mean.
    file_hash = hashlib.sha256((run / "config.yaml").read_bytes()).hexdigest()
    update_run_info(run, config_file_sha256=file_hash, config_hash="0" * 64)
    edit_document(checkpoint_folder(run, 40), config=document)
    assert load_checkpoint(run).config == saved_config(run) == config
    assert train(saved_config(run), run, resume=True).finished
    lines = metrics(run)
    assert lines[-1]["step"] > 40
    assert not any(line["targets_clipped"] for line in lines)


class CrashError(Exception):
    """Ends a run without a checkpoint, as a crash does."""


def stop_at(step: int, config: TrainConfig, run: Path, *, resume: bool = False) -> None:
    def stop(at: int, metrics: Mapping[str, float]) -> None:
        if at == step:
            raise CrashError

    with pytest.raises(CrashError, match=r"^$"):
        train(config, run, stop, resume=resume)


def interrupt_at(step: int, config: TrainConfig, run: Path) -> None:
    def interrupt(at: int, metrics: Mapping[str, float]) -> None:
        if at == step:
            signal.raise_signal(signal.SIGINT)

    assert not train(config, run, interrupt).finished


SHORT = {"steps": 30, "log_every": 4, "checkpoint_every": 10}


def test_ctrl_c_between_two_checkpoints_changes_nothing_of_what_follows(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    config = make_config(tiny_dataset, run=SHORT)
    train(config, tmp_path / "whole")
    interrupt_at(16, config, tmp_path / "stopped")
    assert len(list((tmp_path / "stopped" / "checkpoints").iterdir())) == 2  # 10 and 16
    train(config, tmp_path / "stopped", resume=True)
    require_equal_runs(tmp_path / "whole", tmp_path / "stopped", 30)


def test_a_run_without_any_checkpoint_starts_again(tmp_path: Path, tiny_dataset: Path) -> None:
    config = make_config(tiny_dataset, run=SHORT)
    train(config, tmp_path / "whole")
    stop_at(8, config, tmp_path / "stopped")
    train(config, tmp_path / "stopped", resume=True)
    require_equal_runs(tmp_path / "whole", tmp_path / "stopped", 30)


def test_a_finished_run_stays_as_it_is(tmp_path: Path, tiny_dataset: Path) -> None:
    config, run = make_config(tiny_dataset, run=SHORT), tmp_path / "run"
    train(config, run)
    before = metrics(run)
    result = train(config, run, resume=True)
    assert (result.step, result.finished) == (30, True)
    assert metrics(run) == before


def test_nothing_is_told_twice(tmp_path: Path, tiny_dataset: Path) -> None:
    config, run = make_config(tiny_dataset, run=SHORT), tmp_path / "run"
    stop_at(16, config, run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "imit')  # as a kill leaves it
    train(config, run, resume=True)
    assert [line["step"] for line in metrics(run)] == [4, 8, 12, 16, 20, 24, 28, 30]
    curves = EventAccumulator(str(run))
    curves.Reload()
    assert [event.step for event in curves.Scalars("critic")] == [4, 8, 12, 16, 20, 24, 28, 30]


def test_what_a_kill_left_unfinished_is_removed(tmp_path: Path, tiny_dataset: Path) -> None:
    config, run = make_config(tiny_dataset, run=SHORT), tmp_path / "run"
    stop_at(16, config, run)
    half = run / "checkpoints" / ".step-00000020.partial-123"
    half.mkdir()
    (half / "state.safetensors").write_bytes(b"half")
    (run / ".run.json.partial-123").write_text("{")
    train(config, run, resume=True)
    assert not list(run.rglob(".*.partial-*"))


def test_a_run_goes_on_only_as_it_began(tmp_path: Path, tiny_dataset: Path) -> None:
    config, run = make_config(tiny_dataset, run=SHORT), tmp_path / "run"
    stop_at(16, config, run)
    longer = make_config(tiny_dataset, run=SHORT | {"steps": 60})
    with pytest.raises(
        ConfigError,
        match=r"began with run\.steps=30 and cannot continue with "
        r"run\.steps=60: a resumed run must keep its configuration",
    ):
        train(longer, run, resume=True)


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path, tiny_dataset: Path) -> None:
    config, run = make_config(tiny_dataset, run=SHORT), tmp_path / "run"
    stop_at(16, config, run)
    facts = json.loads((run / "run.json").read_text())
    facts["dataset"]["sha256"] = "0" * 64
    (run / "run.json").write_text(json.dumps(facts))
    with pytest.raises(
        CheckpointError, match=r"the dataset .* has changed since this run started"
    ):
        train(config, run, resume=True)


def test_other_versions_are_told(
    tmp_path: Path, tiny_dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, run = make_config(tiny_dataset, run=SHORT), tmp_path / "run"
    stop_at(16, config, run)
    facts = json.loads((run / "run.json").read_text())
    facts["versions"]["torch"] = "1.0"
    (run / "run.json").write_text(json.dumps(facts))
    train(config, run, resume=True)
    assert "(was 1.0): numbers may differ in the last bit" in caplog.text


def test_what_is_no_run_cannot_go_on(tmp_path: Path, tiny_dataset: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not a run of 'dql train': it has no config"):
        train(make_config(tiny_dataset), tmp_path, resume=True)


def test_two_processes_do_not_train_one_run(tmp_path: Path, tiny_dataset: Path) -> None:
    config, run = make_config(tiny_dataset, run=SHORT), tmp_path / "run"

    def train_it_again(step: int, metrics: Mapping[str, float]) -> None:
        train(config, run, resume=True)

    with pytest.raises(
        ConfigError, match="run: another process is training this run; wait until it ends, or"
    ):
        train(config, run, train_it_again)
